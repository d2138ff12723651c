"""Anipose's `calibration.toml`; SLEAP-anipose writes the same.

A table `[cam_0]`, `[cam_1]`, ... for each camera: name, size, matrix, distortions (OpenCV's order), rotation (axis
times angle) and translation, world to camera, in the units of the board, mostly mm. The first pixel's centre is (0, 0).
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mouselift.atomic import atomic_path
from mouselift.data.calibration.parsing import (
    PIXEL_SHIFTS,
    distortion,
    mapping,
    matrix,
    numbers,
    read_text,
    rotation_from_vector,
    shifted,
    size_px,
    vector_from_rotation,
)
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.writing import check_writable, distortion_list
from mouselift.errors import InputError
from mouselift.geometry.transforms import rigid


def read_anipose(path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """Read `calibration.toml`.

    Args:
        path: The file.
        mm_per_unit: Millimetres in one unit of the board.

    Raises:
        InputError: It is not TOML, has no cameras, lacks a value, or has a fisheye lens.
    """
    content = load_toml(path)
    cameras = [table for key, table in content.items() if re.fullmatch(r"cam_?\d+", key)]
    if not cameras:
        raise InputError(f"{path}: expected tables [cam_0], [cam_1], ..., found {', '.join(content) or 'nothing'}")
    return Calibration(
        cameras=tuple(_camera(mapping(c, f"{path}: camera {i}"), i, path, mm_per_unit) for i, c in enumerate(cameras)),
        format="anipose",
        source=path,
    )


def load_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: It is not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: expected TOML, found {error}") from None


def _camera(table: Mapping[str, Any], index: int, path: Path, mm_per_unit: float) -> CalibratedCamera:
    name = str(table.get("name", index))
    where = f"{path}: camera {name!r}"
    if table.get("fisheye", False):
        raise InputError(f"{where}: expected a Brown-Conrady lens, found fisheye = true; undistort its videos first")
    missing = [key for key in ("matrix", "rotation", "translation") if key not in table]
    if missing:
        raise InputError(f"{where}: expected matrix, rotation and translation, found no {missing[0]}")
    K = matrix(table["matrix"], (3, 3), f"{where}, matrix")
    rotation = rotation_from_vector(matrix(table["rotation"], (3,), f"{where}, rotation"))
    translation = matrix(table["translation"], (3,), f"{where}, translation")
    width = height = None
    if "size" in table:
        size = numbers(table["size"], f"{where}, size").ravel()
        if len(size) != 2:
            raise InputError(f"{where}: expected size = [width, height], found {len(size)} values")
        width, height = (size_px(value, f"{where}, size") for value in size)
    return CalibratedCamera(
        name=name,
        K=shifted(K, PIXEL_SHIFTS["opencv"]),
        w2c=rigid(rotation, mm_per_unit * translation),
        distortion=distortion(table.get("distortions"), f"{where}, distortions"),
        width=width,
        height=height,
    )


def write_anipose(path: Path, calibration: Calibration, *, mm_per_unit: float = 1.0) -> None:
    """Write `calibration.toml`.

    Raises:
        InputError: A camera has skew, which Anipose's projection ignores, or no size.
    """
    check_writable(calibration, "Anipose's calibration.toml", skew=False, needs_size=True)
    lines = []
    for index, camera in enumerate(calibration.cameras):
        K = shifted(camera.K, -PIXEL_SHIFTS["opencv"])
        lines += [
            f"[cam_{index}]",
            f"name = {_text(camera.name)}",
            f"size = [{camera.width}, {camera.height}]",
            f"matrix = {K.tolist()}",
            f"distortions = {distortion_list(camera)}",
            f"rotation = {vector_from_rotation(camera.w2c[:3, :3]).tolist()}",
            f"translation = {(camera.w2c[:3, 3] / mm_per_unit).tolist()}",
            "",
        ]
    with atomic_path(path) as partial:
        partial.write_text("\n".join([*lines, "[metadata]", ""]), encoding="utf-8")


def _text(value: str) -> str:
    """A TOML basic string: quotes, backslashes and control characters escaped."""
    escaped = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
    return f'"{"".join(escaped)}"'
