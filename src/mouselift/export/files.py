"""One front door to files of Gaussians: the suffix chooses the format (docs/files.md)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from mouselift.data.layout import CAMERA_FILE
from mouselift.errors import InputError
from mouselift.export.packed import Packed, read_packed, write_packed
from mouselift.export.ply import PlacedGaussians, Units, read_placed_ply, write_ply
from mouselift.export.splat_file import read_splat, write_splat
from mouselift.export.splat_glb import read_splat_glb, write_splat_glb
from mouselift.geometry import Gaussians, Similarity
from mouselift.geometry.sh import sh_degree

Format = Packed | Literal["ply", "splat", "glb"]
SUFFIXES: dict[str, Format] = {
    ".ply": "ply",
    ".compressed.ply": "compressed.ply",
    ".splat": "splat",
    ".spz": "spz",
    ".sog": "sog",
    ".ksplat": "ksplat",
    ".glb": "glb",
}
PEEK_BYTES = 4096  # a compressed PLY says so in its first lines


def read_gaussians(path: Path | str) -> Gaussians:
    """Read a file of Gaussians in any known format.

    Returns:
        Float32, no batch dimension, activated, in the units of the file.

    Raises:
        InputError: If the suffix is unknown, or the file cannot be read or is damaged.
    """
    return read_placed(path).gaussians


def read_placed(path: Path | str) -> PlacedGaussians:
    """As `read_gaussians`, with units and placement where the file notes them (our PLY and GLB files do)."""
    path, kind = Path(path), _format(Path(path))
    if kind == "ply" and not _is_compressed(path):
        return read_placed_ply(path)
    if kind == "splat":
        return PlacedGaussians(gaussians=read_splat(path))
    if kind == "glb":
        return read_splat_glb(path)
    return PlacedGaussians(gaussians=read_packed(path, "compressed.ply" if kind == "ply" else kind))


def write_gaussians(
    gaussians: Gaussians,
    path: Path | str,
    *,
    degree: int | None = None,
    minimal: bool = False,
    units: Units = "scene",
    scene_from_world: Similarity | None = None,
) -> None:
    """Write one scene in the format that the suffix names.

    Args:
        gaussians: No batch dimension.
        path: The file; an earlier one is replaced only by a whole new one.
        degree: Keep spherical harmonics up to this degree; all that the format has room for when not given.
        minimal: PLY without normals.
        units: What the Gaussians are in; only PLY and GLB files can note it.
        scene_from_world: World (mm) to scene; only PLY and GLB files can note it.

    Raises:
        InputError: If the suffix is unknown, or the file cannot be written.
        ValueError: If there is a batch dimension, or a value is not finite.
    """
    kind = _format(Path(path))
    if kind == "ply":
        write_ply(gaussians, path, degree=degree, minimal=minimal, units=units, scene_from_world=scene_from_world)
        return
    if degree is not None and degree < sh_degree(gaussians.sh.shape[-2]):
        gaussians = replace(gaussians, sh=gaussians.sh[:, : (degree + 1) ** 2])
    if kind == "splat":
        write_splat(gaussians, path)
    elif kind == "glb":
        placed = PlacedGaussians(gaussians=gaussians, units=units, scene_from_world=scene_from_world)
        write_splat_glb(placed, path)
    else:
        write_packed(gaussians, path, kind)


def convert(
    source: Path | str,
    target: Path | str,
    *,
    units: Units | None = None,
    scene_from_world: Similarity | None = None,
    degree: int | None = None,
    minimal: bool = False,
) -> PlacedGaussians:
    """Write one file of Gaussians as another.

    Args:
        source: Any known format. PLY and GLB files of ours note their units and placement; any other file is taken
            to be in scene units.
        target: Any known format.
        units: Of the target: the scene's, or mm in the world; those of the source when not given.
        scene_from_world: World (mm) to scene; what the source notes when not given.
        degree: Keep spherical harmonics up to this degree.
        minimal: PLY without normals.

    Returns:
        What was written, before the format rounds it.

    Raises:
        InputError: If a suffix is unknown, a file cannot be read or written, or other units are asked for and nothing
            says where the scene lies in the world.
    """
    _format(Path(target))
    placed = read_placed(source)
    known = scene_from_world or placed.scene_from_world
    placed = PlacedGaussians(gaussians=placed.gaussians, units=placed.units, scene_from_world=known)
    if units is not None and units != placed.units:
        placed = _in_units(placed, units, Path(source))
    write_gaussians(
        placed.gaussians, target, degree=degree, minimal=minimal, units=placed.units, scene_from_world=known
    )
    return placed


def read_scene_from_world(sample: Path | str) -> Similarity:
    """World (mm) to scene, float64, as a sample folder of a dataset notes it.

    Args:
        sample: DATASET/sample_000000.

    Raises:
        InputError: If the folder is no sample, or notes no such transform.
    """
    file = Path(sample) / CAMERA_FILE
    try:
        matrix = json.loads(file.read_text())["scene_from_world"]
        return Similarity.from_matrix(torch.tensor(matrix, dtype=torch.float64).reshape(4, 4))
    except OSError as error:
        raise InputError(f"{file}: expected the cameras of a sample, found: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # not JSON is a ValueError, too
        found = f"{type(error).__name__}: {error}"
        raise InputError(f"{file}: expected a similarity scene_from_world, found {found}") from None


def _in_units(placed: PlacedGaussians, units: Units, source: Path) -> PlacedGaussians:
    known = placed.scene_from_world
    if known is None:
        raise InputError(
            f"{source}: expected to know where the scene lies in the world, to go from {placed.units} to {units}, "
            "found no comment `mouselift scene_from_world`; give a sample folder of its dataset"
        )
    moved = placed.gaussians.transformed(known.inverse() if units == "mm" else known)
    return PlacedGaussians(gaussians=moved, units=units, scene_from_world=known)


def _format(path: Path) -> Format:
    """What the longest known suffix stands for."""
    matching = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    if not matching:
        found = repr(path.suffix) if path.suffix else "none"
        raise InputError(f"{path}: expected a suffix among {', '.join(SUFFIXES)}, found {found}")
    return SUFFIXES[max(matching, key=len)]


def _is_compressed(path: Path) -> bool:
    """Whether a PLY file is one of chunks: SuperSplat calls them .compressed.ply, but not everybody."""
    try:
        with path.open("rb") as file:
            return b"\nelement chunk " in file.read(PEEK_BYTES)
    except OSError as error:
        raise InputError(f"{path}: expected a PLY file, found: {error.strerror}") from error
