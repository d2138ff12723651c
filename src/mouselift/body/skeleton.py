"""The skeleton that every synthetic body shares, its rest pose, and the 22 keypoints that it carries.

Rest frame: millimetres, +X towards the nose, +Y to the animal's left, +Z up, the floor at z = 0. The rest pose is a
mouse that stands on four feet. Proportions follow the 22-keypoint labels of DANNCE's `markerless_mouse_1` (ears
18 mm apart, nose to neck 36 mm, lower hind leg 16 mm, fore arm 12 mm), with a house mouse's full tail.
"""

from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

# joint -> (parent, rest position in mm). Leaves ("nose", "*_tip", "paw_*", "toe_*") only end a bone and never turn.
_MIDDLE: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "pelvis": (None, (-25.0, 0.0, 19.0)),
    "lumbar": ("pelvis", (-14.0, 0.0, 21.5)),
    "thorax": ("lumbar", (-2.0, 0.0, 21.0)),
    "chest": ("thorax", (9.0, 0.0, 19.5)),
    "neck": ("chest", (17.0, 0.0, 20.0)),
    "head": ("neck", (23.0, 0.0, 20.5)),
    "nose": ("head", (46.0, 0.0, 13.0)),
}
_LEFT: dict[str, tuple[str, tuple[float, float, float]]] = {
    "ear": ("head", (22.0, 7.2, 26.0)),
    "ear_tip": ("ear", (17.5, 13.0, 37.0)),
    "shoulder": ("chest", (10.0, 8.0, 14.5)),
    "elbow": ("shoulder", (2.0, 9.8, 8.0)),
    "wrist": ("elbow", (10.0, 10.0, 2.4)),
    "paw": ("wrist", (15.5, 10.5, 0.8)),
    "hip": ("pelvis", (-24.0, 6.5, 17.0)),
    "knee": ("hip", (-14.0, 11.0, 12.0)),
    "ankle": ("knee", (-28.0, 10.5, 4.6)),
    "toe": ("ankle", (-11.0, 12.5, 0.8)),
}
NUM_TAIL_JOINTS = 8
TAIL_START_MM = (-37.5, 0.0, 14.0)
TAIL_LENGTH_MM = 78.0
_TAIL_SLOPE = 0.14  # the rest tail is straight and sinks a little


def _tail() -> dict[str, tuple[str, tuple[float, float, float]]]:
    names = [f"tail_{i}" for i in range(NUM_TAIL_JOINTS)] + ["tail_tip"]
    step = TAIL_LENGTH_MM / NUM_TAIL_JOINTS / np.hypot(1.0, _TAIL_SLOPE)
    x, y, z = TAIL_START_MM
    return {
        name: ("pelvis" if i == 0 else names[i - 1], (x - i * step, y, z - i * step * _TAIL_SLOPE))
        for i, name in enumerate(names)
    }


def _all_joints() -> dict[str, tuple[str | None, tuple[float, float, float]]]:
    joints = dict(_MIDDLE)
    for suffix, sign in (("_L", 1.0), ("_R", -1.0)):
        for name, (parent, (x, y, z)) in _LEFT.items():
            joints[name + suffix] = (parent + suffix if parent in _LEFT else parent, (x, sign * y, z))
    return joints | _tail()


_JOINTS = _all_joints()
JOINTS: tuple[str, ...] = tuple(_JOINTS)
INDEX = MappingProxyType({name: i for i, name in enumerate(JOINTS)})
PARENTS: tuple[int, ...] = tuple(-1 if parent is None else INDEX[parent] for parent, _ in _JOINTS.values())
LEAVES = frozenset(name for name in JOINTS if INDEX[name] not in PARENTS)

# Order: DANNCE's 22 mouse keypoints. The names are those of MAMMAL's lists, which call the wrist "paw_end", the hind
# leg's ankle "knee" and its knee "hip" (DANNCE: WristL, AnkleL, KneeL).
KEYPOINTS: tuple[str, ...] = (
    "L_ear", "R_ear", "nose", "neck", "body_middle", "tail_root", "tail_middle", "tail_end",
    "L_paw", "L_paw_end", "L_elbow", "L_shoulder", "R_paw", "R_paw_end", "R_elbow", "R_shoulder",
    "L_foot", "L_knee", "L_hip", "R_foot", "R_knee", "R_hip",
)  # fmt: skip


def rest_joints() -> Float[np.ndarray, "j 3"]:
    """Rest positions of the built-in mouse's joints, mm."""
    return np.array([position for _, position in _JOINTS.values()], dtype=np.float32)


def rest_keypoints(
    joints: Float[np.ndarray, "j 3"], back_z_mm: tuple[float, float]
) -> tuple[Float[np.ndarray, "22 3"], Int[np.ndarray, "22"]]:
    """Place the 22 keypoints on a body in rest pose.

    Args:
        joints: The body's rest joints, mm.
        back_z_mm: Height of the skin above the neck keypoint and above the middle of the back.

    Returns:
        Rest positions in mm, and the joint that carries each of them rigidly.
    """
    at = {name: joints[i] for name, i in INDEX.items()}
    neck, middle = at["neck"] * [0.6, 1, 1] + at["chest"] * [0.4, 0, 0], at["lumbar"].copy()
    neck[2], middle[2] = back_z_mm
    placed: dict[str, tuple[np.ndarray, str]] = {
        "nose": (at["nose"], "head"),
        "neck": (neck, "neck"),
        "body_middle": (middle, "lumbar"),
        "tail_root": (at["tail_0"], "pelvis"),
        "tail_middle": (at["tail_4"], "tail_3"),
        "tail_end": (at["tail_tip"], f"tail_{NUM_TAIL_JOINTS - 1}"),
    }
    for side in "LR":
        placed |= {
            f"{side}_ear": (0.5 * (at[f"ear_{side}"] + at[f"ear_tip_{side}"]), f"ear_{side}"),
            f"{side}_paw": (0.3 * at[f"wrist_{side}"] + 0.7 * at[f"paw_{side}"], f"wrist_{side}"),
            f"{side}_paw_end": (at[f"wrist_{side}"], f"elbow_{side}"),
            f"{side}_elbow": (at[f"elbow_{side}"], f"shoulder_{side}"),
            f"{side}_shoulder": (at[f"shoulder_{side}"], "chest"),
            f"{side}_foot": (0.4 * at[f"ankle_{side}"] + 0.6 * at[f"toe_{side}"], f"ankle_{side}"),
            f"{side}_knee": (at[f"ankle_{side}"], f"knee_{side}"),
            f"{side}_hip": (at[f"knee_{side}"], f"hip_{side}"),
        }
    positions = np.stack([placed[name][0] for name in KEYPOINTS]).astype(np.float32)
    carriers = np.array([INDEX[placed[name][1]] for name in KEYPOINTS], dtype=np.int64)
    return positions, carriers
