"""gsplat on a CUDA device against the reference, forward and backward (run with -m gpu)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from splats import decided_pixels, random_cotangents, splat_scene, with_gradients

from mouselift.errors import InputError
from mouselift.export.ply import read_ply, write_ply
from mouselift.geometry import Cameras, Gaussians
from mouselift.render import gsplat_backend, render
from mouselift.render.renderer import Backend

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.skipif(
        not gsplat_backend.is_available(), reason="gsplat is not installed: pip install 'mouselift[gpu]'"
    ),
]


def scene_without_skew(*batch: int, degree: int = 0) -> tuple[Gaussians, Cameras]:
    """Opacities stay below the caps of both (0.99 here, 0.999 in gsplat 1.5.3)."""
    gaussians, cameras = splat_scene(3, *batch, count=80, views=3, size=(64, 48), degree=degree)
    K = cameras.K.clone()
    K[..., 0, 1] = 0
    return replace(gaussians, opacities=0.95 * gaussians.opacities), replace(cameras, K=K)


@pytest.mark.parametrize(("batch", "degree"), [((), 0), ((2,), 0), ((2,), 1)])
def test_agrees_with_the_reference(batch: tuple[int, ...], degree: int):
    gaussians, cameras = scene_without_skew(*batch, degree=degree)
    decided = decided_pixels(gaussians, cameras)
    cotangents = random_cotangents(0, cameras, mask=decided)
    expected, expected_gradients = with_gradients(gaussians, cameras, "reference", cotangents)
    on_gpu = gaussians.to("cuda", torch.float32), cameras.to("cuda", torch.float32)
    leaves = {name: t for name, t in vars(on_gpu[0]).items()}
    leaves = {name: t.clone().requires_grad_() for name, t in leaves.items()}
    background = torch.tensor([0.2, 0.5, 0.9], device="cuda", requires_grad=True)
    output = render(Gaussians(**leaves), on_gpu[1], background)
    layers = (output.image, output.alpha, output.depth)
    weights = (cotangents.image, cotangents.alpha, cotangents.depth)
    torch.autograd.backward(layers, [w.to(layer) for w, layer in zip(weights, layers, strict=True)])
    assert ((output.image.detach().cpu() - expected.image).abs() * decided).max() < 1e-3
    assert ((output.alpha.detach().cpu() - expected.alpha).abs() * decided).max() < 1e-3
    for name, leaf in {**leaves, "background": background}.items():
        assert leaf.grad is not None
        error = (leaf.grad.cpu() - expected_gradients[name]).norm() / expected_gradients[name].norm()
        assert error < 1e-2, f"gradient of {name}: relative error {float(error):.2g}"


def test_three_backends_side_by_side_on_one_scene_file(tmp_path: Path):
    gaussians, cameras = scene_without_skew(degree=3)
    write_ply(gaussians.to(torch.float32), tmp_path / "scene.ply")
    gaussians = read_ply(tmp_path / "scene.ply")
    features = torch.rand(len(gaussians), 5, generator=torch.Generator().manual_seed(0))
    decided = decided_pixels(gaussians, cameras)
    doubled = gaussians.to(torch.float64), cameras.to(torch.float64)
    exact = render(*doubled, backend="reference", features=features.double(), normals=True)
    backends: dict[Backend, str] = {"reference": "cpu", "cpu": "cpu", "gsplat": "cuda"}
    for backend, device in backends.items():
        scene = gaussians.to(device, torch.float32), cameras.to(device, torch.float32)
        found = render(*scene, backend=backend, features=features.to(device), normals=True)
        for layer in ("image", "alpha", "depth", "features", "normals"):
            wanted = getattr(exact, layer)
            error = ((getattr(found, layer).cpu() - wanted).abs() * decided).max()
            assert error < 1e-3 * max(1.0, float(wanted.abs().max())), f"{layer} of {backend}: {float(error):.2g}"


def test_packed_mode_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    gaussians, cameras = (x.to("cuda", torch.float32) for x in scene_without_skew(2, degree=1))
    unpacked = render(gaussians, cameras)
    monkeypatch.setattr(gsplat_backend, "PACKED_FROM", 0)
    packed = render(gaussians, cameras)
    torch.testing.assert_close(packed.image, unpacked.image, rtol=0, atol=1e-5)
    torch.testing.assert_close(packed.depth, unpacked.depth, rtol=0, atol=1e-4)


def test_skew_is_refused():
    gaussians, cameras = splat_scene(3)
    with pytest.raises(InputError, match="expected no skew"):
        render(gaussians.to("cuda", torch.float32), cameras.to("cuda", torch.float32))
