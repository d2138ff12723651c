"""Rotations, rigid transforms and similarities: pure functions on tensors, column vectors throughout."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def quat_to_rotmat(quats: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Turn quaternions (w, x, y, z) of any non-zero length into rotation matrices."""
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def rotmat_to_quat(rotations: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Turn rotation matrices into unit quaternions (w, x, y, z) with w >= 0.

    The largest of the four components is found first (Shepperd's method), so no angle loses precision.
    """
    m00, m11, m22 = rotations[..., 0, 0], rotations[..., 1, 1], rotations[..., 2, 2]
    off = rotations - rotations.mT
    sym = rotations + rotations.mT
    candidates = torch.stack(  # each row is 4 * q_k * q for one k; the row with the largest q_k is exact
        [
            torch.stack([1 + m00 + m11 + m22, off[..., 2, 1], off[..., 0, 2], off[..., 1, 0]], -1),
            torch.stack([off[..., 2, 1], 1 + m00 - m11 - m22, sym[..., 0, 1], sym[..., 0, 2]], -1),
            torch.stack([off[..., 0, 2], sym[..., 0, 1], 1 - m00 + m11 - m22, sym[..., 1, 2]], -1),
            torch.stack([off[..., 1, 0], sym[..., 0, 2], sym[..., 1, 2], 1 - m00 - m11 + m22], -1),
        ],
        dim=-2,
    )
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    quats = F.normalize(candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2), dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def quat_multiply(a: Float[Tensor, "*#batch 4"], b: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*out 4"]:
    """Hamilton product of quaternions (w, x, y, z): the rotation b followed by a."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def rigid(rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4 4"]:
    """Assemble the 4x4 matrix of x -> rotation @ x + translation."""
    matrix = torch.zeros(*rotation.shape[:-2], 4, 4, dtype=rotation.dtype, device=rotation.device)
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = translation
    matrix[..., 3, 3] = 1
    return matrix


def invert_rigid(matrix: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Invert rigid 4x4 transforms exactly, by transposing the rotation."""
    rotation_inverse = matrix[..., :3, :3].mT
    return rigid(rotation_inverse, -(rotation_inverse @ matrix[..., :3, 3:]).squeeze(-1))


def apply_rigid(
    matrix: Float[Tensor, "*#batch 4 4"], points: Float[Tensor, "*#batch n 3"]
) -> Float[Tensor, "*out n 3"]:
    """Map points by 4x4 transforms whose last row is (0, 0, 0, 1); batch dimensions broadcast."""
    return points @ matrix[..., :3, :3].mT + matrix[..., None, :3, 3]


def look_at(
    eye: Float[Tensor, "*#batch 3"],
    target: Float[Tensor, "*#batch 3"],
    up: Float[Tensor, "*#batch 3"] | None = None,
) -> Float[Tensor, "*out 4 4"]:
    """World-to-camera transforms of OpenCV cameras at `eye` that look at `target`.

    Args:
        eye: Camera centres, world.
        target: The point that falls on the optical axis, world; not the eye itself.
        up: The world direction that points up in the image; +Z when not given. For a view along it, +Y
            takes its place (+Z if it is +Y), so that a camera above the subject is well defined.
    """
    forward = F.normalize(target - eye, dim=-1)
    wanted_up = forward.new_tensor([0.0, 0.0, 1.0]) if up is None else F.normalize(up, dim=-1)
    wanted_up = wanted_up.expand_as(forward)
    spare_up = torch.where(
        forward[..., 1:2].abs() > 0.9,
        forward.new_tensor([0.0, 0.0, 1.0]),
        forward.new_tensor([0.0, 1.0, 0.0]),
    )
    sine = torch.cross(forward, wanted_up, dim=-1).square().sum(-1, keepdim=True).sqrt()
    right = F.normalize(torch.cross(forward, torch.where(sine < 1e-6, spare_up, wanted_up), dim=-1), dim=-1)
    down = torch.cross(forward, right, dim=-1)
    rotation = torch.stack([right, down, forward], dim=-2)
    return rigid(rotation, -(rotation @ eye[..., None]).squeeze(-1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Similarity:
    """x -> scale * rotation @ x + translation; named `a_from_b` wherever it is stored.

    Attributes:
        scale: (), positive.
        rotation: (3, 3), det +1.
        translation: (3,), in the units of the frame it maps to.
    """

    scale: Float[Tensor, ""]
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]

    def __post_init__(self) -> None:
        check_rotation(self.rotation, "similarity")
        scale = float(self.scale.detach())
        if not 0 < scale < math.inf:
            raise ValueError(f"a similarity needs a positive, finite scale, found {scale}")
        if not bool(torch.isfinite(self.translation).all()):
            raise ValueError("a similarity needs a finite translation")

    @classmethod
    def identity(cls, dtype: torch.dtype = torch.float32) -> "Similarity":
        """The similarity that changes nothing."""
        return cls.from_matrix(torch.eye(4, dtype=dtype))

    @classmethod
    def from_matrix(cls, matrix: Float[Tensor, "4 4"]) -> "Similarity":
        """Read a 4x4 matrix whose upper left block is scale * rotation and whose last row is (0, 0, 0, 1)."""
        last_row = tuple(float(value) for value in matrix[3].detach())
        if last_row != (0, 0, 0, 1):
            raise ValueError(f"similarity: the last row is {last_row}, expected (0, 0, 0, 1); is it transposed?")
        scale = torch.det(matrix[:3, :3]).abs().pow(1 / 3)
        return cls(scale=scale, rotation=matrix[:3, :3] / scale, translation=matrix[:3, 3])

    def matrix(self) -> Float[Tensor, "4 4"]:
        """The same map as a 4x4 matrix."""
        return rigid(self.scale * self.rotation, self.translation)

    def apply(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Map points."""
        return self.scale * points @ self.rotation.mT + self.translation

    def inverse(self) -> "Similarity":
        """The map back."""
        rotation, scale = self.rotation.mT, 1 / self.scale
        return Similarity(scale=scale, rotation=rotation, translation=-scale * (rotation @ self.translation))

    def __matmul__(self, other: "Similarity") -> "Similarity":
        """Compose: `(a_from_b @ b_from_c)` is `a_from_c`."""
        return Similarity(
            scale=self.scale * other.scale,
            rotation=self.rotation @ other.rotation,
            translation=self.apply(other.translation),
        )


def check_rotation(rotation: Float[Tensor, "*batch 3 3"], what: str) -> None:
    """Raise ValueError unless every matrix is finite, orthonormal and not mirrored.

    Args:
        rotation: The matrices.
        what: What they belong to, for the message.
    """
    matrices = rotation.detach().double()
    if not bool(torch.isfinite(matrices).all()):
        raise ValueError(f"{what}: the rotation has values that are not finite")
    identity = torch.eye(3, dtype=torch.float64, device=matrices.device)
    deviation = (matrices @ matrices.mT - identity).abs().amax((-2, -1))
    if bool((deviation > 1e-3).any()):
        worst = int(deviation.flatten().argmax())
        raise ValueError(
            f"{what} {worst}: the rotation is not orthonormal (R R^T differs from the identity by "
            f"{float(deviation.max()):.2g}, expected at most 1e-3)"
        )
    # the triple product: LAPACK's determinant costs more than all else that making cameras does
    determinants = (torch.cross(matrices[..., 0, :], matrices[..., 1, :], dim=-1) * matrices[..., 2, :]).sum(-1)
    if bool((determinants < 0).any()):
        worst = int(determinants.flatten().argmin())
        raise ValueError(f"{what} {worst}: det(R) = -1, a mirrored pose; is an axis flipped?")
