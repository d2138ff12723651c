import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import BATCH_SHAPES, random_similarity, seeded
from splats import decided_pixels, front_camera, one_gaussian, splat_scene

from mouselift.errors import InputError
from mouselift.render import cpu, render, renderer
from mouselift.render.renderer import Backend

BACKENDS: list[Backend] = ["reference", "cpu"] if cpu.is_available() else ["reference"]


@pytest.mark.parametrize("batch", BATCH_SHAPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_have_the_batch_shape_of_the_cameras(batch: tuple[int, ...], backend: Backend):
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(0, *batch, count=5, views=3, size=(20, 12)))
    output = render(gaussians, cameras, backend=backend)
    assert output.image.shape == (*batch, 3, 3, 12, 20)
    assert output.alpha.shape == output.depth.shape == (*batch, 3, 1, 12, 20)
    for index in [()] if not batch else [(0,) * len(batch), (-1,) * len(batch)]:
        alone = render(gaussians[index] if batch else gaussians, cameras[index] if batch else cameras, backend=backend)
        assert torch.equal(alone.image, output.image[index])


@pytest.mark.parametrize("backend", BACKENDS)
def test_backgrounds_broadcast(backend: Backend):
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(0, 2, count=10, views=3))
    colours = torch.rand(2, 1, 3, generator=seeded(0))
    output = render(gaussians, cameras, colours, backend)
    for scene in range(2):
        for view in range(3):
            alone = render(
                gaussians[scene], cameras[scene, view : view + 1], tuple(colours[scene, 0].tolist()), backend
            )
            torch.testing.assert_close(alone.image[0], output.image[scene, view])
    empty = (output.alpha == 0).expand_as(output.image)
    assert torch.equal(output.image[empty], colours[..., None, None].expand_as(output.image)[empty])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_image_is_colour_over_background(backend: Backend):
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(4))
    black, white = (render(gaussians, cameras, (v, v, v), backend) for v in (0.0, 1.0))
    torch.testing.assert_close(white.image - black.image, (1 - black.alpha).expand_as(black.image), rtol=0, atol=1e-5)


@given(st.integers(0, 10_000))
def test_a_similarity_of_the_whole_scene_changes_no_pixel(seed: int):
    gaussians, cameras = splat_scene(seed, count=12, views=1, size=(16, 12), degree=1)
    far_enough = (gaussians.means @ cameras.w2c[0, 2, :3] + cameras.w2c[0, 2, 3]) > 0.8
    gaussians = gaussians.select(far_enough)
    moved_from_scene = random_similarity(seeded(seed))
    # The near plane is at a fixed depth: it must stay before everything when the scene shrinks.
    moved_from_scene = replace(moved_from_scene, scale=0.5 + moved_from_scene.scale)
    decided = decided_pixels(gaussians, cameras, margin=1e-9)
    before = render(gaussians, cameras, backend="reference")
    after = render(gaussians.transformed(moved_from_scene), cameras.transformed(moved_from_scene), backend="reference")
    assert ((after.image - before.image).abs() * decided).max() < 1e-8
    assert ((after.depth - moved_from_scene.scale * before.depth).abs() * decided).max() < 1e-7


@pytest.mark.skipif(not cpu.is_available(), reason="the CPU kernel is not compiled")
def test_auto_takes_the_kernel_for_float32_on_the_cpu(monkeypatch: pytest.MonkeyPatch):
    taken: list[str] = []
    for name, rasterize in renderer._RASTERIZERS.items():
        monkeypatch.setitem(renderer._RASTERIZERS, name, lambda batch, n=name, r=rasterize: taken.append(n) or r(batch))
    scene = splat_scene(0)
    render(*scene)
    render(*(x.to(torch.float32) for x in scene))
    assert taken == ["reference", "cpu"]


def test_the_slow_way_is_announced_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    renderer._say_slow.cache_clear()
    monkeypatch.setattr(cpu, "supported_isas", lambda: ())
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(0))
    with caplog.at_level(logging.WARNING):
        automatic = render(gaussians, cameras)
        render(gaussians, cameras)
    assert [r.message for r in caplog.records] == [
        "rendering with the slow reference backend: the compiled kernel is not installed"
    ]
    assert torch.equal(automatic.image, render(gaussians, cameras, backend="reference").image)


def test_cameras_in_double_precision_see_gaussians_in_single():
    gaussians, cameras = splat_scene(0)
    output = render(gaussians.to(torch.float32), cameras)
    assert output.image.dtype == torch.float32


def test_no_views_give_no_pictures():
    gaussians, cameras = (x.to(torch.float32) for x in splat_scene(0, 2))
    for backend in BACKENDS:
        assert render(gaussians, cameras[:, :0], backend=backend).image.shape == (2, 0, 3, 30, 40)


@pytest.mark.usefixtures("without_shape_checks")
def test_batch_shapes_that_do_not_fit_are_refused():
    gaussians, cameras = splat_scene(0, 2)
    for wrong in (cameras[0], cameras[:, 0], cameras.reshape(1, 2, 2)):
        with pytest.raises(InputError, match=r"expected cameras of batch shape \(2,\) \+ \(V,\)"):
            render(gaussians, wrong)


def test_lens_distortion_is_refused():
    cameras = replace(front_camera(5, 10.0), distortion=torch.zeros(1, 5, dtype=torch.float64))
    with pytest.raises(InputError, match="undistort the views first"):
        render(one_gaussian(2.0, 0.1, 0.8), cameras)


def test_a_background_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"broadcasts to \(1, 3\), found \(4,\)"):
        render(one_gaussian(2.0, 0.1, 0.8), front_camera(5, 10.0), (1.0, 1.0, 1.0, 1.0))


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match="backend: expected auto, reference, cpu, gsplat, found 'vulkan'"):
        render(one_gaussian(2.0, 0.1, 0.8), front_camera(5, 10.0), backend="vulkan")  # pyright: ignore[reportArgumentType]


def test_gsplat_without_cuda_is_refused():
    with pytest.raises(InputError, match=r"backend 'gsplat': (not installed|expected tensors on a CUDA device)"):
        render(one_gaussian(2.0, 0.1, 0.8), front_camera(5, 10.0), backend="gsplat")
