"""Compressed formats through gaussforge 0.6 (Apache-2.0, the extra `files`): `.spz`, `.sog`, `.ksplat`, compressed PLY.

gaussforge runs in a process of its own, with bounded memory, and speaks PLY with us. What it does otherwise than the
formats' own programs is mended here (found with splat-transform 2.7 as a second reader):

- A compressed PLY file has f_rest_* channel-major like any other; gaussforge reads it so, but writes it coefficient by
  coefficient.
- `.ksplat` ends at SH degree 2; gaussforge would write degree 3, which no viewer reads. The file has the coefficients
  of degree 1, channel by channel, and then those of degree 2; gaussforge writes and reads the degrees of a channel
  together.
"""

import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.export import packed_worker
from mouselift.export.ply import PlacedGaussians, read_ply_from, write_ply_to
from mouselift.geometry import Gaussians
from mouselift.geometry.sh import sh_degree

Packed = Literal["spz", "sog", "ksplat", "compressed.ply"]

MISSING = "{path}: this format needs the extra `files`: pip install 'mouselift[files]'"
MAX_KSPLAT_DEGREE = 2
SPZ_REACH = 2048.0  # 24 bits with 12 after the point
# What a conversion may take, at least and for each byte of the file. A Gaussian is 8 bytes or more there, 1 kB in
# memory, and 248 or less in the PLY file between, where coefficients of zero weigh as much as others.
BASE_MEMORY, MEMORY_PER_BYTE = 1 << 30, 256
BASE_OUTPUT, OUTPUT_PER_BYTE = 1 << 26, 64
BASE_TIME_S, TIME_PER_BYTE_S = 120.0, 20e-6


def write_packed(gaussians: Gaussians, path: Path | str, kind: Packed) -> None:
    """Write one scene in a compressed format.

    Args:
        gaussians: No batch dimension, at least one; what the format cannot hold is rounded or cut (docs/files.md).
        path: The file; an earlier one is replaced only by a whole new one.
        kind: The format.

    Raises:
        InputError: If gaussforge is not installed or fails, the file cannot be written, or the Gaussians do not fit.
        ValueError: If there is a batch dimension, or a value is not finite.
    """
    path, library = Path(path), _library(Path(path))
    if not len(gaussians):
        raise InputError(f"{path}: expected at least one Gaussian to write, found none")
    degree = sh_degree(gaussians.sh.shape[-2])
    if kind == "spz" and float(gaussians.means.abs().max()) >= SPZ_REACH:
        raise InputError(f"{path}: expected positions within {SPZ_REACH:g} units, all that .spz can hold")
    if kind == "compressed.ply":
        gaussians = replace(gaussians, sh=_coefficients_as_channels(gaussians.sh))
    elif kind == "ksplat":
        degree = min(degree, MAX_KSPLAT_DEGREE)
        gaussians = replace(gaussians, sh=_degrees_as_channels(gaussians.sh[:, : (degree + 1) ** 2]))
    with tempfile.TemporaryDirectory() as folder, atomic_path(path) as temporary:
        plain = Path(folder) / "plain.ply"
        with plain.open("wb") as file:
            write_ply_to(file, PlacedGaussians(gaussians=gaussians), degree=degree)
        _convert(library, path, plain, "ply", temporary, kind)


def read_packed(path: Path | str, kind: Packed) -> Gaussians:
    """Read a compressed file.

    Returns:
        Float32, no batch dimension, activated, in the order of the file.

    Raises:
        InputError: If gaussforge is not installed, or the file cannot be read or is damaged.
    """
    path, library = Path(path), _library(Path(path))
    if not path.is_file():
        raise InputError(f"{path}: expected a {kind} file, found " + ("a folder" if path.is_dir() else "no such file"))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.ply"
        _convert(library, path, path, kind, plain, "ply")
        with plain.open("rb") as file:
            gaussians = read_ply_from(file, path).gaussians
    if not len(gaussians):  # what gaussforge makes of a damaged .spz
        raise InputError(f"{path}: expected a {kind} file with Gaussians, found none, or a damaged file")
    return replace(gaussians, sh=_channels_as_degrees(gaussians.sh)) if kind == "ksplat" else gaussians


def _library(path: Path) -> Path:
    """The folder that gaussforge lies in."""
    spec = find_spec("gaussforge")
    if spec is None or spec.origin is None:
        raise InputError(MISSING.format(path=path))
    return Path(spec.origin).parents[1]


def _convert(library: Path, path: Path, source: Path, source_kind: str, target: Path, target_kind: str) -> None:
    """Run the worker; messages call the file that the user knows `path`."""
    size = source.stat().st_size
    limits = [str(BASE_MEMORY + MEMORY_PER_BYTE * size), str(BASE_OUTPUT + OUTPUT_PER_BYTE * size)]
    time_s = BASE_TIME_S + TIME_PER_BYTE_S * size
    worker = [sys.executable, "-I", packed_worker.__file__, str(library), *limits]
    files = [str(source), source_kind, str(target), target_kind]
    try:
        done = subprocess.run([*worker, *files], capture_output=True, timeout=time_s, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"{path}: expected a conversion within {time_s:.0f} s, stopped it") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said and done.returncode == 1 else f"gaussforge ended with status {done.returncode}"
        kind = source_kind if target_kind == "ply" else target_kind
        raise InputError(f"{path}: expected a sound {kind} file of plausible size, found: {reason}")


def _coefficients_as_channels(sh: torch.Tensor) -> torch.Tensor:
    """Reordered so that what gaussforge writes coefficient by coefficient is what `sh` is channel by channel."""
    rest = sh[:, 1:]
    return torch.cat([sh[:, :1], rest.mT.reshape(rest.shape)], dim=1)


def _degrees_as_channels(sh: torch.Tensor) -> torch.Tensor:
    """Reordered so that what gaussforge writes channel by channel is, degree by degree, what `sh` is."""
    parts = [sh[:, d**2 : (d + 1) ** 2].mT.flatten(1) for d in range(1, sh_degree(sh.shape[1]) + 1)]
    if not parts:
        return sh
    return torch.cat([sh[:, :1], torch.cat(parts, dim=1).unflatten(1, (3, -1)).mT], dim=1)


def _channels_as_degrees(sh: torch.Tensor) -> torch.Tensor:
    """The way back."""
    flat = sh[:, 1:].mT.flatten(1)
    sizes = [3 * (2 * d + 1) for d in range(1, sh_degree(sh.shape[1]) + 1)]
    parts = [part.unflatten(1, (3, -1)).mT for part in flat.split(sizes, dim=1)] if sizes else []
    return torch.cat([sh[:, :1], *parts], dim=1)
