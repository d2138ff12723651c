"""`Body`: a skinned animal on the common skeleton, and its posing by linear blend skinning."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache, cached_property
from importlib import resources
from io import BytesIO

import numpy as np
from jaxtyping import Float, Int

from mouselift.body.skeleton import INDEX, JOINTS, PARENTS, rest_joints, rest_keypoints

NUM_INFLUENCES = 4  # joints that move one vertex


class Region(IntEnum):
    """What covers a vertex; decides fur, colour and gloss."""

    BACK = 0
    BELLY = 1
    FACE = 2
    EAR = 3
    TAIL = 4
    FOOT = 5
    NOSE = 6
    EYE = 7
    WHISKER_PAD = 8


BARE_REGIONS = (Region.EAR, Region.TAIL, Region.FOOT, Region.NOSE, Region.EYE)


@dataclass(frozen=True, kw_only=True)
class Body:
    """A mesh in the common rest pose (see `skeleton`), millimetres, with everything that fur needs.

    Attributes:
        name: What `SynthSample.attributes` calls it.
        vertices: Rest positions.
        faces: Vertex indices, counter-clockwise seen from outside.
        influences: The joints that move each vertex.
        weights: Their weights, non-negative, summing to 1.
        joints: Rest positions of the common joints on this body.
        regions: `Region` of each vertex.
        fur_mm: Length of the hair at each vertex, 0 where bare.
        flow: Unit direction in which hair lies, along the surface, rest pose.
        keypoints: The 22 keypoints, rest pose.
        keypoint_joints: The joint that carries each keypoint rigidly.
    """

    name: str
    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "f 3"]
    influences: Int[np.ndarray, "n 4"]
    weights: Float[np.ndarray, "n 4"]
    joints: Float[np.ndarray, "j 3"]
    regions: Int[np.ndarray, "n"]
    fur_mm: Float[np.ndarray, "n"]
    flow: Float[np.ndarray, "n 3"]
    keypoints: Float[np.ndarray, "22 3"]
    keypoint_joints: Int[np.ndarray, "22"]

    def __post_init__(self) -> None:
        if len(self.joints) != len(JOINTS):
            raise ValueError(
                f"{self.name}: {len(self.joints)} joints, expected the {len(JOINTS)} of the common skeleton"
            )
        if self.faces.min() < 0 or self.faces.max() >= len(self.vertices):
            raise ValueError(f"{self.name}: faces name vertices outside 0..{len(self.vertices) - 1}")
        if np.abs(self.weights.sum(1) - 1).max() > 1e-4 or self.weights.min() < 0:
            raise ValueError(f"{self.name}: skinning weights must be non-negative and sum to 1")

    @cached_property
    def dense_weights(self) -> Float[np.ndarray, "n j"]:
        """The same weights over all joints: one matrix product then poses the body."""
        dense = np.zeros((len(self.vertices), len(JOINTS)), dtype=np.float32)
        np.put_along_axis(dense, self.influences, self.weights, axis=1)
        return dense


@dataclass(frozen=True, kw_only=True)
class PosedBody:
    """A body in one pose, millimetres, world +Z up.

    Attributes:
        vertices: Positions.
        normals: Unit, outward.
        flow: Unit direction in which hair lies.
        keypoints: The 22 keypoints.
        joints: The common joints.
    """

    vertices: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    flow: Float[np.ndarray, "n 3"]
    keypoints: Float[np.ndarray, "22 3"]
    joints: Float[np.ndarray, "j 3"]


def pose_body(
    body: Body,
    rotations: Float[np.ndarray, "j 3 3"],
    *,
    joint_scales: Float[np.ndarray, "j 3"] | None = None,
) -> PosedBody:
    """Pose a body by linear blend skinning.

    Args:
        body: The body in rest pose.
        rotations: Of each joint relative to its parent, in the axes of the rest frame; the pelvis turns the whole body.
        joint_scales: Growth along the rest axes of what each joint carries, its children's offsets included; none by
            default.

    Returns:
        The posed body; its pelvis stays where the rest pose has it.
    """
    scales = np.ones((len(JOINTS), 3), dtype=np.float32) if joint_scales is None else joint_scales.astype(np.float32)
    turns, positions = joint_frames(body.joints, rotations, scales)
    linear = turns * scales[:, None, :]  # (J, 3, 3)
    offsets = positions - np.einsum("jab,jb->ja", linear, body.joints)
    blended = body.dense_weights @ np.concatenate([linear.reshape(-1, 9), offsets], axis=1)
    turned = blended[:, :9].reshape(-1, 3, 3)
    vertices = (turned @ body.vertices[:, :, None])[:, :, 0] + blended[:, 9:]
    normals = vertex_normals(vertices, body.faces)
    flow = (turned @ body.flow[:, :, None])[:, :, 0]
    carriers = body.keypoint_joints
    keypoints = np.einsum("kab,kb->ka", linear[carriers], body.keypoints) + offsets[carriers]
    return PosedBody(
        vertices=vertices, normals=normals, flow=along_surface(flow, normals), keypoints=keypoints, joints=positions
    )


def joint_frames(
    rest: Float[np.ndarray, "j 3"], rotations: Float[np.ndarray, "j 3 3"], scales: Float[np.ndarray, "j 3"]
) -> tuple[Float[np.ndarray, "j 3 3"], Float[np.ndarray, "j 3"]]:
    """Forward kinematics: rotation of every joint relative to its rest frame, and its position."""
    turns, positions = np.empty_like(rotations), np.empty_like(rest)
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            turns[joint], positions[joint] = rotations[joint], rest[joint]
            continue
        turns[joint] = turns[parent] @ rotations[joint]
        positions[joint] = positions[parent] + turns[parent] @ (scales[parent] * (rest[joint] - rest[parent]))
    return turns, positions


def vertex_normals(vertices: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "n 3"]:
    """Unit normals of the vertices, averages of their faces' weighted by area."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    face_normals = np.cross(b - a, c - a)
    corners = faces.ravel()
    summed = [np.bincount(corners, np.repeat(face_normals[:, axis], 3), minlength=len(vertices)) for axis in range(3)]
    return normalise(np.stack(summed, axis=1).astype(np.float32))


