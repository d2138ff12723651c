"""Layouts: each is recognised, named as its calibration, and read; what does not fit together is refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from videos import HEIGHT, TICKS, WIDTH, numbered_frame, read_number, write_video

from mouselift.data.recording import Recording, check_recording, open_recording, read_instants, require_sound
from mouselift.data.recording.files import match_names
from mouselift.errors import InputError

CAMERA = """[cam_{i}]
name = "{name}"
size = [{width}, {height}]
matrix = [[50.0, 0.0, 31.5], [0.0, 50.0, 23.5], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0, 0.0]
rotation = [0.0, {angle}, 0.0]
translation = [0.0, 0.0, 100.0]
"""


def write_calibration(path: Path, names: list[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    tables = [CAMERA.format(i=i, name=n, width=size[0], height=size[1], angle=0.5 * i) for i, n in enumerate(names)]
    path.write_text("\n".join(tables))
    return path


def write_dannce(path: Path, names: list[str], frames: list[list[float]]) -> Path:
    def camera(i: int) -> dict[str, np.ndarray]:
        c, s = np.cos(0.5 * i), np.sin(0.5 * i)
        return {
            "K": np.array([[50.0, 0, 0], [0, 50, 0], [32, 24, 1]]),
            "r": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
            "t": np.array([[0.0, 0, 100]]),
            "RDistort": np.zeros((1, 2)),
            "TDistort": np.zeros((1, 2)),
        }

    def cell(items: list) -> np.ndarray:
        array = np.empty((len(items), 1), object)
        array[:, 0] = items
        return array

    content = {
        "camnames": cell(names),
        "params": cell([camera(i) for i in range(len(names))]),
        "sync": cell([{"data_frame": np.array([column]).T} for column in frames]),
    }
    scipy.io.savemat(path, content)
    return path


def shown(recording: Recording, indices) -> list[list[tuple[int, int]]]:
    return [[read_number(frame) for frame in instant.frames] for instant in read_instants(recording, indices)]


def folders(root: Path, names: list[str], counts: list[int] | None = None) -> Path:
    for camera, name in enumerate(names):
        write_video(root / name / "video.mp4", (counts or [12] * len(names))[camera], camera=camera)
    return root


def test_mammal(tmp_path: Path) -> None:
    for camera in range(3):
        write_video(tmp_path / f"videos_undist/{camera}.mp4", 12, camera=camera)
        masks = [np.roll(mask_frame(), k, axis=1) for k in range(12)]
        write_video(tmp_path / f"simpleclick_undist/{camera}.mp4", masks, camera=camera)
    recording = open_recording(tmp_path)
    assert (recording.layout.split()[0], recording.names) == ("MAMMAL", ("0", "1", "2"))
    assert check_recording(recording) == []
    (instant,) = read_instants(recording, [7])
    assert instant.masks is not None
    for mask in instant.masks:
        np.testing.assert_array_equal(mask >= 128, np.roll(mask_frame(), 7, axis=1)[..., 0] == 255)
    assert all(instant.masks is None for instant in read_instants(recording, range(3), with_masks=False))


def mask_frame() -> np.ndarray:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[16:32, 16:32] = 255
    return frame


@pytest.mark.parametrize("base", ["videos", "."])
def test_dannce_chunks_run_on_and_rows_of_the_table_are_instants(tmp_path: Path, base: str) -> None:
    lengths = [20, 20, 5]
    for camera in range(2):
        first = 0
        for length in lengths:
            write_video(tmp_path / base / f"Camera{camera + 1}/{first}.mp4", length, first=first, camera=camera)
            first += length
    rows = [[*range(0, 40)], [*range(2, 21), *range(21, 42)]]
    write_dannce(tmp_path / "label3d_dannce.mat", ["Camera1", "Camera2"], rows)
    recording = open_recording(tmp_path)
    assert recording.layout.startswith("DANNCE")
    assert recording.names == ("Camera1", "Camera2")
    assert recording.num_instants == 40
    assert check_recording(recording) == []
    wanted = [0, 17, 18, 19, 20, 39]
    assert shown(recording, wanted) == [[(rows[0][i], 0), (rows[1][i], 1)] for i in wanted]


def test_a_chunk_that_is_missing_is_found(tmp_path: Path) -> None:
    for camera in ("Camera1", "Camera2"):
        write_video(tmp_path / camera / "0.mp4", 10)
        write_video(tmp_path / camera / "20.mp4", 10)
    problems = check_recording(open_recording(tmp_path))
    assert len(problems) == 2
    assert "20.mp4: expected 20 frames before it as its name says, found 10" in problems[0]


def test_one_folder_for_each_camera_in_the_calibrations_order(tmp_path: Path) -> None:
    folders(tmp_path, ["back", "mid", "top"])
    (tmp_path / "notes").mkdir()
    write_calibration(tmp_path / "calibration.toml", ["top", "back", "mid"])
    recording = open_recording(tmp_path)
    assert recording.names == ("top", "back", "mid")
    assert recording.calibration is not None
    assert recording.calibration.names == recording.names
    assert shown(recording, [3]) == [[(3, 2), (3, 0), (3, 1)]]
    assert not recording.has_masks


def test_one_file_for_each_camera_with_masks_beside(tmp_path: Path) -> None:
    for camera, name in enumerate(["mouse_back", "mouse_top"]):
        write_video(tmp_path / f"{name}.mp4", 6, camera=camera)
        (tmp_path / "masks" / name).mkdir(parents=True)
        for k in range(6):
            Image.fromarray(np.roll(mask_frame(), k, axis=0)[..., 0]).save(tmp_path / f"masks/{name}/{k + 1:04d}.png")
    write_calibration(tmp_path / "calibration.toml", ["top", "back"])
    recording = open_recording(tmp_path)
    assert recording.names == ("top", "back")
    (instant,) = read_instants(recording, [4])
    assert instant.masks is not None
    np.testing.assert_array_equal(instant.masks[0], np.roll(mask_frame(), 4, axis=0)[..., 0])


def test_transparency_is_the_mask(tmp_path: Path) -> None:
    for camera, name in enumerate(["a", "b"]):
        rgba = [np.dstack([numbered_frame(k, camera), mask_frame()[..., 0]]) for k in range(3)]
        write_video(tmp_path / f"{name}.mov", rgba, codec="qtrle", pixel_format="argb")
    (instant,) = read_instants(open_recording(tmp_path), [2])
    assert instant.masks is not None
    assert [read_number(frame) for frame in instant.frames] == [(2, 0), (2, 1)]
    np.testing.assert_array_equal(instant.masks[1], mask_frame()[..., 0])


def test_yaml(tmp_path: Path) -> None:
    write_video(tmp_path / "left/part1.mp4", 8, camera=1)
    write_video(tmp_path / "left/part2.mp4", 8, camera=1, first=8)
    write_video(tmp_path / "right.mp4", 16, camera=2)
    write_calibration(tmp_path / "rig.toml", ["left", "middle", "right"])
    (tmp_path / "sync.csv").write_text("right,left\n0,1\n3,4\n15,15\n")
    (tmp_path / "recording.yaml").write_text(
        "calibration: rig.toml\nfps: 100\nsync: sync.csv\ncameras:\n"
        "  right: {video: right.mp4}\n  left: {video: [left/part1.mp4, left/part2.mp4]}\n"
    )
    for path in (tmp_path, tmp_path / "recording.yaml"):
        recording = open_recording(path)
        assert recording.names == ("left", "right")  # the calibration's order, less `middle`
        assert recording.calibration is not None
        assert recording.calibration.names == recording.names
        assert (recording.fps, recording.num_instants) == (100, 3)
        assert check_recording(recording) == []
        assert shown(recording, range(3)) == [[(1, 1), (0, 2)], [(4, 1), (3, 2)], [(15, 1), (15, 2)]]


def test_yaml_reads_masks_as_told(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4", 3)
    write_video(tmp_path / "m.mp4", 3)
    cameras = "cameras: {0: {video: 0.mp4, mask: m.mp4}}"
    for masks, expected in (("auto", True), ("files", True), ("none", False)):
        (tmp_path / "recording.yaml").write_text(f"{cameras}\nmasks: {masks}")
        recording = open_recording(tmp_path)
        assert (recording.names, recording.has_masks) == (("0",), expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cameras: {a: {video: a.mp4, masks: b.mp4}}", r"cameras\.a: unknown key masks"),
        ("cameras: {a: {mask: a.mp4}}", r"cameras\.a: video"),
        ("camera: {}", "unknown key camera"),
        ("fps: 30", "expected `cameras:` with at least one"),
        ("cameras: {a: {video: b.mp4}}", r"cameras\.a\.video: expected a file, found nothing"),
        ("cameras: {a: {video: []}}", "found an empty list"),
        ("cameras: {a: {video: a.mp4}}\nmasks: files", r"cameras\.a\.mask: expected masks in files"),
        ("cameras: {a: {video: a.mp4}}\nmasks: alpha", "expected masks in an alpha channel"),
        ("cameras: {a: {video: a.mp4}}\nmasks: png", "masks"),
        ("cameras: {a: {video: a.mp4}}\nfps: -1", "expected a positive number"),
        ("cameras: {a: {video: a.mp4}}\ncalibration: rig.toml", "a calibration|rig.toml"),
        ("cameras: [a.mp4]", "cameras"),
        ("- a", "recording.yaml"),
    ],
)
def test_yaml_mistakes(tmp_path: Path, text: str, said: str) -> None:
    write_video(tmp_path / "a.mp4", 3)
    (tmp_path / "recording.yaml").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        open_recording(tmp_path)
    assert "\n" not in str(caught.value)


def test_names_that_do_not_match_are_both_listed(tmp_path: Path) -> None:
    folders(tmp_path, ["back", "top"])
    write_calibration(tmp_path / "calibration.toml", ["back", "side", "top"])
    with pytest.raises(InputError, match="calibrated cameras back, side, top, found back, top"):
        open_recording(tmp_path)


@pytest.mark.parametrize(
    ("calibrated", "found", "pairs"),
    [
        (["0", "1"], ["1", "0"], ["0", "1"]),
        (["Top", "Side"], ["side", "top"], ["top", "side"]),
        (["top", "side"], ["m1-side", "m1-top"], ["m1-top", "m1-side"]),
        (["Camera1", "Camera2"], ["cam2", "cam1"], ["cam1", "cam2"]),
        (["Camera1", "Camera2"], ["0", "1"], None),  # counted from 0: which one is camera 1 cannot be known
        (["a", "b"], ["a_b", "b_a"], None),
        (["a"], ["a", "b"], None),
    ],
)
def test_names(calibrated: list[str], found: list[str], pairs: list[str] | None) -> None:
    if pairs is None:
        with pytest.raises(InputError, match="expected footage of the calibrated cameras"):
            match_names(calibrated, found, Path("here"))
    else:
        assert match_names(calibrated, found, Path("here")) == dict(zip(calibrated, pairs, strict=True))


def test_several_calibrations_are_named(tmp_path: Path) -> None:
    folders(tmp_path, ["back", "top"])
    write_calibration(tmp_path / "calibration.toml", ["back", "top"])
    other = write_calibration(tmp_path / "new.anipose.toml", ["top", "back"])
    with pytest.raises(InputError, match=r"found calibration\.toml, new\.anipose\.toml; pick one with --calibration"):
        open_recording(tmp_path)
    assert open_recording(tmp_path, calibration=other).names == ("top", "back")


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a recording, found nothing"):
        open_recording(tmp_path / "none")
    with pytest.raises(InputError, match=r"expected videos_undist/0\.mp4"):
        open_recording(tmp_path)
    write_video(tmp_path / "back/a.mp4", 3)
    write_video(tmp_path / "back/b.mp4", 3)
    with pytest.raises(InputError, match=r"expected one video, or several named by their first frame, found a\.mp4, b"):
        open_recording(tmp_path)


def test_it_says_what_it_found(tmp_path: Path) -> None:
    folders(tmp_path, ["back", "top"])
    write_calibration(tmp_path / "calibration.toml", ["back", "top"])
    text = "\n".join(open_recording(tmp_path).describe())
    for words in (
        "one folder for each camera",
        "calibration.toml (anipose)",
        "12 at 25 frames",
        "top/video.mp4",
        "no masks",
    ):
        assert words in text


def test_a_recording_can_be_sent_to_another_process(tmp_path: Path) -> None:
    recording = pickle.loads(pickle.dumps(open_recording(folders(tmp_path, ["a", "b"]))))
    assert shown(recording, [11]) == [[(11, 0), (11, 1)]]


class TestCheck:
    def test_different_lengths(self, tmp_path: Path) -> None:
        recording = open_recording(folders(tmp_path, ["a", "b", "c"], [12, 12, 9]))
        expected = "expected equally long videos, found frames: a 12, b 12, c 9"
        assert check_recording(recording) == [expected]
        with pytest.raises(InputError, match=expected):
            require_sound(recording)

    def test_a_sync_table_that_asks_for_more(self, tmp_path: Path) -> None:
        folders(tmp_path, ["a", "b"], [12, 9])
        (tmp_path / "sync.csv").write_text("a,b\n" + "".join(f"{k},{k}\n" for k in range(10)))
        (tmp_path / "recording.yaml").write_text(
            "sync: sync.csv\ncameras: {a: {video: a/video.mp4}, b: {video: b/video.mp4}}"
        )
        expected = ["camera b: expected frame 9 as the sync table says, found frames 0 to 8"]
        assert check_recording(open_recording(tmp_path)) == expected

    def test_missing_frames_of_one_camera(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a/v.mp4", 40)
        write_video(tmp_path / "b/v.mp4", 40, ticks=lambda k: (k + 2 * (k > 30)) * TICKS)
        problems = check_recording(open_recording(tmp_path))
        assert len(problems) == 1
        assert problems[0].startswith("camera b: expected no missing frames, found a gap of 2 after frame 30")

    def test_a_pause_of_all_cameras_is_no_fault(self, tmp_path: Path) -> None:
        for name in "ab":
            write_video(tmp_path / name / "v.mp4", 40, ticks=lambda k: (k + 2 * (k > 30)) * TICKS)
        recording = open_recording(tmp_path)
        assert check_recording(recording) == []
        assert "all views pause for 2 frames after instant 30" in recording.describe()[-1]

    def test_frame_rates(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a/v.mp4", 12, fps=25)
        write_video(tmp_path / "b/v.mp4", 12, fps=50)
        assert check_recording(open_recording(tmp_path)) == [
            "expected one frame rate, found frames a second: a 25, b 50"
        ]

    def test_turned_pictures(self, tmp_path: Path) -> None:
        folders(tmp_path, ["a"])
        write_video(tmp_path / "b/v.mp4", 12, rotation=90)
        (problem,) = check_recording(open_recording(tmp_path))
        assert "metadata that turn it by" in problem

    def test_a_calibration_of_another_size(self, tmp_path: Path) -> None:
        folders(tmp_path, ["a", "b"])
        write_calibration(tmp_path / "calibration.toml", ["a", "b"], size=(128, 96))
        problems = check_recording(open_recording(tmp_path))
        assert problems[0] == "camera a: expected 128x96 px as the calibration says, found 64x48"
        assert len(problems) == 2
        with pytest.raises(InputError, match=r"\(and 1 more\)"):
            require_sound(open_recording(tmp_path))

    def test_masks(self, tmp_path: Path) -> None:
        folders(tmp_path, ["a", "b"])
        write_video(tmp_path / "masks/a.mp4", 11)
        with pytest.raises(InputError, match="expected masks of every camera, found none of b"):
            open_recording(tmp_path)
        write_video(tmp_path / "masks/b.mp4", [np.zeros((24, 32, 3), np.uint8)] * 12)
        assert check_recording(open_recording(tmp_path)) == [
            "camera a: expected as many masks as frames, found 11 masks and 12 frames",
            "camera b: expected masks of 64x48 px, found 32x24",
        ]

    def test_a_varying_rate(self, tmp_path: Path) -> None:
        times = np.cumsum(np.random.default_rng(0).choice([30, 100, 190], 40))
        folders(tmp_path, ["a"], [40])
        write_video(tmp_path / "b/v.mp4", 40, ticks=lambda k: int(times[k]), fps=25)
        assert any("expected a constant frame rate" in problem for problem in check_recording(open_recording(tmp_path)))


@pytest.mark.data
def test_the_simulated_mammal_recording(test_data: Path) -> None:
    recording = open_recording(test_data / "markerless_mouse_1_sim")
    assert recording.layout.startswith("MAMMAL")
    assert recording.names == ("0", "1", "2", "3", "4", "5")
    assert (recording.num_instants, recording.fps, recording.has_masks) == (100, 100, True)
    assert recording.keypoints is not None
    assert check_recording(recording) == []
    (instant,) = read_instants(recording, [20])
    assert instant.masks is not None
    for frame, mask in zip(instant.frames, instant.masks, strict=True):
        assert frame.shape == (1024, 1152, 3)
        assert 0.005 < (mask > 127).mean() < 0.2
        assert frame[mask == 255].mean() < frame[mask == 0].mean() - 30  # a black mouse


@pytest.mark.data
def test_the_four_camera_recording(test_data: Path) -> None:
    folder = test_data / "sleap_anipose_mouse4cam"
    with pytest.raises(InputError, match=r"calibration\.toml, recalibrated\.anipose\.toml"):
        open_recording(folder)
    recording = open_recording(folder, calibration=folder / "recalibrated.anipose.toml")
    assert recording.names == ("back", "mid", "side", "top")
    assert recording.num_instants == 120
    assert check_recording(recording) == []
    (instant,) = read_instants(recording, [20])
    assert instant.masks is None
    assert {frame.shape for frame in instant.frames} == {(1024, 1280, 3)}
