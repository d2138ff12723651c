"""DANNCE's own calibration and labels: what its owners stored is reproduced, in the file's pixels and in ours."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from mouselift.data.calibration import Calibration, read_calibration, read_cameras
from mouselift.data.calibration.dannce_labels import read_dannce_labels, read_dannce_sync, read_dannce_track
from mouselift.errors import InputError

NAMES = tuple(f"Camera{i + 1}" for i in range(6))


@pytest.fixture(scope="module")
def folder(test_data: Path) -> Path:
    folder = test_data / "dannce_markerless_mouse/markerless_mouse_1"
    if not folder.is_dir():
        pytest.skip(f"no DANNCE recording at {folder}")
    return folder


def entry(K: np.ndarray, *, radial: int = 3) -> dict[str, np.ndarray]:
    """One camera as DANNCE stores it: row vectors, so K and r transposed."""
    return {
        "K": K.T,
        "r": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]).T,
        "t": np.array([[1.0, 2, 300]]),
        "RDistort": np.arange(1, radial + 1) / 10,
        "TDistort": np.array([0.01, 0.02]),
    }


K = np.array([[1600.0, -5, 600], [0, 1650, 500], [0, 0, 1]])


@pytest.mark.data
class TestRealFile:
    def test_the_stored_labels_are_reproduced_in_the_files_pixels(self, folder: Path) -> None:
        cameras = read_cameras(folder / "label3d_dannce.mat", image_size=(1152, 1024))
        assert cameras.names == NAMES
        assert (cameras.K[:, 0, 1].abs() > 0.5).all()  # skew
        assert cameras.distortion is not None
        assert (cameras.distortion != 0).all()
        stored = loadmat(folder / "label3d_dannce.mat", simplify_cells=True)["labelData"]
        for camera in range(6):
            points = torch.from_numpy(stored[camera]["data_3d"]).reshape(-1, 3)
            pixels = torch.from_numpy(stored[camera]["data_2d"]).reshape(-1, 2)
            labelled = points.isfinite().all(-1) & pixels.isfinite().all(-1)
            assert labelled.sum() > 1_000
            error = cameras[camera].project(points) + 0.5 - pixels  # MATLAB counts from (1, 1), we from (0.5, 0.5)
            assert error[labelled].norm(dim=-1).max() < 1e-6

    def test_labels_come_in_our_pixels(self, folder: Path) -> None:
        cameras = read_cameras(folder, image_size=(1152, 1024), format=None)
        labels = read_dannce_labels(folder / "label3d_dannce.mat")
        assert labels.names == NAMES
        assert labels.points_mm.shape == (81, 22, 3)
        assert labels.frames[:, :3].tolist() == [[27, 72, 168]] * 6
        assert labels.sample_ids[:3].tolist() == [271, 721, 1681]
        projected = cameras.project(labels.points_mm.reshape(-1, 3)).reshape(labels.pixels.shape)
        labelled = labels.pixels.isfinite() & projected.isfinite()
        assert labelled.all(-1).sum() > 10_000
        assert (projected - labels.pixels)[labelled].abs().max() < 1e-6

    def test_the_track_and_the_table_of_frames(self, folder: Path) -> None:
        sync = read_dannce_sync(folder / "label3d_dannce.mat")
        assert sync.frames.shape == (18_000, 6)
        assert (sync.frames == torch.arange(18_000)[:, None]).all()
        track = read_dannce_track(folder / "label3d_dannce.mat")
        assert torch.equal(track.sample_ids, sync.sample_ids)
        assert ((track.points_mm[:, 2] > 0) & (track.points_mm[:, 2] < 100)).all()  # the arena's floor is at 0
        apart = read_dannce_track(folder / "com3d.mat")
        assert apart.points_mm.shape == (100, 3)


def test_the_principal_point_moves_by_half_a_pixel(tmp_path: Path) -> None:
    savemat(tmp_path / "one_params.mat", entry(K))
    camera = read_calibration(tmp_path).cameras[0]
    assert camera.K.tolist() == [[1600, -5, 599.5], [0, 1650, 499.5], [0, 0, 1]]
    assert camera.w2c[:3, 3].tolist() == [1, 2, 300]
    assert camera.w2c[:3, :3].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(("radial", "expected"), [(2, [0.1, 0.2, 0.01, 0.02, 0]), (3, [0.1, 0.2, 0.01, 0.02, 0.3])])
def test_two_or_three_radial_coefficients(tmp_path: Path, radial: int, expected: list[float]) -> None:
    savemat(tmp_path / "cam.mat", entry(K, radial=radial))
    distortion = read_calibration(tmp_path / "cam.mat").cameras[0].distortion
    assert distortion is not None
    torch.testing.assert_close(distortion, torch.tensor(expected, dtype=torch.float64))


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        savemat(tmp_path / f"hires_cam{number}_params.mat", entry(K + np.diag([number, 0, 0])))
    calibration = read_calibration(tmp_path)
    assert calibration.names == ("hires_cam1", "hires_cam2", "hires_cam10")
    assert [float(camera.K[0, 0]) for camera in calibration.cameras] == [1601, 1602, 1610]


def write_v73(path: Path, params: list[dict[str, np.ndarray]], names: list[str]) -> None:
    """As MATLAB writes -v7.3: cells are references, every array has its axes reversed, texts are numbers."""
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_group("#refs#")

        def cell(values: list[Any]) -> np.ndarray:
            return np.array([[value.ref] for value in values], dtype=h5py.ref_dtype)

        groups, texts = [], []
        for index, (camera, name) in enumerate(zip(params, names, strict=True)):
            group = cells.create_group(f"camera{index}")
            for key, value in camera.items():
                group[key] = np.atleast_2d(value).T
            text = cells.create_dataset(f"name{index}", data=np.array([[ord(c)] for c in name], dtype=np.uint16))
            text.attrs["MATLAB_class"] = np.bytes_("char")
            groups.append(group)
            texts.append(text)
        file["params"], file["camnames"] = cell(groups), cell(texts)
    content = bytearray(path.read_bytes())
    content[:18] = b"MATLAB 7.3 MAT-fil"
    path.write_bytes(bytes(content))


def assert_same(a: Calibration, b: Calibration) -> None:
    assert a.names == b.names
    for one, other in zip(a.cameras, b.cameras, strict=True):
        assert torch.equal(one.K, other.K)
        assert torch.equal(one.w2c, other.w2c)
        assert one.distortion is not None
        assert other.distortion is not None
        assert torch.equal(one.distortion, other.distortion)


@pytest.mark.parametrize("count", [1, 3])
def test_version_7_3_holds_the_same(tmp_path: Path, count: int) -> None:
    params, names = [entry(K + np.diag([i, 0, 0])) for i in range(count)], [f"left{i}" for i in range(count)]
    cells = np.empty((count, 1), dtype=object)
    cells[:, 0] = params
    savemat(tmp_path / "v5.mat", {"params": cells, "camnames": np.array(names, dtype=object)})
    write_v73(tmp_path / "v73.mat", params, names)
    calibration = read_calibration(tmp_path / "v5.mat")
    assert calibration.names == tuple(names)
    assert_same(read_calibration(tmp_path / "v73.mat"), calibration)


def label_file(path: Path, **changes: Any) -> Path:
    table = {
        "data_3d": np.array([[1.0, 2, 3, 0, 0, 0, 7, 8, 9], [1, 2, 3, 4, 5, 6, np.nan, 8, 9]]),
        "data_2d": np.array([[10.0, 20, 0, 0, 30, 40], [10, 20, 11, 21, np.nan, 5]]),
        "data_frame": np.array([[5], [9]]),
        "data_sampleID": np.array([[51], [91]]),
    }
    tables = np.empty((2, 1), dtype=object)
    tables[:, 0] = [table, table | changes]
    savemat(path, {"labelData": tables, "sync": tables})
    return path


def test_zeros_and_nan_are_unlabelled(tmp_path: Path) -> None:
    labels = read_dannce_labels(label_file(tmp_path / "labels.mat"))
    unlabelled = torch.tensor([[False, True, False], [False, False, True]])
    assert torch.equal(labels.points_mm.isnan().all(-1), unlabelled)
    assert torch.equal(labels.pixels.isnan().all(-1), unlabelled.expand(2, 2, 3))
    assert labels.pixels[0, 0, 0].tolist() == [9.5, 19.5]
    assert labels.names == ("Camera1", "Camera2")


def test_one_labelled_instant_keeps_its_dimension(tmp_path: Path) -> None:
    one = {"data_3d": np.ones((1, 6)), "data_2d": np.ones((1, 4)), "data_frame": 4, "data_sampleID": 41}
    savemat(tmp_path / "labels.mat", {"labelData": np.array([[one]], dtype=object)})
    labels = read_dannce_labels(tmp_path / "labels.mat")
    assert labels.points_mm.shape == (1, 2, 3)
    assert labels.frames.tolist() == [[4]]


def test_sync_matches_instants_by_their_number_not_their_place(tmp_path: Path) -> None:
    late = {"data_frame": np.array([[1], [6], [8]]), "data_sampleID": np.array([[91], [101], [51]])}
    sync = read_dannce_sync(label_file(tmp_path / "labels.mat", **late))
    assert sync.sample_ids.tolist() == [51, 91]
    assert sync.frames.tolist() == [[5, 8], [9, 1]]


def test_sync_without_a_common_instant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no common sampleID"):
        read_dannce_sync(label_file(tmp_path / "labels.mat", data_sampleID=np.array([[1], [2]])))


def test_labels_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels of 2 instants and 3 keypoints from every camera"):
        read_dannce_labels(label_file(tmp_path / "labels.mat", data_3d=np.ones((3, 9))))
