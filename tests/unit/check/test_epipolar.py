"""Planes that touch a ball in one picture touch it in every other, whatever the lens; a moved camera is found out."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from mouselift.check.epipolar import Outline, line_pixels, missed, outline_of, outline_of_mask, touching_planes
from mouselift.geometry import Cameras
from mouselift.geometry.rigs import orbit

POINTS = 0.4 * torch.nn.functional.normalize(
    torch.randn(4000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64), dim=-1
)


@pytest.fixture(params=[False, True], ids=["pinhole", "lens"])
def cameras(request: pytest.FixtureRequest) -> list[Cameras]:
    rig = orbit([0.0, 70.0, 150.0, 250.0], [10.0, 30.0, 5.0, 60.0], fov_deg=35, size_px=400).to(torch.float64)
    if request.param:
        rig = replace(rig, distortion=torch.tensor([[-0.25, 0.1, 0.002, -0.001, 0.0]]).double().expand(4, -1))
    return [rig[[v]] for v in range(4)]


def mask_of(camera: Cameras) -> np.ndarray:
    hull = cv2.convexHull(camera[0].project(POINTS).numpy().astype(np.float32))
    mask = np.zeros((400, 400), np.uint8)
    cv2.fillConvexPoly(mask, np.round((hull - 0.5) * 16).astype(np.int32), 255, cv2.LINE_8, 4)
    return mask


def outlines(cameras: list[Cameras]) -> list[Outline]:
    return [outline_of_mask(mask_of(camera), camera) for camera in cameras]


def test_true_cameras_agree(cameras: list[Cameras]) -> None:
    misses = missed(outlines(cameras))
    assert bool(misses.diagonal().isnan().all())
    assert float(misses[~torch.eye(4, dtype=torch.bool)].max()) < 1.0  # borders are whole pixels


def test_a_moved_camera_is_a_bad_row_and_column(cameras: list[Cameras]) -> None:
    turn = torch.eye(4, dtype=torch.float64)
    turn[1, 3] = 0.1  # its picture sinks by about 23 px
    seen = outlines(cameras)
    moved = replace(cameras[2], w2c=turn @ cameras[2].w2c)
    seen[2] = outline_of(seen[2].pixels, moved)
    misses = missed(seen)
    others = [0, 1, 3]
    assert float(misses[2, others].min()) > 3
    assert float(misses[others, 2].min()) > 3
    assert float(misses[others][:, others].nan_to_num(0.0).max()) < 1.0


def test_the_line_of_a_point_goes_through_it(cameras: list[Cameras]) -> None:
    point = torch.tensor([[0.1, -0.2, 0.15]], dtype=torch.float64)
    first, second = (outline_of(camera[0].project(point), camera) for camera in cameras[:2])
    touching = touching_planes(first, second)
    assert touching is not None
    assert float(touching.missed_px.max()) < 1e-4
    line = line_pixels(first, touching.rays[0], second.camera, point[0])
    apart = np.linalg.norm(line - second.pixels.numpy(), axis=-1)
    k = int(apart.argmin())
    before, after = line[k - 1], line[k + 1]
    offset, direction = second.pixels[0].numpy() - before, (after - before) / np.linalg.norm(after - before)
    assert abs(offset[0] * direction[1] - offset[1] * direction[0]) < 0.05


def test_what_is_cut_or_missing_says_nothing(cameras: list[Cameras]) -> None:
    whole, cut = mask_of(cameras[0]), mask_of(cameras[1])
    cut[:200] = 255
    seen = [outline_of_mask(whole, cameras[0]), outline_of_mask(cut, cameras[1])]
    assert len(seen[1].pixels) == 0
    assert bool(missed(seen).isnan().all())
    nothing = outline_of(torch.full((1, 2), torch.nan, dtype=torch.float64), cameras[0])
    assert touching_planes(nothing, seen[0]) is None
