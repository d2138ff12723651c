"""Make the built-in mouse body: smooth unions of implicit primitives, meshed by marching cubes, skinned, furred.

    python scripts/make_procedural_body.py src/mouselift/assets/procedural_mouse.npz

The shapes below are ours, drawn from a house mouse's measures (see `mouselift.body.skeleton`). All lengths are mm.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.interpolate import PchipInterpolator
from skimage.measure import marching_cubes

from mouselift.body.mesh import Region, along_surface, normalise, strongest, vertex_normals
from mouselift.body.skeleton import INDEX, JOINTS, NUM_TAIL_JOINTS, PARENTS, TAIL_LENGTH_MM, rest_joints
from mouselift.synth.dress import comb, hair_lengths, paint_regions

Field = Callable[[np.ndarray], np.ndarray]  # (n, 3) points -> (n,) signed distance, negative inside

# Trunk and head, without legs: x, centre z, half width, half height. An egg whose blunt end is the rump.
PROFILE = np.array(
    [
        (-40.5, 13.6, 1.2, 1.2), (-38.5, 13.8, 4.2, 4.4), (-35.0, 14.9, 8.2, 8.4), (-30.0, 16.6, 11.4, 11.5),
        (-22.0, 18.3, 13.9, 13.6), (-13.0, 18.9, 13.9, 13.8), (-3.0, 18.2, 12.6, 12.8), (6.0, 17.6, 10.9, 11.4),
        (13.0, 18.0, 9.7, 10.3), (19.0, 18.9, 9.0, 9.4), (25.0, 19.2, 8.6, 8.7), (31.0, 18.2, 7.4, 7.5),
        (36.0, 16.6, 5.8, 6.0), (40.0, 15.2, 4.5, 4.7), (43.5, 14.0, 3.2, 3.4),
        (45.8, 13.3, 1.9, 2.1), (47.0, 13.0, 0.3, 0.3),
    ]
)  # fmt: skip
EYE_CENTRE, EYE_RADIUS = np.array([33.2, 5.6, 20.6]), 1.9
EAR_LENGTH, EAR_WIDTH, EAR_THICKNESS, EAR_CUP = 14.5, 13.5, 0.9, 3.6
EAR_OPENING = normalise(np.array([0.62, 0.72, 0.20]))  # direction in which the left ear's cup opens
TAIL_RADIUS = (1.6, 0.5)


def ball(centre: np.ndarray, radius: float) -> Field:
    """A sphere."""
    return lambda p: np.linalg.norm(p - centre, axis=1) - radius


def cone(a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float) -> Field:
    """A capsule whose radius changes linearly from a to b."""

    def field(p: np.ndarray) -> np.ndarray:
        t = np.clip((p - a) @ (b - a) / np.dot(b - a, b - a), 0, 1)
        return np.linalg.norm(p - a - t[:, None] * (b - a), axis=1) - (radius_a + t * (radius_b - radius_a))

    return field


def trunk() -> Field:
    """Generalised cylinder through PROFILE, a little flatter underneath than above."""
    centre, width, height = (PchipInterpolator(PROFILE[:, 0], PROFILE[:, k]) for k in (1, 2, 3))

    def field(p: np.ndarray) -> np.ndarray:
        x = np.clip(p[:, 0], PROFILE[0, 0], PROFILE[-1, 0])
        a, b = width(x), height(x)
        dz = p[:, 2] - centre(x)
        b = np.where(dz < 0, 0.94 * b, b)
        radial = (np.hypot(p[:, 1] / a, dz / b) - 1) * np.minimum(a, b)
        return np.maximum(radial, np.abs(p[:, 0] - x) + np.where(p[:, 0] != x, radial, -np.inf))

    return field


def smooth_union(fields: list[Field], blend: float) -> Field:
    """Polynomial smooth minimum, folded over the fields."""

    def field(p: np.ndarray) -> np.ndarray:
        result = fields[0](p)
        for other in fields[1:]:
            value = other(p)
            h = np.clip(0.5 + 0.5 * (value - result) / blend, 0, 1)
            result = value + (result - value) * h - blend * h * (1 - h)
        return result

    return field


def mirrored(p: np.ndarray, sign: float) -> np.ndarray:
    """The same points on the other side of the animal."""
    return p * np.array([1.0, sign, 1.0])


def legs(joints: dict[str, np.ndarray]) -> list[Field]:
    """Upper and lower segments of the four legs, without paws."""
    fields: list[Field] = []
    for side in "LR":
        j = {name[:-2]: joints[name] for name in joints if name.endswith(f"_{side}")}
        fields += [
            cone(j["shoulder"], j["elbow"], 4.8, 3.2),
            cone(j["elbow"], j["wrist"], 2.7, 1.4),
            cone(j["hip"], j["knee"], 7.4, 4.8),
            cone(j["knee"], j["ankle"], 4.4, 1.8),
        ]
    return fields


def fore_paw(wrist: np.ndarray, paw: np.ndarray) -> Field:
    """A palm with four toes."""
    forward = normalise(paw - wrist)
    side = normalise(np.cross([0, 0, 1.0], forward))
    palm = wrist + 0.45 * (paw - wrist)
    fields = [cone(wrist, palm, 1.35, 1.5)]
    for spread in (-1.0, -0.33, 0.33, 1.0):
        tip = paw + side * spread * 1.9 - forward * 0.5 * abs(spread)
        tip[2] = 0.55
        fields.append(cone(palm + side * spread * 0.9 - [0, 0, 0.4], tip, 0.62, 0.5))
    return smooth_union(fields, 0.5)


def hind_paw(ankle: np.ndarray, toe: np.ndarray) -> Field:
    """A long foot with five toes."""
    forward = normalise(toe - ankle)
    side = normalise(np.cross([0, 0, 1.0], forward))
    ball = ankle + 0.62 * (toe - ankle)
    ball[2] = 1.25
    fields = [cone(ankle, ball, 1.6, 1.5)]
    for spread in (-1.0, -0.5, 0.0, 0.5, 1.0):
        tip = toe + side * spread * 2.6 - forward * 1.9 * abs(spread)
        tip[2] = 0.6
        fields.append(cone(ball + side * spread * 1.2 - [0, 0, 0.3], tip, 0.72, 0.52))
    return smooth_union(fields, 0.6)


def ear(base: np.ndarray, tip: np.ndarray) -> Field:
    """A round cup: the shell between two ellipsoids, cut to a disc, its root drawn in."""
    long_axis = normalise(tip - base)
    opening = normalise(EAR_OPENING - EAR_OPENING @ long_axis * long_axis)
    across = np.cross(long_axis, opening)
    centre = base + long_axis * 0.46 * EAR_LENGTH

    def field(p: np.ndarray) -> np.ndarray:
        u, v, w = ((p - centre) @ axis for axis in (long_axis, across, opening))
        half_length, half_width = EAR_LENGTH / 2, EAR_WIDTH / 2 * (1 - 0.18 * np.clip(-u / (EAR_LENGTH / 2), 0, 1))
        rim = np.hypot(u / half_length, v / half_width)
        bowl = EAR_CUP * (np.minimum(rim, 1.3) ** 2 - 1) * 0.5  # deepest in the middle
        thickness = EAR_THICKNESS * (1 - 0.35 * np.clip(rim, 0, 1))
        return np.maximum(np.abs(w - bowl) - thickness / 2, (rim - 1) * half_width)

    return field


def tail(joints: dict[str, np.ndarray]) -> Field:
    """A thin cone with a thicker root."""
    start, end = joints["tail_0"] + [2.5, 0, 0.2], joints["tail_tip"]
    return smooth_union(
        [cone(start, start + 0.12 * (end - start), 2.6, TAIL_RADIUS[0]), cone(start, end, *TAIL_RADIUS)], 0.5
    )


def mesh(field: Field, low: np.ndarray, high: np.ndarray, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """Zero level of a field inside a box: vertices (n, 3) and outward faces (f, 3)."""
    axes = [np.arange(lo, hi + voxel, voxel) for lo, hi in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = field(grid.reshape(-1, 3)).reshape(grid.shape[:-1])
    vertices, faces, _, _ = marching_cubes(values, 0.0, spacing=(voxel,) * 3, gradient_direction="descent")
    return vertices + low, faces


# Bones that may move the trunk mesh, with the radius around each that belongs to it.
TRUNK_BONES = {
    "pelvis": 13.0, "lumbar": 13.5, "thorax": 12.5, "chest": 10.5, "neck": 9.5, "head": 8.0,
    "shoulder": 5.5, "elbow": 2.6, "hip": 8.5, "knee": 4.0,
}  # fmt: skip


def bone_end(name: str, joints: dict[str, np.ndarray]) -> np.ndarray:
    """Where the bone of a joint ends."""
    children = [JOINTS[i] for i, parent in enumerate(PARENTS) if parent == INDEX[name]]
    chain = {"pelvis": "lumbar", "chest": "neck", "head": "nose"}
    return joints[chain.get(name, children[0])]


def trunk_weights(p: np.ndarray, faces: np.ndarray, joints: dict[str, np.ndarray]) -> np.ndarray:
    """Soft assignment by distance to the bones relative to their radii, then diffusion along the surface."""
    weights = np.zeros((len(p), len(JOINTS)))
    names = [f"{n}_{s}" if f"{n}_L" in INDEX else n for n in TRUNK_BONES for s in "LR"]
    for name in dict.fromkeys(names):
        distance = cone(joints[name], bone_end(name, joints), 0.0, 0.0)(p) / TRUNK_BONES[name.split("_")[0]]
        weights[:, INDEX[name]] = np.exp(-((np.maximum(distance, 0.15) / 0.42) ** 2) - 2.0 * distance)
        if name.endswith(("_L", "_R")):
            sign = 1.0 if name.endswith("_L") else -1.0
            weights[:, INDEX[name]] *= 1 / (1 + np.exp(-(sign * p[:, 1] - 3.0) / 0.8))  # never across the midline
    tailwards = np.clip((-36.5 - p[:, 0]) / 4.0, 0, 1)
    weights[:, INDEX["tail_0"]] = tailwards * weights.sum(1)
    return diffuse(weights / weights.sum(1, keepdims=True), faces, steps=10)


def diffuse(values: np.ndarray, faces: np.ndarray, steps: int) -> np.ndarray:
    """Average over neighbours, `steps` times."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    n = len(values)
    adjacency = sparse.coo_matrix(
        (np.ones(2 * len(pairs)), (np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]])), (n, n)
    )
    adjacency = (adjacency.tocsr() > 0).astype(float)
    degree = np.asarray(adjacency.sum(1))
    for _ in range(steps):
        values = 0.5 * values + 0.5 * (adjacency @ values) / degree
    return values


