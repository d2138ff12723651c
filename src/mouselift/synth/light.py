"""Light on fur: a key, a fill and an ambient light, with self-shadow from coarse depth maps. All in linear light."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mouselift.body.mesh import normalise

SHADOW_CELL_MM = 2.5
SHADOW_SOFTNESS_MM = 5.0


@dataclass(frozen=True, kw_only=True)
class Lights:
    """Lamps of one picture.

    Attributes:
        key_direction: Unit, from the animal towards the lamp.
        key: Strength of the key light.
        fill_direction: Unit, towards the weaker lamp.
        fill: Its strength.
        sky: Ambient light from above.
        ground: Light thrown back by the floor.
        tint: Colour of the key light, RGB around 1.
        exposure: Factor on everything.
        grey: Whether the camera sees infra-red, without colour.
    """

    key_direction: Float[np.ndarray, "3"]
    key: float
    fill_direction: Float[np.ndarray, "3"]
    fill: float
    sky: float
    ground: float
    tint: Float[np.ndarray, "3"]
    exposure: float
    grey: bool


def direction(azimuth_rad: float, elevation_rad: float) -> Float[np.ndarray, "3"]:
    """Unit vector at an azimuth about +Z and an elevation above the plane."""
    flat = np.cos(elevation_rad)
    return np.array([flat * np.cos(azimuth_rad), flat * np.sin(azimuth_rad), np.sin(elevation_rad)], dtype=np.float32)


def sample_lights(rng: np.random.Generator, grey_share: float) -> Lights:
    """Laboratory light: mostly from above, from a hard lamp to a softly lit room."""
    key_azimuth = rng.uniform(0, 2 * np.pi)
    hardness = rng.uniform(0.15, 0.75)
    warmth = rng.normal(0, 0.05)
    return Lights(
        key_direction=direction(key_azimuth, np.deg2rad(rng.uniform(25, 85))),
        key=1.5 * hardness,
        fill_direction=direction(key_azimuth + np.pi + rng.normal(0, 0.7), np.deg2rad(rng.uniform(5, 50))),
        fill=float(rng.uniform(0.1, 0.35)),
        sky=1.15 * (1 - hardness) + 0.25,
        ground=float(rng.uniform(0.08, 0.40)),
        tint=np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32),
        exposure=float(np.exp(rng.normal(0.10, 0.22))),
        grey=bool(rng.random() < grey_share),
    )


def visibility(vertices: Float[np.ndarray, "n 3"], towards: Float[np.ndarray, "3"]) -> Float[np.ndarray, "n"]:
    """How freely each vertex sees a distant lamp, 0 to 1, from one orthographic depth map of the vertices."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(towards[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = normalise(np.cross(towards, helper))
    plane = vertices @ np.stack([right, np.cross(right, towards)], axis=1)
    cells = ((plane - plane.min(0)) / SHADOW_CELL_MM).astype(np.int64) + 1
    width, height = cells.max(0) + 2
    flat = cells[:, 0] * height + cells[:, 1]
    depth = vertices @ towards
    nearest = np.full(width * height, -np.inf)
    order = np.argsort(depth)
    nearest[flat[order]] = depth[order]  # the last write, the vertex nearest to the lamp, stays
    free = np.zeros(len(vertices))
    for step in (0, 1, -1, height, -height):  # neighbours soften the edge
        behind = nearest[flat + step] - depth
        free += np.clip(1.3 - behind / SHADOW_SOFTNESS_MM, 0, 1)
    return free / 5


def irradiance(
    vertices: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"], lights: Lights
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    """Light that arrives at each vertex, and the share of the key light that reaches it."""
    key_free = visibility(vertices, lights.key_direction)
    sky_free = _sky_visibility(vertices)
    up = 0.5 + 0.5 * normals[:, 2]
    height = np.clip((vertices[:, 2] - vertices[:, 2].min()) / 18.0, 0, 1)
    ambient = lights.sky * up * sky_free + lights.ground * (1 - up) * (0.35 + 0.65 * height)
    facing_key = np.clip(0.25 + 0.75 * normals @ lights.key_direction, 0, 1)  # wrapped: fur scatters round the edge
    facing_fill = np.clip(0.35 + 0.65 * normals @ lights.fill_direction, 0, 1)
    neutral = ambient + lights.fill * facing_fill * (0.4 + 0.6 * sky_free)
    return neutral[:, None] + (lights.key * key_free * facing_key)[:, None] * lights.tint, key_free


def _sky_visibility(vertices: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    """Share of the sky that each vertex sees, from the zenith and five directions around it."""
    ring = [direction(2 * np.pi * k / 5, np.deg2rad(35)) for k in range(5)]
    zenith = np.array([0.0, 0.0, 1.0], dtype=np.float32)
    return (2 * visibility(vertices, zenith) + sum(visibility(vertices, towards) for towards in ring)) / 7
