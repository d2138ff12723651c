"""What is broken is refused in one clear line, and leaves nothing behind that looks whole; what is merely odd works."""

import errno
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rig_recordings import FPS, HEIGHT, NAMES, WIDTH, calibration_of, centre_at, picture, rig
from videos import write_video

import mouselift.prepare as prepare_module
from mouselift.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, main
from mouselift.data.calibration import WRITERS
from mouselift.data.layout import CAMERA_FILE, DATASET_FILE, SPLIT_FILES, list_samples, read_sample

NUM_INSTANTS, LAG, STRIDE = 6, 2, 4  # the animal runs 7 mm from one instant to the next
SETTINGS = ("preset=facelift", "size_px=96", "val_share=0.2", "gap_s=0")
NOBODY = 65534

Damage = Callable[[Path], Any]
Tree = dict[str, bytes]


# ---- the sound recording


@cache
def footage(name: str) -> np.ndarray:
    """(LAG + NUM_INSTANTS, H, W, 4): what a camera saw, its mask as the last channel; the first ones are too early."""
    times = range(-LAG, NUM_INSTANTS)
    shown = [picture(NAMES.index(name), centre_at(STRIDE * t)) for t in times]
    return np.stack([np.dstack(pair) for pair in shown])


def write_view(root: Path, name: str, rgba: np.ndarray | None = None, masks: bool = True, **options: Any) -> None:
    """A camera's videos; the options are those of its pictures."""
    rgba = footage(name)[LAG:] if rgba is None else rgba
    write_video(root / f"{name}.mp4", [np.ascontiguousarray(p[..., :3]) for p in rgba], fps=FPS, **options)
    if masks:
        write_masks(root, name, rgba[..., 3], pixel_format=options.get("pixel_format", "yuv420p"))


def write_masks(root: Path, name: str, masks: np.ndarray, **options: Any) -> None:
    write_video(root / "masks" / f"{name}.mp4", [np.dstack([mask] * 3) for mask in masks], fps=FPS, **options)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "recording"
    for name in NAMES:
        write_view(root, name)
    WRITERS["anipose"](root / "calibration.toml", calibration_of(rig()))
    return root


@pytest.fixture(scope="module")
def dataset(sound: Path) -> Path:
    """What an undisturbed run makes of it."""
    out = sound.parent / "dataset"
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, sound, out) == 0
    return out


