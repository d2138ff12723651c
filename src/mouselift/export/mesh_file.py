"""Meshes on disk: `.glb` (glTF 2.0, one binary file) and `.obj`, both with vertex colours."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.export.mesh import Mesh
from mouselift.export.ply import Units

SUFFIXES = (".glb", ".obj")
FLOAT, UNSIGNED_INT = 5126, 5125  # glTF's componentType
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
    writers = {".glb": lambda: _glb(mesh, METRES_PER_MM if units == "mm" else 1.0), ".obj": lambda: _obj(mesh)}
    if path.suffix.lower() not in writers:
        found = repr(path.suffix) if path.suffix else "none"
        raise InputError(f"{path}: expected a suffix among {', '.join(SUFFIXES)} for a mesh, found {found}")
    data = writers[path.suffix.lower()]()
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _obj(mesh: Mesh) -> bytes:
    rows = np.concatenate([mesh.vertices, mesh.colours], axis=1)
    lines = [f"v {x:.7g} {y:.7g} {z:.7g} {r:.4f} {g:.4f} {b:.4f}\n" for x, y, z, r, g, b in rows.tolist()]
    lines += [f"f {a} {b} {c}\n" for a, b, c in (mesh.faces + 1).tolist()]
    return "".join(lines).encode("ascii")


def _glb(mesh: Mesh, metres: float) -> bytes:
    arrays = [mesh.vertices.astype("<f4"), _linear(mesh.colours).astype("<f4"), mesh.faces.astype("<u4").reshape(-1)]
    blob = b"".join(array.tobytes() for array in arrays)  # all of 4-byte numbers: aligned
    offsets = np.cumsum([0] + [array.nbytes for array in arrays]).tolist()
    targets = [VERTEX_DATA, VERTEX_DATA, INDEX_DATA]
    accessors: list[dict[str, Any]] = [
        {"bufferView": 0, "componentType": FLOAT, "count": len(arrays[0]), "type": "VEC3"},
        {"bufferView": 1, "componentType": FLOAT, "count": len(arrays[1]), "type": "VEC3"},
        {"bufferView": 2, "componentType": UNSIGNED_INT, "count": len(arrays[2]), "type": "SCALAR"},
    ]
    accessors[0] |= {"min": arrays[0].min(0).tolist(), "max": arrays[0].max(0).tolist()}
    document = {
        "asset": {"version": "2.0", "generator": "MouseLift"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "matrix": _y_up(metres)}],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}]}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target}
            for offset, array, target in zip(offsets[:-1], arrays, targets, strict=True)
        ],
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document).encode("ascii")
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _y_up(scale: float) -> list[float]:
    """Column by column: (x, y, z) becomes scale * (x, z, -y)."""
    return [scale, 0, 0, 0, 0, 0, -scale, 0, 0, scale, 0, 0, 0, 0, 0, 1]


def _linear(srgb: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
