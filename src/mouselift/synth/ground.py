"""The floor: feet are planted on it and the tail lies on it, by small corrections of the joint rotations."""

import numpy as np
from jaxtyping import Float

from mouselift.body.mesh import joint_frames, normalise
from mouselift.body.skeleton import INDEX, NUM_TAIL_JOINTS, PARENTS
from mouselift.synth.pose import rotation_matrices

REARED_RAD = np.deg2rad(28)  # a body that is tilted further lifts its fore paws
CROUCH = 0.66  # how near the trunk's joints may come to the floor, as a share of their rest height
TAIL_CLEARANCE_MM = 1.2
HIND, FORE = ("hip", "knee", "ankle", "toe"), ("shoulder", "elbow", "wrist", "paw")


def stand(
    joints: Float[np.ndarray, "j 3"],
    rotations: Float[np.ndarray, "j 3 3"],
    scales: Float[np.ndarray, "j 3"],
    *,
    fore_paws: bool = True,
    tail_rise_rad: float = np.pi / 2,
) -> Float[np.ndarray, "j 3 3"]:
    """Plant the feet that bear weight, keep the tail out of the floor.

    Args:
        joints: Rest positions of the body's joints, mm, floor at z = 0.
        rotations: Of each joint relative to its parent.
        scales: The individual's `joint_scales`.
        fore_paws: Whether the fore paws may bear weight; they do only when the body is not reared.
        tail_rise_rad: Steepest rise of any part of the tail above the horizontal; a negative one lets the tail sink
            until it lies on the floor.

    Returns:
        Corrected rotations; where the floor lies follows from the posed feet.
    """
    turns, positions = joint_frames(joints, rotations, scales)
    reared = np.arcsin(np.clip(turns[INDEX["thorax"]][2, 0], -1, 1)) > REARED_RAD
    legs = [(chain, side) for chain in ((HIND, FORE) if fore_paws and not reared else (HIND,)) for side in "LR"]
    soles = [positions[INDEX[f"{chain[2]}_{side}"], 2] - joints[INDEX[f"{chain[2]}_{side}"], 2] for chain, side in legs]
    trunk = [INDEX[name] for name in (("pelvis",) if reared else ("pelvis", "lumbar", "thorax", "chest"))]
    floor = min(
        float(np.mean(soles)), float((positions[trunk, 2] - CROUCH * scales[trunk, 2] * joints[trunk, 2]).min())
    )
    for chain, side in legs:
        _plant([INDEX[f"{name}_{side}"] for name in chain], joints, turns, positions, floor)
    _lay_tail(turns, positions, floor + TAIL_CLEARANCE_MM, np.sin(tail_rise_rad))
    parents = np.array(PARENTS)
    local = turns.copy()
    local[1:] = turns[parents[1:]].transpose(0, 2, 1) @ turns[1:]
    return local


def _plant(leg: list[int], joints: np.ndarray, turns: np.ndarray, positions: np.ndarray, floor: float) -> None:
    """Bring one foot flat onto the floor: two-bone inverse kinematics that keeps the plane of the leg."""
    top, middle, end, tip = leg
    a, b, c = positions[[top, middle, end]]
    upper, lower = np.linalg.norm(b - a), np.linalg.norm(c - b)
    target = c.copy()
    target[2] = floor + joints[end, 2]
    reach = np.clip(np.linalg.norm(target - a), 1.08 * abs(upper - lower) + 0.5, 0.97 * (upper + lower))
    new_line, old_line = normalise(target - a), normalise(c - a)
    swing = between(old_line, new_line)
    aside = swing @ normalise(b - a - old_line * ((b - a) @ old_line) + 1e-6 * turns[top][:, 0])
    cosine = np.clip((upper**2 + reach**2 - lower**2) / (2 * upper * reach), -1, 1)
    new_b = a + upper * (cosine * new_line + np.sqrt(1 - cosine**2) * aside)
    new_c = a + reach * new_line
    turns[top] = between(normalise(b - a), normalise(new_b - a)) @ turns[top]
    turns[middle] = between(normalise(c - b), normalise(new_c - new_b)) @ turns[middle]
    pointing, rest = turns[end] @ (joints[tip] - joints[end]), joints[tip] - joints[end]
    body = np.arctan2(turns[0][1, 0], turns[0][0, 0])
    yaw = np.arctan2(pointing[1], pointing[0]) - np.arctan2(rest[1], rest[0]) - body
    yaw = np.clip((yaw + np.pi) % (2 * np.pi) - np.pi, -0.5, 0.5) + body
    turns[end] = rotation_matrices(np.array([0.0, 0.0, yaw]))
    positions[[middle, end]] = new_b, new_c
    positions[tip] = new_c + turns[end] @ rest


def _lay_tail(turns: np.ndarray, positions: np.ndarray, lowest: float, steepest: float) -> None:
    """Bend each segment of the tail down to the slope `steepest`, and up as far as it would dive below `lowest`."""
    first = INDEX["tail_0"]
    for i in range(first, first + NUM_TAIL_JOINTS):
        segment = positions[i + 1] - positions[i]
        length = np.linalg.norm(segment)
        rise = np.clip(max(min(segment[2] / length, steepest), (lowest - positions[i, 2]) / length), -0.95, 0.95)
        if abs(rise - segment[2] / length) < 1e-6:
            continue
        flat = normalise(np.array([segment[0], segment[1], 0.0]) + 1e-6)
        wanted = np.sqrt(1 - rise**2) * flat + [0, 0, rise]
        turn = between(segment / length, wanted)
        below = slice(i, first + NUM_TAIL_JOINTS)
        turns[below] = turn @ turns[below]
        rest = slice(i + 1, first + NUM_TAIL_JOINTS + 1)
        positions[rest] = positions[i] + (positions[rest] - positions[i]) @ turn.T


def between(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that turns unit vector a into unit vector b."""
    axis = np.cross(a, b)
    sine, cosine = np.linalg.norm(axis), float(a @ b)
    if sine < 1e-8:
        axis = np.cross(a, [0.0, 0.0, 1.0] if abs(a[2]) < 0.9 else [1.0, 0.0, 0.0])
        return np.eye(3, dtype=np.float32) if cosine > 0 else rotation_matrices(np.pi * normalise(axis))
    return rotation_matrices(axis / sine * np.arctan2(sine, cosine))
