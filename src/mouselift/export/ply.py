"""3D Gaussian splatting PLY files, as SuperSplat, viser, gsplat and INRIA's own programs read them.

Layout of the element `vertex`, all float32: x y z, nx ny nz (zero), f_dc_0..2, f_rest_* (channel-major: all red
coefficients, then green, then blue), opacity (logit), scale_0..2 (log), rot_0..3 (w, x, y, z).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import sh_degree

OPACITY_MARGIN = 1e-7  # opacities are written within [1e-7, 1 - 1e-7], so that their logits are finite
MAX_HEADER_LINES = 200

POSITION = ("x", "y", "z")
NORMAL = ("nx", "ny", "nz")
DC = ("f_dc_0", "f_dc_1", "f_dc_2")
SCALE = ("scale_0", "scale_1", "scale_2")
ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
REQUIRED = (*POSITION, *DC, "opacity", *SCALE, *ROTATION)

SCALAR_TYPES = {  # both spellings of the format
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


def write_ply(gaussians: Gaussians, path: Path | str, *, degree: int | None = None) -> None:
    """Write one scene as a binary 3DGS PLY file.

    Args:
        gaussians: No batch dimension.
        path: The file; an earlier one is replaced only by a whole new one.
        degree: Degree of the spherical harmonics in the file: a lower one than the Gaussians' drops coefficients, a
            higher one adds zeros (INRIA's own viewer reads degree 3 only). Theirs when not given.

    Raises:
        InputError: If the file cannot be written.
        ValueError: If there is a batch dimension, or a value is not finite.
    """
    if gaussians.batch_shape:
        raise ValueError(f"a PLY file holds one scene, found batch shape {tuple(gaussians.batch_shape)}")
    degree = sh_degree(gaussians.sh.shape[-2]) if degree is None else degree
    num_rest = (degree + 1) ** 2 - 1
    kept = gaussians.sh[:, 1 : 1 + num_rest]
    rest = F.pad(kept, (0, 0, 0, num_rest - kept.shape[1]))  # (N, K - 1, 3)
    columns = {
        POSITION: gaussians.means,
        NORMAL: torch.zeros_like(gaussians.means),
        DC: gaussians.sh[:, 0],
        tuple(f"f_rest_{i}" for i in range(3 * num_rest)): rest.mT.flatten(1),
        ("opacity",): torch.logit(gaussians.opacities.double(), eps=OPACITY_MARGIN)[:, None],
        SCALE: gaussians.scales.double().log(),
        ROTATION: F.normalize(gaussians.quats, dim=-1),
    }
    vertices = np.empty(len(gaussians), dtype=[(name, "<f4") for names in columns for name in names])
    for names, values in columns.items():
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"PLY: {names[0]} has values that are not finite")
        for name, column in zip(names, values.detach().cpu().unbind(-1), strict=True):
            vertices[name] = column.numpy()
    properties = "".join(f"property float {name}\n" for name in vertices.dtype.names or ())
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}end_header\n"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode("ascii"))
        file.write(vertices.tobytes())


def read_ply(path: Path | str) -> Gaussians:
    """Read a 3DGS PLY file: binary of either byte order or ascii, SH degree 0 to 3, with or without normals.

    Returns:
        Float32, no batch dimension, activated.

    Raises:
        InputError: If the file cannot be read, is no such PLY, is truncated, or has values that make no Gaussian.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            layout = _read_layout(_read_header(file, path), path)
            body = file.read()
    except OSError as error:
        raise InputError(f"{path}: expected a PLY file, found: {error.strerror}") from error
    read = _read_ascii if layout.encoding == "ascii" else _read_binary
    return _gaussians(read(body, layout, path), path)


@dataclass(frozen=True)
class _Layout:
    """The vertices of a file: their encoding, number and fields, and whether other elements come after them."""

    encoding: str
    count: int
    dtype: np.dtype[np.void]
    more_follows: bool


def _read_header(file: BinaryIO, path: Path) -> list[list[str]]:
    """The words of each header line between `ply` and `end_header`, comments left out."""
    if file.readline(1000).strip() != b"ply":
        raise InputError(f"{path}: expected a PLY file, found another kind of file")
    lines: list[list[str]] = []
    for _ in range(MAX_HEADER_LINES):
        words = file.readline(1000).decode("ascii", "replace").split()
        if words == ["end_header"]:
            return lines
        if words and words[0] not in ("comment", "obj_info"):
            lines.append(words)
    raise InputError(f"{path}: expected a PLY header that ends with end_header, found none")


def _read_layout(header: list[list[str]], path: Path) -> _Layout:
    """What a header says about the vertices."""
    match header:
        case [["format", encoding, _], ["element", "vertex", count], *properties] if encoding in BYTE_ORDERS:
            pass
        case _:
            found = ", ".join(" ".join(words) for words in header[:2]) or "nothing"
            raise InputError(f"{path}: expected a PLY header with a format and the element vertex, found: {found}")
    others = [i for i, words in enumerate(properties) if words[0] == "element"]
    fields: list[tuple[str, str]] = []
    for words in properties[: others[0]] if others else properties:
        if len(words) != 3 or words[0] != "property" or words[1] not in SCALAR_TYPES:
            raise InputError(f"{path}: expected scalar properties of the vertices, found: {' '.join(words)}")
        fields.append((words[2], BYTE_ORDERS[encoding] + SCALAR_TYPES[words[1]]))
    names = [name for name, _ in fields]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise InputError(f"{path}: expected a 3D Gaussian PLY, found one without {', '.join(missing)}")
    if len(set(names)) < len(names) or not count.isdigit():
        raise InputError(f"{path}: expected a number of vertices and distinct properties, found a damaged header")
    return _Layout(encoding=encoding, count=int(count), dtype=np.dtype(fields), more_follows=bool(others))


def _read_binary(body: bytes, layout: _Layout, path: Path) -> np.ndarray:
    expected = layout.count * layout.dtype.itemsize
    if len(body) < expected or (len(body) > expected and not layout.more_follows):
        raise InputError(
            f"{path}: expected {layout.count} Gaussians = {expected} bytes after the header, found {len(body)} bytes"
        )
    return np.frombuffer(body, dtype=layout.dtype, count=layout.count)


def _read_ascii(body: bytes, layout: _Layout, path: Path) -> np.ndarray:
    names = layout.dtype.names or ()
    width = len(names)
    lines = body.splitlines()
    try:
        rows = np.array([line.split() for line in lines[: layout.count]], dtype=np.float64).reshape(-1, width)
    except ValueError as error:
        raise InputError(f"{path}: expected {width} numbers on each line after the header, found others") from error
    if len(rows) != layout.count:
        raise InputError(f"{path}: expected {layout.count} lines after the header, found {len(lines)}")
    vertices = np.empty(layout.count, dtype=layout.dtype)
    for name, column in zip(names, rows.T, strict=True):
        vertices[name] = column
    return vertices


def _gaussians(vertices: np.ndarray, path: Path) -> Gaussians:
    """Stack the columns and undo log and logit."""
    names = vertices.dtype.names or ()
    num_rest = sum(name.startswith("f_rest_") for name in names)
    rest_names = tuple(f"f_rest_{i}" for i in range(num_rest))
    if num_rest not in (0, 9, 24, 45) or not set(rest_names) <= set(names):
        raise InputError(f"{path}: expected 0, 9, 24 or 45 properties f_rest_0, f_rest_1, ..., found {num_rest}")
    read = (*REQUIRED, *rest_names)
    values = {name: torch.from_numpy(vertices[name].astype(np.float32)) for name in read}
    _check_values(values, path)

    def columns(wanted: Sequence[str]) -> Tensor:
        return torch.stack([values[name] for name in wanted], dim=-1)

    dc = columns(DC)[:, None]
    rest = columns(rest_names).unflatten(1, (3, num_rest // 3)).mT if num_rest else dc[:, :0]
    scales, quats = columns(SCALE).exp(), columns(ROTATION)
    if not bool((torch.isfinite(scales) & (scales > 0)).all()):
        raise InputError(f"{path}: expected logarithms of scales, found ones whose scales are 0 or infinite")
    if not bool((quats.norm(dim=-1) > 0).all()):
        raise InputError(f"{path}: expected quaternions, found one of length 0")
    return Gaussians(
        means=columns(POSITION),
        quats=F.normalize(quats, dim=-1),
        scales=scales,
        opacities=values["opacity"].sigmoid(),
        sh=torch.cat([dc, rest], dim=1),
    )


def _check_values(values: Mapping[str, Tensor], path: Path) -> None:
    """Refuse what is not finite, except infinite logits: they are opacities of exactly 0 or 1."""
    for name, column in values.items():
        good = ~column.isnan() if name == "opacity" else column.isfinite()
        if not bool(good.all()):
            row = int((~good).nonzero()[0])
            raise InputError(f"{path}: expected finite values, found {name} = {float(column[row])} of Gaussian {row}")
