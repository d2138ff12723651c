"""Where several cameras see one thing: what separates an animal from its mirror image and from bright bedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.data.components import Window
from mouselift.data.segmentation.parts import Part
from mouselift.data.subject import nearest_to_lines
from mouselift.geometry import Cameras

NEAR = 0.6  # of half the diagonal of a part's bounds: how far from its centre the animal's centre may project


@dataclass(frozen=True, kw_only=True, eq=False)
class Consensus:
    """A place in the world that parts of several masks show.

    Attributes:
        centre: World, mm.
        chosen: Of each camera, the number of the part that shows it; None where no part does.
    """

    centre: Float[Tensor, "3"]
    chosen: tuple[int | None, ...]


def find_consensus(parts: Sequence[Sequence[Part]], cameras: Sequence[Cameras]) -> Consensus | None:
    """The world point that parts in the most cameras show; of several, the one with the weightiest parts.

    Every pair of parts in two cameras proposes the point nearest to the rays through their centres. A mirror image
    proposes points too, but other cameras do not see anything there.

    Args:
        parts: Of each camera.
        cameras: (1,) each, in the world.

    Returns:
        None when no more than half of the cameras agree on anything: any two of them may by chance.
    """
    rays = [_rays(found, camera) for found, camera in zip(parts, cameras, strict=True)]
    best: tuple[tuple[int, float], Consensus] | None = None
    for a, b in combinations(range(len(cameras)), 2):
        for i, j in np.ndindex(len(parts[a]), len(parts[b])):
            point = nearest_to_lines(
                torch.stack([cameras[a].centres[0], cameras[b].centres[0]]), torch.stack([rays[a][i], rays[b][j]])
            )
            chosen = [_nearest(found, camera, point) for found, camera in zip(parts, cameras, strict=True)]
            count = sum(number is not None for number in chosen)
            if chosen[a] != i or chosen[b] != j or count <= len(cameras) / 2:
                continue
            weight = sum(
                found[number].weight for found, number in zip(parts, chosen, strict=True) if number is not None
            )
            if best is None or (count, weight) > best[0]:
                best = (count, weight), Consensus(centre=point, chosen=tuple(chosen))
    return None if best is None else best[1]


def ball_box(camera: Cameras, centre: Float[Tensor, "3"], radius: float) -> Window | None:
    """Bounds of a ball's image in a picture; None where the camera does not have it in sight."""
    x, y = camera.project(centre[None])[0, 0].tolist()
    depth = float(camera.to_camera(centre[None])[0, 0, 2])
    if not (0 <= x < camera.width and 0 <= y < camera.height) or depth <= radius:
        return None
    half = float(camera.K[0, 0, 0]) * radius / depth
    return (
        max(round(x - half), 0),
        max(round(y - half), 0),
        min(round(x + half) + 1, camera.width),
        min(round(y + half) + 1, camera.height),
    )


def _rays(parts: Sequence[Part], camera: Cameras) -> Float[Tensor, "n 3"]:
    pixels = torch.from_numpy(np.array([part.centre for part in parts]).reshape(1, -1, 2))
    ends = camera.unproject(pixels, torch.ones(1, len(parts), dtype=torch.float64))[0]
    return ends - camera.centres


def _nearest(parts: Sequence[Part], camera: Cameras, point: Float[Tensor, "3"]) -> int | None:
    """The part whose centre is nearest to the point's image, in its own size, if it is near enough."""
    pixel = camera.project(point[None])[0, 0].numpy()
    distances = [float(np.linalg.norm(part.centre - pixel)) / part.size_px for part in parts]  # NaN: not in sight
    near = [number for number, distance in enumerate(distances) if distance < NEAR]
    return min(near, key=distances.__getitem__, default=None)
