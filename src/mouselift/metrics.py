"""PSNR, SSIM, perceptual distance and silhouette IoU; the region is part of every name (docs/conventions.md)."""

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.colour import matched_colours
from mouselift.perceptual import Perceptual
from mouselift.ssim import ssim_map

FOREGROUND = 0.5  # a pixel belongs to the subject where its mask reaches this


def psnr_full(
    predicted: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """PSNR in dB over all pixels, values clipped to [0, 1]."""
    error = (predicted.clamp(0, 1) - target.clamp(0, 1)).square().flatten(-3).mean(-1)
    return -10 * torch.log10(error.clamp_min(1e-10))


def ssim_full(
    predicted: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """SSIM averaged over all pixels, values clipped to [0, 1]; high where most of the picture is background."""
    return ssim_map(predicted.clamp(0, 1), target.clamp(0, 1)).flatten(-3).mean(-1)


def coverage(masks: Float[Tensor, "*batch 1 h w"]) -> Float[Tensor, "*batch"]:
    """Share of the pixels that belong to the subject: without it a figure of the whole picture says little."""
    return (masks >= FOREGROUND).to(masks).flatten(-3).mean(-1)


def psnr_fg(
    predicted: Float[Tensor, "*batch 3 h w"],
    target: Float[Tensor, "*batch 3 h w"],
    masks: Float[Tensor, "*batch 1 h w"],
) -> Float[Tensor, "*batch"]:
    """PSNR in dB over the pixels of the true subject; NaN where a view shows none."""
    return -10 * torch.log10(
        _foreground_mean((predicted.clamp(0, 1) - target.clamp(0, 1)).square(), masks).clamp_min(1e-10)
    )


def psnr_fg_affine(
    predicted: Float[Tensor, "*batch 3 h w"],
    target: Float[Tensor, "*batch 3 h w"],
    masks: Float[Tensor, "*batch 1 h w"],
) -> Float[Tensor, "*batch"]:
    """`psnr_fg` after the best affine map of each view's colours (`mouselift.colour`).

    It forgives exposure, haze and white balance, for recordings whose cameras differ in them. Never to be compared
    with `psnr_fg`.
    """
    inside = (masks >= FOREGROUND).to(predicted)
    matched = matched_colours(predicted.clamp(0, 1), torch.ones_like(masks), target, inside)
    return psnr_fg(matched, target, masks)


def ssim_fg(
    predicted: Float[Tensor, "*batch 3 h w"],
    target: Float[Tensor, "*batch 3 h w"],
    masks: Float[Tensor, "*batch 1 h w"],
) -> Float[Tensor, "*batch"]:
    """SSIM averaged over the pixels of the true subject; NaN where a view shows none."""
    return _foreground_mean(ssim_map(predicted.clamp(0, 1), target.clamp(0, 1)), masks)


def lpips_fg(
    predicted: Float[Tensor, "*batch 3 h w"],
    target: Float[Tensor, "*batch 3 h w"],
    masks: Float[Tensor, "*batch 1 h w"],
    distance: Perceptual,
) -> Float[Tensor, "*batch"]:
    """Perceptual distance averaged over the pixels of the true subject; NaN where a view shows none.

    Show it under the distance's own name, `f"{distance.name}_fg"`: LPIPS and ST-LPIPS are different numbers.
    """
    return _foreground_mean(distance.map(predicted.clamp(0, 1), target.clamp(0, 1)), masks)


def iou_alpha(alpha: Float[Tensor, "*batch 1 h w"], masks: Float[Tensor, "*batch 1 h w"]) -> Float[Tensor, "*batch"]:
    """Intersection over union of the silhouettes where alpha and mask reach 0.5; 1 where both are empty."""
    a, b = (alpha >= FOREGROUND).flatten(-3), (masks >= FOREGROUND).flatten(-3)
    union = (a | b).sum(-1)
    return torch.where(union > 0, (a & b).sum(-1) / union.clamp_min(1), 1.0)


def _foreground_mean(
    values: Float[Tensor, "*batch c h w"], masks: Float[Tensor, "*batch 1 h w"]
) -> Float[Tensor, "*batch"]:
    weights = (masks >= FOREGROUND).to(values).expand_as(values).flatten(-3)
    return (values.flatten(-3) * weights).sum(-1) / weights.sum(-1)
