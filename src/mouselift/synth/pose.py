"""Poses: a prior fitted to recorded mice, and behaviours that such short recordings miss."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import BytesIO

import numpy as np
from jaxtyping import Float

from mouselift.body.build import TAIL, Build
from mouselift.body.skeleton import INDEX, NUM_TAIL_JOINTS

BEHAVIOURS = ("recorded", "walking", "curled", "rearing", "grooming", "stretched", "sitting")
BEHAVIOUR_SHARES = (0.30, 0.20, 0.13, 0.12, 0.09, 0.06, 0.10)
MAX_DEVIATIONS = 2.2  # a principal component never goes further
LYING_TAIL_SHARE = 0.7
SPINE = ("lumbar", "thorax", "chest", "neck", "head")
ROLL, PITCH, YAW = 0, 1, 2  # about +X, +Y (nose down), +Z (nose to the left)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Joint rotations of one instant.

    Attributes:
        angles: Axis-angle in radians of each joint relative to its parent, in the axes of the rest frame; the pelvis
            entry is the tilt of the whole body.
        heading_rad: Where the body points, counter-clockwise about +Z from +X.
        behaviour: One of `BEHAVIOURS`.
        tail_rise_rad: How steeply any part of the tail may rise; negative where the tail lies on the floor.
    """

    angles: Float[np.ndarray, "j 3"]
    heading_rad: float
    behaviour: str
    tail_rise_rad: float = np.pi / 2

    def rotations(self) -> Float[np.ndarray, "j 3 3"]:
        """The same as matrices; the heading is in the pelvis's."""
        matrices = rotation_matrices(self.angles)
        matrices[0] = rotation_matrices(np.array([0.0, 0.0, self.heading_rad])) @ matrices[0]
        return matrices


