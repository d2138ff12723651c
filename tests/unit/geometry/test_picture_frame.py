"""The frame of a picture depends on what the picture shows, not on where the camera stands."""

from dataclasses import replace

import pytest
import torch

from mouselift.geometry.picture_frame import half_widths, to_picture_frame
from mouselift.geometry.rigs import orbit
from mouselift.geometry.transforms import look_at


@pytest.mark.parametrize(("azimuth", "elevation", "radius"), [(0.0, 0.0, 2.7), (130.0, 50.0, 4.0), (-70.0, -10.0, 2.0)])
def test_the_camera_sits_on_the_axis_and_sees_a_unit_cube(azimuth: float, elevation: float, radius: float) -> None:
    camera = orbit([azimuth], elevation, radius=radius, fov_deg=30, size_px=64)
    moved = camera.transformed(to_picture_frame(camera))
    distance = 1 / torch.tan(torch.deg2rad(torch.tensor(15.0)))
    torch.testing.assert_close(
        moved.centres[0], torch.stack([0 * distance, 0 * distance, -distance]), atol=1e-4, rtol=0
    )
    corners = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [-1, -1, 0]]])
    torch.testing.assert_close(
        moved.project(corners)[0], torch.tensor([[64.0, 32], [32, 64], [0, 0]]), atol=1e-3, rtol=0
    )


def test_a_crop_looks_where_its_middle_looks() -> None:
    camera = orbit([20.0], 35.0, fov_deg=30, size_px=64).cropped(20, 10, 32, 32)
    similarity = to_picture_frame(camera)
    moved = camera.transformed(similarity)
    points = torch.tensor([[[0.0, 0, 0], [0, 0, 0.5]]])  # both on the ray through the middle of the crop
    torch.testing.assert_close(moved.project(points)[0], torch.full((2, 2), 16.0), atol=1e-3, rtol=0)
    scene = torch.tensor([[[0.1, 0.2, -0.1]]])
    torch.testing.assert_close(moved.project(similarity.apply(scene)), camera.project(scene), atol=1e-3, rtol=0)


def test_half_widths() -> None:
    cameras = orbit([0.0, 90.0], 20.0, radius=3.0, fov_deg=40, size_px=64)
    expected = 3.0 * torch.tan(torch.deg2rad(torch.tensor([20.0, 20.0])))
    torch.testing.assert_close(half_widths(cameras), expected)


def test_a_subject_behind_the_camera_is_refused() -> None:
    camera = orbit([0.0], 0.0, fov_deg=30, size_px=64)
    turned = replace(camera, w2c=look_at(camera.centres, 2 * camera.centres))
    with pytest.raises(ValueError, match="behind the camera"):
        to_picture_frame(turned)
