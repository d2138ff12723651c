"""`check` passes what is right, refuses what is wrong, and says why."""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from videos import write_video

from mouselift.check import CheckReport, check_dataset, check_recording, write_report
from mouselift.data.layout import CAMERA_FILE, encode_png, write_dataset, write_sample_pictures
from mouselift.data.recording import Recording, open_recording
from mouselift.errors import InputError
from mouselift.geometry import Cameras, Similarity
from mouselift.geometry.rigs import orbit

SIZE_PX, SCALE = 96, 0.01
COLOUR, ANIMAL_GREY = (120, 90, 70), 96.7
AZIMUTHS = (5.0, 60.0, 125.0, 190.0, 235.0, 300.0)
BODY = [((0.0, 0.0, 0.0), 0.18), ((0.25, 0.05, 0.06), 0.11), ((-0.25, 0.1, -0.02), 0.07), ((-0.4, 0.2, 0.1), 0.05)]


# ---- recordings


@pytest.fixture(scope="module")
def six_cameras(request: pytest.FixtureRequest) -> Path:
    folder = request.getfixturevalue("test_data") / "markerless_mouse_1_sim"
    if not folder.is_dir():
        pytest.skip(f"no recording at {folder}")
    return folder


@pytest.fixture(scope="module")
def sound(six_cameras: Path) -> CheckReport:
    return check_recording(open_recording(six_cameras), 2)


def rewired(folder: Path, tmp_path: Path, videos: dict[str, str]) -> Recording:
    """The same recording, in which some cameras have the files of others."""
    entry = {
        "calibration": os.path.relpath(folder / "new_cam.pkl", tmp_path),
        "cameras": {
            name: {
                "video": os.path.relpath(folder / "videos_undist" / f"{file}.mp4", tmp_path),
                "mask": os.path.relpath(folder / "simpleclick_undist" / f"{file}.mp4", tmp_path),
            }
            for name, file in videos.items()
        },
    }
    (tmp_path / "recording.yaml").write_text(yaml.safe_dump(entry))
    return open_recording(tmp_path)


def test_a_sound_recording_passes(sound: CheckReport) -> None:
    assert sound.failures == ()
    assert sound.unproven == ()
    figures = sound.figures
    assert min(figures["hull_iou_median"].values()) > 0.9
    assert max(figures["keypoints"]["rms_px"].values()) < 2
    assert figures["up_in_the_calibrations_world"] == [0, 0, 1]
    misses = [value for row in figures["epipolar_px_median"].values() for value in row.values()]
    assert len(misses) == 6 * 5
    assert max(misses) < 2
    assert all(0.02 < light["share"] < 0.1 and 40 < light["animal"] < 110 for light in figures["light"].values())
    rig = figures["rig"]
    assert 290 < rig["mean_distance"] < 340
    assert sum(camera["gap_deg"] for camera in rig["cameras"]) == pytest.approx(360)
    assert all(0 < camera["elevation_deg"] < 35 for camera in rig["cameras"])
    assert all(15 < moment["hull_volume_ml"] < 60 for moment in figures["moments"])


