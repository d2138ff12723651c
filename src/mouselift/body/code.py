"""Poses as plain vectors: what a network predicts and an optimiser changes.

A code describes a body as one framed picture shows it, in the frame of a camera that looks at the middle of the
picture (+X right, +Y down, +Z forward), whose origin lies on the optical axis at the subject's distance and whose unit
is half the width of the picture there. So it needs neither the camera's elevation nor its distance, and it tells where
"up" is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.body.pose import BodyPose
from mouselift.body.skeleton import INDEX, JOINTS, LEAVES

TURNING = tuple(i for i, name in enumerate(JOINTS) if name not in LEAVES and i != INDEX["pelvis"])
WHOLE_DIM = 18  # pelvis (two columns of its rotation), root, log of the unit, logs of five factors, up
UP_ENTRIES = slice(15, 18)
CODE_DIM = WHOLE_DIM + 3 * len(TURNING)
MM_PER_HALF_WIDTH = 60.0  # of a usual picture: the log of the unit is about 0


def _entries(*prefixes: str) -> tuple[int, ...]:
    return tuple(
        WHOLE_DIM + 3 * slot + axis
        for slot, joint in enumerate(TURNING)
        if JOINTS[joint].startswith(prefixes)
        for axis in range(3)
    )


# The entries of a code by part of the body; every entry is in exactly one of them.
PARTS: dict[str, tuple[int, ...]] = {
    "whole": tuple(range(WHOLE_DIM)),
    "spine": _entries("lumbar", "thorax", "chest", "neck", "head"),
    "ears": _entries("ear"),
    "fore_L": _entries("shoulder_L", "elbow_L", "wrist_L"),
    "fore_R": _entries("shoulder_R", "elbow_R", "wrist_R"),
    "hind_L": _entries("hip_L", "knee_L", "ankle_L"),
    "hind_R": _entries("hip_R", "knee_R", "ankle_R"),
    "tail": _entries("tail"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenPose:
    """A pose in the frame of the picture (see above).

    Attributes:
        pose: The body.
        up: Unit vector against gravity.
    """

    pose: BodyPose
    up: Float[Tensor, "*batch 3"]

    def mirrored(self) -> "SeenPose":
        """As the mirrored picture shows it."""
        return SeenPose(pose=self.pose.mirrored(), up=self.up * self.up.new_tensor([-1.0, 1, 1]))


def encode(seen: SeenPose) -> Float[Tensor, "*batch 99"]:
    """Pose to vector; the size of the individual goes into the unit."""
    pose = seen.pose
    turning = pose.rotations[..., list(TURNING), :, :]
    log_unit = (pose.unit * pose.factors[..., 0] * MM_PER_HALF_WIDTH).log()
    whole = [
        pose.rotations[..., 0, :, :2].mT.flatten(-2),
        pose.root,
        log_unit[..., None],
        pose.factors[..., 1:].log(),
        seen.up,
    ]
    return torch.cat([*whole, axis_angle(turning).flatten(-2)], dim=-1)


def decode(code: Float[Tensor, "*batch 99"]) -> SeenPose:
    """Vector to pose; the inverse of `encode` up to the individual's size, which is 1."""
    six, root, log_unit, factors, up, angles = code.split([6, 3, 1, 5, 3, CODE_DIM - WHOLE_DIM], dim=-1)
    x = F.normalize(six[..., :3], dim=-1)  # Zhou et al. 2019, On the Continuity of Rotation Representations
    y = F.normalize(six[..., 3:] - (x * six[..., 3:]).sum(-1, keepdim=True) * x, dim=-1)
    pelvis = torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)
    turned = rotations(angles.unflatten(-1, (-1, 3)))
    identity = torch.eye(3, dtype=code.dtype, device=code.device).expand_as(pelvis)
    slots = {joint: slot for slot, joint in enumerate(TURNING)}
    per_joint = [turned[..., slots[j], :, :] if j in slots else identity for j in range(1, len(JOINTS))]
    pose = BodyPose(
        rotations=torch.stack([pelvis, *per_joint], dim=-3),
        factors=torch.cat([torch.ones_like(log_unit), factors.exp()], dim=-1),
        root=root,
        unit=log_unit[..., 0].exp() / MM_PER_HALF_WIDTH,
    )
    return SeenPose(pose=pose, up=F.normalize(up, dim=-1))


def rotations(angles: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Axis-angle (rad) to matrices: Rodrigues' formula, smooth at zero."""
    x, y, z = angles.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle = (angles.square().sum(-1) + 1e-12).sqrt()[..., None, None]
    identity = torch.eye(3, dtype=angles.dtype, device=angles.device)
    return identity + (angle.sin() / angle) * cross + 2 * ((angle / 2).sin() / angle).square() * (cross @ cross)


def axis_angle(matrices: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The inverse of `rotations`, for turns of less than half a circle."""
    skew = (matrices - matrices.mT) / 2
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)  # sin(angle) * unit axis
    sine = axis.norm(dim=-1)
    cosine = (matrices.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return axis * torch.where(sine > 1e-6, angle / sine.clamp_min(1e-6), torch.ones_like(sine))[..., None]
