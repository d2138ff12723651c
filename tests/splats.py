"""Scenes for the tests of the renderer, and the pixels in which two renders may be compared."""

from dataclasses import fields, replace

import torch
from samples import normal, random_cameras, seeded, uniform
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.rays import pixel_centres
from mouselift.render import RenderOutput, reference, render
from mouselift.render.constants import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE
from mouselift.render.renderer import Backend, _flatten

GAUSSIAN_FIELDS = tuple(field.name for field in fields(Gaussians))


def splat_scene(
    seed: int, *batch: int, count: int = 60, views: int = 2, size: tuple[int, int] = (40, 30), degree: int = 0
) -> tuple[Gaussians, Cameras]:
    """Gaussians of very different sizes and opacities (some behind the cameras, outside, or invisible); float64."""
    generator = seeded(seed)
    log_scales = uniform(generator, *batch, count, 3, low=-6.0, high=-0.5)
    gaussians = Gaussians(
        means=1.2 * normal(generator, *batch, count, 3),
        quats=2 * normal(generator, *batch, count, 4),
        scales=log_scales.exp(),
        opacities=uniform(generator, *batch, count, low=-0.1, high=1.1).clamp(0, 1),
        sh=normal(generator, *batch, count, (degree + 1) ** 2, 3),
    )
    cameras = random_cameras(generator, *batch, views).resized(*size)
    return gaussians, cameras


def degenerate_scene(seed: int) -> tuple[Gaussians, Cameras]:
    """Every kind of Gaussian that could trip a renderer, among ordinary ones; one camera that looks along +Z."""
    gaussians, _ = splat_scene(seed, count=40)
    cameras = front_camera(size=37, focal=50.0)
    means = gaussians.means.clone()
    scales, opacities, quats, sh = (
        t.clone() for t in (gaussians.scales, gaussians.opacities, gaussians.quats, gaussians.sh)
    )
    means[:, 2] += 3.0
    means[:24] = 0.2 * means[:24] + torch.tensor([0.0, 0.0, 2.5])  # all in view, until something is wrong with them
    scales[:24], opacities[:24] = 0.1, 0.3
    means[0] = torch.tensor([0.0, 0.0, -2.0])  # behind
    means[1] = torch.tensor([0.0, 0.0, 0.199])  # before the near plane: not drawn
    means[2] = torch.tensor([0.3, -0.2, 0.21])  # just beyond it, outside the image
    scales[3], opacities[3] = 1e-6, 0.7  # far below a pixel
    scales[4], opacities[4] = 1e3, 0.05  # larger than the scene
    scales[5] = torch.tensor([2.0, 1e-4, 1e-4])  # a needle
    scales[6] = 0.0
    opacities[7], opacities[8] = 0.0, 1.0
    opacities[9] = 0.5 * MIN_ALPHA
    quats[10] = 0.0  # no rotation at all: not drawn
    means[11, 0], scales[12, 1], opacities[13], quats[14, 2], sh[15, 0, 1] = (torch.nan,) * 5
    means[16, 2], scales[17, 0], opacities[18], quats[19, 3], sh[20, 0, 0] = (torch.inf,) * 5
    means[21] = torch.tensor([1e6, 0.0, 3.0])
    means[22:24] = torch.tensor([0.1, 0.1, 2.0])  # the same depth: the first one is in front
    scales[22:24], opacities[22:24] = 0.2, 0.6
    means[24:30] = torch.tensor([-0.2, 0.0, 1.5])  # so opaque together that the pixels end
    scales[24:30], opacities[24:30] = 0.1, 1.0
    return Gaussians(means=means, quats=quats, scales=scales, opacities=opacities, sh=sh), cameras


def animal(count: int = 400, seed: int = 0) -> Gaussians:
    """A coloured ellipsoid."""
    points = F.normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)
    return Gaussians(
        means=points * torch.tensor([0.5, 0.25, 0.25]),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        scales=torch.full((count, 3), 0.05),
        opacities=torch.full((count,), 0.95),
        sh=points[:, None],
    )