def normalise(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Vectors of length 1; a null vector stays null."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def along_surface(vectors: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Unit parts of vectors that lie in the surface."""
    return normalise(vectors - (vectors * normals).sum(-1, keepdims=True) * normals)


def strongest(weights: Float[np.ndarray, "n j"]) -> tuple[Int[np.ndarray, "n 4"], Float[np.ndarray, "n 4"]]:
    """The four strongest influences of each vertex, and their weights made to sum to 1."""
    influences = np.argsort(-weights, axis=1, kind="stable")[:, :NUM_INFLUENCES]
    kept = np.take_along_axis(weights, influences, axis=1)
    return influences, kept / kept.sum(1, keepdims=True)


@cache
def procedural_mouse() -> Body:
    """The built-in house mouse, ours, made by `scripts/make_procedural_body.py`."""
    packed = np.load(BytesIO(resources.files("mouselift").joinpath("assets", "procedural_mouse.npz").read_bytes()))
    joints = rest_joints()
    vertices = packed["vertices_um"].astype(np.float32) / 1000.0
    faces = packed["faces"].astype(np.int64)
    weights = packed["weights"].astype(np.float32)
    flow = packed["flow"].astype(np.float32)
    keypoints, carriers = rest_keypoints(joints, back_heights(vertices, joints))
    return Body(
        name="procedural",
        vertices=vertices,
        faces=faces,
        influences=packed["influences"].astype(np.int64),
        weights=weights / weights.sum(1, keepdims=True),
        joints=joints,
        regions=packed["regions"].astype(np.int64),
        fur_mm=packed["fur_um"].astype(np.float32) / 1000.0,
        flow=along_surface(flow, vertex_normals(vertices, faces)),
        keypoints=keypoints,
        keypoint_joints=carriers,
    )


def back_heights(vertices: Float[np.ndarray, "n 3"], joints: Float[np.ndarray, "j 3"]) -> tuple[float, float]:
    """Height of the skin above the neck and above the middle of the back, rest pose, mm."""

    def top_at(x: float) -> float:
        near = (np.abs(vertices[:, 0] - x) < 2.0) & (np.abs(vertices[:, 1]) < 4.0)
        return float(vertices[near, 2].max())

    neck_x = 0.6 * joints[INDEX["neck"], 0] + 0.4 * joints[INDEX["chest"], 0]
    return top_at(float(neck_x)), top_at(float(joints[INDEX["lumbar"], 0]))
