import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BATCH_SHAPES, HEIGHT, WIDTH, random_cameras, random_similarity, seeded

from mouselift.geometry import Cameras, camera_rays, nearest_point_rays, pixel_centres, plucker_rays
from mouselift.geometry.rigs import facelift_rig

SEEDS = st.integers(0, 2**31)


def assert_close(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def test_pixel_centres_are_column_row_from_a_half() -> None:
    centres = pixel_centres(2, 3, like=torch.zeros(()))
    assert centres.tolist() == [[[0.5, 0.5], [1.5, 0.5], [2.5, 0.5]], [[0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]]


@pytest.mark.parametrize("batch", BATCH_SHAPES)
@given(seed=SEEDS)
def test_every_point_of_a_ray_falls_on_its_pixel(batch: tuple[int, ...], seed: int) -> None:
    cameras = random_cameras(seeded(seed), *batch)
    origins, directions = camera_rays(cameras)
    assert origins.shape == directions.shape == (*batch, HEIGHT, WIDTH, 3)
    assert_close(directions.norm(dim=-1), torch.ones_like(directions[..., 0]))
    pixels = pixel_centres(HEIGHT, WIDTH, like=cameras.K).reshape(-1, 2)
    for distance in (0.3, 2.7, 40.0):
        points = (origins + distance * directions).flatten(-3, -2)
        assert_close(cameras.project(points), pixels.expand(*batch, -1, -1), atol=1e-9)


@given(seed=SEEDS)
def test_nearest_point_is_on_the_ray_and_square_to_it(seed: int) -> None:
    cameras = random_cameras(seeded(seed), 2)
    origins, directions = camera_rays(cameras)
    encoding = nearest_point_rays(cameras)
    assert encoding.shape == (2, 6, HEIGHT, WIDTH)
    encoded_directions, nearest = encoding.movedim(-3, -1).split(3, dim=-1)
    assert_close(encoded_directions, directions)
    assert_close((nearest * directions).sum(-1), torch.zeros_like(nearest[..., 0]))
    along = ((nearest - origins) * directions).sum(-1, keepdim=True)
    assert_close(nearest, origins + along * directions)


@given(seed=SEEDS)
def test_plucker_coordinates_are_the_moment_then_the_direction(seed: int) -> None:
    cameras = random_cameras(seeded(seed), 2)
    origins, directions = camera_rays(cameras)
    moment, encoded_directions = plucker_rays(cameras).movedim(-3, -1).split(3, dim=-1)
    assert_close(encoded_directions, directions)
    assert_close((moment * directions).sum(-1), torch.zeros_like(moment[..., 0]))
    # The moment is the same from any point of the ray, here 1.7 along it.
    assert_close(moment, torch.cross(origins + 1.7 * directions, directions, dim=-1))
    nearest = nearest_point_rays(cameras)[:, 3:].movedim(-3, -1)
    assert_close(moment.norm(dim=-1), nearest.norm(dim=-1))


@given(seed=SEEDS)
def test_rays_move_with_the_world(seed: int) -> None:
    generator = seeded(seed)
    cameras, move = random_cameras(generator, 2), random_similarity(generator)
    origins, directions = camera_rays(cameras)
    moved_origins, moved_directions = camera_rays(cameras.transformed(move))
    assert_close(moved_origins, move.apply(origins), atol=1e-9)
    assert_close(moved_directions, directions @ move.rotation.mT)


def test_the_published_encoding_by_hand() -> None:
    """FaceLift's input channels 3 to 8 at one pixel of its front view, from the formulas."""
    front = facelift_rig()[0]
    encoding = nearest_point_rays(front)
    column, row, focal = 100, 400, 548.9937744140625
    # u = ((i + .5 - cx) / fx, (j + .5 - cy) / fy, 1). The front camera at (0, -2.7, 0) looks along +y, image
    # right is +x and image down is -z: d = (u_x, 1, -u_y) / |u|
    u_x, u_y = (column + 0.5 - 256) / focal, (row + 0.5 - 256) / focal
    norm = math.sqrt(u_x**2 + u_y**2 + 1)
    d = [u_x / norm, 1 / norm, -u_y / norm]
    t = 2.7 * d[1]  # -(o . d)
    nearest = [t * d[0], -2.7 + t * d[1], t * d[2]]
    assert_close(encoding[:, row, column], torch.tensor(d + nearest), atol=1e-6)


def test_distorted_cameras_cast_no_rays(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="undistort the views first"):
        camera_rays(random_cameras(generator, distorted=True))


def test_the_middle_of_the_picture_looks_along_the_axis() -> None:
    K = torch.tensor([[50.0, 0, 1.5], [0, 50.0, 1.5], [0, 0, 1]])
    _, directions = camera_rays(Cameras(K=K, w2c=torch.eye(4), width=3, height=3))
    assert_close(directions[1, 1], torch.tensor([0.0, 0.0, 1.0]))
    assert directions[1, 2, 0] > 0  # +X right
    assert directions[2, 1, 1] > 0  # +Y down
