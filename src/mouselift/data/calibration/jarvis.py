"""JARVIS calibrations: a folder with one OpenCV YAML for each camera.

intrinsicMatrix, distortionCoefficients (1x5), R and T, mm, with R and intrinsicMatrix TRANSPOSED: JARVIS projects row
vectors, [x 1] [R; T] intrinsicMatrix. The first pixel's centre is (0, 0), as OpenCV found it.
"""

from pathlib import Path
from typing import Any

from mouselift.atomic import atomic_path
from mouselift.data.calibration.opencv_storage import load_storage, storage_text
from mouselift.data.calibration.opencv_yaml import storage_files
from mouselift.data.calibration.parsing import PIXEL_SHIFTS, distortion, mapping, matrix, shifted
from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.data.calibration.writing import distortion_list, file_names
from mouselift.errors import InputError
from mouselift.geometry.transforms import rigid


def read_jarvis(path: Path, *, mm_per_unit: float = 1.0) -> Calibration:
    """Read JARVIS's cameras.

    Args:
        path: The folder, or one camera's file.
        mm_per_unit: Millimetres in one unit of T.

    Returns:
        Cameras named by their files, by name. No sizes.

    Raises:
        InputError: A file is damaged or lacks a value.
    """
    files = storage_files(path) if path.is_dir() else [path]
    return Calibration(
        cameras=tuple(_camera(file, mm_per_unit) for file in files),
        format="jarvis",
        source=path,
    )


def _camera(file: Path, mm_per_unit: float) -> CalibratedCamera:
    content = mapping(load_storage(file), f"{file}")
    missing = [key for key in ("intrinsicMatrix", "R", "T") if key not in content]
    if missing:
        raise InputError(f"{file}: expected intrinsicMatrix, R and T, found no {missing[0]}")
    K = matrix(content["intrinsicMatrix"], (3, 3), f"{file}: intrinsicMatrix").mT
    rotation = matrix(content["R"], (3, 3), f"{file}: R").mT
    return CalibratedCamera(
        name=file.stem,
        K=shifted(K, PIXEL_SHIFTS["opencv"]),
        w2c=rigid(rotation, mm_per_unit * matrix(content["T"], (3,), f"{file}: T")),
        distortion=distortion(content.get("distortionCoefficients"), f"{file}: distortionCoefficients"),
    )


def write_jarvis(folder: Path, calibration: Calibration, *, mm_per_unit: float = 1.0) -> None:
    """Write one YAML for each camera into `folder`, which is made where it is missing. Sizes are not held.

    Raises:
        InputError: A camera's name cannot name a file.
    """
    names = file_names(calibration, ".yaml")
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, camera in zip(names, calibration.cameras, strict=True):
        entry: dict[str, Any] = {
            "intrinsicMatrix": shifted(camera.K, -PIXEL_SHIFTS["opencv"]).mT.tolist(),
            "distortionCoefficients": [distortion_list(camera)],
            "R": camera.w2c[:3, :3].mT.tolist(),
            "T": (camera.w2c[:3, 3:] / mm_per_unit).tolist(),
        }
        with atomic_path(folder / file_name) as partial:
            partial.write_text(f"%YAML:1.0\n---\n{storage_text(entry)}", encoding="utf-8")
