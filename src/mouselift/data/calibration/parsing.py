"""What the readers share: values out of files that may hold anything, and a clear word where they are wrong."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from mouselift.errors import InputError
from mouselift.geometry.transforms import quat_to_rotmat, rotmat_to_quat

MAX_BYTES = 1 << 28  # 256 MiB: MAMMAL's calibration with its maps takes 54 MB, all others less than 1 MB

# What a file's principal point needs so that the centre of the first pixel is (0.5, 0.5).
PIXEL_SHIFTS = {"opencv": 0.5, "matlab": -0.5, "corner": 0.0}


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: It is missing, no file, not readable, empty or larger than any calibration.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: expected a calibration, found a file of {size / 1e6:.0f} MB")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a calibration file, found {error.strerror or error}") from None
    if not content.strip():
        raise InputError(f"{path}: expected a calibration, found an empty file")
    return content


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8.

    Raises:
        InputError: As `read_bytes`, or it is no text.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected text, found a binary file") from None


def load_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        InputError: As `read_text`, or it is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, found {error}") from None


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value`, if it is a mapping.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected named values, found {_describe(value)}")
    return value


def matrix(value: Any, shape: tuple[int, ...], where: str) -> Tensor:
    """A float64 tensor of `shape` from nested lists, an array, or OpenCV's {rows, cols, data}.

    Vectors may come as a row or a column.

    Raises:
        InputError: It holds something else than numbers, or has another shape.
    """
    if isinstance(value, Mapping) and "data" in value:
        value = np.asarray(numbers(value["data"], where))
        value = value.reshape(shape) if value.size == np.prod(shape) else value
    array = np.asarray(numbers(value, where))
    if len(shape) == 1 and array.size == shape[0] and array.ndim <= 2:
        array = array.reshape(shape)
    if array.shape != shape:
        wanted, found = ("x".join(map(str, s)) for s in (shape, array.shape))
        raise InputError(f"{where}: expected {wanted} numbers, found {found or 'one value'}")
    return torch.from_numpy(array.copy())


def numbers(value: Any, where: str) -> np.ndarray:
    """A float64 array of any shape; texts such as "1e-05", which YAML does not take for numbers, are read as such.

    Raises:
        InputError: It holds something else than numbers.
    """
    array: Any = value["data"] if isinstance(value, Mapping) and "data" in value else value
    try:
        array = np.asarray(array)
        if array.dtype.kind not in "biufOUS":  # complex numbers would lose a part, dates their meaning
            raise TypeError
        return array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{where}: expected numbers, found {_describe(value)}") from None


def number(value: Any, where: str) -> float:
    """One number.

    Raises:
        InputError: It is none.
    """
    array = numbers(value, where)
    if array.size != 1:
        raise InputError(f"{where}: expected one number, found {_describe(value)}")
    return float(array.reshape(()))


def size_px(value: Any, where: str) -> int:
    """A width or height in whole pixels.

    Raises:
        InputError: It is no positive whole number.
    """
    found = number(value, where)
    if not (found >= 1 and found.is_integer()):
        raise InputError(f"{where}: expected a whole number of pixels, found {found:g}")
    return int(found)


def distortion(value: Any, where: str) -> Float64[Tensor, "5"] | None:
    """Brown-Conrady (k1, k2, p1, p2, k3) from OpenCV's list of 4, 5, 8, 12 or 14 coefficients; None if all are 0.

    Raises:
        InputError: Another count, or one beyond k3 is not 0: the rational, thin prism and tilted models are not held.
    """
    if value is None:
        return None
    coefficients = numbers(value, where).ravel()
    if len(coefficients) not in (0, 4, 5, 8, 12, 14):
        raise InputError(f"{where}: expected 4 or 5 distortion coefficients, found {len(coefficients)}")
    if np.any(coefficients[5:] != 0):
        raise InputError(f"{where}: expected distortion k1 k2 p1 p2 k3 only, found {len(coefficients)} coefficients")
    padded = torch.zeros(5, dtype=torch.float64)
    padded[: len(coefficients[:5])] = torch.from_numpy(coefficients[:5].copy())
    return padded if bool((padded != 0).any()) else None


def intrinsics(fx: float, fy: float, cx: float, cy: float, skew: float = 0.0) -> Float64[Tensor, "3 3"]:
    """K from its values."""
    return torch.tensor([[fx, skew, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)


def shifted(K: Float64[Tensor, "3 3"], pixels: float) -> Float64[Tensor, "3 3"]:
    """K with its principal point moved along both axes."""
    moved = K.clone()
    moved[:2, 2] += pixels
    return moved


def rotation_from_vector(vector: Float64[Tensor, "3"]) -> Float64[Tensor, "3 3"]:
    """The rotation about `vector` by its length in radians."""
    angle = vector.norm()
    # sin(angle / 2) / angle, which sinc continues to 1/2 at zero
    return quat_to_rotmat(torch.cat([torch.cos(angle / 2)[None], torch.sinc(angle / (2 * torch.pi)) / 2 * vector]))


def vector_from_rotation(rotation: Float64[Tensor, "3 3"]) -> Float64[Tensor, "3"]:
    """The inverse of `rotation_from_vector`; its length is at most pi."""
    quat = rotmat_to_quat(rotation)
    sine = quat[1:].norm()
    return quat[1:] * (2 * torch.atan2(sine, quat[0]) / sine if sine > 1e-12 else 2.0)


def file_stems(paths: Sequence[str]) -> list[str]:
    """Names for pictures or files: without folder and suffix where that tells them apart, else as they are."""
    stems = [Path(path).stem for path in paths]
    return stems if len(set(stems)) == len(stems) else list(paths)


def _describe(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}".replace("\n", " ")
