import math

import pytest
import torch
from splats import front_camera, one_gaussian, splat_scene

from mouselift.geometry import Gaussians
from mouselift.render import reference, render
from mouselift.render.constants import DILATION_PX2, MAX_ALPHA, MIN_TRANSMITTANCE, NEAR_PLANE
from mouselift.render.renderer import _flatten

BLACK = (0.0, 0.0, 0.0)


def stack_of(opacities: list[float], depths: list[float], colours: list[float] | None = None) -> Gaussians:
    """Flat discs behind each other that cover the whole picture of a small camera."""
    n = len(opacities)
    grey = torch.tensor(colours if colours else [0.5] * n, dtype=torch.float64)
    return Gaussians(
        means=torch.tensor([[0.0, 0.0, z] for z in depths], dtype=torch.float64),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64).expand(n, 4),
        scales=torch.tensor([[1e4, 1e4, 0.0]], dtype=torch.float64).expand(n, 3),
        opacities=torch.tensor(opacities, dtype=torch.float64),
        sh=((grey - 0.5) / 0.28209479177387814)[:, None, None].expand(n, 1, 3),
    )


def test_one_gaussian_on_the_axis_has_its_closed_form():
    depth, scale, focal, size = 2.0, 0.1, 40.0, 9
    output = render(one_gaussian(depth, scale, 0.8), front_camera(size, focal), BLACK, "reference")
    variance = (focal * scale / depth) ** 2 + DILATION_PX2
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    squared = offsets[:, None] ** 2 + offsets**2
    expected = 0.8 * torch.exp(-squared / (2 * variance))
    assert output.alpha[0, 0, size // 2, size // 2].item() == pytest.approx(0.8, abs=1e-12)
    torch.testing.assert_close(output.alpha[0, 0], expected)
    torch.testing.assert_close(output.image[0], 0.5 * expected.expand(3, -1, -1))
    torch.testing.assert_close(output.depth[0, 0], torch.full_like(expected, depth))


def test_the_nearer_gaussian_covers_the_farther_one():
    gaussians = stack_of([0.5, 0.6], depths=[3.0, 2.0], colours=[1.0, 0.25])
    output = render(gaussians, front_camera(3, 10.0), (0.1, 0.2, 0.3), "reference")
    near, far = 0.6, 0.4 * 0.5
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    expected = near * 0.25 + far * 1.0 + 0.4 * 0.5 * background
    torch.testing.assert_close(output.image[0, :, 1, 1], expected)
    assert output.alpha[0, 0, 1, 1].item() == pytest.approx(near + far)
    assert output.depth[0, 0, 1, 1].item() == pytest.approx((near * 2.0 + far * 3.0) / (near + far))


def test_of_two_gaussians_at_one_depth_the_first_is_in_front():
    output = render(
        stack_of([0.5, 0.5], depths=[2.0, 2.0], colours=[1.0, 0.0]), front_camera(3, 10.0), BLACK, "reference"
    )
    assert output.image[0, 0, 1, 1].item() == pytest.approx(0.5)


def test_alpha_of_one_gaussian_is_capped():
    output = render(stack_of([1.0], depths=[2.0]), front_camera(3, 10.0), BLACK, "reference")
    assert output.alpha[0, 0, 1, 1].item() == pytest.approx(MAX_ALPHA)


def test_a_gaussian_that_would_use_up_the_light_is_not_added():
    # 0.05, 0.0025, 0.000125 remain after each of the first three; the fourth would leave less than the minimum
    assert 0.05**3 > MIN_TRANSMITTANCE > 0.05**4
    output = render(stack_of([0.95] * 4, depths=[1.0, 2.0, 3.0, 4.0]), front_camera(3, 10.0), BLACK, "reference")
    assert output.alpha[0, 0, 1, 1].item() == pytest.approx(1 - 0.05**3, abs=1e-12)


@pytest.mark.parametrize(("depth", "drawn"), [(NEAR_PLANE, False), (NEAR_PLANE + 1e-6, True), (-1.0, False)])
def test_what_is_before_the_near_plane_is_not_drawn(depth: float, drawn: bool):
    output = render(one_gaussian(depth, 0.01, 0.9), front_camera(3, 10.0), BLACK, "reference")
    assert bool(output.alpha.any()) == drawn
    assert bool(output.depth.any()) == drawn


@pytest.mark.parametrize(("opacity", "drawn"), [(1 / 254, True), (1 / 256, False)])
def test_faint_gaussians_are_not_drawn(opacity: float, drawn: bool):
    output = render(one_gaussian(1.0, 0.01, opacity), front_camera(3, 10.0), BLACK, "reference")
    assert bool(output.alpha.any()) == drawn


def test_centres_are_where_the_camera_projects_them():
    gaussians, cameras = splat_scene(0, count=50, views=1)
    batch = _flatten(gaussians, cameras, BLACK)
    keep = reference.visible(batch, 0, 0)
    ellipses = reference.project(batch, 0, 0)
    order = cameras.to_camera(gaussians.means)[0, keep, 2].argsort()
    assert 10 < len(order) < 50  # the scene has both kinds
    torch.testing.assert_close(ellipses.centres, cameras.project(gaussians.means)[0, keep][order])


def test_the_jacobian_is_the_derivative_of_the_projection():
    camera = front_camera(30, 40.0, skew=5.0)
    points = torch.tensor([[0.1, -0.3, 1.0], [0.4, 0.2, 2.0]], dtype=torch.float64)
    derivative = torch.func.jacrev(lambda p: camera.project(p)[0].sum(0))(points).movedim(1, 0)
    jacobian = reference.projection_jacobian(points[:, :2] / points[:, 2:], points[:, 2], camera.K[0], 30, 30)
    torch.testing.assert_close(jacobian, derivative)


def test_the_jacobian_is_clamped_outside_the_image():
    camera = front_camera(30, 40.0)
    limit = 1.3 * math.tan(math.radians(float(camera.fov_deg[0, 0]) / 2))
    slopes = torch.tensor([[limit * 1.01, 0.0], [limit * 5, 0.0], [-limit * 3, 0.0]], dtype=torch.float64)
    along_z = reference.projection_jacobian(slopes, slopes.new_ones(3), camera.K[0], 30, 30)[:, 0, 2]
    torch.testing.assert_close(along_z, 40.0 * limit * torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))