def one_hot(n: int, **shares: np.ndarray | float) -> np.ndarray:
    """Weights (n, J) that belong to the named joints only."""
    weights = np.zeros((n, len(JOINTS)))
    for name, share in shares.items():
        weights[:, INDEX[name]] = share
    return weights


def tip_weights(p: np.ndarray, start: str, end: str, joints: dict[str, np.ndarray]) -> np.ndarray:
    """A paw or an ear follows its own joint, and the joint above it at the root."""
    along = (p - joints[start]) @ normalise(joints[end] - joints[start])
    own = np.clip((along + 1.2) / 2.4, 0, 1)
    return one_hot(len(p), **{start: own, JOINTS[PARENTS[INDEX[start]]]: 1 - own})


def tail_weights(p: np.ndarray, joints: dict[str, np.ndarray]) -> np.ndarray:
    """Linear blends between neighbouring segments, along the tail."""
    along = (
        joints["tail_0"][0] - p[:, 0]
    ) / TAIL_LENGTH_MM * NUM_TAIL_JOINTS - 0.5  # 0 in the middle of the first segment
    weights = np.zeros((len(p), len(JOINTS)))
    for i in range(NUM_TAIL_JOINTS):
        weights[:, INDEX[f"tail_{i}"]] = np.clip(1 - np.abs(np.clip(along, 0, NUM_TAIL_JOINTS - 1) - i), 0, 1)
    at_root = np.clip(-(along + 0.5) * 2, 0, 1)  # what reaches into the rump follows the pelvis
    weights *= 1 - at_root[:, None]
    weights[:, INDEX["pelvis"]] = at_root
    return weights