def front_camera(size: int, focal: float, skew: float = 0.0) -> Cameras:
    """One view (V = 1) from the origin along +Z."""
    K = torch.tensor([[focal, skew, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(K=K[None], w2c=torch.eye(4, dtype=torch.float64)[None], width=size, height=size)


def one_gaussian(depth: float, scale: float, opacity: float) -> Gaussians:
    """A grey sphere on the optical axis of `front_camera`."""
    return Gaussians(
        means=torch.tensor([[0.0, 0.0, depth]], dtype=torch.float64),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
        scales=torch.full((1, 3), scale, dtype=torch.float64),
        opacities=torch.full((1,), opacity, dtype=torch.float64),
        sh=torch.zeros(1, 1, 3, dtype=torch.float64),
    )


def decided_pixels(gaussians: Gaussians, cameras: Cameras, margin: float = 1e-4) -> Tensor:
    """Pixels (*batch, V, 1, H, W) in which no Gaussian is within a relative `margin` of a threshold.

    Two correct renderers differ there by rounding alone. Elsewhere one may add a Gaussian that the other does not.
    """
    batch = _flatten(gaussians.to(torch.float64), cameras.to(torch.float64), (0.0, 0.0, 0.0))
    pixels = pixel_centres(batch.height, batch.width, like=batch.means).reshape(-1, 2)
    masks: list[Tensor] = []
    for s in range(batch.w2c.shape[0]):
        for v in range(batch.w2c.shape[1]):
            e = reference.project(batch, s, v)
            dx, dy = (e.centres - pixels[:, None]).unbind(-1)
            a, b, c = e.conics.unbind(-1)
            alpha = e.opacities * torch.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy)
            capped = alpha.clamp_max(MAX_ALPHA).where(alpha >= MIN_ALPHA, 0)
            remaining = (1 - capped).cumprod(-1)
            unsure = [
                (value / threshold - 1).abs() < margin
                for value, threshold in ((alpha, MIN_ALPHA), (alpha, MAX_ALPHA), (remaining, MIN_TRANSMITTANCE))
            ]
            masks.append(~(unsure[0] | unsure[1] | unsure[2]).any(-1))
    return torch.stack(masks).reshape(*cameras.batch_shape, 1, batch.height, batch.width)


def with_gradients(
    gaussians: Gaussians,
    cameras: Cameras,
    backend: Backend,
    cotangents: RenderOutput,
    background: tuple[float, float, float] = (0.2, 0.5, 0.9),
) -> tuple[RenderOutput, dict[str, Tensor]]:
    """A render, and the gradients of sum(cotangents * layers) by the name of the input."""
    leaves = {name: getattr(gaussians, name).detach().clone().requires_grad_() for name in GAUSSIAN_FIELDS}
    leaves["background"] = torch.tensor(background, dtype=gaussians.means.dtype, requires_grad=True)
    scene = replace(gaussians, **{name: leaves[name] for name in GAUSSIAN_FIELDS})
    output = render(scene, cameras, leaves["background"], backend)
    layers = (output.image, output.alpha, output.depth)
    weights = (cotangents.image, cotangents.alpha, cotangents.depth)
    torch.autograd.backward(layers, [weight.to(layer) for weight, layer in zip(weights, layers, strict=True)])
    detached = RenderOutput(image=output.image.detach(), alpha=output.alpha.detach(), depth=output.depth.detach())
    return detached, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def random_cotangents(seed: int, cameras: Cameras, mask: Tensor | float = 1.0) -> RenderOutput:
    generator = seeded(seed)
    shape, size = cameras.batch_shape, (cameras.height, cameras.width)
    return RenderOutput(
        image=normal(generator, *shape, 3, *size) * mask,
        alpha=normal(generator, *shape, 1, *size) * mask,
        depth=normal(generator, *shape, 1, *size) * mask,
    )
