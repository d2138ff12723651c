import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from splats import (
    GAUSSIAN_FIELDS,
    decided_pixels,
    degenerate_scene,
    front_camera,
    one_gaussian,
    random_cotangents,
    splat_scene,
    with_gradients,
)
from torch import Tensor

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Gaussians
from mouselift.render import RenderOutput, cpu, render
from mouselift.render.constants import MAX_ALPHA

pytestmark = pytest.mark.skipif(not cpu.is_available(), reason="the CPU kernel is not compiled")

every_isa = pytest.mark.parametrize("isa", cpu.supported_isas())


@pytest.fixture
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cpu.ISA_VARIABLE, request.param)
    return request.param


def single(gaussians: Gaussians, cameras: Cameras) -> tuple[Gaussians, Cameras]:
    return gaussians.to(torch.float32), cameras.to(torch.float32)


def assert_agrees_with_the_reference(gaussians: Gaussians, cameras: Cameras, min_decided: float = 0.98) -> None:
    """Compare float32 on the kernel with float64 on the reference.

    Where no Gaussian is near a threshold the two must agree closely, and so must the gradients of a loss on these
    pixels. In the others one Gaussian may be added by one and not by the other, which bounds the difference.
    """
    # Both start from the same, rounded numbers.
    gaussians, cameras = single(gaussians, cameras)
    decided = decided_pixels(gaussians, cameras)
    assert decided.double().mean() > min_decided
    cotangents = random_cotangents(7, cameras, mask=decided)
    expected, expected_gradients = with_gradients(
        gaussians.to(torch.float64), cameras.to(torch.float64), "reference", cotangents
    )
    found, found_gradients = with_gradients(gaussians, cameras, "cpu", cotangents)

    assert ((found.image - expected.image).abs() * decided).max() < 1e-4 * max(1.0, float(expected.image.abs().max()))
    assert ((found.alpha - expected.alpha).abs() * decided).max() < 2e-5
    relative_depth = (found.depth - expected.depth).abs() / expected.depth.clamp_min(0.2)
    assert (relative_depth * decided).max() < 1e-4
    # A Gaussian at the threshold weighs 1/255; one that is cut off weighs at most what was left, 1e-4 / (1 - 0.99).
    assert (found.alpha - expected.alpha).abs().max() < 0.011
    for name, expected_gradient in expected_gradients.items():
        error = (found_gradients[name] - expected_gradient).norm() / expected_gradient.norm().clamp_min(1e-6)
        assert error < 1e-3, f"gradient of {name}: relative error {float(error):.2g}"


@every_isa
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    ("batch", "count", "views", "size"),
    [
        ((), 60, 2, (40, 30)),
        ((2,), 60, 3, (33, 17)),
        ((1, 2), 25, 1, (16, 16)),
        ((), 300, 1, (70, 50)),
        ((), 60, 1, (1, 1)),
        ((), 60, 2, (1, 50)),
    ],
    ids=str,
)
def test_agrees_with_the_reference(batch: tuple[int, ...], count: int, views: int, size: tuple[int, int]):
    gaussians, cameras = splat_scene(11, *batch, count=count, views=views, size=size)
    assert_agrees_with_the_reference(gaussians, cameras)


@every_isa
@pytest.mark.usefixtures("isa")
def test_agrees_with_the_reference_on_degenerate_gaussians():
    assert_agrees_with_the_reference(*degenerate_scene(5))


@every_isa
@pytest.mark.usefixtures("isa")
def test_agrees_with_the_reference_on_colours_that_depend_on_the_view():
    assert_agrees_with_the_reference(*splat_scene(12, 2, count=30, views=3, degree=2))


@every_isa
@pytest.mark.usefixtures("isa")
def test_agrees_with_the_reference_where_many_gaussians_fill_the_pixels():
    gaussians, cameras = splat_scene(13, count=400, views=1, size=(32, 32))
    gaussians = replace(gaussians, scales=gaussians.scales.clamp_min(0.1), opacities=gaussians.opacities.clamp_min(0.5))
    assert_agrees_with_the_reference(gaussians, cameras, min_decided=0.9)