def build() -> dict[str, np.ndarray]:
    """All parts of the body, joined, as the arrays that are stored."""
    joints = dict(zip(JOINTS, rest_joints().astype(float), strict=True))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # vertices, faces, dense weights
    p, f = mesh(smooth_union([trunk(), *legs(joints)], 2.5), np.array([-44, -24, -1.0]), np.array([49, 24, 36.0]), 0.95)
    parts.append((p, f, trunk_weights(p, f, joints)))
    p, f = mesh(tail(joints), np.array([-118, -4, -1.0]), np.array([-31, 4, 19.0]), 0.6)
    parts.append((p, f, tail_weights(p, joints)))
    for side, sign in (("L", 1.0), ("R", -1.0)):
        for make, start, end, voxel in (
            (fore_paw, "wrist", "paw", 0.33),
            (hind_paw, "ankle", "toe", 0.4),
            (ear, "ear", "ear_tip", 0.48),
        ):
            left = joints[f"{start}_L"].copy(), joints[f"{end}_L"].copy()
            p, f = mesh(make(*left), np.minimum(*left) - 8, np.maximum(*left) + 8, voxel)
            p, f = (p, f) if sign > 0 else (mirrored(p, sign), f[:, ::-1])
            parts.append((p, f, tip_weights(p, f"{start}_{side}", f"{end}_{side}", joints)))
    num_skin = sum(len(p) for p, _, _ in parts)
    for sign in (1.0, -1.0):
        eye = EYE_CENTRE * [1, sign, 1]
        p, f = mesh(ball(eye, EYE_RADIUS), eye - 2.5, eye + 2.5, 0.45)
        parts.append((p, f, one_hot(len(p), head=1.0)))
    return pack(parts, num_skin)


