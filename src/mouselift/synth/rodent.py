"""dm_control's rodent skin (Apache-2.0), warped to a mouse; needs the extra `synth`."""

import warnings
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mouselift.body.mesh import Body, Region, procedural_mouse
from mouselift.body.skeleton import JOINTS
from mouselift.errors import InputError
from mouselift.synth.rebind import (
    TRUNK,
    JointMap,
    SkinnedMesh,
    common_joints,
    common_weights,
    dressed,
    graft,
    straighten,
)

MM_PER_M = 1000.0
GIRTH = {"limbs": 0.36, "trunk": 0.40, "head": 0.40}  # rat to mouse, across the bones
JAW_CLOSED_RAD = -0.62  # the skin was modelled with its mouth open
NUM_TAIL_BONES = 30
NUM_RUMP_BONES = 3  # the rump's skin hangs on the first caudal bones; those go with the pelvis
LIMB_BONES = {  # joint -> the bones it carries, itself first
    "shoulder": ("upper_arm",), "elbow": ("lower_arm",), "wrist": ("hand", "finger"),
    "hip": ("upper_leg",), "knee": ("lower_leg",), "ankle": ("foot", "toe"),
}  # fmt: skip
CARRIED_BONES = {
    "pelvis": ("pelvis", *(f"vertebra_C{i}" for i in range(1, NUM_RUMP_BONES + 1))),
    "lumbar": ("vertebra_6", "vertebra_5", "vertebra_4"),
    "thorax": ("vertebra_3", "vertebra_2", "vertebra_1"),
    "chest": ("torso", "scapula_L", "scapula_R"),
    "neck": (*(f"vertebra_cervical_{i}" for i in range(1, 6)), "vertebra_axis", "vertebra_atlant"),
    "head": ("skull", "jaw"),
} | {f"{joint}_{s}": tuple(f"{bone}_{s}" for bone in bones) for joint, bones in LIMB_BONES.items() for s in "LR"}


@cache
def rodent_body() -> Body:
    """The rat of dm_control's `locomotion.walkers.rodent`, in a mouse's proportions, with our mouse's ears, eyes, tail.

    Raises:
        InputError: dm_control is not installed.
    """
    mesh = _load_skin()
    joint_map = _joint_map(mesh)
    weights = common_weights(mesh, joint_map)
    girth = {name: GIRTH["head" if name == "head" else "trunk" if name in TRUNK else "limbs"] for name in JOINTS}
    vertices, joints = straighten(mesh.vertices, weights, common_joints(mesh, joint_map), girth=girth)
    body = dressed("rodent", vertices, _without_tail_and_ears(mesh, weights), weights, joints)
    return graft(body, procedural_mouse(), (Region.EAR, Region.EYE, Region.TAIL))


def _load_skin() -> SkinnedMesh:
    """The skin in the walker's default pose, in mm."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a machine without a display is no concern of ours
            from dm_control import mjcf  # pyright: ignore[reportMissingImports] (an extra)
            from dm_control.locomotion.walkers import rodent  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "the body 'rodent' needs dm_control, expected it installed, found none: pip install 'mouselift[synth]'"
        ) from None
    physics = mjcf.Physics.from_mjcf_model(rodent.Rat().mjcf_model)
    physics.named.data.qpos["mandible"] = JAW_CLOSED_RAD
    physics.forward()
    model, bodies = physics.model, np.asarray(physics.model.skin_bonebodyid)
    positions = np.asarray(physics.data.xpos)[bodies]
    bind_turns = Rotation.from_quat(np.asarray(model.skin_bonebindquat).reshape(-1, 4), scalar_first=True).as_matrix()
    turns = np.asarray(physics.data.xmat).reshape(-1, 3, 3)[bodies] @ bind_turns.transpose(0, 2, 1)
    shifts = positions - np.einsum("bij,bj->bi", turns, np.asarray(model.skin_bonebindpos).reshape(-1, 3))
    rest, weights = np.asarray(model.skin_vert).reshape(-1, 3), _bone_weights(model)
    posed = np.einsum("nb,bij,nj->ni", weights, turns, rest) + weights @ shifts
    return SkinnedMesh(
        vertices=posed * MM_PER_M,
        faces=np.asarray(model.skin_face).reshape(-1, 3).astype(np.int64),
        bones=[model.id2name(i, "body") for i in bodies],
        positions=positions * MM_PER_M,
        weights=weights,
    )


def _bone_weights(model: Any) -> Float[np.ndarray, "n b"]:
    """MuJoCo's lists of vertices for each bone, as one table."""
    weights = np.zeros((model.skin_vert.size // 3, model.skin_bonebodyid.size))
    for bone, (start, count) in enumerate(zip(model.skin_bonevertadr, model.skin_bonevertnum, strict=True)):
        moved = model.skin_bonevertid[start : start + count]
        weights[moved, bone] = model.skin_bonevertweight[start : start + count]
    return weights / weights.sum(1, keepdims=True)


def _joint_map(mesh: SkinnedMesh) -> JointMap:
    at = dict(zip(mesh.bones, mesh.positions, strict=True))
    places = {
        "pelvis": at["pelvis"], "lumbar": at["vertebra_5"], "thorax": at["vertebra_1"],
        "chest": 0.5 * (at["torso"] + at["scapula_L"] * [1, 0, 1]),
        "neck": at["vertebra_cervical_5"], "head": at["vertebra_atlant"],
        "nose": _furthest(mesh, ("skull",), np.array([1.0, 0, 0])),
    }  # fmt: skip
    for side, sign in (("L", 1.0), ("R", -1.0)):
        for joint, bones in LIMB_BONES.items():
            places[f"{joint}_{side}"] = at[f"{bones[0]}_{side}"]
        places[f"paw_{side}"] = _furthest(mesh, (f"finger_{side}",), np.array([1.0, 0, 0]))
        places[f"toe_{side}"] = _furthest(mesh, (f"toe_{side}",), np.array([1.0, 0, 0]))
        crown = at["skull"] + [-10.0, sign * 10.0, 15.0]  # replaced by our ears: any place on the head will do
        places[f"ear_{side}"], places[f"ear_tip_{side}"] = crown, crown + np.array([-4.0, sign * 8.0, 12.0])
    carriers = {bone: joint for joint, bones in CARRIED_BONES.items() for bone in bones}
    tail = [f"vertebra_C{i}" for i in range(NUM_RUMP_BONES + 1, NUM_TAIL_BONES + 1)]
    return JointMap(places=places, carriers=carriers, tail=tail, tail_tip=at[tail[-1]])


def _furthest(mesh: SkinnedMesh, bones: tuple[str, ...], direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """The vertex of some bones that lies furthest in a direction."""
    own = mesh.weights[:, [mesh.bones.index(bone) for bone in bones]].sum(1) > 0.5
    chosen = mesh.vertices[own]
    return chosen[(chosen @ direction).argmax()]


def _without_tail_and_ears(mesh: SkinnedMesh, weights: Float[np.ndarray, "n j"]) -> np.ndarray:
    tail = weights[:, [i for i, name in enumerate(JOINTS) if name.startswith("tail")]].sum(1) > 0.9
    skull = mesh.positions[mesh.bones.index("skull")]
    head = weights[:, JOINTS.index("head")] > 0.3
    x, y, z = (mesh.vertices - skull).T
    ears = head & (np.abs(y) > 7.0) & (z > 13.0) & (x < 0)
    return mesh.faces[~(tail | ears)[mesh.faces].all(1)]
