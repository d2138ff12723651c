"""Real spherical harmonics up to degree 3, with the signs and the order of 3D Gaussian splatting files."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

SH_C0 = 0.28209479177387814  # 1 / (2 sqrt(pi)): the constant of degree 0
SH_C1 = 0.4886025119029199
SH_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
SH_C3 = (
    -0.5900435899266435,
    2.890611442640554,
    -0.4570457994644658,
    0.3731763325901154,
    -0.4570457994644658,
    1.445305721320277,
    -0.5900435899266435,
)


def rgb_from_dc(dc: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Colour of a degree-0 coefficient; not clamped."""
    return dc * SH_C0 + 0.5


def dc_from_rgb(rgb: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Degree-0 coefficient of a colour."""
    return (rgb - 0.5) / SH_C0


def sh_degree(num_bases: int) -> int:
    """The degree of 1, 4, 9 or 16 bases.

    Raises:
        ValueError: For any other number.
    """
    if num_bases not in (1, 4, 9, 16):
        raise ValueError(f"spherical harmonics of degree 0 to 3 have 1, 4, 9 or 16 bases, found {num_bases}")
    return math.isqrt(num_bases) - 1


def sh_basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch k"]:
    """Values of the (degree + 1)^2 bases at unit directions that point from the camera to the Gaussian."""
    x, y, z = directions.unbind(-1)
    bases = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        bases += [-SH_C1 * y, SH_C1 * z, -SH_C1 * x]
    if degree >= 2:
        bases += [
            SH_C2[0] * x * y,
            SH_C2[1] * y * z,
            SH_C2[2] * (2 * z * z - x * x - y * y),
            SH_C2[3] * x * z,
            SH_C2[4] * (x * x - y * y),
        ]
    if degree >= 3:
        bases += [
            SH_C3[0] * y * (3 * x * x - y * y),
            SH_C3[1] * x * y * z,
            SH_C3[2] * y * (4 * z * z - x * x - y * y),
            SH_C3[3] * z * (2 * z * z - 3 * x * x - 3 * y * y),
            SH_C3[4] * x * (4 * z * z - x * x - y * y),
            SH_C3[5] * z * (x * x - y * y),
            SH_C3[6] * x * (x * x - 3 * y * y),
        ]
    return torch.stack(bases, dim=-1)


def eval_sh(sh: Float[Tensor, "*batch k 3"], directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Colour seen along unit directions: max(SH + 0.5, 0), as 3D Gaussian splatting defines it."""
    basis = sh_basis(directions, sh_degree(sh.shape[-2]))
    return ((basis[..., None] * sh).sum(-2) + 0.5).clamp_min(0)


def rotate_sh(sh: Float[Tensor, "*batch k 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "*batch k 3"]:
    """Coefficients of the same appearance after the scene is turned: f'(R d) = f(d).

    The bases of each degree span a space that rotations leave invariant, so the matrix between coefficients
    follows exactly, by least squares, from the bases' values at more directions than there are bases. No
    gradient flows to the rotation.
    """
    degree = sh_degree(sh.shape[-2])
    if degree == 0:
        return sh
    directions = _fibonacci_directions(64)
    turned = directions @ rotation.detach().double().cpu().mT
    new_from_old = torch.pinverse(sh_basis(turned, degree)) @ sh_basis(directions, degree)
    return torch.einsum("kl,...lc->...kc", new_from_old.to(sh), sh)


def _fibonacci_directions(count: int) -> Float[Tensor, "count 3"]:
    """Unit vectors spread evenly over the sphere, float64."""
    steps = torch.arange(count, dtype=torch.float64)
    heights = 1 - (2 * steps + 1) / count
    angles = steps * math.pi * (3 - math.sqrt(5))
    radii = (1 - heights.square()).sqrt()
    return torch.stack([radii * angles.cos(), radii * angles.sin(), heights], dim=-1)
