"""Augmentation moves pixels and cameras together."""

import pytest
import torch
from torch import Tensor

from mouselift.data.augment import random_crops, square
from mouselift.geometry import Cameras, Views
from mouselift.geometry.rigs import orbit

POINTS = torch.tensor([[0.1, -0.05, 0.12], [-0.15, 0.1, 0.0], [0.02, 0.13, -0.1]])


def dotted(cameras: Cameras) -> Views:
    """Views with a Gaussian dot, in its own channel, where each of three points is seen."""
    rows, columns = torch.meshgrid(torch.arange(cameras.height) + 0.5, torch.arange(cameras.width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1)
    centres = cameras.project(POINTS)  # (V, 3, 2)
    distance2 = (pixels[None, None] - centres[:, :, None, None]).square().sum(-1)
    images = torch.exp(-distance2 / (2 * 2.0**2))
    return Views(images=images, masks=(images.amax(1, keepdim=True) > 0.05).float(), cameras=cameras)


def centres_of(views: Views) -> Tensor:
    """Centroids (V, 3, 2) of the channels' brightest parts."""
    rows, columns = torch.meshgrid(
        torch.arange(views.cameras.height) + 0.5, torch.arange(views.cameras.width) + 0.5, indexing="ij"
    )
    weights = (views.images * views.masks).clamp_min(0.0) ** 2
    total = weights.sum((-2, -1))
    return torch.stack([(weights * columns).sum((-2, -1)) / total, (weights * rows).sum((-2, -1)) / total], dim=-1)


def test_points_stay_where_the_cameras_of_crops_see_them() -> None:
    views = dotted(orbit([0.0, 70.0, 200.0], 25.0, fov_deg=25, size_px=96))
    for seed in range(5):
        crops = random_crops(views, 0.9, torch.Generator().manual_seed(seed))
        assert (crops.cameras.width, crops.cameras.height) == (96, 96)
        assert not torch.equal(crops.cameras.K, views.cameras.K)
        expected, found = crops.cameras.project(POINTS), centres_of(crops)
        inside = ((expected > 8) & (expected < 88)).all(-1)
        assert int(inside.sum()) > 3
        assert float((found - expected)[inside].abs().max()) < 0.35


def test_every_crop_shows_a_part_of_the_subject() -> None:
    views = dotted(orbit([0.0, 70.0], 25.0, fov_deg=25, size_px=96))
    for seed in range(20):
        crops = random_crops(views, 0.3, torch.Generator().manual_seed(seed))
        assert float(crops.masks.flatten(1).amax(1).min()) > 0.5


@pytest.mark.parametrize("shape", [(60, 96), (96, 60), (96, 96)])
def test_squares_cut_nothing_off_and_keep_points_in_place(shape: tuple[int, int]) -> None:
    width, height = shape
    views = dotted(orbit([10.0], 25.0, fov_deg=40, size_px=96).cropped((96 - width) // 2, (96 - height) // 2, *shape))
    made = square(views, 64)
    assert (made.cameras.width, made.cameras.height) == (64, 64)
    torch.testing.assert_close(centres_of(made), made.cameras.project(POINTS), atol=0.35, rtol=0)
    share = (64 / 96) ** 2
    assert float(made.masks.sum()) == pytest.approx(share * float(views.masks.sum()), rel=0.02)
