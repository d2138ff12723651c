"""Brown-Conrady lens distortion, coefficients (k1, k2, p1, p2, k3) in OpenCV's order."""

import torch
from jaxtyping import Float
from torch import Tensor

UNDISTORT_ITERATIONS = 20  # the fixed point converges geometrically; 20 reach 1e-9 inside the images of our rigs


def distort(
    points: Float[Tensor, "*batch n 2"], coefficients: Float[Tensor, "*batch 5"]
) -> Float[Tensor, "*batch n 2"]:
    """Distort normalised image coordinates (x/z, y/z).

    Source: OpenCV, calib3d, "Detailed Description", with k4..k6 and s1..s4 zero.
    """
    k1, k2, p1, p2, k3 = coefficients[..., None, :].unbind(-1)
    x, y = points.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        dim=-1,
    )


def undistort(
    points: Float[Tensor, "*batch n 2"], coefficients: Float[Tensor, "*batch 5"]
) -> Float[Tensor, "*batch n 2"]:
    """Invert `distort` by Newton's method.

    The polynomial of strong lenses turns over beyond the image; points out there have no inverse and come back as NaN
    rather than as a plausible wrong value.
    """
    k1, k2, p1, p2, k3 = coefficients[..., None, :].unbind(-1)
    estimate = points.clone()
    for _ in range(UNDISTORT_ITERATIONS):
        x, y = estimate.unbind(-1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = 2 * (k1 + r2 * (2 * k2 + 3 * r2 * k3))
        residual = distort(estimate, coefficients) - points
        j00 = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
        j11 = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
        j01 = x * y * slope + 2 * p1 * x + 2 * p2 * y
        determinant = j00 * j11 - j01 * j01
        step = torch.stack(
            [
                (j11 * residual[..., 0] - j01 * residual[..., 1]) / determinant,
                (j00 * residual[..., 1] - j01 * residual[..., 0]) / determinant,
            ],
            dim=-1,
        )
        estimate = estimate - step
    tolerance = 1e-4 if points.dtype == torch.float32 else 1e-8
    error = (distort(estimate, coefficients) - points).abs().amax(-1, keepdim=True)
    return torch.where(error < tolerance, estimate, torch.nan)
