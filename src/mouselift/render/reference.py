"""The reference backend: every step in plain PyTorch, any dtype, any device.

Slow; it is what the others are measured against, and what they fall back to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from mouselift.geometry.rays import pixel_centres
from mouselift.geometry.transforms import quat_to_rotmat
from mouselift.render.constants import (
    DILATION_PX2,
    JACOBIAN_MARGIN,
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    NEAR_PLANE,
)
from mouselift.render.contract import RenderOutput, SplatBatch

TILE_PX = 16
MAX_PAIRS = 1 << 20  # pixels times Gaussians composited at once: bounds the memory


@dataclass(frozen=True, kw_only=True)
class Ellipses:
    """The Gaussians that one camera can see, nearest first.

    Attributes:
        centres: Pixels.
        conics: (a, b, c) of the inverse covariance [[a, b], [b, c]], 1/px^2.
        reach: Half the width and height of the box in which alpha reaches the threshold, px.
        depths: Along the optical axis, scene units.
        opacities: In [0, 1].
        values: What is blended: RGB, 1, depth and the features.
    """

    centres: Float[Tensor, "m 2"]
    conics: Float[Tensor, "m 3"]
    reach: Float[Tensor, "m 2"]
    depths: Float[Tensor, "m"]
    opacities: Float[Tensor, "m"]
    values: Float[Tensor, "m k"]


def rasterize(batch: SplatBatch) -> RenderOutput:
    """Render scene by scene and camera by camera."""
    scenes, views = batch.w2c.shape[:2]
    layers = [_render_one(batch, s, v) for s in range(scenes) for v in range(views)]
    size = (batch.height, batch.width)
    count = 5 + batch.features.shape[-1]
    stacked = torch.stack(layers) if layers else batch.means.new_zeros(0, count, *size)
    stacked = stacked.reshape(scenes, views, count, *size)
    colour, alpha, weighted_depth = stacked[:, :, :3], stacked[:, :, 3:4], stacked[:, :, 4:5]
    return RenderOutput(
        image=colour + (1 - alpha) * batch.background[..., None, None],
        alpha=alpha,
        depth=torch.where(alpha > 0, weighted_depth / alpha.where(alpha > 0, 1), 0),
        features=stacked[:, :, 5:],
    )


def _render_one(batch: SplatBatch, scene: int, view: int) -> Float[Tensor, "k h w"]:
    """Colour without background, alpha, sum of weight times depth, and features for one camera."""
    ellipses = project(batch, scene, view)
    canvas = pixel_centres(batch.height, batch.width, like=batch.means)
    rows: list[Tensor] = []
    for top in range(0, batch.height, TILE_PX):
        tiles = [
            _composite_tile(canvas[top : top + TILE_PX, left : left + TILE_PX], ellipses)
            for left in range(0, batch.width, TILE_PX)
        ]
        rows.append(torch.cat(tiles, dim=-1))
    return torch.cat(rows, dim=-2)


def visible(batch: SplatBatch, scene: int, view: int) -> Bool[Tensor, "n"]:
    """Gaussians in front of the near plane that are opaque enough and have no value that is not finite."""
    fields = [
        batch.means[scene],
        batch.quats[scene],
        batch.scales[scene],
        batch.opacities[scene, :, None],
        _of_view(batch.colours, scene, view),
        _of_view(batch.features, scene, view),
    ]
    finite = torch.cat(fields, dim=-1).isfinite().all(-1)
    w2c = batch.w2c[scene, view]
    depths = batch.means[scene] @ w2c[2, :3] + w2c[2, 3]
    turned = batch.quats[scene].square().sum(-1) > 0
    return finite & turned & (depths > NEAR_PLANE) & (batch.opacities[scene] >= MIN_ALPHA)


def _of_view(values: Float[Tensor, "s c n k"], scene: int, view: int) -> Float[Tensor, "n k"]:
    return values[scene, view if values.shape[1] > 1 else 0]


def project(batch: SplatBatch, scene: int, view: int) -> Ellipses:
    """Project Gaussians to ellipses in the image: EWA splatting (Zwicker et al. 2001), sorted by depth."""
    keep = visible(batch, scene, view).nonzero().squeeze(-1)
    means, scales = batch.means[scene, keep], batch.scales[scene, keep]
    w2c, K = batch.w2c[scene, view], batch.K[scene, view]
    in_camera = means @ w2c[:3, :3].mT + w2c[:3, 3]
    depths = in_camera[:, 2]
    slopes = in_camera[:, :2] / depths[:, None]

    # Derivatives of the pixel with respect to the world point, then along the Gaussian's axes, each a deviation long.
    jacobian = projection_jacobian(slopes, depths, K, batch.width, batch.height) @ w2c[:3, :3]  # (M, 2, 3)
    axes = jacobian @ quat_to_rotmat(batch.quats[scene, keep]) * scales[:, None, :]
    u, v = axes.unbind(-2)
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    # The determinant through Lagrange's identity, (u.u)(v.v) - (u.v)^2 = |u x v|^2: a sum of positive terms, so that
    # needles keep their precision.
    determinant = DILATION_PX2 * (uu + vv + DILATION_PX2) + torch.cross(u, v, dim=-1).square().sum(-1)
    variances = torch.stack([uu, vv], dim=-1) + DILATION_PX2
    conics = torch.stack([variances[:, 1], -uv, variances[:, 0]], dim=-1) / determinant[:, None]

    opacities = batch.opacities[scene, keep]
    reach = (2 * (opacities[:, None] / MIN_ALPHA).log().clamp_min(0) * variances).sqrt()
    order = depths.detach().argsort(stable=True)
    shown = [_of_view(batch.colours, scene, view)[keep], torch.ones_like(depths)[:, None], depths[:, None]]
    shown.append(_of_view(batch.features, scene, view)[keep])
    return Ellipses(
        centres=(slopes @ K[:2, :2].mT + K[:2, 2])[order],
        conics=conics[order],
        reach=reach.detach()[order],
        depths=depths[order],
        opacities=opacities[order],
        values=torch.cat(shown, dim=-1)[order],
    )


def projection_jacobian(
    slopes: Float[Tensor, "m 2"], depths: Float[Tensor, "m"], K: Float[Tensor, "3 3"], width: int, height: int
) -> Float[Tensor, "m 2 3"]:
    """Derivative of the pixel with respect to the point in camera coordinates.

    Far outside the image it explodes, so x/z and y/z are clamped a margin beyond the image's borders.
    """
    size = slopes.new_tensor([width, height])
    focal, principal = K.diagonal()[:2], K[:2, 2]
    margin = JACOBIAN_MARGIN * size / (2 * focal)
    clamped = slopes.clamp(-principal / focal - margin, (size - principal) / focal + margin)
    along_z = -(clamped @ K[:2, :2].mT)[..., None]
    return torch.cat([K[:2, :2].expand(len(slopes), 2, 2), along_z], dim=-1) / depths[:, None, None]


def _composite_tile(pixels: Float[Tensor, "h w 2"], ellipses: Ellipses) -> Float[Tensor, "k h w"]:
    """Choose the ellipses that reach the tile and composite them, some pixels at a time."""
    first, last = pixels[0, 0], pixels[-1, -1]
    near = (ellipses.centres + ellipses.reach >= first) & (ellipses.centres - ellipses.reach <= last)
    chosen = near.all(-1).nonzero().squeeze(-1)
    flat = pixels.reshape(-1, 2)
    if not len(chosen):
        return flat.new_zeros(ellipses.values.shape[-1], *pixels.shape[:2])
    run = cast(Callable[..., Tensor], checkpoint)  # the pairs are made again on the way back, not kept
    step = max(1, MAX_PAIRS // len(chosen))
    parts = [
        run(composite, flat[i : i + step], ellipses, chosen, use_reentrant=False, preserve_rng_state=False)
        for i in range(0, len(flat), step)
    ]
    return torch.cat(parts).mT.reshape(-1, *pixels.shape[:2])


def composite(pixels: Float[Tensor, "p 2"], ellipses: Ellipses, chosen: Int[Tensor, "m"]) -> Float[Tensor, "p k"]:
    """Blend ellipses front to back: the sums of weight times value."""
    dx, dy = (ellipses.centres[chosen] - pixels[:, None]).unbind(-1)  # (P, M)
    a, b, c = ellipses.conics[chosen].unbind(-1)
    falloff = torch.exp(-(a * dx * dx + c * dy * dy) / 2 - b * dx * dy)
    alpha = (ellipses.opacities[chosen] * falloff).clamp_max(MAX_ALPHA)
    alpha = alpha.where(alpha >= MIN_ALPHA, 0)
    remaining = (1 - alpha).cumprod(dim=-1)  # transmittance behind each ellipse
    before = torch.cat([torch.ones_like(remaining[:, :1]), remaining[:, :-1]], dim=-1)
    weights = (alpha * before).where(remaining >= MIN_TRANSMITTANCE, 0)
    return weights @ ellipses.values[chosen]
