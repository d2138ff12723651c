"""Render the demo picture: a brown mouse on a laboratory bench, path-traced, as a camera would have seen it.

    pip install mitsuba==3.9.1
    python scripts/render_demo_picture.py src/mouselift/assets/demo_mouse.jpg

The picture stands for a user's photograph, so nothing of it comes from the renderer that makes the training data
(`mouselift.synth.fur`): Mitsuba 3 traces light between real strands of hair, and `develop` is the camera behind the
lens. Only body and pose are the package's own; neither the seed nor the brown coat is used in training. It takes ten
minutes of one core and gives the same picture on every run; for a draft add `--width 256 --samples 16`.

Millimetres; the mouse points along +X, +Z is up, the bench lies at z = 0. Arrays: n hairs, k control points.
"""

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from mouselift.body.mesh import Body, PosedBody, Region, along_surface, normalise, pose_body, procedural_mouse
from mouselift.body.skeleton import INDEX
from mouselift.synth.coat import RGB, linear_from_srgb, srgb_from_linear
from mouselift.synth.ground import stand
from mouselift.synth.pose import PosePrior, sample_build

SEED = 1_004_191  # training draws its seeds below 1,000,000
WIDTH_PX, ASPECT, SAMPLES = 768, 4 / 3, 200
MAX_BOUNCES, SURE_BOUNCES = 14, 6  # Russian roulette in between

# The photographer and the camera.
AZIMUTH_DEG, ELEVATION_DEG = 66.0, 21.0  # towards the mouse's left, counted from its nose; above the bench
DISTANCE_MM, APERTURE_MM = 430.0, 4.0
FILL = 0.66  # share of the picture's width that the mouse takes, tail included
EXPOSURE, VIGNETTING = 1.05, 0.10  # vignetting: light lost in the corners
FULL_WELL, READ_NOISE = 9000.0, 8.0  # electrons
BLUR_PX, SHARPENING, SHARPENING_PX = 0.45, 0.35, 1.2  # of demosaicing, and against it
KNEE, CONTRAST = 0.7, 0.03  # of the tone curve
JPEG_QUALITY = 92

# The room. Lamps: place (left of the picture, towards the camera, up), half width and height, radiance.
LAMPS = {
    "softbox": ((360, 330, 480), (190, 190), (9.5, 9.1, 8.4)),
    "window": ((-650, 300, 420), (220, 330), (3.2, 3.6, 4.1)),
}
AMBIENT = (0.29, 0.30, 0.32)
BENCH_SIZE_MM, BENCH_ROUGHNESS, WALL_BEHIND_MM, WALL_SIZE_MM = 1200.0, 0.35, 165.0, 3000.0
BENCH_TEXELS, BENCH_PATTERN = 2048, ((0.7, 0.030), (3.0, 0.012), (60.0, 0.035))  # grain to stains: texels, strength

# Reflectances, sRGB-encoded. A hair has three parts: base, band, tip.
BACK_HAIR = ((0.36, 0.29, 0.25), (0.72, 0.55, 0.41), (0.42, 0.31, 0.23))
BELLY_HAIR = ((0.50, 0.43, 0.37), (0.80, 0.68, 0.55), (0.76, 0.64, 0.52))
DOWN_HAIR = ((0.60, 0.48, 0.40),) * 3  # on ears, feet and tail
WHISKER = ((0.28, 0.23, 0.20),) * 3
FUR_SKIN, PINK, EAR_PINK = (0.30, 0.22, 0.18), (0.88, 0.69, 0.64), (0.86, 0.68, 0.63)
EYE, EYELID = (0.03, 0.025, 0.025), (0.08, 0.06, 0.06)
BENCH, WALL = (0.66, 0.70, 0.73), (0.80, 0.79, 0.76)
MOTTLING = (0.01, 0.035, 0.03)  # of skin: relative spread of red, green, blue
EAR_SHADE = ((0.0, 0.3, 0.7), (0.30, 0.65, 1.0))  # the bottom of the ear's cup is dark: place from root to tip, factor

