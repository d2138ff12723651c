"""A real six-camera calibration: our projection reproduces the labels that its owners stored with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from torch import Tensor

from mouselift.geometry import Cameras
from mouselift.geometry.transforms import rigid

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def recording(test_data: Path) -> dict[str, Any]:
    path = test_data / "dannce_markerless_mouse/markerless_mouse_1/label3d_dannce.mat"
    if not path.is_file():
        pytest.skip(f"no DANNCE labels at {path}")
    return loadmat(path, simplify_cells=True)


def cameras_of(params: list[dict[str, np.ndarray]]) -> Cameras:
    """DANNCE stores row-vector matrices: transpose r and K. Pixels stay MATLAB's, from (1, 1)."""

    def stack(values: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack(values)).double()

    radial, tangential = stack([p["RDistort"] for p in params]), stack([p["TDistort"] for p in params])
    return Cameras(
        K=stack([p["K"].T for p in params]),
        w2c=rigid(stack([p["r"].T for p in params]), stack([p["t"].ravel() for p in params])),
        width=1152,
        height=1024,
        distortion=torch.cat([radial[:, :2], tangential, radial[:, 2:]], dim=-1),  # k1 k2 k3 | p1 p2
    )


def labels_of(recording: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Keypoints (6, 81 * 22, 3) in mm and the stored pixels (6, 81 * 22, 2)."""
    labels = recording["labelData"]
    points = torch.from_numpy(np.stack([view["data_3d"] for view in labels])).double().reshape(6, -1, 3)
    pixels = torch.from_numpy(np.stack([view["data_2d"] for view in labels])).double().reshape(6, -1, 2)
    return points, pixels


def test_projection_reproduces_the_stored_labels(recording: dict[str, Any]) -> None:
    cameras = cameras_of(recording["params"])
    assert (cameras.K[:, 0, 1].abs() > 0.5).all()  # every camera has skew, which is what makes this a test of it
    points, pixels = labels_of(recording)
    labelled = points.isfinite().all(-1) & pixels.isfinite().all(-1)
    assert labelled.sum() > 10_000
    error = (cameras.project(points) - pixels)[labelled].norm(dim=-1)
    assert error.max() < 1e-6


def test_unprojection_finds_the_keypoints_again(recording: dict[str, Any]) -> None:
    cameras = cameras_of(recording["params"])
    points, pixels = labels_of(recording)
    labelled = points.isfinite().all(-1) & pixels.isfinite().all(-1)
    found = cameras.unproject(pixels, cameras.to_camera(points)[..., 2])
    assert (found - points)[labelled].norm(dim=-1).max() < 1e-6  # mm


def test_the_untransposed_file_is_refused(recording: dict[str, Any]) -> None:
    params = [{**p, "K": p["K"].T} for p in recording["params"]]
    with pytest.raises(ValueError, match=r"last row of K .* transposed"):
        cameras_of(params)
