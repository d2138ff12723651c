"""Where the subject of a scene lies and how large it is, for cameras that shall frame it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.geometry import Gaussians

SUBJECT_SHARE = 0.98  # of the paint: nearly invisible strays do not push the camera away, a thin tail counts
SMALLEST_RADIUS = 1e-3
ALIKE = 2.0  # radii that differ by less may share one camera


@dataclass(frozen=True, kw_only=True)
class Extent:
    """A ball around what can be seen, in the units of the Gaussians.

    Attributes:
        centre: Its middle.
        radius: > 0.
    """

    centre: Float[Tensor, "3"]
    radius: float


def extent_of(scenes: Sequence[Gaussians]) -> Extent:
    """The ball that holds most of what can be seen of one scene, or of all instants of a sequence.

    A Gaussian counts as much as it can paint: its opacity times its largest cross-section. The centre is the middle of
    a box around them, so that tail and nose are equally far from the picture's edge.

    Args:
        scenes: At least one, without batch dimension, in one frame.
    """
    points = np.concatenate([scene.means.detach().cpu().numpy() for scene in scenes]).astype(np.float64)
    paint = np.concatenate([_paint(scene) for scene in scenes])
    if not paint.sum() > 0:
        return Extent(centre=torch.zeros(3), radius=1.0)
    ends = [
        [_weighted_quantile(axis, paint, share) for share in (1 - SUBJECT_SHARE, SUBJECT_SHARE)] for axis in points.T
    ]
    centre = np.mean(ends, axis=1)
    radius = _weighted_quantile(np.linalg.norm(points - centre, axis=-1), paint, SUBJECT_SHARE)
    return Extent(centre=torch.from_numpy(centre).float(), radius=max(radius, SMALLEST_RADIUS))


def aligned(extents: Sequence[Extent]) -> list[Extent]:
    """One extent for all, if they are of one place and size, so that models stay comparable; else those given."""
    first = extents[0]
    for extent in extents:
        apart = float((extent.centre - first.centre).norm())
        if apart > first.radius or not 1 / ALIKE < extent.radius / first.radius < ALIKE:
            return list(extents)
    centre = torch.stack([extent.centre for extent in extents]).mean(dim=0)
    return [Extent(centre=centre, radius=max(extent.radius for extent in extents))] * len(extents)


def _paint(scene: Gaussians) -> Float[np.ndarray, "n"]:
    scales = scene.scales.detach().cpu().double().sort(dim=-1).values
    return (scene.opacities.detach().cpu().double() * scales[:, 1] * scales[:, 2]).numpy()


def _weighted_quantile(values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"], share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, share * reached[-1])])
