"""Fur: a posed body becomes oriented Gaussians, hairs over an opaque skin, with the light baked into their colour."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.geometry import Gaussians
from mouselift.geometry.sh import dc_from_rgb
from mouselift.synth.body import BARE_REGIONS, Body, PosedBody, Region, along_surface, normalise
from mouselift.synth.coat import Coat, srgb_from_linear, vertex_albedo
from mouselift.synth.light import Lights, irradiance

SKIN_DENSITY = {  # Gaussians of skin per unit of area, relative
    Region.EAR: 3.0, Region.TAIL: 6.0, Region.FOOT: 7.0, Region.NOSE: 8.0, Region.EYE: 14.0,
    Region.FACE: 1.6, Region.WHISKER_PAD: 2.0,
}  # fmt: skip
LUMINANCE = np.array([0.30, 0.45, 0.25], dtype=np.float32)  # of a silicon camera under white or infra-red light


@dataclass(frozen=True, kw_only=True)
class FurConfig:
    """How much fur, and of what kind.

    Attributes:
        num_hairs: Hairs on the whole animal.
        num_skin: Discs of the opaque skin.
        num_whiskers: On each side of the snout.
        length: Factor on the body's hair length.
        lift: How far hair stands off the skin: 0 lies flat, 1 stands up.
        clumping: How much neighbouring hairs lean together.
    """

    num_hairs: int = 42_000
    num_skin: int = 16_000
    num_whiskers: int = 9
    length: float = 1.0
    lift: float = 0.16
    clumping: float = 0.10

    def __post_init__(self) -> None:
        if self.num_hairs < 0 or self.num_skin < 1 or self.num_whiskers < 0:
            raise ValueError("fur needs num_hairs >= 0, num_skin >= 1 and num_whiskers >= 0")
        if not (0 <= self.lift <= 1 and self.length >= 0):
            raise ValueError(f"fur needs lift in [0, 1] and length >= 0, found {self.lift=} {self.length=}")


@dataclass(frozen=True)
class _Points:
    """Random points on the skin with what the vertices around them say."""

    position: np.ndarray
    normal: np.ndarray
    flow: np.ndarray
    light: np.ndarray
    albedo: np.ndarray
    key_free: np.ndarray
    fur_mm: np.ndarray
    region: np.ndarray
    rest: np.ndarray
    area_mm2: np.ndarray  # skin that each point stands for


def grow_fur(
    body: Body, posed: PosedBody, coat: Coat, lights: Lights, config: FurConfig, rng: np.random.Generator
) -> Gaussians:
    """Cover a posed body with skin, hair and whiskers.

    Returns:
        Gaussians in the frame and unit of `posed` (mm), SH degree 0, colours final sRGB.
    """
    light, key_free = irradiance(posed.vertices, posed.normals, lights)
    vertex = {
        "position": posed.vertices, "normal": posed.normals, "flow": posed.flow, "rest": body.vertices,
        "light": light, "albedo": vertex_albedo(coat, body),
        "key_free": key_free[:, None], "fur_mm": body.fur_mm[:, None],
    }  # fmt: skip
    table = np.concatenate(list(vertex.values()), axis=1).astype(np.float32)
    columns = np.cumsum([0, *(values.shape[1] for values in vertex.values())])
    slices = {name: slice(a, b) for name, a, b in zip(vertex, columns[:-1], columns[1:], strict=True)}
    areas = _face_areas(posed.vertices, body.faces)
    regions = body.regions[body.faces[:, 0]]
    furred = ~np.isin(regions, BARE_REGIONS) | (regions == Region.EAR)

    density = np.array([SKIN_DENSITY.get(region, 1.0) for region in Region])[regions]
    skin = _sample_points(body, table, slices, areas, density, config.num_skin, rng)
    hair_density = np.where(regions == Region.EAR, 0.5, np.where(regions == Region.FACE, 1.6, 1.0)) * furred
    hair = _sample_points(body, table, slices, areas, hair_density, config.num_hairs, rng)
    parts = [_skin(skin, coat, lights), _hairs(hair, coat, lights, config, rng)]
    if config.num_whiskers:
        parts.append(_whiskers(body, posed, coat, lights, config, rng))
    return Gaussians.cat(parts)


def _face_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def _sample_points(
    body: Body,
    table: Float[np.ndarray, "n c"],
    slices: dict[str, slice],
    areas: Float[np.ndarray, "f"],
    density: Float[np.ndarray, "f"],
    count: int,
    rng: np.random.Generator,
) -> _Points:
    """Stratified random points on the faces, as many per area as `density` asks."""
    mass = np.cumsum(areas * density)
    strata = (np.arange(count) + rng.random(count)) / count * mass[-1]
    face = np.minimum(np.searchsorted(mass, strata), len(areas) - 1)
    u, v = rng.random((2, count)).astype(np.float32)
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    corners = body.faces[face]
    values = (
        table[corners[:, 0]] * (1 - u - v)[:, None]
        + table[corners[:, 1]] * u[:, None]
        + table[corners[:, 2]] * v[:, None]
    )
    get = {name: values[:, where] for name, where in slices.items()}
    normal = normalise(get["normal"])
    return _Points(
        position=get["position"],
        normal=normal,
        flow=along_surface(get["flow"], normal),
        light=get["light"],
        albedo=get["albedo"],
        key_free=get["key_free"][:, 0],
        fur_mm=get["fur_mm"][:, 0],
        region=body.regions[corners[:, 0]],
        rest=get["rest"],
        area_mm2=(mass[-1] / count / np.maximum(density[face], 1e-6)).astype(np.float32),
    )


def _skin(points: _Points, coat: Coat, lights: Lights) -> Gaussians:
    """Opaque discs that close the surface; bare parts and eyes are seen, the rest shows only between hairs."""
    furred = ~np.isin(points.region, BARE_REGIONS)
    radius = np.where(furred, 0.62, 0.78) * np.sqrt(points.area_mm2)
    thickness = np.minimum(0.12, 0.3 * radius)
    halfway = normalise(points.normal + lights.key_direction)
    shine = np.clip((points.normal * halfway).sum(-1), 0, 1)
    colour = points.albedo * points.light
    colour[furred] *= 0.55  # between the hairs it is darker
    eye = points.region == Region.EYE
    facing = np.clip((points.normal @ normalise(lights.key_direction + np.array([0, 0, 0.6])) - 0.86) / 0.08, 0, 1)
    gloss = np.where(eye, 0.9 * facing + 0.03, np.where(furred, 0.0, 0.05 * shine**12)) * (0.3 + 0.7 * points.key_free)
    translucent = (points.region == Region.EAR)[:, None] * points.albedo * [0.30, 0.12, 0.10] * lights.key
    colour = colour + gloss[:, None] + translucent
    centre = points.position - points.normal * np.where(furred, 0.25, thickness)[:, None]
    return _gaussians(centre, points.normal, thickness, radius, np.full_like(radius, 0.97), colour, lights)


def _hairs(points: _Points, coat: Coat, lights: Lights, config: FurConfig, rng: np.random.Generator) -> Gaussians:
    """Guard and under hair: thin Gaussians that lean with the flow and lift off the skin."""
    count = len(points.position)
    noise = rng.random((5, count), dtype=np.float32)
    length = points.fur_mm * config.length * (0.6 + 0.65 * noise[0])
    ear = points.region == Region.EAR
    lift = np.where(ear, 0.15, config.lift) * (0.4 + 1.2 * noise[1])
    clump = np.sin(points.rest @ _CLUMP_FREQUENCIES) @ (config.clumping * _CLUMP_MIX)
    lean = (
        points.flow + points.normal * lift[:, None] + clump + 0.10 * rng.standard_normal((count, 3), dtype=np.float32)
    )
    along = normalise(lean)
    inwards = 0.03 - (along * points.normal).sum(-1, keepdims=True)
    along = normalise(along + points.normal * np.maximum(inwards, 0))
    root = (0.10 * noise[2] * length)[:, None] * points.normal
    centre = points.position + root + along * (0.42 * length)[:, None]
    width = np.where(ear, 0.08, 0.13) * (0.8 + 0.5 * noise[3])

    tangent = along @ lights.key_direction
    scatter = np.sqrt(np.clip(1 - tangent**2, 0, 1))  # Kajiya and Kay, 1989
    facing = np.clip(points.normal @ lights.key_direction, 0, 1)
    depth_shade = 0.72 + 0.38 * noise[4]
    ticked = np.exp(rng.standard_normal(count, dtype=np.float32) * coat.ticking - 0.5 * coat.ticking**2)
    colour = points.albedo * points.light * (depth_shade * ticked * (0.80 + 0.30 * scatter))[:, None]
    sheen = 0.022 * lights.key * scatter**24 * facing * points.key_free
    return _gaussians(
        centre, along, 0.34 * length + 0.05, width, np.where(ear, 0.25, 0.80), colour + sheen[:, None], lights
    )


_CLUMP_FREQUENCIES = np.random.default_rng(5).normal(0, 1.1, (3, 12)).astype(np.float32)  # a fixed, arbitrary pattern
_CLUMP_MIX = (np.random.default_rng(6).normal(0, 1, (12, 3)) / np.sqrt(6)).astype(np.float32)


def _whiskers(
    body: Body, posed: PosedBody, coat: Coat, lights: Lights, config: FurConfig, rng: np.random.Generator
) -> Gaussians:
    """Long curved vibrissae from the pads beside the nose, each a chain of thin Gaussians."""
    pads = np.flatnonzero(body.regions == Region.WHISKER_PAD)
    segments, chains = 4, []
    for sign in (1.0, -1.0):
        roots = pads[sign * body.vertices[pads, 1] > 0]
        for root in rng.choice(roots, size=min(config.num_whiskers, len(roots)), replace=False):
            start = posed.vertices[root]
            heading = normalise(posed.normals[root] + 0.55 * posed.flow[root] + rng.normal(0, 0.15, 3))
            bend = 0.16 * posed.flow[root] + [0, 0, rng.uniform(-0.06, 0.02)]
            step = rng.uniform(14, 26) / segments
            for k in range(segments):
                chains.append((start + heading * step / 2, heading, step, k))
                start = start + heading * step
                heading = normalise(heading + bend)
    centre = np.array([c for c, _, _, _ in chains], dtype=np.float32)
    along = np.array([h for _, h, _, _ in chains], dtype=np.float32)
    length = np.array([s for _, _, s, _ in chains])
    order = np.array([k for _, _, _, k in chains])
    pale = 0.10 + 0.5 * np.mean(vertex_albedo(coat, body)[pads], axis=0)
    thin = np.full(len(length), 0.06)
    return _gaussians(centre, along, 0.36 * length, thin, 0.20 - 0.035 * order, np.tile(pale, (len(length), 1)), lights)


def _gaussians(
    centre: Float[np.ndarray, "n 3"],
    axis: Float[np.ndarray, "n 3"],
    along: Float[np.ndarray, "n"],
    across: Float[np.ndarray, "n"],
    opacities: Float[np.ndarray, "n"],
    linear: Float[np.ndarray, "n 3"],
    lights: Lights,
) -> Gaussians:
    """Gaussians that are round about an axis: hairs along it, discs across it. Colours are linear light."""
    light = np.clip(linear * lights.exposure, 0, None)
    if lights.grey:
        light = np.repeat((light @ LUMINANCE)[:, None], 3, axis=1)
    return Gaussians(
        means=_tensor(centre),
        quats=_tensor(_quats_to(axis)),
        scales=_tensor(np.stack([along, across, across], axis=-1)),
        opacities=_tensor(opacities),
        sh=dc_from_rgb(_tensor(srgb_from_linear(light)))[:, None, :],
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _quats_to(axis: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4"]:
    """Unit quaternions (w, x, y, z) of the smallest rotations that turn +X onto unit vectors."""
    x, y, z = axis.T
    quats = np.stack([1 + x, np.zeros_like(x), -z, y], axis=-1)
    quats[x < -0.9999] = (0, 0, 0, 1)  # half a turn about +Z
    return quats / np.linalg.norm(quats, axis=-1, keepdims=True)
