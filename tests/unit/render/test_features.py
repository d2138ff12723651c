"""Channels beside colour and depth: features of any number, normals, and colours of every degree."""

from dataclasses import replace

import pytest
import torch
from samples import normal, random_cameras, seeded
from splats import GAUSSIAN_FIELDS, decided_pixels, front_camera, one_gaussian, splat_scene
from torch import Tensor

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.sh import SH_C0
from mouselift.render import cpu, render
from mouselift.render.renderer import Backend

needs_kernel = pytest.mark.skipif(not cpu.is_available(), reason="the CPU kernel is not compiled")
every_isa = pytest.mark.parametrize("isa", cpu.supported_isas())
BACKENDS: list[Backend] = ["reference", "cpu"] if cpu.is_available() else ["reference"]


@pytest.fixture
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cpu.ISA_VARIABLE, request.param)
    return request.param


def loss_of_all(
    gaussians: Gaussians, cameras: Cameras, features: Tensor, backend: Backend, mask: Tensor
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Every layer, and the gradients of one random sum over all of them."""
    leaves = {name: getattr(gaussians, name).detach().clone().requires_grad_() for name in GAUSSIAN_FIELDS}
    leaves["features"] = features.detach().clone().requires_grad_()
    scene = replace(gaussians, **{name: leaves[name] for name in GAUSSIAN_FIELDS})
    out = render(scene, cameras, backend=backend, features=leaves["features"], normals=True)
    assert out.features is not None
    assert out.normals is not None
    layers = [out.image, out.alpha, out.depth, out.features, out.normals]
    generator = seeded(5)
    weights = [(normal(generator, *layer.shape) * mask).to(layer) for layer in layers]
    gradients = torch.autograd.grad(layers, list(leaves.values()), weights)
    return [layer.detach() for layer in layers], dict(zip(leaves, gradients, strict=True))


def assert_layers_agree(gaussians: Gaussians, cameras: Cameras, features: Tensor) -> None:
    gaussians, cameras, features = gaussians.to(torch.float32), cameras.to(torch.float32), features.float()
    mask = decided_pixels(gaussians, cameras)
    doubled = gaussians.to(torch.float64), cameras.to(torch.float64), features.double()
    expected, expected_gradients = loss_of_all(*doubled, "reference", mask)
    found, found_gradients = loss_of_all(gaussians, cameras, features, "cpu", mask)
    for a, b in zip(found, expected, strict=True):
        assert ((a - b).abs() * mask).max() < 1e-4 * max(1.0, float(b.abs().max()))
    for name, gradient in expected_gradients.items():
        error = (found_gradients[name] - gradient).norm() / gradient.norm()
        assert error < 1e-3, f"gradient of {name}: relative error {float(error):.2g}"


@needs_kernel
@every_isa
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_the_kernel_agrees_with_the_reference(batch: tuple[int, ...], channels: int):
    gaussians, cameras = splat_scene(31, *batch, count=50, views=2, size=(37, 26))
    assert_layers_agree(gaussians, cameras, normal(seeded(1), *batch, 50, channels))


@needs_kernel
@every_isa
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_kernel_agrees_with_the_reference_at_every_degree(degree: int):
    gaussians, cameras = splat_scene(32 + degree, 2, count=40, views=2, size=(33, 20), degree=degree)
    assert_layers_agree(gaussians, cameras, normal(seeded(2), 2, 40, 2))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_colours_of_a_degree_have_the_gradient_of_finite_differences(degree: int):
    gaussians, cameras = splat_scene(40, count=2, views=1, size=(4, 3), degree=degree)
    gaussians = replace(gaussians, scales=gaussians.scales.clamp_min(0.3))
    weights = normal(seeded(3), 1, 3, 3, 4)

    def loss(sh: Tensor, means: Tensor) -> Tensor:
        return (render(replace(gaussians, sh=sh, means=means), cameras, backend="reference").image * weights).sum()

    inputs = (0.1 * gaussians.sh).requires_grad_(), gaussians.means.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, inputs, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_features_that_are_colours_make_the_image_over_black(backend: Backend):
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(33, 2, count=60))
    colours = (SH_C0 * gaussians.sh[..., 0, :] + 0.5).clamp_min(0)
    output = render(gaussians, cameras, (0.0, 0.0, 0.0), backend, features=colours)
    torch.testing.assert_close(output.features, output.image)
    assert output.normals is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_asking_for_more_layers_does_not_change_the_others(backend: Backend):
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(34, count=60))
    plain = render(gaussians, cameras, backend=backend)
    more = render(gaussians, cameras, backend=backend, features=torch.ones(60, 5), normals=True)
    exact = 0.0 if backend == "cpu" else 1e-5  # the reference's matrix products depend on how wide they are
    torch.testing.assert_close(plain.image, more.image, rtol=0, atol=exact)
    torch.testing.assert_close(plain.depth, more.depth, rtol=0, atol=exact)
    torch.testing.assert_close(more.features, plain.alpha.expand(-1, 5, -1, -1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_disc_shows_its_shortest_axis_towards_the_camera(backend: Backend):
    sphere = one_gaussian(2.0, 0.5, 0.8)
    half = torch.tensor(0.5 * torch.pi / 6, dtype=torch.float64)  # turned by 30 degrees about +Y
    disc = replace(
        sphere,
        scales=torch.tensor([[0.5, 0.5, 0.01]], dtype=torch.float64),
        quats=torch.stack([half.cos(), 0 * half, half.sin(), 0 * half])[None],
    ).to(torch.float32)
    cameras = front_camera(33, 40.0).to(torch.float32)
    output = render(disc, cameras, backend=backend, normals=True)
    assert output.normals is not None
    seen = output.normals[0, :, 16, 16] / output.alpha[0, 0, 16, 16]
    torch.testing.assert_close(seen, torch.tensor([-0.5, 0.0, -(0.75**0.5)]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_normals_turn_with_the_scene(backend: Backend):
    gaussians, _ = splat_scene(35, count=30)
    cameras = random_cameras(seeded(4), 2).resized(30, 20)
    for view in range(2):
        output = render(gaussians.to(torch.float32), cameras.to(torch.float32), backend=backend, normals=True)
        assert output.normals is not None
        toward = (cameras.centres[view] - gaussians.means.mean(0)).float()
        facing = (output.normals[view] * torch.nn.functional.normalize(toward, dim=0)[:, None, None]).sum(0)
        assert facing.sum() > 0
        assert output.normals[view].norm(dim=0).max() <= 1 + 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gaussian_with_a_feature_that_is_not_finite_is_not_drawn(backend: Backend):
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(36, count=40))
    features = torch.ones(40, 5)
    features[3, 4] = torch.nan
    output = render(gaussians, cameras, backend=backend, features=features)
    without = render(gaussians.select(torch.arange(40) != 3), cameras, backend=backend)
    torch.testing.assert_close(output.image, without.image)
    assert output.features is not None
    assert bool(output.features.isfinite().all())


@needs_kernel
def test_features_have_the_same_gradients_for_any_number_of_threads():
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(37, count=3000, views=3, size=(90, 70)))
    features = normal(seeded(6), 3000, 6).float()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(loss_of_all(gaussians, cameras, features, "cpu", torch.ones(1))[1])
    finally:
        torch.set_num_threads(before)
    for name, gradient in results[0].items():
        assert torch.equal(gradient, results[1][name]), name


def test_features_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"expected features of shape \(1, 'C'\), found \(2, 3\)"):
        render(one_gaussian(2.0, 0.1, 0.8), front_camera(5, 10.0), features=torch.zeros(2, 3))
