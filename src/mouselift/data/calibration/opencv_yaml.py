"""OpenCV calibrations in YAML or JSON: one file for each camera, or one file with several.

OpenCV fixes the matrices' meaning (column vectors, world to camera, the first pixel's centre at (0, 0)) but not their
names. The names read here are those of OpenCV's own samples, ROS, and of the tools of the field, such as
multicam-calibration's JSON; see `_KEYS`. Several cameras are a mapping from names or a list, at the top or under
`cameras`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mouselift.atomic import atomic_path
from mouselift.data.calibration.opencv_storage import load_storage, storage_text
from mouselift.data.calibration.parsing import (
    PIXEL_SHIFTS,
    distortion,
    matrix,
    numbers,
    rotation_from_vector,
    shifted,
    size_px,
)
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.writing import check_writable, distortion_list, file_names
from mouselift.errors import InputError
from mouselift.geometry.transforms import rigid

SUFFIXES = (".yaml", ".yml", ".json")
_KEYS = {
    "K": ("camera_matrix", "K", "cameraMatrix", "Camera_Matrix", "intrinsic_matrix", "matrix", "M"),
    "distortion": (
        "distortion_coefficients", "Distortion_Coefficients", "distortion_coefs", "distortion_coeffs", "dist_coeffs",
        "distCoeffs", "distortions", "distortion", "dist", "D",
    ),
    "rotation": ("R", "rotation_matrix", "rotation", "rvec", "rotation_vector"),
    "translation": ("T", "t", "tvec", "translation", "translation_vector"),
    "width": ("image_width", "width", "image_Width", "w"),
    "height": ("image_height", "height", "image_Height", "h"),
    "size": ("image_size", "size", "resolution"),
    "name": ("name", "camera_name"),
}  # fmt: skip


def read_opencv(path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """Read OpenCV cameras.

    Args:
        path: A YAML or JSON file, or a folder with one for each camera.
        mm_per_unit: Millimetres in one unit of the translation.

    Returns:
        Cameras named by their key, `name` or `camera_name`, else by their file.

    Raises:
        InputError: A file is damaged, or a camera lacks its matrix, rotation or translation.
    """
    if path.is_dir():
        files = storage_files(path)
        entries = [(file.stem, load_storage(file), f"{file}") for file in files]
    else:
        entries = [(name, entry, f"{path}: camera {name!r}") for name, entry in _entries(load_storage(path), path)]
    return Calibration(
        cameras=tuple(_camera(name, entry, where, mm_per_unit) for name, entry, where in entries),
        format="opencv",
        source=path,
    )


def storage_files(folder: Path) -> list[Path]:
    """The YAML and JSON files of a folder, by name."""
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )


def is_camera(content: Any) -> bool:
    """Whether a mapping has a camera matrix under one of OpenCV's names."""
    return isinstance(content, Mapping) and any(key in content for key in _KEYS["K"])


def holds_cameras(content: Any) -> bool:
    """Whether a file's content is one OpenCV camera or several."""
    return is_camera(content) or any(is_camera(entry) for _, entry in _candidates(content))


def _candidates(content: Any) -> list[tuple[str, Any]]:
    """Whatever stands where cameras would: the values of a mapping or the items of a list."""
    if isinstance(content, Mapping):
        content = content.get("cameras", content)
    if isinstance(content, Mapping):
        return [(str(name), entry) for name, entry in content.items()]
    if isinstance(content, list):
        return [(str(_get(entry, "name", i)), entry) for i, entry in enumerate(content)]
    return []


def _entries(content: Any, path: Path) -> list[tuple[str, Any]]:
    if is_camera(content):
        return [(str(_get(content, "name", path.stem)), content)]
    entries = [(name, entry) for name, entry in _candidates(content) if is_camera(entry)]
    if not entries:
        raise InputError(f"{path}: expected a camera with camera_matrix, found none")
    return entries


def _get(entry: Any, what: str, default: Any = None) -> Any:
    """A camera's value under any of its names."""
    if not isinstance(entry, Mapping):
        return default
    return next((entry[key] for key in _KEYS[what] if key in entry), default)


def _camera(name: str, entry: Any, where: str, mm_per_unit: float) -> CalibratedCamera:
    values = {what: _get(entry, what) for what in ("K", "rotation", "translation")}
    missing = [what for what, value in values.items() if value is None]
    if missing:
        names = ", ".join(_KEYS[missing[0]])
        raise InputError(f"{where}: expected camera_matrix, R and T, found none of {names}")
    K = matrix(values["K"], (3, 3), f"{where}, camera matrix")
    translation = matrix(values["translation"], (3,), f"{where}, translation")
    width, height = _size(entry, where)
    return CalibratedCamera(
        name=name,
        K=shifted(K, PIXEL_SHIFTS["opencv"]),
        w2c=rigid(_rotation(values["rotation"], f"{where}, rotation"), mm_per_unit * translation),
        distortion=distortion(_get(entry, "distortion"), f"{where}, distortion"),
        width=width,
        height=height,
    )


def _rotation(value: Any, where: str) -> Tensor:
    """From a matrix or, where there are three numbers, axis times angle."""
    if numbers(value, where).size == 3:
        return rotation_from_vector(matrix(value, (3,), where))
    return matrix(value, (3, 3), where)


def _size(entry: Any, where: str) -> tuple[int | None, int | None]:
    """Width and height, stated apart or together."""
    width, height, size = _get(entry, "width"), _get(entry, "height"), _get(entry, "size")
    if size is not None and width is None and height is None:
        pair = numbers(size, f"{where}, size").ravel()
        if len(pair) != 2:
            raise InputError(f"{where}: expected a width and a height, found {len(pair)} values")
        width, height = pair
    return (
        None if width is None else size_px(width, f"{where}, width"),
        None if height is None else size_px(height, f"{where}, height"),
    )


def write_opencv(path: Path, calibration: Calibration, *, mm_per_unit: float = 1.0) -> None:
    """Write OpenCV cameras: one YAML or JSON file (by the suffix) with all, else a folder with one YAML for each.

    The file is a list `cameras`, because a storage's keys must start with a letter and names need not.

    Raises:
        InputError: A camera has skew, which OpenCV's projection ignores, or (in a folder) a name that no file can have.
    """
    check_writable(calibration, "OpenCV's calibration", skew=False)
    entries = [_entry(camera, mm_per_unit) for camera in calibration.cameras]
    if path.suffix.lower() == ".json":
        texts = {path: json.dumps({"cameras": entries}, indent=1)}
    elif path.suffix.lower() in SUFFIXES:
        items = (f"   -\n{storage_text(entry, '      ')}" for entry in entries)
        texts = {path: f"%YAML:1.0\n---\ncameras:\n{''.join(items)}"}
    else:
        path.mkdir(parents=True, exist_ok=True)
        files = file_names(calibration, ".yaml")
        texts = {
            path / file: f"%YAML:1.0\n---\n{storage_text(entry)}" for file, entry in zip(files, entries, strict=True)
        }
    for file, text in texts.items():
        with atomic_path(file) as partial:
            partial.write_text(text, encoding="utf-8")


def _entry(camera: CalibratedCamera, mm_per_unit: float) -> dict[str, Any]:
    size = {} if camera.width is None else {"image_width": camera.width, "image_height": camera.height}
    return {
        "name": camera.name,
        **size,
        "camera_matrix": shifted(camera.K, -PIXEL_SHIFTS["opencv"]).tolist(),
        "distortion_coefficients": [distortion_list(camera)],
        "R": camera.w2c[:3, :3].tolist(),
        "T": (camera.w2c[:3, 3:] / mm_per_unit).tolist(),
    }
