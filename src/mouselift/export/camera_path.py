"""Camera paths of films, for Gaussians of any place, size and unit."""

import math
from collections.abc import Sequence
from typing import Literal

import torch

from mouselift.export.extent import extent_of
from mouselift.geometry import Cameras, Gaussians, Similarity
from mouselift.geometry.rigs import MOUSE_FOV_DEG, MOUSE_RIG_ELEVATION_DEG, fly_around, turntable

MARGIN = 1.1  # empty space around the subject
Path = Literal["turntable", "fly"]


def framed(scenes: Sequence[Gaussians]) -> list[Gaussians]:
    """The same instants moved and scaled together, so that the subject fills the unit ball.

    Cameras can then stand where they always do, and the renderer's near plane, which is a length, cuts nothing.

    Args:
        scenes: At least one, without batch dimension, in one frame.
    """
    extent = extent_of(scenes)
    scale = torch.tensor(1 / extent.radius)
    to_ball = Similarity(scale=scale, rotation=torch.eye(3), translation=-scale * extent.centre)
    return [scene.transformed(to_ball) for scene in scenes]


def cameras_along(
    path: Path,
    num_views: int,
    *,
    size_px: int,
    elevation_deg: float = MOUSE_RIG_ELEVATION_DEG,
    fov_deg: float = MOUSE_FOV_DEG,
) -> Cameras:
    """Cameras that frame the unit ball, once around it.

    Args:
        path: "turntable", a level circle, or "fly", which rises, dives and comes closer.
        num_views: How many; the end is not repeated.
        size_px: Width and height.
        elevation_deg: Of a turntable.
        fov_deg: Field of view.
    """
    distance = MARGIN / math.sin(math.radians(fov_deg) / 2)
    if path == "fly":
        return fly_around(num_views, radius=distance, fov_deg=fov_deg, size_px=size_px)
    return turntable(num_views, elevation_deg=elevation_deg, radius=distance, fov_deg=fov_deg, size_px=size_px)
