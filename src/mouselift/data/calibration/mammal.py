"""MAMMAL's `new_cam.pkl`: undistorted pinhole cameras of one rig, in a pickle.

A list, or a dictionary with the keys 0, 1, ... or "0", "1", ..., of {K (3, 3), R (3, 3), T}, and often the undistortion
maps mapx and mapy (H, W), which tell the picture's size. Column vectors, OpenCV axes, mm: x_camera = R x + T.

Two traps:

- MAMMAL's own loader transposes R, T and K of the loaded object in place, and such objects were saved again. A K whose
  principal point stands in its last row says so, and R goes with it: nothing about a rotation by itself does.
- K descends from a MATLAB calibration. Whether the pictures kept its origin, the first pixel at (1, 1), depends on what
  undistorted them, and no value in the file tells. Measured by the tangency of silhouettes to epipolar lines (which
  shifts of all pixels spoil) on a simulated recording with such a file, the first pixel is at (0, 0): offset
  (-0.01 +- 0.02, 0.2 +- 0.1) px. That is the default here; `pixel_origin="matlab"` reads the other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mouselift.data.calibration.parsing import PIXEL_SHIFTS, mapping, matrix, shifted
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.safe_pickle import load_pickle
from mouselift.errors import InputError
from mouselift.geometry.transforms import rigid


def read_mammal(
    path: Path, *, mm_per_unit: float = 1.0, pixel_origin: Literal["opencv", "matlab"] = "opencv"
) -> Calibration:
    """Read `new_cam.pkl`.

    Args:
        path: The file.
        mm_per_unit: Millimetres in one unit of T.
        pixel_origin: Where the file has the centre of the first pixel: (0, 0) for "opencv", (1, 1) for "matlab".

    Returns:
        Cameras named by their keys, or "0", "1", ... as MAMMAL names their videos.

    Raises:
        InputError: The pickle is damaged, holds something else than arrays, or no cameras.
    """
    content = load_pickle(path)
    return Calibration(
        cameras=tuple(
            _camera(name, mapping(entry, f"{path}: camera {name!r}"), path, mm_per_unit, PIXEL_SHIFTS[pixel_origin])
            for name, entry in _entries(content, path)
        ),
        format="mammal",
        source=path,
    )


def _entries(content: Any, path: Path) -> list[tuple[str, Any]]:
    if isinstance(content, list | tuple):
        return [(str(i), entry) for i, entry in enumerate(content)]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a list or dictionary of cameras, found {type(content).__name__}")
    names = {str(key): entry for key, entry in content.items()}
    if all(name.isdecimal() for name in names):
        return sorted(names.items(), key=lambda item: int(item[0]))
    return list(names.items())


def _camera(
    name: str, entry: Mapping[str, Any], path: Path, mm_per_unit: float, pixel_shift: float
) -> CalibratedCamera:
    where = f"{path}: camera {name!r}"
    missing = [key for key in ("K", "R", "T") if key not in entry]
    if missing:
        raise InputError(f"{where}: expected K, R and T, found no {missing[0]}")
    K, R = matrix(entry["K"], (3, 3), f"{where}, K"), matrix(entry["R"], (3, 3), f"{where}, R")
    translation = matrix(entry["T"], (3,), f"{where}, T")
    if _is_transposed(K):
        K, R = K.mT, R.mT
    height, width = _size(entry, where)
    return CalibratedCamera(
        name=name,
        K=shifted(K, pixel_shift),
        w2c=rigid(R, mm_per_unit * translation),
        width=width,
        height=height,
    )


def _is_transposed(K: Tensor) -> bool:
    """Whether the principal point stands in the last row, where column vectors want (0, 0, 1)."""
    return bool((K[2, :2] != 0).any() and torch.equal(K[:2, 2], torch.zeros(2, dtype=K.dtype)))


def _size(entry: Mapping[str, Any], where: str) -> tuple[int | None, int | None]:
    """Height and width of the undistortion maps."""
    shapes = {getattr(entry[key], "shape", None) for key in ("mapx", "mapy") if key in entry}
    if not shapes:
        return None, None
    shape = shapes.pop()
    if shapes or shape is None or len(shape) != 2:
        raise InputError(
            f"{where}: expected mapx and mapy of one shape (H, W), found {shape} {' '.join(map(str, shapes))}"
        )
    return int(shape[0]), int(shape[1])