def test_pixels_do_not_depend_on_how_many_are_done_at_once(monkeypatch: pytest.MonkeyPatch):
    gaussians, cameras = splat_scene(1)
    whole = render(gaussians, cameras, backend="reference")
    monkeypatch.setattr(reference, "MAX_PAIRS", 100)
    monkeypatch.setattr(reference, "TILE_PX", 7)
    parts = render(gaussians, cameras, backend="reference")
    torch.testing.assert_close(parts.image, whole.image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1])
def test_gradients_are_those_of_finite_differences(degree: int):
    gaussians, cameras = splat_scene(3, count=4, views=1, size=(5, 4), degree=degree)
    gaussians = Gaussians(
        means=0.3 * gaussians.means,
        quats=gaussians.quats,
        scales=0.1 + gaussians.scales,
        opacities=0.1 + 0.5 * gaussians.opacities,
        sh=0.3 * gaussians.sh,
    )
    fields = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh)
    background = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)

    def layers(means, quats, scales, opacities, sh, background):
        scene = Gaussians(means=means, quats=quats, scales=scales, opacities=opacities, sh=sh)
        output = render(scene, cameras, background, "reference")
        return output.image, output.alpha, output.depth

    inputs = tuple(t.clone().requires_grad_() for t in (*fields, background))
    assert bool((layers(*inputs)[1] > 0.1).any())
    assert torch.autograd.gradcheck(layers, inputs)


def test_gaussians_that_are_not_finite_get_no_gradient_and_spoil_none():
    gaussians = stack_of([0.5, 0.5, 0.5], depths=[1.0, 2.0, 3.0])
    means = gaussians.means.clone()
    means[1] = torch.nan
    means.requires_grad_()
    scene = Gaussians(
        means=means, quats=gaussians.quats, scales=gaussians.scales, opacities=gaussians.opacities, sh=gaussians.sh
    )
    render(scene, front_camera(3, 10.0), BLACK, "reference").depth.sum().backward()
    assert means.grad is not None
    assert means.grad[1].tolist() == [0.0, 0.0, 0.0]
    assert bool(means.grad.isfinite().all())
    assert bool((means.grad[[0, 2], 2] > 0).all())
