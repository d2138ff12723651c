"""The structural similarity index at every pixel: shared by the losses and the metrics."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SSIM_WINDOW = 11  # Wang et al. 2004: 11x11 Gaussian window, sigma 1.5, K1 = 0.01, K2 = 0.03
SSIM_SIGMA = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def ssim_map(
    predicted: Float[Tensor, "*batch 3 h w"], target: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch 3 h w"]:
    """SSIM at every pixel and channel, population statistics, borders padded by reflection (as scikit-image pads)."""
    offsets = torch.arange(SSIM_WINDOW, dtype=predicted.dtype, device=predicted.device) - SSIM_WINDOW // 2
    kernel = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    kernel = kernel / kernel.sum()
    x, y = (t.reshape(-1, 1, *t.shape[-2:]) for t in (predicted, target))
    moments = _blur(torch.cat([x, y, x * x, y * y, x * y], dim=1), kernel)
    mean_x, mean_y, xx, yy, xy = moments.unbind(1)
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + SSIM_C1) * (2 * cov + SSIM_C2)
    denominator = (mean_x**2 + mean_y**2 + SSIM_C1) * (var_x + var_y + SSIM_C2)
    return (numerator / denominator).reshape(predicted.shape)


def _blur(images: Float[Tensor, "n c h w"], kernel: Float[Tensor, "k"]) -> Float[Tensor, "n c h w"]:
    channels, radius = images.shape[1], len(kernel) // 2
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
