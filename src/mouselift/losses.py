"""Losses on rendered views."""

from jaxtyping import Float
from torch import Tensor

from mouselift.ssim import ssim_map


def l2(predicted: Float[Tensor, "*batch c h w"], target: Float[Tensor, "*batch c h w"]) -> Float[Tensor, ""]:
    """Mean squared error."""
    return (predicted - target).square().mean()


def dssim(predicted: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, ""]:
    """1 - SSIM over the whole picture."""
    return 1 - ssim_map(predicted, target).mean()