# Hair; real mouse hair is 20 to 60 um across.
SEGMENTS = 3  # cubic B-spline pieces of a hair, one for each of its colours
NUM_HAIRS, NUM_DOWN, WHISKERS_PER_SIDE = 170_000, 20_000, 14
HAIR_RADIUS_MM, DOWN_RADIUS_MM, WHISKER_RADIUS_MM = 0.036, 0.022, 0.055
LENGTH_FACTOR, MIN_LENGTH_MM = 2.0, 0.4  # factor on the body's `fur_mm`
GUARD_SHARE, UNBANDED_SHARE, TICKING = 0.20, 0.25, 0.22  # longer hairs, dark hairs, spread of lightness
HAIR_LIFT_DEG, DOWN_LIFT_DEG, LIFT_SPREAD_DEG = (30.0, -2.0), (25.0, 5.0), 9.0  # off the skin, at root and tip
CLUMP_SIZE, CLUMPING = 28, 0.70  # hairs that lean together, and how much at their tips
DOWN_MM, WHISKER_MM = (0.4, 0.9), (12.0, 27.0)

# The body in rest pose.
EAR_SHAPE = (0.85, 0.80, 0.95)  # factors on its size
NOSE_PAD_X_MM = 46.5  # skin in front of it is bare
NOSTRIL_MM, NOSTRIL_RADIUS_MM = np.array([46.6, 0.75, 12.7]), 0.35
EYE_CLEARANCE, EYELID_MM = 1.06, 0.5

ALONG = (np.arange(SEGMENTS + 3) - 1) / SEGMENTS  # of control points; the curve covers 0, the root, to 1, the tip


@dataclass(frozen=True, kw_only=True)
class Strands:
    """Hairs as cubic B-splines: points (n, k, 3), radii (n, k), linear reflectance of each piece (n, k - 3, 3)."""

    points: np.ndarray
    radii: np.ndarray
    colours: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Roots:
    """Random points on the skin: where they are and were at rest, unit normal and flow, hair length, region."""

    position: np.ndarray
    rest: np.ndarray
    normal: np.ndarray
    flow: np.ndarray
    fur_mm: np.ndarray
    region: np.ndarray


def stand_mouse(body: Body, rng: np.random.Generator) -> PosedBody:
    """One individual in a pose drawn from the prior, turned to +X and put on the bench."""
    scales, pose = sample_build(rng).joint_scales(), replace(PosePrior.load().sample(rng), heading_rad=0.0)
    scales[[INDEX["ear_L"], INDEX["ear_R"]]] *= EAR_SHAPE
    posed = pose_body(body, stand(body.joints, pose.rotations(), scales), joint_scales=scales)
    drop = np.array([0, 0, posed.vertices[body.regions == Region.FOOT, 2].min()])
    return replace(posed, vertices=posed.vertices - drop, joints=posed.joints - drop, keypoints=posed.keypoints - drop)


def scatter(body: Body, posed: PosedBody, density: dict[Region, float], count: int, rng: np.random.Generator) -> Roots:
    """Random points, as many per area as `density` asks of each region (relative)."""
    a, b, c = (posed.vertices[body.faces[:, corner]] for corner in range(3))
    regions = body.regions[body.faces[:, 0]]
    per_area = np.array([density.get(region, 0.0) for region in Region])[regions]
    mass = np.cumsum(per_area * np.linalg.norm(np.cross(b - a, c - a), axis=1))
    face = np.searchsorted(mass, rng.random(count) * mass[-1])
    shares = rng.dirichlet((1, 1, 1), count)

    def at(values: np.ndarray) -> np.ndarray:
        return np.einsum("nc,nc...->n...", shares, values[body.faces[face]])

    normal = normalise(at(posed.normals))
    return Roots(
        position=at(posed.vertices),
        rest=at(body.vertices),
        normal=normal,
        flow=along_surface(at(posed.flow), normal),
        fur_mm=at(body.fur_mm),
        region=regions[face],
    )