def rotation_matrices(axis_angle: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rodrigues' formula."""
    angle = np.linalg.norm(axis_angle, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(axis_angle, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*axis_angle.shape[:-1], 3, 3)
    a = np.sinc(angle / np.pi)
    b = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return (np.eye(3) + a * cross + b * (cross @ cross)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class PosePrior:
    """A normal distribution of joint angles over a few principal components, with limits; `scripts/fit_pose_prior.py`.

    Attributes:
        mean: The average pose, radians.
        components: Orthonormal directions of variation.
        deviations: Standard deviation along each of them.
        low: Smallest angle seen (1st percentile).
        high: Largest angle seen (99th percentile).
    """

    mean: Float[np.ndarray, "j 3"]
    components: Float[np.ndarray, "c j 3"]
    deviations: Float[np.ndarray, "c"]
    low: Float[np.ndarray, "j 3"]
    high: Float[np.ndarray, "j 3"]

    @classmethod
    def load(cls) -> "PosePrior":
        """The prior that ships with the package: statistics of two recordings (see NOTICE), not the recordings."""
        return cls(**_prior_arrays())

    def sample(self, rng: np.random.Generator) -> Pose:
        """One pose: a recorded-like one, or one of the staged behaviours on top of it."""
        behaviour = str(rng.choice(BEHAVIOURS, p=BEHAVIOUR_SHARES))
        strength = 1.0 if behaviour == "recorded" else 0.45
        angles = self.recorded(rng, strength)
        if behaviour != "recorded":
            angles[0] *= 0.3
            _STAGED[behaviour](angles, rng)
        angles[[INDEX[name] for name in SPINE]] += rng.normal(0, 0.05, (len(SPINE), 3))
        _turn_head(angles, rng)
        _swing_tail(angles, rng)
        for side in "LR":
            angles[INDEX[f"ear_{side}"]] += rng.normal(0, 0.15, 3)
        # Mice trail their tails on the floor (the labels' median heights: middle 7 mm, end 2 mm) and seldom lift them.
        rise_deg = rng.uniform(-30, 5) if rng.random() < LYING_TAIL_SHARE else rng.uniform(5, 60)
        return Pose(
            angles=angles.astype(np.float32),
            heading_rad=float(rng.uniform(-np.pi, np.pi)),
            behaviour=behaviour,
            tail_rise_rad=float(np.deg2rad(rise_deg)),
        )

    def recorded(self, rng: np.random.Generator, strength: float) -> Float[np.ndarray, "j 3"]:
        """Angles drawn from the prior; `strength` scales the departure from its mean (0 to 1)."""
        scores = (
            np.clip(rng.normal(size=len(self.deviations)), -MAX_DEVIATIONS, MAX_DEVIATIONS) * self.deviations * strength
        )
        angles = np.clip(self.mean + np.tensordot(scores, self.components, axes=1), self.low, self.high)
        return angles.astype(np.float64)


@cache
def _prior_arrays() -> dict[str, np.ndarray]:
    packed = np.load(BytesIO(resources.files("mouselift").joinpath("assets", "pose_prior.npz").read_bytes()))
    return {name: packed[name] for name in packed.files}


def _bend(angles: np.ndarray, joints: tuple[str, ...], axis: int, total_deg: float) -> None:
    """Spread a rotation evenly over a chain of joints."""
    angles[[INDEX[name] for name in joints], axis] += np.deg2rad(total_deg) / len(joints)


def _both(angles: np.ndarray, joint: str, axis: int, left_deg: float, right_deg: float) -> None:
    """Turn a joint of both sides."""
    angles[INDEX[f"{joint}_L"], axis] += np.deg2rad(left_deg)
    angles[INDEX[f"{joint}_R"], axis] += np.deg2rad(right_deg)


def _walk(angles: np.ndarray, rng: np.random.Generator) -> None:
    phase, stride = rng.uniform(0, 2 * np.pi), rng.uniform(10, 28)
    swing = stride * np.sin(phase)
    _both(angles, "hip", PITCH, swing, -swing)
    _both(angles, "shoulder", PITCH, -swing, swing)
    _bend(angles, SPINE[:3], YAW, rng.normal(0, 14) + 5 * np.sin(phase))
    _bend(angles, SPINE[3:], PITCH, rng.normal(0, 10))


def _curl(angles: np.ndarray, rng: np.random.Generator) -> None:
    side = rng.choice([-1, 1])
    _bend(angles, SPINE, YAW, side * rng.uniform(50, 125))
    _bend(angles, SPINE, PITCH, rng.uniform(0, 45))
    _bend(angles, TAIL, YAW, -side * rng.uniform(0, 150))


def _rear(angles: np.ndarray, rng: np.random.Generator) -> None:
    lift = rng.uniform(30, 75)
    _bend(angles, ("pelvis",), PITCH, -lift)
    _bend(angles, SPINE[:3], PITCH, rng.uniform(-25, 20))
    _bend(angles, SPINE[3:], PITCH, rng.uniform(0.0, 0.9) * lift)
    _both(angles, "hip", PITCH, 0.7 * lift, 0.7 * lift)
    reach = rng.uniform(-40, 20)
    _both(angles, "shoulder", PITCH, reach + rng.normal(0, 12), reach + rng.normal(0, 12))
    _bend(angles, TAIL[:2], PITCH, 0.8 * lift)


def _groom(angles: np.ndarray, rng: np.random.Generator) -> None:
    lift = rng.uniform(30, 55)
    _bend(angles, ("pelvis",), PITCH, -lift)
    _bend(angles, SPINE[:3], PITCH, rng.uniform(25, 55))
    _bend(angles, SPINE[3:], PITCH, rng.uniform(35, 60))
    _both(angles, "hip", PITCH, 0.7 * lift, 0.7 * lift)
    reach = rng.uniform(50, 80)
    _both(angles, "shoulder", PITCH, -reach, -reach + rng.normal(0, 15))
    _both(angles, "elbow", PITCH, -25, -25)
    _bend(angles, TAIL[:2], PITCH, 0.8 * lift)


def _stretch(angles: np.ndarray, rng: np.random.Generator) -> None:
    _bend(angles, SPINE[:3], PITCH, rng.uniform(-30, -8))
    _bend(angles, SPINE[3:], PITCH, rng.uniform(-10, 15))
    _both(angles, "shoulder", PITCH, *rng.uniform(-35, -5, 2))
    _both(angles, "hip", PITCH, *rng.uniform(0, 35, 2))


def _sit(angles: np.ndarray, rng: np.random.Generator) -> None:
    """Hunched on four feet: the egg that a resting mouse is."""
    _bend(angles, ("pelvis",), PITCH, -rng.uniform(5, 25))
    _bend(angles, SPINE[:3], PITCH, rng.uniform(25, 60))
    _bend(angles, SPINE[3:], PITCH, rng.uniform(-35, 10))
    _bend(angles, SPINE, YAW, rng.normal(0, 12))
    _bend(angles, TAIL, YAW, rng.normal(0, 60))


_STAGED = {
    "walking": _walk,
    "curled": _curl,
    "rearing": _rear,
    "grooming": _groom,
    "stretched": _stretch,
    "sitting": _sit,
}


def _turn_head(angles: np.ndarray, rng: np.random.Generator) -> None:
    for axis, spread_deg in ((ROLL, 6), (PITCH, 10), (YAW, 14)):
        _bend(angles, ("neck", "head"), axis, rng.normal(0, spread_deg))


def _swing_tail(angles: np.ndarray, rng: np.random.Generator) -> None:
    """A smooth random curve along the tail: its curvature is a random walk."""
    for axis, spread_deg in ((YAW, 9.0), (PITCH, 3.0)):
        walk = np.cumsum(rng.normal(0, 0.6, NUM_TAIL_JOINTS)) + rng.normal(0, 0.8)
        angles[INDEX[TAIL[0]] : INDEX[TAIL[-1]] + 1, axis] += np.deg2rad(spread_deg) * walk


def sample_build(rng: np.random.Generator) -> Build:
    """One individual."""
    draw = np.clip(rng.normal(size=6), -2, 2)
    factors = np.exp(draw * [0.045, 0.070, 0.08, 0.05, 0.10, 0.03])
    return Build(**dict(zip(Build.__dataclass_fields__, map(float, factors), strict=True)))
