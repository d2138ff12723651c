"""What a path on the command line stands for: one file of Gaussians, the result of a run, or a sequence of either."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from mouselift.errors import InputError
from mouselift.export.files import SUFFIXES, read_placed
from mouselift.geometry import Gaussians, Similarity
from mouselift.geometry.rigs import turn_to_z_up

RESULT_FILE = "gaussians.ply"
Up = Literal["z", "y", "-y"]
UP_DIRECTIONS: dict[Up, tuple[float, float, float]] = {"z": (0, 0, 1), "y": (0, 1, 0), "-y": (0, -1, 0)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequence4D:
    """Gaussians over time.

    Attributes:
        name: What to call it.
        frames: At least one scene, without batch dimension, all in one frame.
        frame_names: One for each.
    """

    name: str
    frames: Sequence[Gaussians]
    frame_names: Sequence[str]


def read_sequence(
    path: Path | str, *, every: int = 1, up: Up = "z", scene_from_world: Similarity | None = None
) -> Sequence4D:
    """Read a file, a folder of files, or a folder of result folders; numbers in names count as numbers.

    Args:
        path: A file of any known format, a folder with `gaussians.ply`, a folder of files of Gaussians, or a folder of
            folders with `gaussians.ply`.
        every: Keep each n-th frame.
        up: Which way is up in the files; the Gaussians are turned so that it is +Z.
        scene_from_world: Brings files that say they are in mm into a scene; they stay in mm when not given.

    Raises:
        InputError: If there is nothing of the kind, or a file cannot be read.
    """
    path = Path(path)
    if every < 1:
        raise InputError(f"expected to keep each n-th frame, n >= 1, found {every}")
    files = sequence_files(path)[::every]
    is_results = all(file.name == RESULT_FILE for file in files) and path.is_dir()
    return Sequence4D(
        name=_name(path),
        frames=[_read(file, up, scene_from_world) for file in files],
        frame_names=[file.parent.name if is_results else _stem(file) for file in files],
    )


def _read(file: Path, up: Up, scene_from_world: Similarity | None) -> Gaussians:
    placed = read_placed(file)
    gaussians = placed.gaussians
    if placed.units == "mm" and scene_from_world is not None:
        gaussians = gaussians.transformed(scene_from_world)
    if up == "z":
        return gaussians
    direction = torch.tensor(UP_DIRECTIONS[up], dtype=torch.float32)
    turn = Similarity(scale=torch.tensor(1.0), rotation=turn_to_z_up(direction), translation=torch.zeros(3))
    return gaussians.transformed(turn)


def sequence_files(path: Path) -> list[Path]:
    """The files of `read_sequence`, in order."""
    if not path.is_dir():
        return [path]
    if (path / RESULT_FILE).is_file():
        return [path / RESULT_FILE]
    found = [file for file in path.iterdir() if file.is_file() and file.name.lower().endswith(tuple(SUFFIXES))]
    found = [file for file in found if file.suffix.lower() != ".glb"] or found  # beside others it may hold a mesh
    if not found:
        found = [folder / RESULT_FILE for folder in path.iterdir() if (folder / RESULT_FILE).is_file()]
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise InputError(f"{path}: expected files of Gaussians ({kinds}) or folders with {RESULT_FILE}, found none")
    return sorted((file for file in found if not file.name.startswith(".")), key=_natural)


def _natural(file: Path) -> list[tuple[int, str]]:
    """frame_2 before frame_10."""
    parts = re.split(r"(\d+)", str(file))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _stem(file: Path) -> str:
    suffix = max((s for s in SUFFIXES if file.name.lower().endswith(s)), key=len, default="")
    return file.name[: len(file.name) - len(suffix)]


def _name(path: Path) -> str:
    """The folder's name tells more than `gaussians` does."""
    absolute = path.absolute()
    return absolute.parent.name if absolute.name == RESULT_FILE else _stem(absolute)