def test_the_report_is_written_whole(sound: CheckReport, tmp_path: Path) -> None:
    write_report(sound, tmp_path / "report")
    write_report(sound, tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "index.html",
        "figures.json",
        "overview.png",
        "rig.png",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    assert figures["passed"] is True
    page = (tmp_path / "report" / "index.html").read_text()
    assert 'class="verdict good"' in page
    # The overview, the rig, close-ups, and those with epipolar lines: the border cuts the animal in one camera.
    assert page.count("data:image/") == 2 + 6 + 5
    assert page.count("<svg") == 1 + 6  # the timeline, a histogram for each camera
    with Image.open(tmp_path / "report" / "overview.png") as overview:
        assert overview.width > 1400


def test_swapped_cameras_are_named(six_cameras: Path, tmp_path: Path) -> None:
    files = {"0": "0", "1": "4", "2": "2", "3": "3", "4": "1", "5": "5"}
    report = check_recording(rewired(six_cameras, tmp_path, files), 1)
    assert len(report.failures) == 1
    assert "pictures of cameras 1 and 4 are swapped" in report.failures[0]
    assert min(report.figures["epipolar_px_median"]["1"].values()) > 5
    write_report(report, tmp_path / "report")
    assert 'class="verdict bad"' in (tmp_path / "report" / "index.html").read_text()


def test_a_video_that_lags_is_named(six_cameras: Path) -> None:
    frames = np.tile(np.arange(5, 95)[:, None], (1, 6))
    frames[:, 2] -= 3
    report = check_recording(replace(open_recording(six_cameras), sync=frames, keypoints=None), 3)
    assert len(report.failures) == 1
    assert "the video of camera 2 lags by 3 frames" in report.failures[0]


def test_a_wrong_unit_is_named(six_cameras: Path) -> None:
    report = check_recording(open_recording(six_cameras, mm_per_unit=0.1), 1)
    assert len(report.failures) == 1
    assert "the calibration is in centimetres, not mm (mm_per_unit: 10)" in report.failures[0]


def test_keypoints_of_another_calibration_are_refused(six_cameras: Path, tmp_path: Path) -> None:
    folder = tmp_path / "keypoints2d_undist"
    folder.mkdir()
    for name in range(6):
        source = six_cameras / "keypoints2d_undist" / f"result_view_{(name + 1) % 6}.pkl"
        (folder / f"result_view_{name}.pkl").symlink_to(source.resolve())
    report = check_recording(replace(open_recording(six_cameras), keypoints=folder), 1)
    assert len(report.failures) == 1
    assert "expected 2D keypoints within 5 px" in report.failures[0]


def test_labels_of_dannce_are_exact_and_missing_frames_are_no_crash(test_data: Path, tmp_path: Path) -> None:
    """Its 2D labels are projections of its 3D labels; the videos here are too short for its table of frames."""
    table = test_data / "dannce_markerless_mouse/markerless_mouse_1/label3d_dannce.mat"
    if not table.is_file():
        pytest.skip(f"no file {table}")
    (tmp_path / table.name).symlink_to(table.resolve())
    for camera in range(1, 7):
        write_video(tmp_path / "videos" / f"Camera{camera}" / "0.mp4", 3, camera=camera)
    report = check_recording(open_recording(tmp_path), 1)
    found = report.figures["keypoints"]
    assert found["points_given_in_3d"]
    assert max(found["rms_px"].values()) < 1e-6
    assert all(count > 1000 for count in found["count"].values())
    assert len(report.failures) == 7
    assert all("found frames 0 to 2" in failure for failure in report.failures[:6])
    assert report.overview is None
    assert report.rig is not None


def test_without_masks_only_the_rest_is_said(six_cameras: Path) -> None:
    recording = open_recording(six_cameras)
    bare = replace(recording, views=tuple(replace(view, masks=None) for view in recording.views))
    report = check_recording(bare, 1)
    assert report.failures == ()
    assert any("mouselift segment" in line for line in report.unproven)
    assert any("mouselift segment" in line for line in report.lines)
    assert "hull_iou_median" not in report.figures
    assert max(report.figures["keypoints"]["rms_px"].values()) < 2
    assert "not everything" in report.verdict


def test_without_a_calibration_pictures_are_still_shown(six_cameras: Path) -> None:
    report = check_recording(replace(open_recording(six_cameras), calibration=None), 1)
    assert len(report.failures) == 1
    assert "expected a calibration" in report.failures[0]
    assert report.overview is not None
    assert report.rig is None


# ---- datasets


def blobs(cameras: Cameras) -> np.ndarray:
    """RGBA of a body of balls, each ball a disc of its projected size."""
    pictures = np.zeros((len(cameras), SIZE_PX, SIZE_PX, 4), np.uint8)
    for centre, radius in BODY:
        point = torch.tensor([centre])
        pixels, depths = cameras.project(point)[:, 0], cameras.to_camera(point)[:, 0, 2]
        for picture, (x, y), depth, focal in zip(
            pictures, pixels.tolist(), depths.tolist(), cameras.K[:, 0, 0].tolist(), strict=True
        ):
            place = (round(x * 16 - 8), round(y * 16 - 8))
            cv2.circle(picture, place, round(radius * focal / depth * 16), (*COLOUR, 255), -1, cv2.LINE_8, 4)
    return pictures


def write_blobs(root: Path, num: int = 3) -> Path:
    cameras = orbit(AZIMUTHS, [5.0, 20.0, 10.0, 30.0, 0.0, 15.0], fov_deg=30, size_px=SIZE_PX, names=list("abcdef"))
    world = Similarity(scale=torch.tensor(SCALE), rotation=torch.eye(3), translation=torch.zeros(3))
    names = [f"sample_{k:06d}" for k in range(num)]
    for k, name in enumerate(names):
        pictures = [encode_png(rgba) for rgba in blobs(cameras)]
        write_sample_pictures(
            root / name, pictures, cameras, sample_id=name, frame_index=100 * k, scene_from_world=world
        )
    write_dataset(root, {"train": names[:-1], "val": names[-1:]}, {"made_by": "a test", "recording": "none"})
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_blobs(tmp_path / "dataset")


def edit_cameras(root: Path, change: dict[str, float], view: int) -> None:
    """Multiply values of one view in every sample."""
    for file in root.glob(f"*/{CAMERA_FILE}"):
        record = json.loads(file.read_text())
        for key, factor in change.items():
            record["frames"][view][key] *= factor
        file.write_text(json.dumps(record))


def test_a_sound_dataset_passes(dataset: Path, tmp_path: Path) -> None:
    report = check_dataset(dataset)
    assert report.failures == ()
    assert report.notes == ()
    figures = report.figures
    assert min(figures["hull_iou_median"].values()) > 0.9
    assert figures["samples"] == {"train": 2, "val": 1}
    assert figures["gap_between_splits_instants"] == 100
    assert figures["views"] == list("abcdef")
    assert figures["det_R_min"] == pytest.approx(1)
    assert figures["distance"]["mean"] == pytest.approx(2.7)
    assert figures["clipped_share"] == 0
    assert figures["segments"] == [[0, 300]]
    assert max(value for row in figures["epipolar_px_median"].values() for value in row.values()) < 2
    assert [light["animal"] for light in figures["light"].values()] == pytest.approx([ANIMAL_GREY] * 6, abs=1)
    balls_ml = sum(4 / 3 * np.pi * (radius / SCALE) ** 3 for _, radius in BODY) / 1000
    assert balls_ml < figures["hull_volume_ml"] < 1.6 * balls_ml  # the balls overlap, the hull is larger
    write_report(report, tmp_path / "report")
    assert (tmp_path / "report" / "rig.png").is_file()


def test_a_wrong_focal_length_is_named(dataset: Path) -> None:
    edit_cameras(dataset, {"fx": 1.49, "fy": 1.49}, view=2)
    (failure,) = check_dataset(dataset).failures
    cause = "the focal length of camera c is "
    assert cause in failure
    assert float(failure.split(cause)[1].split()[0]) == pytest.approx(1.49, abs=0.06)
    assert "times too long" in failure


def test_a_camera_that_is_wrong_in_another_way_is_named(dataset: Path) -> None:
    edit_cameras(dataset, {"cx": 1.25}, view=4)
    (failure,) = check_dataset(dataset).failures
    assert "camera e does not fit the others" in failure


def test_sets_of_other_tools_pass_with_remarks(dataset: Path) -> None:
    """FaceLift's own: no dataset.json, no names, no world, other distances."""
    (dataset / "dataset.json").unlink()
    for file in dataset.glob(f"*/{CAMERA_FILE}"):
        record = json.loads(file.read_text())
        frames = [{k: v for k, v in frame.items() if k != "view_name"} for frame in record["frames"]]
        file.write_text(json.dumps({"frames": frames}))
    report = check_dataset(dataset)
    assert report.failures == ()
    assert report.figures["gap_between_splits_instants"] is None
    assert "hull_volume_ml" not in report.figures


def test_pictures_without_alpha_prove_nothing(dataset: Path) -> None:
    for file in dataset.glob("*/images/*.png"):
        with Image.open(file) as picture:
            opaque = picture.convert("RGB")
        opaque.save(file)
    report = check_dataset(dataset)
    assert report.failures == ()
    assert any("no alpha channel" in line for line in report.unproven)


def test_lists_that_overlap_or_name_missing_samples_are_refused(dataset: Path) -> None:
    (dataset / "data_mouse_val.txt").write_text("sample_000000\nsample_000002\nsample_000009\n")
    failures = check_dataset(dataset).failures
    assert any("found 1 in both, such as sample_000000" in failure for failure in failures)
    assert any("sample_000009" in failure for failure in failures)


def test_neighbouring_instants_in_both_splits_are_refused(dataset: Path) -> None:
    for k, file in enumerate(sorted(dataset.glob(f"*/{CAMERA_FILE}"))):
        file.write_text(json.dumps({**json.loads(file.read_text()), "frame_index": k}))
    (failure,) = check_dataset(dataset).failures
    assert "expected a gap between training and validation samples" in failure


def test_a_subject_beside_the_origin_is_refused(dataset: Path) -> None:
    """Cameras moved as one: all agree on the animal, but not that it is where the scene is."""
    for file in dataset.glob(f"*/{CAMERA_FILE}"):
        record = json.loads(file.read_text())
        for frame in record["frames"]:
            w2c = np.array(frame["w2c"])
            w2c[:3, 3] -= w2c[:3, :3] @ (0.0, 0.0, -0.7)
            frame["w2c"] = w2c.tolist()
        file.write_text(json.dumps(record))
    (failure,) = check_dataset(dataset).failures
    assert "expected the subject at the origin, found it 0.69 scene units away" in failure


def test_a_mirrored_camera_is_refused(dataset: Path) -> None:
    file = dataset / "sample_000001" / CAMERA_FILE
    record = json.loads(file.read_text())
    record["frames"][0]["w2c"][0] = [-value for value in record["frames"][0]["w2c"][0]]
    file.write_text(json.dumps(record))
    (failure,) = check_dataset(dataset).failures
    assert str(file) in failure
    assert "mirror" in failure


def test_a_folder_that_is_no_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a dataset folder"):
        check_dataset(tmp_path)
