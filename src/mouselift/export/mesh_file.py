"""Meshes on disk: `.glb` (glTF 2.0, one binary file) and `.obj`, both with vertex colours."""

from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.export.glb import FLOAT, UNSIGNED_INT, write_glb, y_up
from mouselift.export.mesh import Mesh
from mouselift.export.ply import Units

SUFFIXES = (".glb", ".obj")
VERTEX_DATA, INDEX_DATA = 34962, 34963  # glTF's buffer targets
METRES_PER_MM = 1e-3


def write_mesh(mesh: Mesh, path: Path | str, *, units: Units = "scene") -> None:
    """Write a mesh; the suffix names the format.

    `.glb`: the numbers are the mesh's own; a node above them turns +Z up into glTF's +Y up and mm into its metres, so
    that it stands upright everywhere. Colours are linear, as glTF demands, and unlit: they hold the light already.
    `.obj`: `v x y z r g b` with sRGB, as MeshLab and Blender read it, +Z up, in the mesh's units.

    Args:
        mesh: The mesh.
        path: The file; an earlier one is replaced only by a whole new one.
        units: What the vertices are in.

    Raises:
        InputError: If the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        found = repr(path.suffix) if path.suffix else "none"
        raise InputError(f"{path}: expected a suffix among {', '.join(SUFFIXES)} for a mesh, found {found}")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if kind == ".glb":
            _write_glb(mesh, file, METRES_PER_MM if units == "mm" else 1.0)
        else:
            file.write(_obj(mesh))


def _obj(mesh: Mesh) -> bytes:
    rows = np.concatenate([mesh.vertices, mesh.colours], axis=1)
    lines = [f"v {x:.7g} {y:.7g} {z:.7g} {r:.4f} {g:.4f} {b:.4f}\n" for x, y, z, r, g, b in rows.tolist()]
    lines += [f"f {a} {b} {c}\n" for a, b, c in (mesh.faces + 1).tolist()]
    return "".join(lines).encode("ascii")


def _write_glb(mesh: Mesh, file: BufferedIOBase, metres: float) -> None:
    arrays = [mesh.vertices.astype("<f4"), _linear(mesh.colours).astype("<f4"), mesh.faces.astype("<u4").reshape(-1)]
    accessors: list[dict[str, Any]] = [
        {"componentType": FLOAT, "count": len(arrays[0]), "type": "VEC3"},
        {"componentType": FLOAT, "count": len(arrays[1]), "type": "VEC3"},
        {"componentType": UNSIGNED_INT, "count": len(arrays[2]), "type": "SCALAR"},
    ]
    accessors[0] |= {"min": arrays[0].min(0).tolist(), "max": arrays[0].max(0).tolist()}
    document = {
        "asset": {"version": "2.0", "generator": "MouseLift"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "matrix": y_up(metres)}],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}]}],
    }
    write_glb(file, document, arrays, accessors, [VERTEX_DATA, VERTEX_DATA, INDEX_DATA])


def _linear(srgb: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
