"""Brown-Conrady lens distortion, coefficients (k1, k2, p1, p2, k3) in OpenCV's order."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

# Newton's method doubles the digits at each step; only near the turning point does it need more than six.
UNDISTORT_ITERATIONS = 20
MAX_RADIUS = 1e3  # tan(89.94 deg): a polynomial that turns farther out than this is taken never to turn


def distort(
    points: Float[Tensor, "*#batch n 2"], coefficients: Float[Tensor, "*#batch 5"]
) -> Float[Tensor, "*out n 2"]:
    """Distort normalised image coordinates (x/z, y/z).

    Beyond its turning point (see `turning_radius`) the polynomial folds the outside back into the picture;
    the lens does not see points out there, and they give NaN.

    Source: OpenCV, calib3d, "Detailed Description", with k4..k6 and s1..s4 zero.
    """
    inside = _inside_turn(points, coefficients)
    return torch.where(inside, _brown_conrady(points, coefficients), torch.nan)


def undistort(
    points: Float[Tensor, "*#batch n 2"], coefficients: Float[Tensor, "*#batch 5"]
) -> Float[Tensor, "*out n 2"]:
    """Invert `distort` by Newton's method.

    Points beyond the image of the turning point have no inverse and come back as NaN, not as a root on the
    wrong branch.
    """
    k1, k2, p1, p2, k3 = coefficients[..., None, :].unbind(-1)
    estimate = points
    for _ in range(UNDISTORT_ITERATIONS):
        x, y = estimate.unbind(-1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = 2 * (k1 + r2 * (2 * k2 + 3 * r2 * k3))
        j00 = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
        j11 = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
        j01 = x * y * slope + 2 * p1 * x + 2 * p2 * y
        dx, dy = (_brown_conrady(estimate, coefficients) - points).unbind(-1)
        step = torch.stack([j11 * dx - j01 * dy, j00 * dy - j01 * dx], dim=-1)
        estimate = estimate - step / (j00 * j11 - j01 * j01)[..., None]
    tolerance = 1e-5 if points.dtype == torch.float32 else 1e-10
    error = (_brown_conrady(estimate, coefficients) - points).abs().amax(-1, keepdim=True)
    return torch.where((error < tolerance) & _inside_turn(estimate, coefficients), estimate, torch.nan)


def turning_radius(coefficients: Float[Tensor, "*batch 5"]) -> Float[Tensor, "*batch"]:
    """Radius in normalised coordinates where the radial polynomial stops growing; infinite if it never does.

    That is the first positive zero of d/dr r (1 + k1 r^2 + k2 r^4 + k3 r^6). In u = 1/r^2 it is the largest
    zero of u^3 + 3 k1 u^2 + 5 k2 u + 7 k3, which leads with 1 whatever the coefficients: the largest real
    eigenvalue of its companion matrix. The tangential terms are too small to move it noticeably.
    """
    k1, k2, _, _, k3 = coefficients.detach().double().unbind(-1)
    companion = torch.zeros(*k1.shape, 3, 3, dtype=torch.float64, device=k1.device)
    companion[..., 0, :] = -torch.stack([3 * k1, 5 * k2, 7 * k3], dim=-1)
    companion[..., 1, 0] = companion[..., 2, 1] = 1
    zeros = cast(Tensor, torch.linalg.eigvals(companion))  # pyright: ignore[reportUnknownMemberType]
    is_real = zeros.imag.abs() <= 1e-7 * (1 + zeros.real.abs())
    largest = torch.where(is_real, zeros.real, 0).amax(-1)
    return torch.where(largest > MAX_RADIUS**-2, largest.rsqrt(), torch.inf).to(coefficients)


def _inside_turn(points: Tensor, coefficients: Tensor) -> Tensor:
    """Whether points lie inside the turning radius, (..., n, 1)."""
    return torch.hypot(points[..., :1], points[..., 1:]) < turning_radius(coefficients)[..., None, None]


def _brown_conrady(points: Tensor, coefficients: Tensor) -> Tensor:
    """The bare polynomial, whose values beyond the turning point mean nothing."""
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
