"""`BodyPose`: poses as tensors, and how they move the skeleton and the skin; differentiable, any batch."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mouselift.body.build import joint_scales
from mouselift.body.mesh import Body, procedural_mouse
from mouselift.body.skeleton import INDEX, JOINTS, PARENTS
from mouselift.geometry import Similarity

_SWAPPED_SIDE = {"L": "R", "R": "L"}
MIRRORED_JOINTS = tuple(
    INDEX[f"{name[:-1]}{_SWAPPED_SIDE[name[-1]]}"] if name.endswith(("_L", "_R")) else i
    for i, name in enumerate(JOINTS)
)


@dataclass(frozen=True, kw_only=True, eq=False)
class BodyPose:
    """Poses of a body, any batch shape.

    Attributes:
        rotations: Of each joint relative to its parent, in the axes of the rest frame; the pelvis's turns the rest
            frame into the frame that the pose is in.
        factors: The individual, in the order of `Build`.
        root: Where the pelvis is.
        unit: Units of the frame per millimetre.
    """

    rotations: Float[Tensor, "*batch j 3 3"]
    factors: Float[Tensor, "*batch 6"]
    root: Float[Tensor, "*batch 3"]
    unit: Float[Tensor, "*batch"]

    def transformed(self, similarity: Similarity) -> "BodyPose":
        """The same poses in another frame; float32 or the similarity's own precision."""
        scale, rotation = similarity.scale.to(self.root), similarity.rotation.to(self.root)
        pelvis = rotation @ self.rotations[..., :1, :, :]
        return BodyPose(
            rotations=torch.cat([pelvis, self.rotations[..., 1:, :, :]], dim=-3),
            factors=self.factors,
            root=scale * self.root @ rotation.mT + similarity.translation.to(self.root),
            unit=scale * self.unit,
        )

    def mirrored(self) -> "BodyPose":
        """What a mirror on the plane x = 0 of the frame shows: left and right change places."""
        outside, inside = (torch.diag(self.root.new_tensor(signs)) for signs in ([-1.0, 1, 1], [1.0, -1, 1]))
        swapped = self.rotations[..., list(MIRRORED_JOINTS), :, :]
        turned = inside @ swapped @ inside
        pelvis = outside @ self.rotations[..., :1, :, :] @ inside
        return BodyPose(
            rotations=torch.cat([pelvis, turned[..., 1:, :, :]], dim=-3),
            factors=self.factors,
            root=self.root @ outside,
            unit=self.unit,
        )

    def __getitem__(self, index: int | Tensor) -> "BodyPose":
        """Index the first batch dimension."""
        return BodyPose(
            rotations=self.rotations[index], factors=self.factors[index], root=self.root[index], unit=self.unit[index]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BodyTensors:
    """What posing needs of a `Body`, rest pose, mm.

    Attributes:
        joints: The skeleton.
        keypoints: The 22 keypoints.
        keypoint_joints: What carries them.
        vertices: Points of the skin, all of them or some.
        weights: Their skinning weights over all joints.
    """

    joints: Float[Tensor, "j 3"]
    keypoints: Float[Tensor, "22 3"]
    keypoint_joints: Int[Tensor, "22"]
    vertices: Float[Tensor, "n 3"]
    weights: Float[Tensor, "n j"]

    @classmethod
    def of(cls, body: Body, vertices: Int[Tensor, "k"] | None = None) -> "BodyTensors":
        """Tensors of a body, of some of its vertices only if asked."""
        chosen = slice(None) if vertices is None else vertices
        return cls(
            joints=torch.from_numpy(body.joints).float(),
            keypoints=torch.from_numpy(body.keypoints).float(),
            keypoint_joints=torch.from_numpy(body.keypoint_joints),
            vertices=torch.from_numpy(body.vertices).float()[chosen],
            weights=torch.from_numpy(body.dense_weights).float()[chosen],
        )


@cache
def mouse_tensors() -> BodyTensors:
    """The built-in mouse."""
    return BodyTensors.of(procedural_mouse())


def joint_transforms(
    joints: Float[Tensor, "j 3"], pose: BodyPose
) -> tuple[Float[Tensor, "*batch j 3 3"], Float[Tensor, "*batch j 3"]]:
    """Forward kinematics.

    Returns:
        For each joint the linear part and the offset of the map from rest (mm) to the pose's frame.
    """
    scales = joint_scales(pose.factors) * pose.unit[..., None, None]
    turns: list[Tensor] = []
    positions: list[Tensor] = []
    for joint, parent in enumerate(PARENTS):
        own = pose.rotations[..., joint, :, :]
        if parent < 0:
            turns.append(own)
            positions.append(pose.root)
            continue
        turns.append(turns[parent] @ own)
        bone = scales[..., parent, :] * (joints[joint] - joints[parent])
        positions.append(positions[parent] + (turns[parent] @ bone[..., None])[..., 0])
    linear = torch.stack(turns, dim=-3) * scales[..., None, :]
    return linear, torch.stack(positions, dim=-2) - (linear @ joints[..., None])[..., 0]


def posed_keypoints(body: BodyTensors, pose: BodyPose) -> Float[Tensor, "*batch 22 3"]:
    """The 22 keypoints in the pose's frame."""
    linear, offsets = joint_transforms(body.joints, pose)
    carriers = body.keypoint_joints
    return (linear[..., carriers, :, :] @ body.keypoints[..., None])[..., 0] + offsets[..., carriers, :]


def posed_vertices(
    body: BodyTensors, pose: BodyPose
) -> tuple[Float[Tensor, "*batch n 3"], Float[Tensor, "*batch n 3 3"]]:
    """Linear blend skinning.

    Returns:
        The skin's points in the pose's frame, and the linear map that carries directions at each of them.
    """
    linear, offsets = joint_transforms(body.joints, pose)
    maps = torch.cat([linear.flatten(-2), offsets], dim=-1)  # (..., J, 12)
    blended = body.weights @ maps
    turned = blended[..., :9].unflatten(-1, (3, 3))
    return (turned @ body.vertices[..., None])[..., 0] + blended[..., 9:], turned
