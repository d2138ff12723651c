"""DANNCE's calibrations: `label3d_dannce.mat` with all cameras, or one `*_params.mat` for each.

Each camera is {K, r, t, RDistort, TDistort}, for row vectors: [x 1] [r; t], so K and r are transposed, skew included.
Two or three radial coefficients and two tangential ones (Brown-Conrady, skew acts after them); mm; MATLAB's pixels, the
first centre at (1, 1). The pictures' size is not stored. DANNCE's projection is this one exactly, which the 2D labels
in the file prove.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mouselift.data.calibration.matlab import load_mat, structs
from mouselift.data.calibration.parsing import PIXEL_SHIFTS, matrix, numbers, shifted
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.errors import InputError
from mouselift.geometry.transforms import rigid

PARAMS_PATTERN = "*_params.mat"


def read_dannce(path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """Read DANNCE's cameras.

    Args:
        path: `label3d_dannce.mat` or another file with `params`, one camera's file, or a folder of `*_params.mat`.
        mm_per_unit: Millimetres in one unit of t.

    Returns:
        Cameras named by `camnames`, else Camera1, Camera2, ...; files of a folder in the order of their numbers, named
        by their stems without `_params`. No sizes.

    Raises:
        InputError: A file is damaged, lacks a field, or its `camnames` and `params` differ in number.
    """
    if path.is_dir():
        files = sorted(path.glob(PARAMS_PATTERN), key=lambda file: _natural(file.stem))
        if not files:
            raise InputError(f"{path}: expected files {PARAMS_PATTERN}, found none")
        entries = [(file.stem.removesuffix("_params"), load_mat(file), f"{file}") for file in files]
    else:
        content = load_mat(path)
        params = [content] if "params" not in content and "K" in content else structs(_params(content, path), f"{path}")
        names = camera_names(content, len(params), path)
        entries = [(name, entry, f"{path}: camera {name!r}") for name, entry in zip(names, params, strict=True)]
    return Calibration(
        cameras=tuple(_camera(name, entry, where, mm_per_unit) for name, entry, where in entries),
        format="dannce",
        source=path,
    )


def camera_names(content: Mapping[str, Any], count: int, path: Path) -> Sequence[str]:
    """The file's `camnames`, or Camera1, Camera2, ... where it has none.

    Raises:
        InputError: Their number is not `count`.
    """
    if "camnames" not in content:
        return [f"Camera{i + 1}" for i in range(count)]
    found = content["camnames"]
    names = [found] if isinstance(found, str) else [str(name) for name in found]
    if len(names) != count:
        raise InputError(f"{path}: expected a name for each of {count} cameras, found {len(names)} camnames")
    return names


def _params(content: Mapping[str, Any], path: Path) -> Any:
    if "params" not in content:
        found = ", ".join(content) or "nothing"
        raise InputError(f"{path}: expected DANNCE's variable params, or K, r and t of one camera, found {found}")
    return content["params"]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts cam10 behind cam9."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _camera(name: str, entry: Mapping[str, Any], where: str, mm_per_unit: float) -> CalibratedCamera:
    missing = [key for key in ("K", "r", "t") if key not in entry]
    if missing:
        raise InputError(f"{where}: expected K, r and t, found no {missing[0]}")
    K = matrix(entry["K"], (3, 3), f"{where}, K").mT
    rotation = matrix(entry["r"], (3, 3), f"{where}, r").mT
    translation = matrix(entry["t"], (3,), f"{where}, t")
    return CalibratedCamera(
        name=name,
        K=shifted(K, PIXEL_SHIFTS["matlab"]),
        w2c=rigid(rotation, mm_per_unit * translation),
        distortion=_distortion(entry, where),
    )


def _distortion(entry: Mapping[str, Any], where: str) -> Tensor | None:
    radial = numbers(entry.get("RDistort", ()), f"{where}, RDistort").ravel()
    tangential = numbers(entry.get("TDistort", ()), f"{where}, TDistort").ravel()
    if len(radial) not in (0, 2, 3) or len(tangential) not in (0, 2):
        raise InputError(
            f"{where}: expected 2 or 3 radial and 2 tangential coefficients, found {len(radial)} and {len(tangential)}"
        )
    k1, k2, k3 = [*radial, *np.zeros(3 - len(radial))]
    p1, p2 = tangential if len(tangential) else (0.0, 0.0)
    values = torch.tensor([k1, k2, p1, p2, k3], dtype=torch.float64)
    return values if bool((values != 0).any()) else None