def pack(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], num_skin: int) -> dict[str, np.ndarray]:
    """Join parts (the eyes are what follows `num_skin` vertices), dress them, and quantise."""
    starts = np.cumsum([0] + [len(p) for p, _, _ in parts[:-1]])
    vertices = np.concatenate([p for p, _, _ in parts])
    faces = np.concatenate([f + start for (_, f, _), start in zip(parts, starts, strict=True)])
    dense = np.concatenate([weights for _, _, weights in parts])
    normals = vertex_normals(vertices, faces)
    regions = paint_regions(vertices, normals, dense, rest_joints())
    regions[num_skin:] = Region.EYE
    fur = hair_lengths(vertices, regions, rest_joints())
    influences, weights = strongest(dense)
    return {
        "vertices_um": np.round(vertices * 1000).astype(np.int32),
        "faces": faces.astype(np.uint16),
        "influences": influences.astype(np.uint8),
        "weights": np.round(255 * weights).astype(np.uint8),
        "regions": regions.astype(np.uint8),
        "fur_um": np.round(fur * 1000).astype(np.uint16),
        "flow": along_surface(comb(dense, rest_joints()), normals).astype(np.float16),
    }


def main(out: Path) -> None:
    """Build the body and store it."""
    arrays = build()
    if len(arrays["vertices_um"]) > np.iinfo(np.uint16).max:
        raise ValueError("too many vertices for 16-bit faces: use larger voxels")
    np.savez_compressed(out, **arrays)
    num_vertices, num_faces = len(arrays["vertices_um"]), len(arrays["faces"])
    print(f"{out}: {num_vertices} vertices, {num_faces} faces, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
