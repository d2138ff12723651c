"""Calibrations of camera rigs, in the formats of many laboratories, read into one convention (docs/calibrations.md)."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mouselift.data.calibration.anipose import read_anipose, write_anipose
from mouselift.data.calibration.checks import check_rotations, suspicious_pairs
from mouselift.data.calibration.colmap import read_colmap, write_colmap
from mouselift.data.calibration.dannce import read_dannce
from mouselift.data.calibration.facelift import read_facelift, write_facelift
from mouselift.data.calibration.jarvis import read_jarvis, write_jarvis
from mouselift.data.calibration.mammal import read_mammal
from mouselift.data.calibration.nerfstudio import read_nerfstudio, write_nerfstudio
from mouselift.data.calibration.opencv_yaml import read_opencv, write_opencv
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.sniff import sniff
from mouselift.errors import InputError
from mouselift.geometry import Cameras

__all__ = [
    "READERS",
    "WRITERS",
    "CalibratedCamera",
    "Calibration",
    "read_calibration",
    "read_cameras",
    "suspicious_pairs",
]

_log = logging.getLogger(__name__)

# "mammal-matlab" is never guessed: see `mammal.py` on the origin of pixels.
READERS: dict[str, Callable[..., Calibration]] = {
    "mammal": read_mammal,
    "mammal-matlab": partial(read_mammal, pixel_origin="matlab"),
    "dannce": read_dannce,
    "facelift": read_facelift,
    "anipose": read_anipose,
    "opencv": read_opencv,
    "jarvis": read_jarvis,
    "nerfstudio": read_nerfstudio,
    "colmap": read_colmap,
}
WRITERS: dict[str, Callable[..., None]] = {
    "facelift": write_facelift,
    "anipose": write_anipose,
    "opencv": write_opencv,
    "jarvis": write_jarvis,
    "nerfstudio": write_nerfstudio,
    "colmap": write_colmap,
}


def read_calibration(path: Path | str, *, format: str | None = None, mm_per_unit: float = 1.0) -> Calibration:
    """Read a calibration, whatever its format.

    Args:
        path: A file, or a folder with one file for each camera or one calibration of a usual name.
        format: One of `READERS`; found by the content when not given.
        mm_per_unit: Millimetres in one unit of the file.

    Returns:
        The cameras in our conventions, checked.

    Raises:
        InputError: The path holds no calibration that can be read, or one that cannot be right.
    """
    if not 0 < mm_per_unit < float("inf"):
        raise InputError(f"expected a positive number of millimetres in a unit, found {mm_per_unit}")
    if format is not None and format not in READERS:
        raise InputError(f"expected one of the formats {', '.join(READERS)}, found {format!r}")
    path = Path(path)
    found, file = sniff(path) if format is None else (format, path)
    calibration = READERS[found](file, mm_per_unit=mm_per_unit)
    check_rotations(calibration)
    for sentence in suspicious_pairs(calibration):
        _log.warning(sentence)
    return calibration


def read_cameras(
    path: Path | str,
    *,
    image_size: tuple[int, int] | None = None,
    format: str | None = None,
    mm_per_unit: float = 1.0,
) -> Cameras:
    """Read the cameras of a rig, whatever the calibration's format.

    Args:
        path: A file, or a folder with one file for each camera or one calibration of a usual name.
        image_size: Width and height in pixels, for files that do not say.
        format: One of `READERS`; found by the content when not given.
        mm_per_unit: Millimetres in one unit of the file.

    Returns:
        Batch shape (V,), float64, mm, with names; `cameras.project(points_mm)` gives pixels.

    Raises:
        InputError: The path holds no calibration that can be read, one that cannot be right, or no size.
    """
    return read_calibration(path, format=format, mm_per_unit=mm_per_unit).to_cameras(image_size)
