"""Painting a body: seen colours stay where they were seen, hidden sides take those of their mirror side."""

import numpy as np
import torch

from mouselift.body.build import Build
from mouselift.body.mesh import procedural_mouse
from mouselift.body.pose import BodyPose, mouse_tensors, posed_vertices
from mouselift.geometry import Views
from mouselift.geometry.rigs import orbit
from mouselift.paint import _mirror_vertices, paint_body
from mouselift.render import render

SIZE = 96


def standing() -> BodyPose:
    """The rest pose, 0.03 scene units per mm, its middle at the origin."""
    body = mouse_tensors()
    joints = len(body.joints)
    unit = torch.tensor(0.03)
    return BodyPose(
        rotations=torch.eye(3).expand(joints, 3, 3),
        factors=torch.ones(len(Build.__dataclass_fields__)),
        root=unit * (body.joints[0] - torch.tensor([0.0, 0.0, 18.0])),
        unit=unit,
    )


def photographed(colour_of) -> Views:
    """The body seen from its left side (+Y), in colours that depend on the pixel."""
    camera = orbit([90.0], 0.0, fov_deg=50, size_px=SIZE)
    pose = standing()
    vertices, _ = posed_vertices(mouse_tensors(), pose)
    pixels = camera.project(vertices[None])[0].round().long().clamp(0, SIZE - 1)
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[0, 0, pixels[:, 1], pixels[:, 0]] = 1
    mask = torch.nn.functional.max_pool2d(mask, 3, stride=1, padding=1)
    return Views(images=colour_of(torch.arange(SIZE) / SIZE), masks=mask, cameras=camera)


def plain(columns: torch.Tensor) -> torch.Tensor:
    return torch.tensor([0.7, 0.3, 0.2])[None, :, None, None].expand(1, 3, SIZE, SIZE)


def split(columns: torch.Tensor) -> torch.Tensor:
    """Red on the left of the picture, blue on the right."""
    left = (columns < 0.5).float()[None, None, None, :].expand(1, 1, SIZE, SIZE)
    return torch.cat([0.8 * left, 0 * left, 0.8 * (1 - left)], dim=1)


def seen_from(azimuth_deg: float, view: Views) -> tuple[torch.Tensor, torch.Tensor]:
    gaussians = paint_body(standing(), view, np.random.default_rng(0))
    out = render(gaussians, orbit([azimuth_deg], 0.0, fov_deg=50, size_px=SIZE), (0.0, 0.0, 0.0))
    return out.image[0], out.alpha[0, 0]


def test_one_colour_covers_all_sides() -> None:
    for azimuth in (90.0, -90.0, 0.0):
        image, alpha = seen_from(azimuth, photographed(plain))
        mean = image[:, alpha > 0.95].mean(1)
        assert mean[0] > 1.8 * mean[1] > 2.0 * mean[2]


def test_the_hidden_side_mirrors_the_seen_one() -> None:
    view = photographed(split)
    for azimuth in (90.0, -90.0):
        image, alpha = seen_from(azimuth, view)
        solid = alpha > 0.95
        columns = torch.arange(SIZE).expand(SIZE, SIZE)
        red_left = (image[0] - image[2])[solid & (columns < 40)].mean()
        red_right = (image[0] - image[2])[solid & (columns > 56)].mean()
        # from the other side head and rump change places in the picture, and so do their colours
        assert (float(red_left) > 0.2) == (azimuth > 0)
        assert (float(red_right) > 0.2) == (azimuth < 0)


def test_mirror_vertices_lie_on_the_other_side() -> None:
    vertices = procedural_mouse().vertices
    gap = np.linalg.norm(vertices[_mirror_vertices()] - vertices * [1, -1, 1], axis=1)
    assert np.median(gap) < 0.5
    assert gap.max() < 3.0


def test_same_dice_same_fur() -> None:
    view = photographed(plain)
    a, b = (paint_body(standing(), view, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(a.means, b.means)
    assert torch.equal(a.sh, b.sh)
