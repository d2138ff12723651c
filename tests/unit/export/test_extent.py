import math
from dataclasses import replace

import pytest
import torch
from samples import random_gaussians, seeded

from mouselift.export.camera_path import cameras_along, framed
from mouselift.export.extent import Extent, aligned, extent_of
from mouselift.geometry import Gaussians
from mouselift.render import render


def shell(radius: float, centre: tuple[float, float, float], count: int = 2000) -> Gaussians:
    """Equal Gaussians on a sphere."""
    gaussians = random_gaussians(seeded(0), count=count).to(torch.float32)
    means = torch.nn.functional.normalize(gaussians.means, dim=-1) * radius + torch.tensor(centre)
    return replace(
        gaussians, means=means, scales=torch.full((count, 3), 0.02 * radius), opacities=torch.full((count,), 0.9)
    )


def test_the_extent_is_that_of_what_can_be_seen() -> None:
    scene = shell(0.4, (0.3, -0.2, 0.1))
    means, opacities = scene.means.clone(), scene.opacities.clone()
    means[0] = 50.0  # a stray
    means[1:300], opacities[1:300] = 9.0, 0.002  # a fog of them
    extent = extent_of([replace(scene, means=means, opacities=opacities)])
    torch.testing.assert_close(extent.centre, torch.tensor([0.3, -0.2, 0.1]), atol=0.04, rtol=0)
    assert 0.39 < extent.radius < 0.45


def test_a_sequence_has_one_extent() -> None:
    extent = extent_of([shell(1.0, (-2, 0, 0)), shell(1.0, (2, 0, 0))])
    assert extent.radius == pytest.approx(3, abs=0.3)


def test_nothing_to_see_has_an_extent() -> None:
    assert extent_of([random_gaussians(seeded(0), count=0)]).radius == 1.0
    assert extent_of([replace(shell(1.0, (0, 0, 0)), opacities=torch.zeros(2000))]).radius == 1.0


def test_models_of_one_place_and_size_share_an_extent() -> None:
    near, shifted = (Extent(centre=torch.tensor([x, 0, 0]), radius=1.0) for x in (0.0, 0.5))
    large, far = Extent(centre=torch.zeros(3), radius=80.0), Extent(centre=torch.tensor([3.0, 0, 0]), radius=1.0)
    first, second = aligned([near, shifted])
    assert first is second
    assert aligned([near, large]) == [near, large]
    assert aligned([near, far]) == [near, far]


@pytest.mark.parametrize("path", ["turntable", "fly"])
@pytest.mark.parametrize("radius", [0.05, 80.0])  # metres, millimetres
def test_a_path_frames_every_scene_whatever_its_unit(path: str, radius: float) -> None:
    scene = framed([shell(radius, (3 * radius, 0, -radius))])[0]
    cameras = cameras_along(path, 6, size_px=96)
    alpha = render(scene, cameras).alpha
    border = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., :, 0], alpha[..., :, -1]], dim=-1)
    assert float(border[0].max()) < 0.05
    assert all(float(view.max()) > 0.5 for view in alpha)


def test_a_fly_around_moves_up_and_down_near_and_far_and_ends_where_it_began() -> None:
    cameras = cameras_along("fly", 120, size_px=8)
    centres = cameras.centres
    distances = centres.norm(dim=-1)
    elevations = torch.asin(centres[:, 2] / distances).rad2deg()
    assert float(elevations.max() - elevations.min()) == pytest.approx(40, abs=1)
    assert float(distances.min() / distances.max()) == pytest.approx(0.75, abs=0.01)
    steps = (centres.roll(-1, 0) - centres).norm(dim=-1)
    assert float(steps.max()) < 2 * math.pi * float(distances.max()) / 60  # the last one too
