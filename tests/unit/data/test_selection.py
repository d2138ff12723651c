"""Which views are chosen, and what augmentation leaves alone."""

import pytest
import torch

from mouselift.data.augment import photometric_jitter, random_background
from mouselift.data.selection import facelift_subset, random_subset, split_rig_and_free
from mouselift.geometry import Cameras, Views
from mouselift.geometry.rigs import orbit


def ring_and_photograph(azimuth_deg: float, elevation_deg: float) -> Views:
    ring = orbit([45.0 * i for i in range(8)], 20.0, size_px=8, names=[f"ring_{i}" for i in range(8)])
    free = orbit([azimuth_deg], [elevation_deg], size_px=8, names=["framed_0"])
    cameras = Cameras.cat([ring, free])
    return Views(images=torch.rand(9, 3, 8, 8), masks=torch.rand(9, 1, 8, 8), cameras=cameras)


def test_rig_and_free_views_are_told_apart_by_name() -> None:
    assert split_rig_and_free(ring_and_photograph(0.0, 0.0)) == (list(range(8)), [8])


def test_recordings_have_rig_views_only() -> None:
    cameras = orbit([0.0, 120.0, 240.0], size_px=8, names=["top", "mid", "side"])
    views = Views(images=torch.rand(3, 3, 8, 8), masks=torch.rand(3, 1, 8, 8), cameras=cameras)
    assert split_rig_and_free(views) == ([0, 1, 2], [])


@pytest.mark.parametrize(
    ("azimuth_deg", "front"), [(0.0, 0), (20.0, 0), (25.0, 1), (-20.0, 0), (200.0, 4), (359.0, 0), (-95.0, 6)]
)
@pytest.mark.parametrize("elevation_deg", [-5.0, 30.0, 89.0])
def test_the_six_views_stand_around_the_photograph(azimuth_deg: float, elevation_deg: float, front: int) -> None:
    views = ring_and_photograph(azimuth_deg, elevation_deg)
    chosen = facelift_subset(views.cameras, list(range(8)), 8)
    assert chosen == [(front + step) % 8 for step in (0, -1, -2, 4, 2, 1)]


def test_random_subset_has_no_repeats_and_is_reproducible(generator) -> None:
    chosen = random_subset(list(range(10, 20)), 5, generator)
    assert len(set(chosen)) == 5
    assert set(chosen) <= set(range(10, 20))
    assert chosen == random_subset(list(range(10, 20)), 5, torch.Generator().manual_seed(0))
    assert sorted(random_subset([1, 2], 5, generator)) == [1, 2]


def test_jitter_changes_pixels_but_no_camera(generator) -> None:
    views = ring_and_photograph(0.0, 0.0).reshape(1, 9)
    jittered = photometric_jitter(views, generator)
    assert jittered.cameras is views.cameras
    assert not torch.equal(jittered.images, views.images)
    assert float(jittered.images.min()) >= 0
    assert float(jittered.images.max()) <= 1


def test_backgrounds_are_colours_of_every_kind(generator) -> None:
    colours = torch.stack([random_background(generator) for _ in range(200)])
    grey = (colours == colours[:, :1]).all(1)
    assert 0.3 < float(grey.float().mean()) < 0.7
    assert {0.0, 0.5, 1.0} <= set(colours[grey][:, 0].tolist())
