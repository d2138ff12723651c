"""MAMMAL's `new_cam.pkl` in every shape that it is found in."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mouselift.data.calibration import read_calibration, read_cameras
from mouselift.data.calibration.mammal import read_mammal
from mouselift.data.calibration.safe_pickle import load_pickle
from mouselift.errors import InputError

K = np.array([[1600.0, 0, 600], [0, 1650, 500], [0, 0, 1]])
TURNS = [np.eye(3)[list(order)] for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1))]  # rotations, not their own transposes


def cameras() -> list[dict[str, Any]]:
    return [{"K": K + np.diag([i, 0, 0]), "R": R, "T": np.array([1.0, 2, 300 + i])} for i, R in enumerate(TURNS)]


def dump(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def forms() -> dict[str, Any]:
    listed = cameras()
    mutated = [{"K": c["K"].T, "R": c["R"].T, "T": c["T"][None]} for c in listed]
    return {
        "list": listed,
        "dictionary": dict(enumerate(listed)),
        "text keys out of order": {"2": listed[2], "0": listed[0], "1": listed[1]},
        "column T": [c | {"T": c["T"][:, None]} for c in listed],
        "row T": [c | {"T": c["T"][None]} for c in listed],
        "after MAMMAL's loader": mutated,
        "nested lists": [{key: value.tolist() for key, value in c.items()} for c in listed],
    }


@pytest.mark.parametrize("form", forms())
def test_every_form_gives_the_same_cameras(tmp_path: Path, form: str) -> None:
    calibration = read_calibration(dump(tmp_path / "new_cam.pkl", forms()[form]))
    assert (calibration.format, calibration.names) == ("mammal", ("0", "1", "2"))
    for i, camera in enumerate(calibration.cameras):
        assert camera.K.tolist() == [[1600 + i, 0, 600.5], [0, 1650, 500.5], [0, 0, 1]]
        assert camera.w2c[:3, :3].tolist() == TURNS[i].tolist()
        assert camera.w2c[:3, 3].tolist() == [1, 2, 300 + i]
        assert camera.distortion is None
        assert camera.width is None


def test_maps_tell_the_size(tmp_path: Path) -> None:
    maps = {"mapx": np.zeros((10, 12), np.float32), "mapy": np.zeros((10, 12), np.float32)}
    rig = read_cameras(dump(tmp_path / "new_cam.pkl", [c | maps for c in cameras()]))
    assert (rig.width, rig.height) == (12, 10)


def test_maps_of_two_shapes_are_refused(tmp_path: Path) -> None:
    maps = {"mapx": np.zeros((10, 12), np.float32), "mapy": np.zeros((12, 10), np.float32)}
    with pytest.raises(InputError, match=r"camera '0': expected mapx and mapy of one shape"):
        read_calibration(dump(tmp_path / "new_cam.pkl", [c | maps for c in cameras()]))


def test_the_matlab_origin_is_an_option(tmp_path: Path) -> None:
    path = dump(tmp_path / "new_cam.pkl", cameras())
    assert read_mammal(path, pixel_origin="matlab").cameras[0].K[:2, 2].tolist() == [599.5, 499.5]
    assert read_calibration(path, format="mammal-matlab").cameras[0].K[:2, 2].tolist() == [599.5, 499.5]


def test_units_scale_the_translation_alone(tmp_path: Path) -> None:
    path = dump(tmp_path / "new_cam.pkl", cameras())
    in_mm, in_cm = read_calibration(path), read_calibration(path, mm_per_unit=10)
    assert torch.equal(in_cm.cameras[0].w2c[:3, 3], 10 * in_mm.cameras[0].w2c[:3, 3])
    assert torch.equal(in_cm.cameras[0].w2c[:3, :3], in_mm.cameras[0].w2c[:3, :3])


@pytest.mark.data
def test_keypoints_of_a_recording_fall_where_they_were_seen(test_data: Path) -> None:
    folder = test_data / "markerless_mouse_1_sim"
    if not folder.is_dir():
        pytest.skip(f"no recording at {folder}")
    rig = read_cameras(folder, image_size=(1152, 1024))
    points = torch.from_numpy(np.load(folder / "keypoints3d_truth.npz")["keypoints_mm"]).double().reshape(-1, 3)
    for view in range(6):
        seen = load_pickle(folder / f"keypoints2d_undist/result_view_{view}.pkl").reshape(-1, 3)
        error = rig[view].project(points) - 0.5 - torch.from_numpy(seen[:, :2])  # OpenCV counts from (0, 0)
        assert error.mean(0).abs().max() < 0.1  # unbiased: the noise is 1 px, and there are 2,200 of them