@every_isa
@pytest.mark.usefixtures("isa")
def test_one_gaussian_on_the_axis_has_its_opacity_at_the_centre():
    output = render(*single(one_gaussian(2.0, 0.1, 0.8), front_camera(33, 40.0)), backend="cpu")
    assert output.alpha[0, 0, 16, 16].item() == pytest.approx(0.8, abs=1e-6)
    assert output.depth[0, 0, 16, 16].item() == pytest.approx(2.0, abs=1e-6)


@every_isa
@pytest.mark.usefixtures("isa")
def test_needles_keep_their_precision():
    # 500 px long and below a pixel wide, at 45 degrees: var_x var_y - cov_xy^2 would lose its digits in float32
    sphere = one_gaussian(2.0, 1e-4, 0.9)
    needle = replace(
        sphere,
        quats=torch.tensor([[0.9238795325, 0.0, 0.0, 0.3826834324]], dtype=torch.float64),
        scales=torch.tensor([[2.0, 1e-4, 1e-4]], dtype=torch.float64),
    )
    cameras = front_camera(65, 500.0)
    expected = render(needle, cameras, backend="reference").alpha
    found = render(*single(needle, cameras), backend="cpu").alpha
    assert expected[0, 0].diagonal().min() > 0.89
    assert (found - expected).abs().max() < 1e-3


@every_isa
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_without_gaussians_there_is_background(batch: tuple[int, ...]):
    gaussians, cameras = splat_scene(1, *batch, count=0)
    output, gradients = with_gradients(*single(gaussians, cameras), "cpu", random_cotangents(0, cameras))
    expected = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand_as(output.image)
    assert torch.equal(output.image, expected)
    assert not output.alpha.any()
    assert not output.depth.any()
    assert gradients["means"].shape == (*batch, 0, 3)


def test_degenerate_gaussians_get_finite_gradients():
    gaussians, cameras = single(*degenerate_scene(5))
    _, gradients = with_gradients(gaussians, cameras, "cpu", random_cotangents(0, cameras))
    for name in GAUSSIAN_FIELDS:
        assert bool(gradients[name].isfinite().all()), name
    not_drawn = [0, 1, 7, 9, 10, *range(11, 21)]
    assert not gradients["means"][not_drawn].any()
    assert bool(gradients["means"][[3, 4, 5, 6, 22]].any(-1).all())


def test_of_two_gaussians_at_one_depth_the_first_is_in_front():
    both = Gaussians.cat([one_gaussian(2.0, 1.0, 0.6)] * 2).to(torch.float32)
    sh = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 1, 3).contiguous()
    cameras = front_camera(5, 10.0).to(torch.float32)
    white_first = render(replace(both, sh=sh), cameras, backend="cpu").image
    black_first = render(replace(both, sh=sh.flip(0)), cameras, backend="cpu").image
    assert bool((white_first > black_first).all())


def at_threads(threads: int, gaussians: Gaussians, cameras: Cameras) -> tuple[RenderOutput, dict[str, Tensor]]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return with_gradients(gaussians, cameras, "cpu", random_cotangents(3, cameras))
    finally:
        torch.set_num_threads(before)


@every_isa
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("count", "views"), [(7000, 1), (500, 13)], ids=["one large view", "many views"])
def test_the_number_of_threads_changes_no_bit(count: int, views: int):
    gaussians, cameras = single(*splat_scene(21, count=count, views=views, size=(90, 70)))
    output, gradients = at_threads(1, gaussians, cameras)
    for threads in (2, 5):
        other, other_gradients = at_threads(threads, gaussians, cameras)
        assert torch.equal(output.image, other.image)
        assert torch.equal(output.depth, other.depth)
        for name, gradient in gradients.items():
            assert torch.equal(gradient, other_gradients[name]), name


