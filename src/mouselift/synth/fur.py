"""Fur: a posed body becomes oriented Gaussians, hairs over an opaque skin, with the light baked into their colour."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mouselift.body.mesh import BARE_REGIONS, Body, PosedBody, Region, along_surface, normalise
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import dc_from_rgb
from mouselift.synth.coat import Coat, linear_from_srgb, srgb_from_linear, vertex_albedo
from mouselift.synth.light import Lights, irradiance

SKIN_DENSITY = {  # Gaussians of skin per unit of area, relative
    Region.EAR: 3.0, Region.TAIL: 6.0, Region.FOOT: 7.0, Region.NOSE: 8.0, Region.EYE: 14.0,
    Region.FACE: 1.6, Region.WHISKER_PAD: 2.0,
}  # fmt: skip
HAIR_DENSITY = dict.fromkeys(BARE_REGIONS, 0.0) | {Region.EAR: 0.5, Region.FACE: 1.6}
WHISKER_SEGMENTS = 4
CLUMP_MM = 0.9  # hairs closer than about this lean together
ALBEDO = slice(15, 18)  # columns of a surface's table
SEEN_TICKING = 0.10  # how much hairs differ where the colour comes from a picture
NO_LAMPS = Lights(
    key_direction=np.array([0.0, 0.0, 1.0], dtype=np.float32),
    key=0.0,
    fill_direction=np.array([0.0, 0.0, 1.0], dtype=np.float32),
    fill=0.0,
    sky=1.0,
    ground=1.0,
    tint=np.ones(3, dtype=np.float32),
    exposure=1.0,
    grey=False,
)
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


@dataclass(frozen=True, kw_only=True)
class _Points:
    """Random points on the skin, with what the vertices around them say."""

    position: Float[np.ndarray, "n 3"]
    normal: Float[np.ndarray, "n 3"]
    flow: Float[np.ndarray, "n 3"]
    rest: Float[np.ndarray, "n 3"]  # where the point lies in rest pose, mm
    light: Float[np.ndarray, "n 3"]
    albedo: Float[np.ndarray, "n 3"]
    key_free: Float[np.ndarray, "n"]  # share of the key light that arrives
    fur_mm: Float[np.ndarray, "n"]
    region: Int[np.ndarray, "n"]
    area_mm2: Float[np.ndarray, "n"]  # skin that each point stands for


class _Surface:
    """A lit, posed skin on which points can be scattered."""

    def __init__(
        self,
        body: Body,
        posed: PosedBody,
        albedo: Float[np.ndarray, "n 3"],
        light: Float[np.ndarray, "n 3"],
        key_free: Float[np.ndarray, "n"],
    ) -> None:
        scalars = np.stack([key_free, body.fur_mm], axis=1)
        columns = [posed.vertices, posed.normals, posed.flow, body.vertices, light, albedo, scalars]
        self.table = np.concatenate(columns, axis=1).astype(np.float32)  # (N, 20)
        self.faces, self.regions = body.faces, body.regions
        a, b, c = (posed.vertices[body.faces[:, k]] for k in range(3))
        self.face_areas = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
        self.face_regions = body.regions[body.faces[:, 0]]

    def scatter(self, density: Float[np.ndarray, "f"], count: int, rng: np.random.Generator) -> _Points:
        """Stratified random points on the faces, as many per area as `density` asks (relative)."""
        mass = np.cumsum(self.face_areas * density)
        strata = (np.arange(count) + rng.random(count)) / count * mass[-1]
        face = np.minimum(np.searchsorted(mass, strata), len(mass) - 1)
        u, v = rng.random((2, count), dtype=np.float32)
        flip = u + v > 1
        u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
        shares = np.stack([1 - u - v, u, v])
        corners = self.faces[face]
        values = sum(self.table[corners[:, k]] * shares[k][:, None] for k in range(3))
        position, normal, flow, rest, light, albedo, scalars = np.split(values, range(3, 19, 3), axis=1)
        normal = normalise(normal)
        return _Points(
            position=position,
            normal=normal,
            flow=along_surface(flow, normal),
            rest=rest,
            light=light,
            albedo=albedo,
            key_free=scalars[:, 0],
            fur_mm=scalars[:, 1],
            region=self.regions[corners[:, 0]],
            area_mm2=(mass[-1] / count / np.maximum(density[face], 1e-6)).astype(np.float32),
        )


def grow_fur(
    body: Body, posed: PosedBody, coat: Coat, lights: Lights, config: FurConfig, rng: np.random.Generator
) -> Gaussians:
    """Cover a posed body with skin, hair and whiskers.

    Returns:
        Gaussians in the frame and unit of `posed` (mm), SH degree 0, colours final sRGB.
    """
    light, key_free = irradiance(posed.vertices, posed.normals, lights)
    surface = _Surface(body, posed, vertex_albedo(coat, body), light, key_free)
    return _covered(body, posed, surface, lights, coat.ticking, config, rng)


def grow_coloured_fur(
    body: Body, posed: PosedBody, colours: Float[np.ndarray, "n 3"], config: FurConfig, rng: np.random.Generator
) -> Gaussians:
    """Cover a posed body with fur whose colours, light included, are known at every vertex (sRGB in [0, 1]).

    Returns:
        As `grow_fur`.
    """
    ones = np.ones_like(colours)
    surface = _Surface(body, posed, linear_from_srgb(colours), ones, ones[:, 0])
    return _covered(body, posed, surface, NO_LAMPS, SEEN_TICKING, config, rng)


def _covered(
    body: Body,
    posed: PosedBody,
    surface: _Surface,
    lights: Lights,
    ticking: float,
    config: FurConfig,
    rng: np.random.Generator,
) -> Gaussians:
    regions = surface.face_regions
    skin_density = np.array([SKIN_DENSITY.get(region, 1.0) for region in Region])[regions]
    hair_density = np.array([HAIR_DENSITY.get(region, 1.0) for region in Region])[regions]
    parts = [_skin(surface.scatter(skin_density, config.num_skin, rng), lights)]
    if config.num_hairs:
        parts.append(_hairs(surface.scatter(hair_density, config.num_hairs, rng), ticking, lights, config, rng))
    if config.num_whiskers:
        pad_albedo = surface.table[body.regions == Region.WHISKER_PAD, ALBEDO].mean(0)
        parts.append(_whiskers(body, posed, 0.10 + 0.5 * pad_albedo, lights, config.num_whiskers, rng))
    return Gaussians.cat(parts)


def _skin(points: _Points, lights: Lights) -> Gaussians:
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


def _hairs(points: _Points, ticking: float, lights: Lights, config: FurConfig, rng: np.random.Generator) -> Gaussians:
    """Guard and under hair: thin Gaussians that lean with the flow and lift off the skin."""
    count = len(points.position)
    noise = rng.random((5, count), dtype=np.float32)
    length = points.fur_mm * config.length * (0.6 + 0.65 * noise[0])
    ear = points.region == Region.EAR
    lift = np.where(ear, 0.15, config.lift) * (0.4 + 1.2 * noise[1])
    waves = rng.normal(0, 1 / CLUMP_MM, (3, 12)).astype(np.float32)  # a smooth random field, 12 plane waves
    clump = np.sin(points.rest @ waves) @ rng.normal(0, config.clumping / np.sqrt(6), (12, 3)).astype(np.float32)
    stray = 0.10 * rng.standard_normal((count, 3), dtype=np.float32)
    along = normalise(points.flow + points.normal * lift[:, None] + clump + stray)
    inwards = 0.03 - (along * points.normal).sum(-1, keepdims=True)
    along = normalise(along + points.normal * np.maximum(inwards, 0))
    root = (0.10 * noise[2] * length)[:, None] * points.normal
    centre = points.position + root + along * (0.42 * length)[:, None]
    width = np.where(ear, 0.08, 0.13) * (0.8 + 0.5 * noise[3])

    tangent = along @ lights.key_direction
    scatter = np.sqrt(np.clip(1 - tangent**2, 0, 1))  # Kajiya and Kay, 1989
    facing = np.clip(points.normal @ lights.key_direction, 0, 1)
    depth_shade = 0.72 + 0.38 * noise[4]
    ticked = np.exp(rng.standard_normal(count, dtype=np.float32) * ticking - 0.5 * ticking**2)
    colour = points.albedo * points.light * (depth_shade * ticked * (0.80 + 0.30 * scatter))[:, None]
    sheen = 0.022 * lights.key * scatter**24 * facing * points.key_free
    return _gaussians(
        centre, along, 0.34 * length + 0.05, width, np.where(ear, 0.25, 0.80), colour + sheen[:, None], lights
    )


def _whiskers(
    body: Body,
    posed: PosedBody,
    colour: Float[np.ndarray, "3"],
    lights: Lights,
    per_side: int,
    rng: np.random.Generator,
) -> Gaussians:
    """Long curved vibrissae from the pads beside the nose, each a chain of thin Gaussians that fade to the tip."""
    pads = np.flatnonzero(body.regions == Region.WHISKER_PAD)
    sides = [pads[body.vertices[pads, 1] * sign > 0] for sign in (1.0, -1.0)]
    roots = np.concatenate([rng.choice(side, size=min(per_side, len(side)), replace=False) for side in sides])
    flow, count = posed.flow[roots], len(roots)
    heading = normalise(posed.normals[roots] + 0.55 * flow + rng.normal(0, 0.15, (count, 3)))
    bend = 0.16 * flow + np.array([0, 0, 1.0]) * rng.uniform(-0.06, 0.02, (count, 1))
    step = rng.uniform(14, 26, (count, 1)) / WHISKER_SEGMENTS
    start, centres, headings = posed.vertices[roots], [], []
    for _ in range(WHISKER_SEGMENTS):
        centres.append(start + heading * step / 2)
        headings.append(heading)
        start, heading = start + heading * step, normalise(heading + bend)
    length = np.tile(step[:, 0], WHISKER_SEGMENTS)
    opacity = np.repeat(0.20 - 0.035 * np.arange(WHISKER_SEGMENTS), count)
    colours = np.tile(colour, (len(length), 1))
    thin = np.full(len(length), 0.06)
    return _gaussians(np.concatenate(centres), np.concatenate(headings), 0.36 * length, thin, opacity, colours, lights)


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
