"""Gaussians in binary glTF files: the extension KHR_gaussian_splatting, ratified in 2026.

Points with attributes: positions, rotations (x, y, z, w), scales and opacities as they are drawn, not their logarithms
or logits, and coefficients of spherical harmonics, in sRGB. glTF is +Y up and in metres; a node turns and scales the
numbers of ours, which are written as they are.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ValidationError
from torch import Tensor
from torch.nn import functional as F

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.export.glb import FLOAT, UNSIGNED_BYTE, GlbFile, Primitive, write_glb, y_up
from mouselift.export.ply import PlacedGaussians, Units
from mouselift.geometry import Gaussians, Similarity

EXTENSION = "KHR_gaussian_splatting"
READ_EXTENSIONS = {EXTENSION, "KHR_mesh_quantization", "KHR_materials_unlit"}
KERNEL, COLOUR_SPACE = "ellipse", "srgb_rec709_display"
POINTS, VERTEX_DATA = 0, 34962  # glTF's primitive mode and buffer target
METRES_PER_MM = 1e-3
SMALLEST_GAUSSIAN = 12  # bytes: what a position takes
MAX_DEGREE = 3
MOST_SETS = 1024
NOTE = "mouselift"  # of asset.extras
UNMOVED = 1e-9


class _Note(BaseModel):
    units: Units = "scene"
    scene_from_world: list[float] | None = None


def write_splat_glb(placed: PlacedGaussians, path: Path | str) -> None:
    """Write one scene; its units and its place in the world are noted in `asset.extras`.

    Args:
        placed: No batch dimension, at least one.
        path: The file; an earlier one is replaced only by a whole new one.

    Raises:
        InputError: If there are no Gaussians, or the file cannot be written or would be larger than 4 GB.
        ValueError: If there is a batch dimension, or a value is not finite.
    """
    if placed.gaussians.batch_shape:
        raise ValueError(f"a .glb file holds one scene, found batch shape {tuple(placed.gaussians.batch_shape)}")
    if not len(placed.gaussians):
        raise InputError(f"{path}: expected at least one Gaussian to write, found none")
    columns = _columns(placed.gaussians.detach().to("cpu", torch.float32))
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise ValueError(f"a .glb file: {name} has values that are not finite")
    accessors: list[dict[str, Any]] = [
        {
            "componentType": FLOAT,
            "count": len(values),
            "type": "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}",
        }
        for values in columns.values()
    ]
    names = list(columns)
    position, colour = names.index("POSITION"), names.index("COLOR_0")
    accessors[position] |= {
        "min": columns["POSITION"].min(0).tolist(),
        "max": columns["POSITION"].max(0).tolist(),
    }
    accessors[colour] |= {"componentType": UNSIGNED_BYTE, "normalized": True}
    extension = {
        "kernel": KERNEL,
        "colorSpace": COLOUR_SPACE,
        "sortingMethod": "cameraDistance",
        "projection": "perspective",
    }
    primitive = {
        "attributes": {name: index for index, name in enumerate(names)},
        "mode": POINTS,
        "extensions": {EXTENSION: extension},
    }
    document = {
        "asset": {"version": "2.0", "generator": "MouseLift", "extras": {NOTE: _note(placed)}},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "matrix": y_up(METRES_PER_MM if placed.units == "mm" else 1.0)}],
        "meshes": [{"primitives": [primitive]}],
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_glb(file, document, list(columns.values()), accessors, [VERTEX_DATA] * len(columns))


def read_splat_glb(path: Path | str) -> PlacedGaussians:
    """Read the Gaussians of a .glb file, turned to +Z up; several sets become one scene.

    Ours come back as they were. Of others the units are taken to be the scene's, whatever they measure.

    Returns:
        Float32, no batch dimension.

    Raises:
        InputError: If the file cannot be read, holds no Gaussians or compressed ones, or is damaged.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: expected a .glb file, found: {error.strerror}") from error
    file = GlbFile(data, path)
    unknown = sorted(set(file.document.extensions_required) - READ_EXTENSIONS)
    if unknown:
        raise InputError(f"{path}: expected Gaussians that are not compressed, found that it requires {unknown[0]!r}")
    note = _read_note(file)
    scene_from_gltf = np.linalg.inv(np.array(y_up(METRES_PER_MM if note.units == "mm" else 1.0)).reshape(4, 4).T)
    scenes: list[Gaussians] = []
    found = 0
    for mesh, gltf_from_mesh in file.placed_meshes():
        for primitive in mesh.primitives:
            if EXTENSION not in primitive.extensions:
                continue
            position = primitive.attributes.get("POSITION")
            found += 0 if position is None else file.count_of(position)
            if found * SMALLEST_GAUSSIAN > len(file.blob):
                raise InputError(f"{path}: expected numbers for {found} Gaussians, found {len(file.blob)} bytes")
            if len(scenes) == MOST_SETS:
                raise InputError(f"{path}: expected at most {MOST_SETS} sets of Gaussians, found more")
            scenes.append(_moved(_read_primitive(file, primitive), scene_from_gltf @ gltf_from_mesh, path))
    if not found:
        raise InputError(f"{path}: expected Gaussians ({EXTENSION}), found a glTF file without")
    bases = max(scene.sh.shape[1] for scene in scenes)
    padded = [replace(scene, sh=F.pad(scene.sh, (0, 0, 0, bases - scene.sh.shape[1]))) for scene in scenes]
    return PlacedGaussians(
        gaussians=Gaussians.cat(padded) if len(padded) > 1 else padded[0],
        units=note.units,
        scene_from_world=_placement(note, path),
    )


