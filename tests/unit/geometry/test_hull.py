"""The visual hull of bodies whose hull is known in closed form."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mouselift.geometry import Cameras, Views, camera_rays
from mouselift.geometry.hull import carve, carve_inside, enter_hull, hull_gaussians, voxel_grid
from mouselift.geometry.rigs import orbit

RADIUS = 0.5
RIG = orbit(list(range(0, 360, 30)), 15.0, size_px=96)


def ball_masks(cameras: Cameras, radius: float = RADIUS) -> Tensor:
    """Silhouettes of a ball at the origin, with an edge about a pixel wide."""
    origins, directions = camera_rays(cameras)
    distance = torch.linalg.cross(origins, directions).norm(dim=-1)
    return ((radius - distance) / 0.03 + 0.5).clamp(0, 1)[:, None]


def test_inside_is_kept_and_outside_is_carved_away() -> None:
    points = voxel_grid(20, torch.zeros(3), 1.0)
    occupancy = carve(points, ball_masks(RIG), RIG)
    distance = points.norm(dim=-1)
    assert (occupancy[distance < RADIUS - 0.05] > 0.99).all()
    across = points[:, :2].norm(dim=-1)  # twelve cameras on a ring leave little beyond the ball's equator
    assert (occupancy[across > RADIUS + 0.06] < 0.01).all()


def test_a_camera_says_nothing_about_what_it_does_not_see() -> None:
    narrow = orbit([0.0], fov_deg=10.0, size_px=32)  # its picture ends at 0.24
    wide = orbit([90.0, 180.0], fov_deg=50.0, size_px=32).reshape(2)
    cameras = Cameras(K=torch.cat([narrow.K, wide.K]), w2c=torch.cat([narrow.w2c, wide.w2c]), width=32, height=32)
    masks = torch.ones(3, 1, 32, 32)
    masks[0] = 0
    points = torch.tensor([[0.0, 0.4, 0.0], [0.0, 0.0, 0.0]])
    assert carve(points, masks, cameras).tolist() == [1.0, 0.0]


def test_what_only_half_of_the_cameras_have_in_their_pictures_is_empty() -> None:
    narrow, wide = orbit([0.0], fov_deg=10.0, size_px=32), orbit([90.0], fov_deg=50.0, size_px=32)
    both = Cameras(K=torch.cat([narrow.K, wide.K]), w2c=torch.cat([narrow.w2c, wide.w2c]), width=32, height=32)
    assert carve(torch.tensor([[0.0, 0.4, 0.0], [0.0, 0.0, 0.0]]), torch.ones(2, 1, 32, 32), both).tolist() == [
        0.0,
        1.0,
    ]


def test_a_point_behind_a_camera_is_not_in_its_picture() -> None:
    camera = orbit([0.0], size_px=32)  # at x = 2.7, looks towards -x
    assert carve(torch.tensor([[4.0, 0.0, 0.0]]), torch.ones(1, 1, 32, 32), camera).tolist() == [0.0]


@pytest.mark.parametrize("samples", [32, 200])
def test_rays_enter_where_the_ball_begins(samples: int) -> None:
    origins, directions = (rays.flatten(1, 2)[0] for rays in camera_rays(RIG[:1]))
    towards = -(origins * directions).sum(-1)
    miss = torch.linalg.cross(origins, directions).norm(dim=-1)
    hits = miss < 0.7 * RADIUS
    entry, occupancy = enter_hull(origins, directions, towards - 1, towards + 1, ball_masks(RIG), RIG, samples=samples)
    exact = towards - (RADIUS**2 - miss**2).clamp_min(0).sqrt()
    assert (occupancy[hits] > 0.99).all()
    assert (entry - exact)[hits].abs().median() < 0.03
    assert (occupancy[miss > RADIUS + 0.05] < 0.01).all()


def test_along_rays_and_at_points_agree() -> None:
    origins, directions = (rays.flatten(1, 2)[0, ::97] for rays in camera_rays(RIG[3:4]))
    near, far = torch.full((len(origins),), 2.0), torch.full((len(origins),), 3.4)
    masks = ball_masks(RIG)
    _, most = enter_hull(origins, directions, near, far, masks, RIG, samples=15)
    distances = torch.linspace(2.0, 3.4, 15)
    points = origins[:, None] + distances[:, None] * directions[:, None]
    expected = carve(points.flatten(0, 1), masks, RIG).reshape(-1, 15).amax(-1)
    torch.testing.assert_close(most, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("lens", [None, (-0.2, 0.05, 0.001, 0.0, 0.0)], ids=["pinhole", "lens"])
def test_looking_at_one_camera_after_the_other_gives_the_same(lens: tuple[float, ...] | None) -> None:
    views = orbit([0.0, 50.0, 130.0, 200.0, 290.0], 20.0, fov_deg=24.0, size_px=64)  # some points leave the pictures
    cameras = views if lens is None else replace(views, distortion=torch.tensor([lens]).expand(5, -1))
    masks, points = ball_masks(views), voxel_grid(16, torch.tensor([0.2, 0.0, 0.0]), 0.8)
    expected = carve(points, masks, cameras) > 0.5
    assert 50 < int(expected.sum()) < len(points) - 50
    assert torch.equal(carve_inside(points, masks, cameras, 0.5), expected)


def test_gaussians_of_the_hull_lie_on_it_in_the_colour_and_width_of_their_pixels() -> None:
    masks = ball_masks(RIG)
    colour = torch.tensor([0.9, 0.5, 0.1])
    views = Views(images=colour[:, None, None].expand(len(RIG), 3, 96, 96), masks=masks, cameras=RIG)
    scene = hull_gaussians(views, footprint=1.0)
    assert len(scene) == pytest.approx(int((masks > 0.5).sum()), rel=0.02)
    near = scene.means[:, :2].norm(dim=-1) < 0.6  # what a ring of cameras carves well
    assert float((scene.means.norm(dim=-1)[near] - RADIUS).abs().median()) < 0.03
    torch.testing.assert_close(scene.rgb, colour.expand_as(scene.rgb))
    width_px = scene.scales[:, 0] * RIG.K[0, 0, 0] / (RIG.centres[0].norm() - RADIUS)
    assert float(width_px.median()) == pytest.approx(1, abs=0.1)


def test_silhouettes_with_nothing_in_common_have_no_hull() -> None:
    masks = torch.zeros(len(RIG), 1, 96, 96)
    masks[::2, :, :20, :20] = masks[1::2, :, -20:, -20:] = 1
    views = Views(images=torch.rand(len(RIG), 3, 96, 96), masks=masks, cameras=RIG)
    assert len(hull_gaussians(views)) == 0


def test_rays_taken_together_or_in_parts_enter_at_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    origins, directions = (rays[:2].flatten(0, -2) for rays in camera_rays(RIG.resized(24, 24)))
    towards = -(origins * directions).sum(-1)

    def enter() -> tuple[Tensor, Tensor]:
        return enter_hull(origins, directions, towards - 1, towards + 1, ball_masks(RIG), RIG)

    whole = enter()
    monkeypatch.setattr("mouselift.geometry.hull.POINTS_AT_A_TIME", 7 * 32 * len(RIG))
    for one, other in zip(enter(), whole, strict=True):
        assert torch.equal(one, other)
