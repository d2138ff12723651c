"""Bring a foreign skinned mesh onto the common skeleton and into the common rest pose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from mouselift.body.mesh import Body, Region, along_surface, back_heights, normalise, strongest, vertex_normals
from mouselift.body.skeleton import INDEX, JOINTS, NUM_TAIL_JOINTS, PARENTS, rest_joints, rest_keypoints
from mouselift.synth.dress import comb, hair_lengths, paint_regions
from mouselift.synth.ground import between

TRUNK = ("pelvis", "lumbar", "thorax", "chest", "neck", "head")
EYE_BELOW_CROWN_MM = 4.6  # centre of a mouse's eye below the top of its head
LIMBS = ("ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "tail")


@dataclass(frozen=True, kw_only=True)
class SkinnedMesh:
    """A mesh with skinning weights over its own bones: +X towards the nose, +Y left, +Z up, mm.

    Attributes:
        vertices: In its own rest pose.
        faces: Counter-clockwise seen from outside.
        bones: Names.
        positions: Of the bones' joints.
        weights: Of each vertex over the bones, summing to 1.
    """

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "f 3"]
    bones: Sequence[str]
    positions: Float[np.ndarray, "b 3"]
    weights: Float[np.ndarray, "n b"]


@dataclass(frozen=True, kw_only=True)
class JointMap:
    """How a mesh's bones correspond to the common joints.

    Attributes:
        places: Common joint -> where it lies on the mesh in its own rest pose, all but the tail's.
        carriers: Bone -> the common joint that takes over its weights, all but the tail's.
        tail: The tail's bones from root to tip.
        tail_tip: Where the tail ends.
    """

    places: Mapping[str, Float[np.ndarray, "3"]]
    carriers: Mapping[str, str]
    tail: Sequence[str]
    tail_tip: Float[np.ndarray, "3"]


def common_weights(mesh: SkinnedMesh, joint_map: JointMap) -> Float[np.ndarray, "n j"]:
    """Skinning weights over the common joints; along the tail, bones are shared out between neighbouring segments."""
    weights = np.zeros((len(mesh.vertices), len(JOINTS)))
    index = {name: i for i, name in enumerate(mesh.bones)}
    for bone, joint in joint_map.carriers.items():
        weights[:, INDEX[joint]] += mesh.weights[:, index[bone]]
    _, lengths = _tail_knots(mesh, joint_map)
    for k, bone in enumerate(joint_map.tail):
        middle = 0.5 * (lengths[k] + lengths[k + 1]) / lengths[-1] * NUM_TAIL_JOINTS - 0.5
        at = float(np.clip(middle, 0, NUM_TAIL_JOINTS - 1))
        low = min(int(at), NUM_TAIL_JOINTS - 2)
        weights[:, INDEX[f"tail_{low}"]] += (1 - (at - low)) * mesh.weights[:, index[bone]]
        weights[:, INDEX[f"tail_{low + 1}"]] += (at - low) * mesh.weights[:, index[bone]]
    return weights / weights.sum(1, keepdims=True)


def _tail_knots(mesh: SkinnedMesh, joint_map: JointMap) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "k"]]:
    index = {name: i for i, name in enumerate(mesh.bones)}
    knots = np.concatenate([mesh.positions[[index[bone] for bone in joint_map.tail]], joint_map.tail_tip[None]])
    return knots, np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])


def common_joints(mesh: SkinnedMesh, joint_map: JointMap) -> Float[np.ndarray, "j 3"]:
    """Where the common joints lie on the mesh in its own rest pose."""
    knots, lengths = _tail_knots(mesh, joint_map)
    along = np.linspace(0, lengths[-1], NUM_TAIL_JOINTS + 1)
    tail = np.stack([np.interp(along, lengths, knots[:, axis]) for axis in range(3)], axis=1)
    names = [f"tail_{i}" for i in range(NUM_TAIL_JOINTS)] + ["tail_tip"]
    places = {**joint_map.places, **dict(zip(names, tail, strict=True))}
    return np.stack([places[name] for name in JOINTS])


def straighten(
    vertices: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, "n j"],
    joints: Float[np.ndarray, "j 3"],
    *,
    girth: Mapping[str, float] | None = None,
    turns: Mapping[str, Float[np.ndarray, "3 3"]] | None = None,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "j 3"]]:
    """Bring a mesh into the common rest pose.

    Limbs, ears and tail turn until their bones point as the common skeleton's; the trunk is taken to lie already.

    Args:
        vertices: In the mesh's own rest pose.
        weights: Over the common joints.
        joints: The common joints on the mesh.
        girth: When given, bones also take the common skeleton's lengths, and what surrounds each grows by its joint's
            factor; when not, the mesh keeps its own proportions.
        turns: Rotations of single joints that replace the smallest ones, where the smallest would twist a limb.

    Returns:
        Vertices and joints in the common rest pose.
    """
    target = rest_joints().astype(np.float64)
    linear = np.tile(np.eye(3), (len(JOINTS), 1, 1))
    for name, child in _bones().items():
        here, there = INDEX[name], INDEX[child]
        source, wanted = joints[there] - joints[here], target[there] - target[here]
        if name.startswith(LIMBS):
            linear[here] = (turns or {}).get(name, between(normalise(source), normalise(wanted)))
        if girth is not None:
            linear[here] = _stretch(name, source, wanted, girth[name]) @ linear[here]
    placed = target if girth is not None else _placed(joints, linear)
    moved = np.einsum("nj,jab->nab", weights, linear) @ vertices[..., None]
    offsets = placed - np.einsum("jab,jb->ja", linear, joints)
    vertices = moved[..., 0] + weights @ offsets
    if girth is None:
        floor = np.array([0.0, 0.0, np.quantile(vertices[:, 2], 0.002)])
        vertices, placed = vertices - floor, placed - floor
    return vertices, placed


def _stretch(
    name: str, source: Float[np.ndarray, "3"], wanted: Float[np.ndarray, "3"], girth: float
) -> Float[np.ndarray, "3 3"]:
    """Growth by `girth` across a bone and by the ratio of the lengths along it.

    Limbs have been turned already. A bone of the trunk is stretched along +X, so that its sections stay upright; the
    head is sheared too, so that the nose comes to its place.
    """
    if name.startswith(LIMBS):
        along = normalise(wanted)
        return girth * np.eye(3) + (np.linalg.norm(wanted) / np.linalg.norm(source) - girth) * np.outer(along, along)
    forward = np.array([1.0, 0.0, 0.0])
    change = wanted - girth * source if name == "head" else (wanted[0] - girth * source[0]) * forward
    return girth * np.eye(3) + np.outer(change, forward) / source[0]


def _bones() -> dict[str, str]:
    """The child that each turning joint points at."""
    chosen = {"pelvis": "lumbar", "chest": "neck", "head": "nose"}
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            chosen.setdefault(JOINTS[parent], JOINTS[joint])
    return chosen


def _placed(joints: Float[np.ndarray, "j 3"], linear: Float[np.ndarray, "j 3 3"]) -> Float[np.ndarray, "j 3"]:
    placed = joints.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            placed[joint] = placed[parent] + linear[parent] @ (joints[joint] - joints[parent])
    return placed


def dressed(
    name: str,
    vertices: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "f 3"],
    weights: Float[np.ndarray, "n j"],
    joints: Float[np.ndarray, "j 3"],
) -> Body:
    """A body from a mesh in the common rest pose."""
    vertices, joints = vertices.astype(np.float32), joints.astype(np.float32)
    normals = vertex_normals(vertices, faces)
    regions = paint_regions(vertices, normals, weights, joints)
    influences, strongest_weights = strongest(weights)
    keypoints, carriers = rest_keypoints(joints, back_heights(vertices, joints))
    return Body(
        name=name,
        vertices=vertices,
        faces=faces.astype(np.int64),
        influences=influences,
        weights=strongest_weights.astype(np.float32),
        joints=joints,
        regions=regions,
        fur_mm=hair_lengths(vertices, regions, joints).astype(np.float32),
        flow=along_surface(comb(weights, joints), normals).astype(np.float32),
        keypoints=keypoints,
        keypoint_joints=carriers,
    )


def graft(body: Body, donor: Body, regions: Sequence[Region]) -> Body:
    """Take over the donor's parts of some regions; eyes sink into the surface of the body's own head.

    Both must have the common rest pose and the same joints, so that the parts fit where they come from.
    """
    kept = np.isin(donor.regions[donor.faces], regions).all(1)
    used, faces = np.unique(donor.faces[kept], return_inverse=True)
    vertices = donor.vertices[used].copy()
    for side in (1.0, -1.0):
        eye = (donor.regions[used] == Region.EYE) & (side * vertices[:, 1] > 0)
        vertices[eye] += _to_surface(body, vertices[eye])
    joined = {
        name: np.concatenate([getattr(body, name), getattr(donor, name)[used]])
        for name in ("influences", "weights", "regions", "fur_mm", "flow")
    }
    return replace(
        body,
        vertices=np.concatenate([body.vertices, vertices]),
        faces=np.concatenate([body.faces, faces.reshape(-1, 3) + len(body.vertices)]),
        **joined,
    )


def _to_surface(body: Body, eye: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """Shift of an eye to its height below the crown, and sideways so that a quarter of it stays outside the body."""
    low, high = eye.min(0), eye.max(0)
    side = np.sign(eye[:, 1].mean())
    section = (body.vertices[:, 0] >= low[0]) & (body.vertices[:, 0] <= high[0]) & (side * body.vertices[:, 1] > 0)
    crown = body.vertices[section & (np.abs(body.vertices[:, 1]) < 2.5), 2].max()
    drop = crown - EYE_BELOW_CROWN_MM - 0.5 * (low[2] + high[2])
    level = section & (body.vertices[:, 2] >= low[2] + drop) & (body.vertices[:, 2] <= high[2] + drop)
    surface = np.abs(body.vertices[level, 1]).max()
    inner, outer = np.abs(eye[:, 1]).min(), np.abs(eye[:, 1]).max()
    return np.array([0.0, side * (surface - outer + (outer - inner) / 4), drop], dtype=np.float32)
