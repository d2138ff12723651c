"""Losses on rendered views and on Gaussians. Perceptual distances are in `mouselift.perceptual`."""

from jaxtyping import Float
from torch import Tensor

from mouselift.geometry import Gaussians
from mouselift.ssim import ssim_map


def l2(predicted: Float[Tensor, "*batch c h w"], target: Float[Tensor, "*batch c h w"]) -> Float[Tensor, ""]:
    """Mean squared error."""
    return (predicted - target).square().mean()


def dssim(predicted: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, ""]:
    """1 - SSIM over the whole picture."""
    return 1 - ssim_map(predicted, target).mean()


def mean_opacity(gaussians: Gaussians) -> Float[Tensor, ""]:
    """Makes what no view needs fade."""
    return gaussians.opacities.mean()


def mean_scale(gaussians: Gaussians) -> Float[Tensor, ""]:
    """Mean standard deviation over Gaussians and axes, scene units: keeps Gaussians small."""
    return gaussians.scales.mean()
