"""Gaussians as the viewer's page reads them: three textures, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mouselift.geometry import Gaussians
from mouselift.geometry.sh import SH_C0, sh_degree
from mouselift.geometry.transforms import quat_to_rotmat

HALF_MAX = float(np.finfo("<f2").max)
COVARIANCE_STEP = 2.0**-14  # half floats then hold scales of 6e-5 to 2 largest ones with three digits
LENGTH_QUANTILE = 0.999  # of the scales: what is twice as large is drawn as large as fits
HARMONIC_QUANTILE = 0.999  # of the magnitudes of coefficients: strays do not coarsen the rest
BYTES_BY_DEGREE = (28, 44, 60, 76)


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What the numbers of a model's textures mean, the same for all its frames.

    Attributes:
        covariance_unit: Square of the Gaussians' unit that 1 stands for.
        degree: Of the spherical harmonics, 0 to 3.
        harmonic_unit: Value of a coefficient that 1 of 127 steps stands for.
    """

    covariance_unit: float
    degree: int
    harmonic_unit: float

    @property
    def bytes_per_gaussian(self) -> int:
        """Of `pack`."""
        return BYTES_BY_DEGREE[self.degree]


def packing_of(frames: Sequence[Gaussians]) -> Packing:
    """A packing that suits all frames of a model; those of a lower degree are filled up with zeros."""
    degree = max(sh_degree(frame.sh.shape[-2]) for frame in frames)
    largest = max(_quantile(frame.scales, LENGTH_QUANTILE) for frame in frames)
    steps = max(_quantile(_harmonics(frame, degree).abs(), HARMONIC_QUANTILE) for frame in frames) if degree else 0.0
    return Packing(
        covariance_unit=max(largest, 1e-12) ** 2 * COVARIANCE_STEP, degree=degree, harmonic_unit=max(steps, 1e-6) / 127
    )


def pack(gaussians: Gaussians, packing: Packing) -> bytes:
    """The bytes of one frame.

    Mean and RGBA (16 bytes a Gaussian), then the covariance's upper half (12), then 16 bytes for each degree of the
    spherical harmonics, the colours of one basis together. Basis 0 holds what RGBA, which lies in [0, 1], leaves out.

    Args:
        gaussians: No batch dimension.
        packing: Of the model that it belongs to.
    """
    scene = gaussians.detach().to("cpu", torch.float32)
    largest = (packing.covariance_unit * HALF_MAX) ** 0.5
    axes = quat_to_rotmat(scene.quats) * scene.scales.clamp(max=largest)[..., None, :]
    covariances = (axes @ axes.mT / packing.covariance_unit)[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]
    first = np.empty(len(scene), dtype=[("mean", "<f4", 3), ("rgba", "u1", 4)])
    first["mean"] = scene.means.numpy()
    rgba = torch.cat([scene.rgb, scene.opacities[:, None]], dim=-1)
    first["rgba"] = rgba.clamp(0, 1).mul(255).round().byte().numpy()
    blocks = [first.tobytes(), covariances.clamp(-HALF_MAX, HALF_MAX).numpy().astype("<f2").tobytes()]
    if packing.degree:
        steps = (_harmonics(scene, packing.degree) / packing.harmonic_unit).round().clamp(-127, 127)
        padded = np.zeros((len(scene), 16 * packing.degree), dtype="i1")
        flat = steps.flatten(1).to(torch.int8).numpy()
        padded[:, : flat.shape[1]] = flat
        blocks.append(padded.tobytes())
    return b"".join(blocks)


def _harmonics(scene: Gaussians, degree: int) -> torch.Tensor:
    """(N, K, 3) coefficients; basis 0 is what is left of it when colours are cut off at 0 and 1."""
    sh = scene.sh.detach().to("cpu", torch.float32)
    rgb = scene.rgb.detach().to("cpu", torch.float32)
    left = ((rgb - rgb.clamp(0, 1)) / SH_C0)[:, None]
    missing = sh.new_zeros(len(sh), (degree + 1) ** 2 - sh.shape[1], 3)
    return torch.cat([left, sh[:, 1:], missing], dim=1)


def _quantile(values: torch.Tensor, share: float) -> float:
    found = values.detach().cpu().flatten().numpy()
    return float(np.quantile(found, share)) if len(found) else 0.0
