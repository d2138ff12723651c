"""MAMMAL's mouse body, from the user's own copy of `mouse.pkl`: never shipped, nor trained on for shipped weights."""

import io
import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mouselift.body.mesh import Body, Region, normalise
from mouselift.body.skeleton import INDEX, rest_joints
from mouselift.errors import InputError
from mouselift.synth.rebind import JointMap, SkinnedMesh, common_joints, common_weights, dressed, straighten

MM_PER_UNIT = 115.0
EXPECTED = {
    "vertices": (14522, 3),
    "faces_vert": (28800, 3),
    "t_pose_joints": (140, 3),
    "skinning_weights": (140, 14522),
}
MAX_BYTES = 100_000_000
ALLOWED_GLOBALS = {
    ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"), ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"), ("scipy.sparse.csc", "csc_matrix"), ("scipy.sparse._csc", "csc_matrix"),
    ("_codecs", "encode"),
}  # fmt: skip


# Indices into MAMMAL's joint list; the right side follows the left at a fixed distance.
CARRIED = {
    "pelvis": (0, 1, 2, 25, *range(48, 53)), "lumbar": (62,), "thorax": (63,), "chest": (*range(64, 70), 94, 119, 120),
    "neck": (121, 122), "head": (123, *range(130, 140)),
}  # fmt: skip
CARRIED_LEFT = {
    "hip": (3,), "knee": (4,), "ankle": range(5, 25), "shoulder": (70, 71, 72), "elbow": (73,),
    "wrist": range(74, 94), "ear": (127, 128, 129),
}  # fmt: skip
PLACES = {"pelvis": 2, "lumbar": 62, "thorax": 63, "chest": 66, "neck": 121, "head": 123, "nose": 131}
PLACES_LEFT = {
    "ear": 127, "ear_tip": 129, "shoulder": 70, "elbow": 73, "wrist": 74, "paw": 84,
    "hip": 3, "knee": 4, "ankle": 5, "toe": 16,
}  # fmt: skip
OUTER_DIGITS_LEFT = {"ankle": (6, 21), "wrist": (75, 90)}  # first and fifth digit
RIGHT_OF_HIND, RIGHT_OF_FORE, RIGHT_OF_EAR = 23, 25, -3
TAIL, TAIL_TIP = range(53, 61), 61  # the first two tail bones carry the rump
EYE_VERTICES = 91  # each eyeball is a part of its own with this many


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays, scipy csc matrices and plain containers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up an allowed class or function."""
        if (module, name) not in ALLOWED_GLOBALS:
            raise InputError(
                f"expected a pickle of numpy arrays and csc matrices, found a call to {module}.{name}; refused"
            )
        return super().find_class(module, name)


def load_mouse_pickle(path: Path) -> dict[str, Any]:
    """Read `mouse.pkl` without running anything that it might carry.

    Raises:
        InputError: The file is missing, too large, no pickle, of other shapes, or asks for anything but arrays.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: expected at most {MAX_BYTES} bytes, found {path.stat().st_size}")
        content = RestrictedUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: expected MAMMAL's mouse.pkl, found {error.strerror}") from None
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected MAMMAL's mouse.pkl, found a damaged pickle ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dictionary, found {type(content).__name__}")
    for key, shape in EXPECTED.items():
        found = getattr(content.get(key), "shape", None)
        if found != shape:
            raise InputError(f"{path}: expected {key} of shape {shape}, found {found}")
    return content


@cache
def mammal_body(path: Path) -> Body:
    """MAMMAL's mouse on the common skeleton, in its own proportions.

    Args:
        path: The user's `mouse.pkl`.
    """
    mesh = _as_mesh(load_mouse_pickle(path))
    joint_map = _joint_map(mesh)
    weights, joints = common_weights(mesh, joint_map), common_joints(mesh, joint_map)
    vertices, joints = straighten(mesh.vertices, weights, joints, turns=_foot_turns(mesh, joints))
    body = dressed("mammal", vertices, mesh.faces, weights, joints)
    eyes = _eyes(mesh.faces, len(vertices))
    return replace(body, regions=np.where(eyes, int(Region.EYE), body.regions), fur_mm=np.where(eyes, 0, body.fur_mm))


def _as_mesh(content: dict[str, Any]) -> SkinnedMesh:
    def to_our_axes(points: np.ndarray) -> Float[np.ndarray, "n 3"]:
        return MM_PER_UNIT * np.stack([-points[:, 1], points[:, 0], points[:, 2]], axis=1)  # the file's nose is at -Y

    weights = sparse.csc_matrix(content["skinning_weights"]).T.toarray()
    return SkinnedMesh(
        vertices=to_our_axes(np.asarray(content["vertices"], dtype=np.float64)),
        faces=np.asarray(content["faces_vert"]).astype(np.int64),
        bones=[str(i) for i in range(weights.shape[1])],
        positions=to_our_axes(np.asarray(content["t_pose_joints"], dtype=np.float64)),
        weights=weights / weights.sum(1, keepdims=True),
    )


def _right(index: int) -> int:
    return index + (RIGHT_OF_EAR if index >= 124 else RIGHT_OF_FORE if index >= 69 else RIGHT_OF_HIND)


def _joint_map(mesh: SkinnedMesh) -> JointMap:
    places = {name: mesh.positions[i] * [1, 0, 1] for name, i in PLACES.items()}
    carriers = {str(i): name for name, carried in CARRIED.items() for i in carried}
    for name, i in PLACES_LEFT.items():
        places |= {f"{name}_L": mesh.positions[i], f"{name}_R": mesh.positions[_right(i)]}
    for name, carried in CARRIED_LEFT.items():
        carriers |= {str(i): f"{name}_L" for i in carried} | {str(_right(i)): f"{name}_R" for i in carried}
    return JointMap(places=places, carriers=carriers, tail=[str(i) for i in TAIL], tail_tip=mesh.positions[TAIL_TIP])


def _foot_turns(mesh: SkinnedMesh, joints: Float[np.ndarray, "j 3"]) -> dict[str, Float[np.ndarray, "3 3"]]:
    """Rotations that lay the feet flat: the file's rest pose stretches them backwards, soles aside."""
    turns = {}
    for name, (first, fifth) in OUTER_DIGITS_LEFT.items():
        tip = {"ankle": "toe", "wrist": "paw"}[name]
        for side, outwards in (("L", 1.0), ("R", -1.0)):
            inner, outer = (mesh.positions[i if side == "L" else _right(i)] for i in (first, fifth))
            here, there = INDEX[f"{name}_{side}"], INDEX[f"{tip}_{side}"]
            own = _frame(joints[there] - joints[here], outer - inner)
            common = _frame(
                (rest_joints()[there] - rest_joints()[here]).astype(np.float64), np.array([0.0, outwards, 0.0])
            )
            turns[f"{name}_{side}"] = common @ own.T
    return turns


def _frame(forward: Float[np.ndarray, "3"], aside: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    x = normalise(forward)
    y = normalise(aside - (aside @ x) * x)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _eyes(faces: np.ndarray, num_vertices: int) -> np.ndarray:
    """Which vertices belong to the eyeballs."""
    graph = sparse.coo_matrix(
        (np.ones(len(faces) * 2), (faces[:, [0, 1]].T.ravel(), faces[:, [1, 2]].T.ravel())), (num_vertices,) * 2
    )
    _, part = connected_components(graph, directed=False)
    return np.bincount(part)[part] == EYE_VERTICES
