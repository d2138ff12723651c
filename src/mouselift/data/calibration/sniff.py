"""Which format a calibration is in: by its content, for suffixes are shared and often wrong."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mouselift.data.calibration import opencv_yaml
from mouselift.data.calibration.anipose import load_toml
from mouselift.data.calibration.colmap import find_model
from mouselift.data.calibration.dannce import PARAMS_PATTERN
from mouselift.data.calibration.matlab import is_hdf5
from mouselift.data.calibration.opencv_storage import load_storage
from mouselift.data.calibration.parsing import read_bytes
from mouselift.errors import InputError

# Names that say what a file in a folder is for; its format is found by its content like any other's.
KNOWN_FILES = (
    "new_cam.pkl",
    "*dannce.mat",
    "calibration.toml",
    "opencv_cameras.json",
    "transforms.json",
    "calibration.json",
    "calibration.yaml",
    "calibration.yml",
)
FORMATS = ("mammal", "dannce", "facelift", "anipose", "opencv", "jarvis", "nerfstudio", "colmap")


def sniff(path: Path) -> tuple[str, Path]:
    """The format of a calibration, and the file or folder to read it from.

    Args:
        path: A file, or a folder that holds one calibration file of a usual name, one file for each camera, or a
            COLMAP model.

    Raises:
        InputError: There is nothing, nothing of a known format, or several calibrations in one folder.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a calibration file or folder, found nothing there")
    if not path.is_dir():
        return _sniff_file(path), path
    known = sorted(file for pattern in KNOWN_FILES for file in path.glob(pattern) if file.is_file())
    if len(known) > 1:
        raise InputError(
            f"{path}: expected one calibration, found {', '.join(f.name for f in known)}; name one of them"
        )
    if known:
        return _sniff_file(known[0]), known[0]
    if find_model(path):
        return "colmap", path
    if any(path.glob(PARAMS_PATTERN)):
        return "dannce", path
    files = opencv_yaml.storage_files(path)
    if not files:
        raise InputError(f"{path}: expected a calibration in this folder, found none; tried {', '.join(FORMATS)}")
    return _sniff_file(files[0]), path


def _sniff_file(path: Path) -> str:
    content = read_bytes(path)
    if content[:6] == b"MATLAB" or is_hdf5(content):
        return "dannce"
    if _is_pickle(content):
        return "mammal"
    if path.name in ("cameras.bin", "images.bin", "cameras.txt", "images.txt") and find_model(path.parent):
        return "colmap"
    if b"\0" in content[:1024]:
        raise InputError(f"{path}: expected a calibration, found a binary file; tried {', '.join(FORMATS)}")
    found = _sniff_text(path, content)
    if found is None:
        raise InputError(f"{path}: expected a calibration, found text without cameras; tried {', '.join(FORMATS)}")
    return found


def _is_pickle(content: bytes) -> bool:
    """Protocol 2 and later begin with a mark, and so does every list or dictionary of the older ones."""
    return content[:1] == b"\x80" or content[:3] in (b"(lp", b"(dp") or content[:2] in (b"]q", b"}q")


def _sniff_text(path: Path, content: bytes) -> str | None:
    if re.search(rb"^\s*\[cam_?\d+\]", content, re.MULTILINE):
        return "anipose"
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"%") and _is_toml(path):
        return None
    return _sniff_values(load_storage(path))


def _is_toml(path: Path) -> bool:
    try:
        load_toml(path)
    except InputError:
        return False
    return True


def _sniff_values(values: Any) -> str | None:
    frames = values.get("frames") if isinstance(values, Mapping) else None
    if isinstance(frames, list) and frames and all(isinstance(frame, Mapping) for frame in frames):
        return next((name for key, name in _FRAME_KEYS.items() if key in frames[0]), None)
    if isinstance(values, Mapping) and "intrinsicMatrix" in values:
        return "jarvis"
    return "opencv" if opencv_yaml.holds_cameras(values) else None


_FRAME_KEYS = {"transform_matrix": "nerfstudio", "w2c": "facelift"}
