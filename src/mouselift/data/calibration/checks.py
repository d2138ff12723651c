"""What the cameras of a rig say about each other: evidence for faults that no single camera shows."""

from itertools import combinations

import torch
from jaxtyping import Float64
from torch import Tensor

from mouselift.data.calibration.record import Calibration
from mouselift.errors import InputError
from mouselift.geometry.transforms import invert_rigid

MIN_CAMERAS = 5  # what fewer cameras have in common, they may have by chance
# Length of the mean of the cameras' downward axes: below the first they share none, above the second they hang upright.
ASKEW, UPRIGHT = 0.5, 0.95
MEETS = 0.25  # the axes of a rig around a subject pass one point within this share of its distance


def suspicious_pairs(calibration: Calibration, centre_mm: float = 1e-3, rotation: float = 1e-6) -> list[str]:
    """Pairs of cameras in the same place with the same direction, which only a copied entry explains.

    Args:
        calibration: The rig.
        centre_mm: Centres closer than this are the same.
        rotation: Rotation matrices whose values differ by less are the same.

    Returns:
        One sentence for each pair; empty when there is none.
    """
    sentences = []
    for a, b in combinations(calibration.cameras, 2):
        apart = (invert_rigid(a.w2c)[:3, 3] - invert_rigid(b.w2c)[:3, 3]).norm()
        if apart < centre_mm and (a.w2c[:3, :3] - b.w2c[:3, :3]).abs().max() < rotation:
            too = " and the same intrinsics" if torch.equal(a.K, b.K) else ""
            sentences.append(
                f"{calibration.source}: cameras {a.name!r} and {b.name!r} have the same position and rotation{too}; "
                "one of them was copied from the other"
            )
    return sentences


def check_rotations(calibration: Calibration) -> None:
    """Refuse a rig whose cameras hang askew as it is read, and upright once its matrices are turned round.

    Both readings of a rotation are rotations, so only the rig as a whole tells them apart. Fewer than five cameras are
    never refused, nor are rigs that are upright neither way, such as those that look down from all sides.

    Raises:
        InputError: The cameras are upright, and look at one point, when R is transposed or w2c inverted; not as read.
    """
    w2c = torch.stack([camera.w2c for camera in calibration.cameras])
    found = uprightness(w2c)
    if len(w2c) < MIN_CAMERAS or found > ASKEW:
        return
    transposed = w2c.clone()
    transposed[:, :3, :3] = w2c[:, :3, :3].mT
    readings = {"R looks transposed": transposed, "w2c looks like camera-to-world": invert_rigid(w2c)}
    cause = min(readings, key=lambda name: axes_miss(readings[name]))
    expected = uprightness(readings[cause])
    if expected > UPRIGHT and axes_miss(readings[cause]) < MEETS:
        raise InputError(
            f"{calibration.source}: expected upright cameras, found downward axes whose mean has length {found:.2f} "
            f"as read and {expected:.2f} the other way round; {cause}"
        )


def uprightness(w2c: Float64[Tensor, "v 4 4"]) -> float:
    """Length of the mean of the cameras' downward axes, in [0, 1]; 1 where all share one."""
    return float(w2c[:, 1, :3].mean(0).norm())


def axes_miss(w2c: Float64[Tensor, "v 4 4"]) -> float:
    """How far the optical axes pass the point nearest to all of them, as a share of the cameras' mean distance to it.

    Returns:
        Root mean square; 0 for axes that meet in one point, infinite when that point lies behind a camera or the axes
        are parallel.
    """
    centres, forward = invert_rigid(w2c)[:, :3, 3], w2c[:, 2, :3]
    across = torch.eye(3, dtype=w2c.dtype) - forward[:, :, None] * forward[:, None, :]
    normal = across.sum(0)
    if torch.linalg.cond(normal) > 1e8:
        return float("inf")
    focus = torch.linalg.solve(normal, (across @ centres[..., None]).sum(0)).squeeze(-1)
    offset = focus - centres
    if bool(((offset * forward).sum(-1) <= 0).any()):
        return float("inf")
    passed_at = (across @ offset[..., None]).squeeze(-1).norm(dim=-1)
    return float(passed_at.square().mean().sqrt() / offset.norm(dim=-1).mean())
