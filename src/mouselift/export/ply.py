"""3D Gaussian splatting PLY files, as SuperSplat, viser, gsplat and INRIA's own programs read them.

Layout of the element `vertex`, all float32: x y z, nx ny nz (zero; left out of a minimal file), f_dc_0..2, f_rest_*
(channel-major: all red coefficients, then green, then blue), opacity (logit), scale_0..2 (log), rot_0..3 (w, x, y, z).
Two comments, which other programs skip, tell in which frame a file is: `mouselift units` (scene or mm) and `mouselift
scene_from_world`, a 4x4 matrix row by row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.export.ply_table import VertexTable, read_vertices, shown
from mouselift.geometry import Gaussians, Similarity
from mouselift.geometry.sh import sh_degree

Units = Literal["scene", "mm"]

OPACITY_MARGIN = 1e-7  # opacities are written within [1e-7, 1 - 1e-7], so that their logits are finite
COMMENT = "mouselift"

POSITION = ("x", "y", "z")
NORMAL = ("nx", "ny", "nz")
DC = ("f_dc_0", "f_dc_1", "f_dc_2")
OPACITY = ("opacity",)
SCALE = ("scale_0", "scale_1", "scale_2")
ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
REQUIRED = (*POSITION, *DC, *OPACITY, *SCALE, *ROTATION)


@dataclass(frozen=True, kw_only=True)
class PlacedGaussians:
    """Gaussians and what their file says about where they are.

    Attributes:
        gaussians: Float32, no batch dimension, activated.
        units: The frame they are in: the scene's, or the world's in mm.
        scene_from_world: World (mm) to scene, if known.
    """

    gaussians: Gaussians
    units: Units = "scene"
    scene_from_world: Similarity | None = None


def write_ply(
    gaussians: Gaussians,
    path: Path | str,
    *,
    degree: int | None = None,
    minimal: bool = False,
    units: Units = "scene",
    scene_from_world: Similarity | None = None,
) -> None:
    """Write one scene as a binary 3DGS PLY file.

    Args:
        gaussians: No batch dimension.
        path: The file; an earlier one is replaced only by a whole new one.
        degree: Degree of the spherical harmonics in the file: a lower one than the Gaussians' drops coefficients, a
            higher one adds zeros (INRIA's own viewer reads degree 3 only). Theirs when not given.
        minimal: Leave out the normals, which are zero; some programs insist on them.
        units: What the Gaussians are in; noted in the file.
        scene_from_world: World (mm) to scene; noted in the file, so that `convert` can go from one to the other.

    Raises:
        InputError: If the file cannot be written.
        ValueError: If there is a batch dimension, or a value is not finite.
    """
    placed = PlacedGaussians(gaussians=gaussians, units=units, scene_from_world=scene_from_world)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_ply_to(file, placed, degree=degree, minimal=minimal)


def write_ply_to(
    file: BufferedIOBase, placed: PlacedGaussians, *, degree: int | None = None, minimal: bool = False
) -> None:
    """As `write_ply`, into an open file."""
    gaussians = placed.gaussians
    if gaussians.batch_shape:
        raise ValueError(f"a PLY file holds one scene, found batch shape {tuple(gaussians.batch_shape)}")
    blocks = _blocks(gaussians, sh_degree(gaussians.sh.shape[-2]) if degree is None else degree)
    if minimal:
        del blocks[NORMAL]
    names = [name for block in blocks for name in block]
    vertices = torch.empty(len(gaussians), len(names), dtype=torch.float32)
    start = 0
    for block, values in blocks.items():
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"PLY: {block[0]} has values that are not finite")
        vertices[:, start : start + len(block)] = values.detach()
        start += len(block)
    comments = "".join(f"comment {COMMENT} {line}\n" for line in _place_lines(placed))
    properties = "".join(f"property float {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\n{comments}element vertex {len(vertices)}\n{properties}end_header\n"
    file.write(header.encode("ascii"))
    file.write(vertices.numpy().astype("<f4", copy=False).data)


def read_ply(path: Path | str) -> Gaussians:
    """Read a 3DGS PLY file: binary of either byte order or ascii, SH degree 0 to 3, with or without normals.

    Returns:
        Float32, no batch dimension, activated.

    Raises:
        InputError: If the file cannot be read, is no such PLY, is truncated, or has values that make no Gaussian.
    """
    return read_placed_ply(path).gaussians


def read_placed_ply(path: Path | str) -> PlacedGaussians:
    """As `read_ply`, with what the file says about its frame."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return read_ply_from(file, path)
    except OSError as error:
        raise InputError(f"{path}: expected a PLY file, found: {error.strerror}") from error


def read_ply_from(file: BufferedIOBase, path: Path) -> PlacedGaussians:
    """As `read_placed_ply`, from an open file that messages shall call `path`."""
    table = read_vertices(file, path)
    units, scene_from_world = _read_place(table.comments, path)
    return PlacedGaussians(gaussians=_gaussians(table, path), units=units, scene_from_world=scene_from_world)


def _blocks(gaussians: Gaussians, degree: int) -> dict[tuple[str, ...], Tensor]:
    """Property names and their values (N, number of names), in the order of the file."""
    num_rest = (degree + 1) ** 2 - 1
    kept = gaussians.sh[:, 1 : 1 + num_rest]
    rest = F.pad(kept, (0, 0, 0, num_rest - kept.shape[1]))  # (N, K - 1, 3)
    return {
        POSITION: gaussians.means,
        NORMAL: gaussians.means.new_zeros(1, 3),
        DC: gaussians.sh[:, 0],
        **({tuple(f"f_rest_{i}" for i in range(3 * num_rest)): rest.mT.flatten(1)} if num_rest else {}),
        OPACITY: torch.logit(gaussians.opacities, eps=OPACITY_MARGIN)[:, None],
        SCALE: gaussians.scales.log(),
        ROTATION: F.normalize(gaussians.quats, dim=-1),
    }


def _place_lines(placed: PlacedGaussians) -> list[str]:
    lines = ["units mm"] if placed.units == "mm" else []
    if placed.scene_from_world is not None:
        numbers = placed.scene_from_world.matrix().double().flatten().tolist()
        lines.append("scene_from_world " + " ".join(f"{number:.17g}" for number in numbers))
    return lines


def _read_place(comments: Sequence[str], path: Path) -> tuple[Units, Similarity | None]:
    units: Units = "scene"
    scene_from_world: Similarity | None = None
    for words in (comment.split() for comment in comments):
        match words:
            case [name, "units", found] if name == COMMENT:
                if found not in get_args(Units):
                    raise InputError(f"{path}: expected the comment units scene or units mm, found {shown([found])}")
                units = "mm" if found == "mm" else "scene"
            case [name, "scene_from_world", *numbers] if name == COMMENT:
                try:
                    matrix = torch.tensor([float(number) for number in numbers], dtype=torch.float64).reshape(4, 4)
                    scene_from_world = Similarity.from_matrix(matrix)
                except (ValueError, RuntimeError) as error:
                    raise InputError(
                        f"{path}: expected 16 numbers of a similarity, found: {shown([str(error)])}"
                    ) from None
            case _:
                pass
    return units, scene_from_world


def _gaussians(table: VertexTable, path: Path) -> Gaussians:
    """Stack the columns and undo log and logit."""
    missing = [name for name in REQUIRED if name not in table.names]
    if missing:
        raise InputError(f"{path}: expected a 3D Gaussian PLY, found one without {', '.join(missing)}")
    num_rest = sum(name.startswith("f_rest_") for name in table.names)
    rest_names = tuple(f"f_rest_{i}" for i in range(num_rest))
    if num_rest not in (0, 9, 24, 45) or not set(rest_names) <= set(table.names):
        raise InputError(f"{path}: expected 0, 9, 24 or 45 properties f_rest_0, f_rest_1, ..., found {num_rest}")
    sh = _finite_columns(table, DC, path)[:, None]
    if rest_names:
        rest = _finite_columns(table, rest_names, path).unflatten(1, (3, num_rest // 3)).mT
        sh = torch.cat([sh, rest], dim=1)
    scales, quats = _finite_columns(table, SCALE, path).exp_(), _finite_columns(table, ROTATION, path)
    if not bool((torch.isfinite(scales) & (scales > 0)).all()):
        raise InputError(f"{path}: expected logarithms of scales, found ones whose scales are 0 or infinite")
    lengths = quats.norm(dim=-1)
    if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
        raise InputError(f"{path}: expected quaternions, found one of length 0 or infinity")
    return Gaussians(
        means=_finite_columns(table, POSITION, path),
        quats=F.normalize(quats, dim=-1),
        scales=scales,
        opacities=_finite_columns(table, OPACITY, path)[:, 0].sigmoid(),
        sh=sh,
    )


def _finite_columns(table: VertexTable, names: Sequence[str], path: Path) -> Float[Tensor, "n k"]:
    """Refuse what is not finite, except infinite logits: they are opacities of exactly 0 or 1."""
    values = torch.from_numpy(table.columns(names))
    if math.isfinite(values.sum()):  # one pass over the usual file
        return values
    good = ~values.isnan() if names == OPACITY else values.isfinite()
    if not bool(good.all()):
        row, column = (int(i) for i in (~good).nonzero()[0])
        found = f"{names[column]} = {float(values[row, column])}"
        raise InputError(f"{path}: expected finite values, found {found} of Gaussian {row}")
    return values