def _columns(scene: Gaussians) -> dict[str, np.ndarray]:
    """Attributes by their names, in the order of the file."""
    colours = torch.cat([scene.rgb, scene.opacities[:, None]], dim=-1).clamp(0, 1).mul(255).round()
    degrees = {
        _coefficient(degree, number): scene.sh[:, degree**2 + number]
        for degree in range(int(scene.sh.shape[1] ** 0.5))
        for number in range(2 * degree + 1)
    }
    tensors = {
        "POSITION": scene.means,
        f"{EXTENSION}:ROTATION": F.normalize(scene.quats, dim=-1)[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": scene.scales,
        f"{EXTENSION}:OPACITY": scene.opacities.clamp(0, 1),
        **degrees,
    }
    columns = {name: np.ascontiguousarray(values.numpy(), dtype="<f4") for name, values in tensors.items()}
    columns["COLOR_0"] = colours.nan_to_num().byte().numpy()  # for programs that draw points only
    return columns


def _coefficient(degree: int, number: int) -> str:
    return f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{number}"


def _read_primitive(file: GlbFile, primitive: Primitive) -> Gaussians:
    """One set of Gaussians, in the frame of its mesh."""
    path, extension = file.path, primitive.extensions[EXTENSION]
    if extension.get("extensions"):
        name = sorted(map(str, extension["extensions"]))[0] if isinstance(extension["extensions"], dict) else "damage"
        raise InputError(f"{path}: expected Gaussians that are not compressed, found {name!r}")
    for key, expected in {"kernel": KERNEL, "colorSpace": COLOUR_SPACE}.items():
        if extension.get(key, expected) != expected:
            raise InputError(f"{path}: expected {key} {expected}, found {extension[key]!r:.80}")
    degree = max(d for d in range(MAX_DEGREE + 1) if d == 0 or _coefficient(d, 0) in primitive.attributes)
    names = [_coefficient(d, number) for d in range(degree + 1) for number in range(2 * d + 1)]
    widths = {"POSITION": 3, "ROTATION": 4, "SCALE": 3, "OPACITY": 1}
    attributes = {name if name == "POSITION" else f"{EXTENSION}:{name}": width for name, width in widths.items()}
    attributes |= dict.fromkeys(names, 3)
    missing = [name for name in attributes if name not in primitive.attributes]
    if missing or primitive.mode != POINTS:
        raise InputError(f"{path}: expected points with {', '.join(missing) or 'mode 0'}, found others")
    count = file.count_of(primitive.attributes["POSITION"])
    columns: dict[str, Tensor] = {}
    for name, width in attributes.items():
        if file.count_of(primitive.attributes[name]) != count:
            raise InputError(f"{path}: expected {count} rows of {name}, as of POSITION, found another number")
        columns[name] = torch.from_numpy(file.array(primitive.attributes[name], width))
    means, turns, scales, opacities = (columns.pop(name) for name in list(attributes)[:4])
    lengths = turns.norm(dim=-1)
    for what, good in {
        "finite positions": means.isfinite().all(-1),
        "quaternions": lengths.isfinite() & (lengths > 0),
        "finite scales above 0": (scales.isfinite() & (scales > 0)).all(-1),
        "opacities in [0, 1]": ((opacities >= 0) & (opacities <= 1))[:, 0],
        "finite coefficients": torch.stack([column.isfinite().all(-1) for column in columns.values()]).all(0),
    }.items():
        if not bool(good.all()):
            raise InputError(f"{path}: expected {what}, found others in Gaussian {int((~good).nonzero()[0])}")
    return Gaussians(
        means=means,
        quats=F.normalize(turns, dim=-1)[:, [3, 0, 1, 2]],
        scales=scales,
        opacities=opacities[:, 0],
        sh=torch.stack(list(columns.values()), dim=1),
    )


def _moved(gaussians: Gaussians, matrix: Float[np.ndarray, "4 4"], path: Path) -> Gaussians:
    """Into the scene; as they are, to the bit, where nothing moves them."""
    if np.abs(matrix - np.eye(4)).max() < UNMOVED:
        return gaussians
    try:
        similarity = Similarity.from_matrix(torch.from_numpy(matrix).double())
    except ValueError as error:
        raise InputError(f"{path}: expected nodes that turn, move and scale evenly, found: {error}") from None
    moved = gaussians.transformed(similarity)
    if not bool((moved.means.isfinite() & moved.scales.isfinite() & (moved.scales > 0)).all()):
        raise InputError(f"{path}: expected nodes of plausible size, found a scale of {float(similarity.scale):g}")
    return moved


def _note(placed: PlacedGaussians) -> dict[str, Any]:
    known = placed.scene_from_world
    matrix = {} if known is None else {"scene_from_world": known.matrix().double().flatten().tolist()}
    return {"units": placed.units, **matrix}


def _read_note(file: GlbFile) -> _Note:
    extras = file.document.asset.extras
    if not isinstance(extras, dict) or NOTE not in extras:
        return _Note()
    try:
        return _Note.model_validate(extras[NOTE])
    except ValidationError:
        raise InputError(f"{file.path}: expected units and a place in asset.extras.{NOTE}, found others") from None


def _placement(note: _Note, path: Path) -> Similarity | None:
    if note.scene_from_world is None:
        return None
    try:
        return Similarity.from_matrix(torch.tensor(note.scene_from_world, dtype=torch.float64).reshape(4, 4))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: expected 16 numbers of a similarity, found: {error}") from None