def grow(roots: Roots, length: np.ndarray, lift_deg: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Control points of hairs that leave the skin at one angle and end at another, both varied."""
    across = np.cross(roots.normal, roots.flow)[:, None]  # (n, 1, 3)
    sway, bend = 0.22 * rng.standard_normal((len(length), 1, 1)), 0.25 * rng.standard_normal((len(length), 1, 1))
    heading = normalise(roots.flow[:, None] + sway * across) + bend * ALONG[:, None] * across
    between = ALONG + 0.5 / SEGMENTS
    lift = np.interp(between, (0, 1), lift_deg) + LIFT_SPREAD_DEG * rng.standard_normal((len(length), 1))
    lift = np.deg2rad(lift)[..., None]
    steps = (np.cos(lift) * heading + np.sin(lift) * roots.normal[:, None]) * (length / SEGMENTS)[:, None, None]
    return roots.position[:, None] + np.cumsum(steps, axis=1) - steps[:, :2].sum(1, keepdims=True)


def clumped(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let hairs lean towards the nearest of a few, the more the nearer to the tip."""
    leaders = rng.choice(len(points), len(points) // CLUMP_SIZE, replace=False)
    _, nearest = cKDTree(points[leaders, 1]).query(points[:, 1])
    pull = CLUMPING * rng.uniform(0.3, 1.2, (len(points), 1)) * np.clip(ALONG, 0, 1) ** 1.5
    return points + pull[..., None] * (points[leaders[nearest]] - points)


def tapered(radius: np.ndarray) -> np.ndarray:
    """Radii (n, k) of hairs that end in a point."""
    return radius[:, None] * np.interp(ALONG, (0, 0.6, 1), (1, 0.9, 0.15))


def ticked(parts: tuple[RGB, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Linear reflectance of the parts of hairs, (n, parts, 3), some hairs lighter than others."""
    return linear_from_srgb(np.array(parts)) * np.exp(rng.normal(0, TICKING, (count, 1, 1)))


def fur(body: Body, posed: PosedBody, rng: np.random.Generator) -> Strands:
    """The coat: hairs with a dark base, a tawny band and a dark tip, paler underneath, short on the face."""
    face = dict.fromkeys((Region.FACE, Region.WHISKER_PAD, Region.NOSE), 2.2)
    roots = scatter(body, posed, {Region.BACK: 1.0, Region.BELLY: 1.0} | face, NUM_HAIRS, rng)
    guard, unbanded = (rng.random(NUM_HAIRS) < share for share in (GUARD_SHARE, UNBANDED_SHARE))
    length = LENGTH_FACTOR * np.maximum(roots.fur_mm, MIN_LENGTH_MM) * rng.uniform(0.75, 1.15, NUM_HAIRS)
    points = clumped(grow(roots, length * np.where(guard, 1.15, 0.85), HAIR_LIFT_DEG, rng), rng)
    fineness = np.where(guard, 1.2, 0.9) * np.clip(roots.fur_mm / 3, 0.45, 1)
    belly = np.clip((-0.1 - roots.normal[:, 2]) / 0.55, 0, 1)
    colours = ticked(BACK_HAIR, NUM_HAIRS, rng)
    colours += belly[:, None, None] * (ticked(BELLY_HAIR, NUM_HAIRS, rng) - colours)
    unbanded &= belly < 0.5
    colours[unbanded, 1] = colours[unbanded, 2]
    kept = roots.rest[:, 0] < NOSE_PAD_X_MM
    for centre, radius in eyes(body, posed):
        kept &= (np.linalg.norm(points[:, 1:] - centre, axis=-1) > EYE_CLEARANCE * radius).all(1)
    return Strands(points=points[kept], radii=tapered(HAIR_RADIUS_MM * fineness[kept]), colours=colours[kept])


def down(body: Body, posed: PosedBody, rng: np.random.Generator) -> Strands:
    """Short fine hair on ears, feet and tail."""
    roots = scatter(body, posed, {Region.EAR: 1.2, Region.FOOT: 1.0, Region.TAIL: 0.7}, NUM_DOWN, rng)
    points = grow(roots, rng.uniform(*DOWN_MM, NUM_DOWN), DOWN_LIFT_DEG, rng)
    radii = tapered(np.full(NUM_DOWN, DOWN_RADIUS_MM))
    return Strands(points=points, radii=radii, colours=ticked(DOWN_HAIR, NUM_DOWN, rng))


def whiskers(body: Body, posed: PosedBody, rng: np.random.Generator) -> Strands:
    """Long vibrissae from the pads beside the nose, bent backwards."""
    pads = np.flatnonzero(body.regions == Region.WHISKER_PAD)
    sides = [pads[body.vertices[pads, 1] * sign > 0] for sign in (1, -1)]
    chosen = np.concatenate([rng.choice(side, WHISKERS_PER_SIDE, replace=False) for side in sides])
    count, flow = len(chosen), posed.flow[chosen]
    heading = normalise(posed.normals[chosen] + 0.5 * flow + rng.normal(0, 0.14, (count, 3)))
    bend = 0.3 * flow + np.array([0, 0, 1]) * rng.uniform(-0.12, 0.02, (count, 1))
    length, along = rng.uniform(*WHISKER_MM, (count, 1, 1)), ALONG[:, None]
    points = posed.vertices[chosen][:, None] + length * (along * heading[:, None] + along**2 * bend[:, None])
    radii = tapered(WHISKER_RADIUS_MM * rng.uniform(0.6, 1.1, count))
    return Strands(points=points, radii=radii, colours=ticked(WHISKER, count, rng))


def eyes(body: Body, posed: PosedBody) -> list[tuple[np.ndarray, float]]:
    """Centre and radius of the left and of the right eye."""
    balls = [posed.vertices[(body.regions == Region.EYE) & (body.vertices[:, 1] * sign > 0)] for sign in (1, -1)]
    return [(ball.mean(0), float(np.linalg.norm(ball - ball.mean(0), axis=1).mean())) for ball in balls]


def skin_colours(body: Body, posed: PosedBody, rng: np.random.Generator) -> np.ndarray:
    """Linear reflectance of every vertex, mottled."""
    colours = np.tile(linear_from_srgb(np.array(FUR_SKIN)), (len(body.vertices), 1))
    pink = np.isin(body.regions, (Region.FOOT, Region.TAIL)) | (body.vertices[:, 0] > NOSE_PAD_X_MM - 0.3)
    colours[pink] = linear_from_srgb(np.array(PINK))
    for side, sign in (("L", 1), ("R", -1)):
        root, tip = (body.joints[INDEX[f"{name}_{side}"]] for name in ("ear", "ear_tip"))
        ear = (body.regions == Region.EAR) & (body.vertices[:, 1] * sign > 0)
        along = (body.vertices[ear] - root) @ (tip - root) / ((tip - root) @ (tip - root))
        colours[ear] = linear_from_srgb(np.array(EAR_PINK)) * np.interp(along, *EAR_SHADE)[:, None]
    for centre, radius in eyes(body, posed):
        lid = np.linalg.norm(posed.vertices - centre, axis=1) < radius + EYELID_MM
        colours[lid] = linear_from_srgb(np.array(EYELID))
    waves, phases = rng.normal(0, 0.9, (3, 24)), rng.uniform(0, 2 * np.pi, 24)
    mottles = np.cos(body.vertices @ waves + phases).sum(1, keepdims=True) / np.sqrt(12)
    return colours * np.exp(mottles * MOTTLING)


def hair_shape(mi: ModuleType, hairs: Strands, path: Path) -> dict[str, Any]:
    """Mitsuba's curves, written to `path`, and a texture with one texel for each of their pieces.

    A ray that meets the very tip of the last curve makes Mitsuba 3.9.1 read past its table and crash, so the last one
    lies where no ray comes.
    """
    table = np.concatenate([hairs.points, hairs.radii[..., None]], axis=-1)
    table = np.concatenate([table, table[:1] - [0, 0, 1000, 0]])
    row = "\n".join(["%.4f %.4f %.4f %.5f"] * table.shape[1])
    np.savetxt(path, table.reshape(len(table), -1), row, newline="\n\n")
    texels = mi.Bitmap(np.concatenate([hairs.colours, hairs.colours[:1]]).reshape(-1, 1, 3).astype(np.float32))
    colour = {"type": "bitmap", "bitmap": texels, "raw": True, "filter_type": "nearest"}
    bsdf = {"type": "principled", "base_color": colour, "roughness": 0.38, "specular": 0.5}
    return {"type": "bsplinecurve", "filename": str(path), "bsdf": bsdf}


def skin_shapes(mi: ModuleType, body: Body, posed: PosedBody, rng: np.random.Generator) -> dict[str, Any]:
    """All skin, matt under fur, a little moist where bare, translucent at the ears; eyes and nostrils."""
    colour = {"type": "mesh_attribute", "name": "vertex_color"}
    bare = {"type": "principled", "base_color": colour, "roughness": 0.5, "specular": 0.4, "flatness": 0.7}
    thin = {"type": "principledthin", "base_color": colour, "roughness": 0.6, "diff_trans": 0.5}
    glossy = {"type": "principled", "base_color": rgb(EYE), "roughness": 0.05, "specular": 0.6}
    materials = dict.fromkeys((Region.FOOT, Region.TAIL, Region.NOSE), bare) | {Region.EAR: thin}
    colours, regions = skin_colours(body, posed, rng), body.regions[body.faces[:, 0]]
    shapes: dict[str, Any] = {}
    for region in Region:
        if region != Region.EYE:
            material = materials.get(region, {"type": "diffuse", "reflectance": colour})
            shapes[region.name.lower()] = skin_mesh(mi, posed, body.faces[regions == region], colours, material)
    for side, sign, (centre, radius) in zip(("left", "right"), (1, -1), eyes(body, posed), strict=True):
        nearest = np.linalg.norm(body.vertices - NOSTRIL_MM * [1, sign, 1], axis=1).argmin()
        nostril = posed.vertices[nearest] - 0.5 * NOSTRIL_RADIUS_MM * posed.normals[nearest]
        shapes[f"eye_{side}"] = sphere(centre, radius, glossy)
        shapes[f"nostril_{side}"] = sphere(nostril, NOSTRIL_RADIUS_MM, {"type": "diffuse", "reflectance": rgb(EYELID)})
    return shapes


def skin_mesh(mi: ModuleType, posed: PosedBody, faces: np.ndarray, colours: np.ndarray, bsdf: dict[str, Any]) -> Any:
    """Some faces of the skin as a Mitsuba mesh with a colour at each vertex."""
    used, local = np.unique(faces, return_inverse=True)
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(bsdf)
    mesh = mi.Mesh("skin", len(used), len(faces), has_vertex_normals=True, props=properties)
    mesh.add_attribute("vertex_color", 3, colours[used].astype(np.float32).ravel())
    parameters = mi.traverse(mesh)
    parameters["vertex_positions"] = posed.vertices[used].astype(np.float32).ravel()
    parameters["vertex_normals"] = posed.normals[used].astype(np.float32).ravel()
    parameters["faces"] = local.astype(np.uint32).ravel()
    parameters.update()
    return mesh


def sphere(centre: np.ndarray, radius: float, bsdf: dict[str, Any]) -> dict[str, Any]:
    """Mitsuba's sphere."""
    return {"type": "sphere", "center": centre.tolist(), "radius": radius, "bsdf": bsdf}


def rgb(srgb: RGB) -> dict[str, Any]:
    """Mitsuba's colour, from an sRGB-encoded one."""
    return {"type": "rgb", "value": linear_from_srgb(np.array(srgb)).tolist()}


def room(mi: ModuleType, rng: np.random.Generator) -> dict[str, Any]:
    """Bench, wall, softbox, window and the dim light of the rest of the room."""
    transform = mi.ScalarTransform4f
    _, right, towards = picture_axes()
    towards = normalise(towards * [1, 1, 0])

    def panel(place: np.ndarray, target: np.ndarray, half_size: tuple[float, float]) -> dict[str, Any]:
        turn = transform().look_at(origin=place.tolist(), target=target.tolist(), up=[0, 0, 1])
        return {"type": "rectangle", "to_world": turn @ transform().scale([*half_size, 1])}

    noise = [gaussian_filter(rng.standard_normal((BENCH_TEXELS,) * 2), size, mode="wrap") for size, _ in BENCH_PATTERN]
    pattern = sum(strength * field / field.std() for field, (_, strength) in zip(noise, BENCH_PATTERN, strict=True))
    texels = mi.Bitmap((linear_from_srgb(np.array(BENCH)) * np.exp(pattern)[..., None]).astype(np.float32))
    bench = {
        "type": "roughplastic",
        "diffuse_reflectance": {"type": "bitmap", "bitmap": texels, "raw": True},
        "alpha": BENCH_ROUGHNESS,
    }
    flat = transform().scale([BENCH_SIZE_MM / 2, BENCH_SIZE_MM / 2, 1])
    wall = panel(-WALL_BEHIND_MM * towards, np.zeros(3), (WALL_SIZE_MM / 2, WALL_SIZE_MM / 2))
    shapes: dict[str, Any] = {
        "bench": {"type": "rectangle", "to_world": flat, "bsdf": bench},
        "wall": wall | {"bsdf": {"type": "diffuse", "reflectance": rgb(WALL)}},
        "ambient": {"type": "constant", "radiance": {"type": "rgb", "value": list(AMBIENT)}},
    }
    for name, ((left, near, up), half_size, radiance) in LAMPS.items():
        light = {"type": "area", "radiance": {"type": "rgb", "value": list(radiance)}}
        shapes[name] = panel(near * towards - left * right + [0, 0, up], np.zeros(3), half_size) | {"emitter": light}
    return shapes


def picture_axes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors up and to the right in the picture, and from the mouse to the camera."""
    azimuth, elevation = np.deg2rad([AZIMUTH_DEG, ELEVATION_DEG])
    flat = np.cos(elevation)
    towards = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    right = normalise(np.cross([0, 0, 1], towards))
    return np.cross(towards, right), right, towards


def camera(mi: ModuleType, posed: PosedBody, focus: np.ndarray, width: int) -> dict[str, Any]:
    """A lens that centres the mouse's box, focused on a point."""
    up, right, towards = picture_axes()
    target = posed.vertices.mean(0)
    for _ in range(6):  # moving the camera moves the box a little
        offset = posed.vertices - (target + DISTANCE_MM * towards)
        plane = offset @ np.stack([right, up], axis=1) / -(offset @ towards)[:, None]
        low, high = plane.min(0), plane.max(0)
        target = target + DISTANCE_MM * (low + high) / 2 @ np.stack([right, up])
    eye = target + DISTANCE_MM * towards
    return {
        "type": "thinlens",
        "fov": float(2 * np.rad2deg(np.arctan((high[0] - low[0]) / FILL / 2))),
        "aperture_radius": APERTURE_MM,
        "focus_distance": float((eye - focus) @ towards),
        "to_world": mi.ScalarTransform4f().look_at(origin=eye.tolist(), target=target.tolist(), up=[0, 0, 1]),
        "film": {"type": "hdrfilm", "width": width, "height": round(width / ASPECT), "rfilter": {"type": "gaussian"}},
    }


def develop(light: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """What a camera makes of light (h, w, 3): vignetting, sensor noise, demosaicing, sharpening, tone curve."""
    height, width = light.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    exposed = EXPOSURE * light * (1 - VIGNETTING * (x**2 + y**2) / 2)[..., None]
    electrons = FULL_WELL * np.clip(exposed, 0, 2)
    noisy = electrons + np.sqrt(electrons + READ_NOISE**2) * rng.standard_normal(light.shape)
    smooth = gaussian_filter(noisy / FULL_WELL, (BLUR_PX, BLUR_PX, 0))
    sharp = smooth + SHARPENING * (smooth - gaussian_filter(smooth, (SHARPENING_PX, SHARPENING_PX, 0)))
    rolled_off = KNEE + (1 - KNEE) * (1 - np.exp(-(sharp - KNEE) / (1 - KNEE)))
    encoded = srgb_from_linear(np.where(sharp < KNEE, sharp, rolled_off))
    contrasted = encoded - CONTRAST * np.sin(2 * np.pi * encoded)
    return Image.fromarray(np.round(255 * np.clip(contrasted, 0, 1)).astype(np.uint8))


def main() -> None:
    """Build the scene, render it, develop it."""
    parser = argparse.ArgumentParser(description="Render the demo picture.")
    parser.add_argument("out", type=Path, help="the picture, .jpg")
    parser.add_argument("--width", type=int, default=WIDTH_PX, help="pixels")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="light paths a pixel")
    options = parser.parse_args()
    try:
        import mitsuba as mi
    except ImportError as error:
        raise SystemExit("the demo picture is rendered with Mitsuba 3: pip install mitsuba==3.9.1") from error
    mi.set_variant("scalar_rgb")

    rng, body = np.random.default_rng(SEED), procedural_mouse()
    posed = stand_mouse(body, rng)
    hairs = {"fur": fur(body, posed, rng), "down": down(body, posed, rng), "whiskers": whiskers(body, posed, rng)}
    scene: dict[str, Any] = {"type": "scene"} | skin_shapes(mi, body, posed, rng) | room(mi, rng)
    scene["integrator"] = {"type": "path", "max_depth": MAX_BOUNCES, "rr_depth": SURE_BOUNCES}
    scene["camera"] = camera(mi, posed, eyes(body, posed)[0][0], options.width)
    with tempfile.TemporaryDirectory() as folder:
        scene |= {name: hair_shape(mi, strands, Path(folder) / f"{name}.txt") for name, strands in hairs.items()}
        loaded = mi.load_dict(scene)
    light = np.array(mi.render(loaded, spp=options.samples, seed=SEED))[..., :3]
    develop(light, rng).save(options.out, quality=JPEG_QUALITY)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