def test_several_python_threads_may_render_at_once():
    scenes = [single(*splat_scene(seed, count=3000, views=2, size=(64, 64))) for seed in range(6)]
    alone = [at_threads(1, *scene) for scene in scenes]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda scene: with_gradients(*scene, "cpu", random_cotangents(3, scene[1])), scenes))
    for (expected, expected_gradients), (found, found_gradients) in zip(alone, together, strict=True):
        assert torch.equal(expected.image, found.image)
        assert all(torch.equal(expected_gradients[name], found_gradients[name]) for name in expected_gradients)


def test_views_rendered_together_are_those_rendered_alone():
    gaussians, cameras = single(*splat_scene(22, count=200, views=12))
    together = render(gaussians, cameras, backend="cpu").image
    for v in range(12):
        assert torch.equal(together[v : v + 1], render(gaussians, cameras[v : v + 1], backend="cpu").image)


@pytest.mark.parametrize("layer", ["image", "alpha", "depth"])
def test_one_layer_alone_has_its_gradient(layer: str):
    gaussians, cameras = single(*splat_scene(23))
    cotangents = random_cotangents(1, cameras, mask=decided_pixels(gaussians, cameras))
    means = gaussians.means.clone().requires_grad_()
    output = render(replace(gaussians, means=means), cameras, (0.2, 0.5, 0.9), backend="cpu")
    (getattr(output, layer) * getattr(cotangents, layer)).sum().backward()
    zeros = random_cotangents(1, cameras, mask=0.0)
    only = replace(zeros, **{layer: getattr(cotangents, layer)})
    _, expected = with_gradients(gaussians.to(torch.float64), cameras.to(torch.float64), "reference", only)
    assert means.grad is not None
    assert (means.grad - expected["means"]).norm() < 1e-3 * expected["means"].norm()


def test_the_backward_pass_may_run_twice():
    gaussians, cameras = single(*splat_scene(24))
    means = gaussians.means.clone().requires_grad_()
    loss = render(replace(gaussians, means=means), cameras, backend="cpu").image.square().sum()
    (first,) = torch.autograd.grad(loss, means, retain_graph=True)
    (second,) = torch.autograd.grad(loss, means)
    assert torch.equal(first, second)


def test_inputs_need_not_be_contiguous():
    gaussians, cameras = single(*splat_scene(25))
    strided = replace(gaussians, means=gaussians.means.mT.contiguous().mT)
    assert not strided.means.is_contiguous()
    assert torch.equal(render(strided, cameras, backend="cpu").image, render(gaussians, cameras, backend="cpu").image)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory use from /proc")
def test_what_a_call_keeps_is_given_back():
    gaussians, cameras = single(*splat_scene(26, count=20000, views=4, size=(32, 32)))  # keeps 5 MB for the way back

    def call() -> None:
        with_gradients(gaussians, cameras, "cpu", random_cotangents(0, cameras))
        means = gaussians.means.clone().requires_grad_()
        render(replace(gaussians, means=means), cameras, backend="cpu")  # never goes back

    for _ in range(3):
        call()
    before = resident_bytes()
    for _ in range(12):
        call()
    gc.collect()
    assert resident_bytes() - before < 40e6  # of 120 MB


def test_alpha_never_reaches_one():
    opaque = Gaussians.cat([one_gaussian(z, 10.0, 1.0) for z in (1.0, 2.0, 3.0)])
    output = render(*single(opaque, front_camera(5, 10.0)), backend="cpu")
    assert output.alpha.max() < 1
    assert output.alpha.min() >= MAX_ALPHA - 1e-6


def test_an_isa_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(cpu.ISA_VARIABLE, "mmx")
    with pytest.raises(InputError, match="MOUSELIFT_CPU_ISA='mmx': expected one of baseline"):
        render(*single(*splat_scene(0)), backend="cpu")


def test_float64_is_refused():
    with pytest.raises(InputError, match=r"expected float32 on the CPU, found torch\.float64"):
        render(*splat_scene(0), backend="cpu")


def test_a_missing_kernel_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu, "supported_isas", lambda: ())
    with pytest.raises(InputError, match="install a C\\+\\+ compiler"):
        render(*single(*splat_scene(0)), backend="cpu")