def run(patch: pytest.MonkeyPatch, recording: Path, out: Path, *arguments: str) -> int:
    """`mouselift prepare`; its exit status."""
    patch.setattr("sys.argv", ["mouselift", "prepare", str(recording), "-o", str(out), *SETTINGS, *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def tree(folder: Path) -> Tree:
    """Every file of a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def looks_whole(out: Path) -> bool:
    return any((out / name).exists() for name in (DATASET_FILE, *SPLIT_FILES.values()))


def the_error(text: str) -> str:
    """The one line on stderr."""
    assert text.startswith("mouselift: error: "), text
    assert text.count("\n") == 1, text
    return text


# ---- ways to break it


def cut(name: str, share: float) -> Damage:
    def damage(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(share * len(content))])

    return damage


def overwritten(name: str, share: float) -> Damage:
    """Zeros for 60 bytes."""

    def damage(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        at = int(share * len(content))
        content[at : at + 60] = bytes(60)
        (root / name).write_bytes(content)

    return damage


def in_calibration(old: str, new: str) -> Damage:
    def damage(root: Path) -> None:
        text = (root / "calibration.toml").read_text()
        assert old in text
        (root / "calibration.toml").write_text(text.replace(old, new, 1))

    return damage


def in_recording_file(sync: str | None = None, **values: Any) -> Damage:
    def damage(root: Path) -> None:
        cameras = {name: {"video": f"{name}.mp4", "mask": f"masks/{name}.mp4"} for name in NAMES}
        entry = {"calibration": "calibration.toml", "cameras": cameras, **values}
        if sync is not None:
            (root / "sync.csv").write_text(sync)
            entry["sync"] = "sync.csv"
        (root / "recording.yaml").write_text(yaml.safe_dump(entry))

    return damage


def lagging(root: Path) -> None:
    write_view(root, "west", footage("west")[:-LAG])


def swapped(root: Path) -> None:
    write_view(root, "east", footage("north")[LAG:])
    write_view(root, "north", footage("east")[LAG:])


def picture_masks(root: Path) -> None:
    shutil.rmtree(root / "masks")
    for name in NAMES:
        (root / "masks" / name).mkdir(parents=True)
        for t, rgba in enumerate(footage(name)[LAG:]):
            Image.fromarray(np.ascontiguousarray(rgba[..., 3])).save(root / "masks" / name / f"{t:04d}.png")


def cut_picture(root: Path) -> None:
    picture_masks(root)
    cut("masks/west/0003.png", 0.5)(root)


def missing_picture(root: Path) -> None:
    picture_masks(root)
    (root / "masks" / "west" / "0003.png").unlink()


def picture_bomb(root: Path) -> None:
    """A PNG of 150 bytes that claims 60,000 x 60,000 px."""
    picture_masks(root)
    file = root / "masks" / "west" / "0000.png"
    content = bytearray(file.read_bytes())
    content[16:24] = 2 * (60_000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    file.write_bytes(content)


def pickle_bomb(root: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch '{root / 'exploded'}'",)  # which would change the recording

    (root / "calibration.toml").unlink()
    (root / "new_cam.pkl").write_bytes(pickle.dumps([Bomb()]))


def emptied(root: Path, name: str, which: slice) -> None:
    masks = footage(name)[LAG:, ..., 3].copy()
    masks[which] = 0
    write_masks(root, name, masks)


@dataclass(frozen=True)
class Broken:
    damage: Damage
    says: str
    """Pattern of the message."""
    arguments: tuple[str, ...] = ()
    earlier: bool = field(default=False, kw_only=True)
    """Whether a dataset lies where the new one shall be."""


BROKEN = {
    # videos
    "zero bytes": Broken(
        lambda r: (r / "east.mp4").write_bytes(b""),
        r"east\.mp4: expected a video, found an empty file \(0 bytes\)",
        earlier=True,
    ),
    "cut off": Broken(cut("east.mp4", 0.6), r"east\.mp4: expected a video.* \(cut off while rec", earlier=True),
    "cut off, index first": Broken(
        lambda r: (write_view(r, "east", muxer={"movflags": "faststart"}), cut("east.mp4", 0.7)(r)),
        r"east\.mp4: (cut off or )?damaged at frame \d|east\.mp4: expected about 6 frames .* cut off",
    ),
    "text, not a video": Broken(
        lambda r: (r / "west.mp4").write_text("no video\n" * 100), r"west\.mp4: expected a video, found no readable one"
    ),
    "damaged pictures": Broken(overwritten("west.mp4", 0.3), r"west\.mp4: damaged at .*frame \d"),
    "damaged masks": Broken(overwritten("masks/west.mp4", 0.3), r"masks/west\.mp4: damaged at .*frame", earlier=True),
    "different lengths": Broken(
        lambda r: write_view(r, "north", footage("north")[LAG:-1]),
        r"expected equally long videos, found frames: east 6, north 5, west 6, south 6$",
        earlier=True,
    ),
    "frames missing": Broken(
        lambda r: write_view(r, "west", ticks=lambda k: 100 * (k + 3 * (k > 3))),
        r"camera west: expected no missing frames, found a gap of 3 after frame 3 that other cameras do not have",
    ),
    "another frame rate": Broken(
        lambda r: write_view(r, "west", ticks=lambda k: 200 * k),
        r"expected one frame rate, found frames a second: east 50, north 50, west 25, south 50",
    ),
    "turned by metadata": Broken(
        lambda r: write_view(r, "west", rotation=90), r"west\.mp4: .*found metadata that turn it by -?90 degrees"
    ),
    "camera missing": Broken(
        lambda r: (r / "west.mp4").unlink(),
        r"expected footage of the calibrated cameras east, north, west, south, found east, north, south$",
        earlier=True,
    ),
    "camera unknown": Broken(
        lambda r: [shutil.copy(r / part / "west.mp4", r / part / "top.mp4") for part in (".", "masks")],
        r"expected footage of the calibrated cameras .*, found east, north, south, top, west$",
    ),
    "a link to nothing": Broken(
        lambda r: ((r / "west.mp4").unlink(), (r / "west.mp4").symlink_to("gone.mp4")),
        r"expected footage of the calibrated cameras .*, found east, north, south$",
    ),
    "a video late": Broken(lagging, r"found 0\.\d\d in camera \w+: likely the video of camera west lags by 2 frames"),
    "views swapped": Broken(
        swapped, r"expected masks that overlap .* found .*: likely the pictures of cameras east and north are swapped"
    ),
    # masks
    "no masks": Broken(
        lambda r: shutil.rmtree(r / "masks"),
        r"expected masks of every camera, found none; make them: mouselift seg",
    ),
    "masks of one camera missing": Broken(
        lambda r: (r / "masks" / "west.mp4").unlink(), r"masks: expected masks of every camera, found none of west"
    ),
    "fewer masks than frames": Broken(
        lambda r: write_masks(r, "west", footage("west")[LAG:-1, ..., 3]),
        r"camera west: expected as many masks as frames, found 5 masks and 6 frames",
        earlier=True,
    ),
    "masks of another size": Broken(
        lambda r: write_masks(r, "west", footage("west")[LAG:, ::2, ::2, 3]),
        r"camera west: expected masks of 160x128 px, found 80x64",
    ),
    "empty masks in one view": Broken(
        lambda r: emptied(r, "west", slice(None)),
        r"expected masks that show one animal, found none in 6 of 6 instants; the first is 0: empty mask of west",
        earlier=True,
    ),
    "a third of the masks empty": Broken(
        lambda r: emptied(r, "north", slice(3, 5)),
        r"found none in 2 of 6 instants; the first is 3: empty mask of n",
    ),
    "mask picture cut off": Broken(
        cut_picture, r"camera west: .*masks/west/0003\.png: expected a picture, found: image file is truncated"
    ),
    "mask picture missing": Broken(missing_picture, r"masks/west: expected consecutive numbers, found none for 3"),
    "mask picture too large": Broken(
        picture_bomb, r"masks/west/0000\.png: expected a picture, found one that claims to be larger than any camera's"
    ),
    # calibration
    "no calibration": Broken(
        lambda r: (r / "calibration.toml").unlink(),
        r"recording: expected a calibration, found none; name one with --calibration",
    ),
    "two calibrations": Broken(
        lambda r: shutil.copy(r / "calibration.toml", r / "calibration_old.toml"),
        r"expected one calibration, found calibration\.toml, calibration_old\.toml; pick one",
    ),
    "calibration cut off": Broken(cut("calibration.toml", 0.3), r"calibration\.toml: expected TOML, found "),
    "NaN in the calibration": Broken(
        in_calibration("260.0", "nan"), r"calibration\.toml: camera 'east': .* not finite", earlier=True
    ),
    "text in the calibration": Broken(
        in_calibration("260.0", '"wide"'), r"calibration\.toml: camera 'east', matrix: expected .*numbers, found "
    ),
    "K transposed": Broken(
        in_calibration("[[260.0, 0.0, 81.5], [0.0, 255.0, 61.5], ", "[[260.0, 0.0, 0.0], [81.5, 255.0, 61.5], "),
        r"calibration\.toml: camera 'east': .*K",
    ),
    "calibrated at another size": Broken(
        in_calibration("[160, 128]", "[640, 512]"),
        r"camera east: expected 640x512 px as the calibration says, found 160x128",
    ),
    "a pickle that would run a program": Broken(
        pickle_bomb, r"new_cam\.pkl: expected a pickle of numpy arrays and plain containers, found posix\.system"
    ),
    # recording.yaml and the folder
    "unknown key": Broken(in_recording_file(framerate=50), r"recording\.yaml: unknown key framerate"),
    "a file that is not there": Broken(
        in_recording_file(calibration="rig.toml"),
        r"recording\.yaml: calibration: expected a file, found nothing at",
    ),
    "one camera": Broken(
        in_recording_file(cameras={"east": {"video": "east.mp4", "mask": "masks/east.mp4"}}),
        r"expected at least 2 cameras, found 1",
    ),
    "sync beyond the end": Broken(
        in_recording_file(sync="east,north,west,south\n0,0,0,0\n1,1,6,1\n"),
        r"camera west: expected frame 6 as the sync table says, found frames 0 to 5",
    ),
    "sync that is no table": Broken(
        in_recording_file(sync="east,north,west,south\n0,0,zero,0\n"),
        r"sync\.csv: expected .*lines of frame numbers",
    ),
    "an empty folder": Broken(lambda r: (shutil.rmtree(r), r.mkdir()), r"expected .* one video file for each camera"),
    "no folder": Broken(shutil.rmtree, r"expected a recording, found nothing at .*recording", earlier=True),
    # the command
    "instants that do not exist": Broken(
        lambda r: None, r"expected instants from 90 to 5, found none: there are 6", ("first=90",), earlier=True
    ),
    "a setting that is no number": Broken(lambda r: None, r"expected gap_s.* not negative", ("gap_s=.nan",)),
    "a setting that is no YAML": Broken(lambda r: None, r"expected key=value with a value in YAML", ("every=[",)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_recording_is_refused_in_one_line(
    name: str,
    sound: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = BROKEN[name]
    recording, out = shutil.copytree(sound, tmp_path / "recording"), tmp_path / "out"
    case.damage(recording)
    if case.earlier:
        shutil.copytree(dataset, out)
    before, there = tree(recording), tree(out)
    capfd.readouterr()
    assert run(monkeypatch, recording, out, *case.arguments) == EXIT_BAD_INPUT
    assert re.search(case.says, the_error(capfd.readouterr().err).rstrip("\n"))
    assert tree(recording) == before
    assert tree(out) == there if case.earlier else not looks_whole(out)


# ---- places that cannot be written to


def foreign_lists(out: Path) -> None:
    out.mkdir()
    (out / SPLIT_FILES["train"]).write_text("mouse_7/sample_000\n")


def sample_without_end(out: Path) -> None:
    (out / "sample_000001" / CAMERA_FILE).write_text('{"id": "samp')


PLACES: dict[str, tuple[Damage, str, tuple[str, ...]]] = {
    "a file": (lambda out: out.write_text("notes"), r"out: expected a folder for the dataset, found a file", ()),
    "below a file": (
        lambda out: out.write_text("notes"),
        r"out: expected a folder for the dataset, found a file",
        ("-o", "{out}/deeper"),
    ),
    "the recording": (lambda out: None, r"expected another folder than the recording's own", ("-o", "{recording}")),
    "samples of other settings": (lambda out: None, r"sample_000000/.*; use another folder", ("size_px=64",)),
    "somebody's lists": (foreign_lists, r"data_mouse_train\.txt: .*found mouse_7/sample_000.*; use another folder", ()),
    "a damaged sample": (sample_without_end, r"sample_000001/.*; delete the sample's folder", ()),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_lies_at_the_place_of_the_dataset_is_kept(
    name: str,
    sound: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fill, says, arguments = PLACES[name]
    recording, out = shutil.copytree(sound, tmp_path / "recording"), tmp_path / "out"
    if "sample" in name:
        shutil.copytree(dataset, out)
    fill(out)
    before = tree(tmp_path)
    capfd.readouterr()
    named = [argument.format(out=out, recording=recording) for argument in arguments]
    assert run(monkeypatch, recording, out, *named) == EXIT_BAD_INPUT
    assert re.search(says, the_error(capfd.readouterr().err))
    assert tree(tmp_path) == before


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do everything: be nobody for a while."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)


FORBIDDEN = {
    "a video": ("west.mp4", r"west\.mp4: expected a video, found: Permission denied"),
    "the masks": ("masks", r"masks.*: expected a recording that can be read, found: Permission denied"),
    "the calibration": ("calibration.toml", r"calibration\.toml: expected .*, found Permission denied"),
    "the output": (".", r"expected a folder that can be written to, found one that cannot"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.usefixtures("dataset")  # by then all is imported: the package's own files may be out of nobody's reach
def test_permission_denied(
    name: str, sound: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, says = FORBIDDEN[name]
    with tempfile.TemporaryDirectory() as place:
        recording = Path(shutil.copytree(sound, Path(place) / "recording"))
        (recording / file).chmod(0o555 if file == "." else 0)
        Path(place).chmod(0o555)
        capfd.readouterr()
        with unprivileged():
            if not os.access(place, os.R_OK | os.X_OK):
                pytest.skip(f"temporary folders are out of reach of other users: {place}")
            status = run(monkeypatch, recording, Path(place) / "out")
        Path(place).chmod(0o755)
        (recording / file).chmod(0o755)
        assert status == EXIT_BAD_INPUT
        assert re.search(says, the_error(capfd.readouterr().err))
        assert sorted(path.name for path in Path(place).iterdir()) == ["recording"]
        assert tree(recording) == tree(sound)


# ---- ends that come too early


def in_a_process(recording: Path, out: Path, before: str) -> subprocess.CompletedProcess[str]:
    """`mouselift prepare` in a process of its own that first runs some Python."""
    code = f"{before}\nfrom mouselift.cli import main\nmain()"
    arguments = ["prepare", str(recording), "-o", str(out), *SETTINGS]
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)


def test_a_disk_that_is_full(sound: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses files above a size, in the middle of a picture; with room again, the run goes on."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert max(map(len, (p.read_bytes() for p in dataset.glob("sample_000000/images/*.png")))) > 1000
    done = in_a_process(sound, tmp_path / "out", limit)
    assert done.returncode == EXIT_BAD_INPUT
    assert re.search(
        r"sample_\d+: expected a disk that can be written to, found: File too large", the_error(done.stderr)
    )
    assert tree(tmp_path) == {}
    assert run(monkeypatch, sound, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(dataset)


@pytest.mark.parametrize(
    ("error", "file"), [("ENOSPC", ".dataset"), ("ENOSPC", ".data_mouse_val"), ("EROFS", ".dataset")]
)
def test_the_lists_appear_together_or_not_at_all(
    error: str,
    file: str,
    sound: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, write, out = getattr(errno, error), Path.write_text, tmp_path / "out"
    shutil.copytree(dataset, out, ignore=shutil.ignore_patterns("*.txt", DATASET_FILE, "contact_sheet.png"))
    before = tree(out)

    def fail(path: Path, text: str, *args: Any, **named: Any) -> int:
        if path.name.startswith(file):
            raise OSError(code, os.strerror(code), str(path))
        return write(path, text, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        assert run(patch, sound, out) == EXIT_BAD_INPUT
    assert re.search(f"expected a disk .*, found: {os.strerror(code)}$", the_error(capfd.readouterr().err).rstrip())
    assert tree(out) == before


def test_an_interrupted_run_goes_on(
    sound: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C after two samples, which are then kept as they are."""
    write, written, out = prepare_module.write_sample_pictures, [], tmp_path / "out"

    def interrupted(folder: Path, *args: Any, **named: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write(folder, *args, **named)
        written.append(folder)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_sample_pictures", interrupted)
        assert run(patch, sound, out) == EXIT_INTERRUPTED
    assert capfd.readouterr().err == "mouselift: interrupted\n"
    assert not looks_whole(out)
    times = {file: file.stat().st_mtime_ns for folder in written for file in folder.rglob("*.png")}
    assert run(monkeypatch, sound, out) == 0
    assert tree(out) == tree(dataset)
    assert times == {file: file.stat().st_mtime_ns for file in times}


def test_a_killed_run_goes_on(sound: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 in the middle of the third sample, whose half remains; the next run clears it away."""
    kill = """
import os, signal
from pathlib import Path
write, count = Path.write_bytes, []
def killed(path, content):
    count.append(path)
    if len(count) > 2 * 4 + 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, content)
Path.write_bytes = killed
"""
    done = in_a_process(sound, tmp_path / "out", kill)
    assert done.returncode == -signal.SIGKILL
    assert not looks_whole(tmp_path / "out")
    left = sorted(path.name[:14] for path in (tmp_path / "out").iterdir())
    assert left == [".sample_000002", "sample_000000", "sample_000001"]
    assert run(monkeypatch, sound, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == tree(dataset)


# ---- odd, but sound


def with_sides(root: Path, sides: dict[str, tuple[int, int]]) -> None:
    """Pictures of other sizes: the same scene, sampled anew, and a calibration that says so."""
    calibration, cameras = calibration_of(rig()), []
    for camera in calibration.cameras:
        width, height = sides.get(camera.name, (WIDTH, HEIGHT))
        shown = [cv2.resize(p, (width, height), interpolation=cv2.INTER_CUBIC) for p in footage(camera.name)[LAG:]]
        write_view(root, camera.name, np.stack(shown))
        K = camera.K.clone()
        K[0] *= width / WIDTH
        K[1] *= height / HEIGHT
        cameras.append(replace(camera, K=K, width=width, height=height))
    WRITERS["anipose"](root / "calibration.toml", replace(calibration, cameras=tuple(cameras)))


def odd_sizes(root: Path) -> None:
    """A column more and a row less than the rig has."""
    for name in NAMES:
        shown = np.pad(footage(name)[LAG:, :-1], ((0, 0), (0, 0), (0, 1), (0, 0)), mode="edge")
        assert shown.shape[1:3] == (127, 161)
        write_view(root, name, shown, pixel_format="yuv444p")
    text = (root / "calibration.toml").read_text()
    (root / "calibration.toml").write_text(text.replace("[160, 128]", "[161, 127]"))


def grey(root: Path) -> None:
    for name in NAMES:
        shown = [cv2.cvtColor(p[..., :3], cv2.COLOR_RGB2GRAY) for p in footage(name)[LAG:]]
        write_video(root / f"{name}.mp4", shown, fps=FPS, pixel_format="gray")


def ten_bits(root: Path) -> None:
    for name in NAMES:
        write_view(root, name, masks=False, pixel_format="yuv420p10le")


ODD: dict[str, Damage] = {
    "odd sizes": odd_sizes,
    "grey": grey,
    "ten bits": ten_bits,
    "cameras of several sizes": lambda r: with_sides(r, {"north": (240, 192), "west": (120, 96), "south": (320, 256)}),
    "masks as pictures": picture_masks,
    "an empty mask at the end": lambda r: emptied(r, "west", slice(-1, None)),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_merely_odd_gives_the_same_crops(
    name: str, sound: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Path(shutil.copytree(sound, tmp_path / "recording"))
    ODD[name](recording)
    before = tree(recording)
    assert run(monkeypatch, recording, tmp_path / "out") == 0
    assert tree(recording) == before
    record = json.loads((tmp_path / "out" / DATASET_FILE).read_text())
    assert record["dropped"] == ({"5": "empty mask of west"} if "empty" in name else {})
    made = [*list_samples(tmp_path / "out", "train"), *list_samples(tmp_path / "out", "val")]
    assert len(made) == NUM_INSTANTS - len(record["dropped"])
    for folder in made:
        views, expected = read_sample(folder).views, read_sample(dataset / folder.name).views
        overlap = torch.minimum(views.masks, expected.masks).sum((1, 2, 3))
        assert (overlap / torch.maximum(views.masks, expected.masks).sum((1, 2, 3))).min() > 0.85  # 20 px wide
        inside = (views.masks * expected.masks > 0.99).expand_as(views.images)
        colours = views.images.mean(1, keepdim=True), expected.images.mean(1, keepdim=True)
        first, second = colours if name == "grey" else (views.images, expected.images)
        first, second = first.expand_as(inside)[inside], second.expand_as(inside)[inside]
        assert (first - second).abs().mean() < (0.1 if name == "grey" else 0.02)


def test_one_instant_is_enough(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, sound, tmp_path / "out", "first=3", "last=3") == 0
    assert len(list_samples(tmp_path / "out", "train")) == 1
