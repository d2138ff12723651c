"""glTF 2.0 as one binary file (`.glb`): a JSON document, and the numbers that it points to.

The reader takes nothing on trust: indices, offsets and counts are checked against the file, and memory stays within a
multiple of its size. It reads what can hold numbers of points, not textures, skins or animations.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from mouselift.errors import InputError

MAGIC, VERSION = b"glTF", 2
HEADER, CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")
LARGEST_FILE = (1 << 32) - 1  # its length is 32 bits
LARGEST_JSON = 1 << 20  # makes up to 40 MB of Python's objects
MOST_PARTS = 1 << 14  # nodes, accessors and so on
FLOAT, UNSIGNED_INT, UNSIGNED_BYTE = 5126, 5125, 5121  # of `componentType`
COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}

Count: TypeAlias = Annotated[int, Field(ge=0)]
Part = TypeVar("Part")
Parts: TypeAlias = Annotated[list[Part], Field(max_length=MOST_PARTS)]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Buffer(_Part):
    """Numbers in the file itself, or elsewhere."""

    byte_length: Count
    uri: str | None = None


class BufferView(_Part):
    """A range of a buffer."""

    buffer: Count
    byte_length: Count
    byte_offset: Count = 0
    byte_stride: Count | None = None


class Accessor(_Part):
    """An array in a buffer view."""

    component_type: int
    count: Count
    type: str
    buffer_view: Count | None = None
    byte_offset: Count = 0
    normalized: bool = False
    sparse: Any = None


class Primitive(_Part):
    """Arrays by what they mean, and extensions by name."""

    attributes: dict[str, Count]
    mode: int = 4
    extensions: dict[str, dict[str, Any]] = {}


class Mesh(_Part):
    """What a node shows."""

    primitives: Parts[Primitive]


class Node(_Part):
    """A place: a matrix, column by column, or rotation (x, y, z, w), scale and translation."""

    mesh: Count | None = None
    children: Parts[Count] = []
    matrix: Annotated[list[Finite], Field(min_length=16, max_length=16)] | None = None
    translation: tuple[Finite, Finite, Finite] = (0.0, 0.0, 0.0)
    rotation: tuple[Finite, Finite, Finite, Finite] = (0.0, 0.0, 0.0, 1.0)
    scale: tuple[Finite, Finite, Finite] = (1.0, 1.0, 1.0)

    def transform(self) -> Float64[np.ndarray, "4 4"]:
        """Parent from node."""
        if self.matrix is not None:
            return np.array(self.matrix).reshape(4, 4).T
        x, y, z, w = self.rotation
        affine = np.eye(4)
        affine[:3, 3] = self.translation
        affine[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        affine[:3, :3] *= self.scale
        return affine


class Scene(_Part):
    """The roots of a tree of nodes."""

    nodes: Parts[Count] = []


class Asset(_Part):
    """Where the file comes from, and what its program noted."""

    extras: Any = None


class Document(_Part):
    """As much of a glTF document as is needed to place arrays of points."""

    asset: Asset = Asset()
    accessors: Parts[Accessor] = []
    buffers: Parts[Buffer] = []
    buffer_views: Parts[BufferView] = []
    extensions_required: Parts[str] = []
    meshes: Parts[Mesh] = []
    nodes: Parts[Node] = []
    scene: Count = 0
    scenes: Parts[Scene] = []


def y_up(scale: float) -> list[float]:
    """The matrix of a node that takes our +Z up to glTF's +Y up: (x, y, z) becomes scale * (x, z, -y)."""
    return [scale, 0, 0, 0, 0, 0, -scale, 0, 0, scale, 0, 0, 0, 0, 0, 1]


def write_glb(
    file: BufferedIOBase,
    document: Mapping[str, Any],
    arrays: list[np.ndarray],
    accessors: list[dict[str, Any]],
    target: list[int],
) -> None:
    """Write arrays of 4-byte rows, and a document with `accessors`, one for each array, and what lies beneath them.

    Args:
        file: Open for writing.
        document: Everything else.
        arrays: Little-endian, contiguous.
        accessors: Without the key `bufferView`.
        target: glTF's number for the use of each array.

    Raises:
        InputError: If a file of that size cannot be.
    """
    offsets = np.cumsum([0] + [array.nbytes for array in arrays]).tolist()
    views = [
        {"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": use}
        for offset, array, use in zip(offsets[:-1], arrays, target, strict=True)
    ]
    whole = {
        **document,
        "accessors": [{"bufferView": index} | accessor for index, accessor in enumerate(accessors)],
        "bufferViews": views,
        "buffers": [{"byteLength": offsets[-1]}],
    }
    text = json.dumps(whole).encode("ascii")
    text += b" " * (-len(text) % 4)
    size = HEADER.size + 2 * CHUNK.size + len(text) + offsets[-1]
    if size > LARGEST_FILE:
        raise InputError(f"expected at most 4 GB in a .glb file, found {size / (1 << 30):.1f} GB")
    file.write(HEADER.pack(MAGIC, VERSION, size) + CHUNK.pack(len(text), b"JSON") + text)
    file.write(CHUNK.pack(offsets[-1], b"BIN\0"))
    for array in arrays:
        file.write(array.data)


class GlbFile:
    """A file that was read: its document, and its numbers.

    Attributes:
        path: For messages.
        document: What was understood of the JSON.
        blob: The binary chunk.
    """

    def __init__(self, data: bytes, path: Path) -> None:
        """Take a file apart.

        Raises:
            InputError: If it is no .glb file, or a damaged one.
        """
        self.path = path
        if len(data) < HEADER.size or data[:4] != MAGIC:
            raise InputError(f"{path}: expected a binary glTF file, found another kind of file")
        _, version, length = HEADER.unpack_from(data)
        if version != VERSION or length != len(data):
            raise InputError(f"{path}: expected glTF 2.0 of {length} bytes, found version {version}, {len(data)} bytes")
        chunks = dict[bytes, memoryview]()
        start = HEADER.size
        while start + CHUNK.size <= len(data) and len(chunks) < 2:
            size, kind = CHUNK.unpack_from(data, start)
            start += CHUNK.size
            if start + size > len(data):
                raise InputError(f"{path}: expected {size} bytes in a part of the file, found {len(data) - start}")
            chunks[kind] = memoryview(data)[start : start + size]
            start += size
        text, self.blob = chunks.get(b"JSON", memoryview(b"")), chunks.get(b"BIN\0", memoryview(b""))
        if len(text) > LARGEST_JSON:
            raise InputError(f"{path}: expected at most {LARGEST_JSON >> 20} MB of JSON, found {len(text) >> 20} MB")
        try:
            self.document = Document.model_validate_json(bytes(text))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "its JSON"
            reason = " ".join(first["msg"].split())
            raise InputError(f"{path}: expected a glTF document, found a damaged one: {place}: {reason}") from None

    def placed_meshes(self) -> Iterator[tuple[Mesh, Float64[np.ndarray, "4 4"]]]:
        """The meshes of the scene, each with its world from mesh.

        Raises:
            InputError: If the nodes are no tree, or point to what is not there.
        """
        nodes = self.document.nodes
        if self.document.scenes:
            roots = self._at(self.document.scenes, self.document.scene, "scenes").nodes
        else:
            below = {child for node in nodes for child in node.children}
            roots = [index for index in range(len(nodes)) if index not in below]
        pending, seen = [(index, np.eye(4)) for index in reversed(roots)], set[int]()
        while pending:
            index, parent = pending.pop()
            if index in seen:
                raise InputError(f"{self.path}: expected a tree of nodes, found node {index} twice")
            seen.add(index)
            node = self._at(nodes, index, "nodes")
            with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for what is no similarity
                world = parent @ node.transform()
            if node.mesh is not None:
                yield self._at(self.document.meshes, node.mesh, "meshes"), world
            pending += [(child, world) for child in reversed(node.children)]

    def count_of(self, index: int) -> int:
        """Rows of an array."""
        return self._at(self.document.accessors, index, "accessors").count

    def array(self, index: int, width: int) -> Float32[np.ndarray, "n w"]:
        """The numbers of an accessor, a copy; integers that stand for fractions become those.

        Raises:
            InputError: If there is no such array in the file, or it has another number of columns.
        """
        accessor = self._at(self.document.accessors, index, "accessors")
        where = f"{self.path}: accessor {index}"
        if WIDTHS.get(accessor.type) != width or accessor.component_type not in COMPONENTS:
            found = f"{accessor.type} of {accessor.component_type}"
            raise InputError(f"{where}: expected {width} numbers of 8, 16 or 32 bits in each row, found {found}")
        if accessor.sparse is not None or accessor.buffer_view is None:
            raise InputError(f"{where}: expected numbers in the file, found a sparse array or none")
        view = self._at(self.document.buffer_views, accessor.buffer_view, "bufferViews")
        buffer = self._at(self.document.buffers, view.buffer, "buffers")
        if view.buffer or buffer.uri is not None:
            raise InputError(f"{where}: expected numbers in the file itself, found a buffer elsewhere")
        kind = np.dtype(COMPONENTS[accessor.component_type])
        stride = view.byte_stride or kind.itemsize * width
        reach = accessor.byte_offset + stride * (accessor.count - 1) + kind.itemsize * width
        if stride < kind.itemsize * width or (accessor.count and reach > view.byte_length):
            raise InputError(f"{where}: expected {accessor.count} rows, found {view.byte_length} bytes")
        if view.byte_offset + view.byte_length > len(self.blob):
            raise InputError(f"{where}: expected numbers in the file, found {len(self.blob)} bytes of them")
        start = view.byte_offset + accessor.byte_offset
        if not accessor.count:
            return np.zeros((0, width), np.float32)
        stored = np.ndarray((accessor.count, width), kind, self.blob, start, (stride, kind.itemsize))
        values = stored.astype(np.float32)
        if accessor.normalized and kind.kind in "iu":
            values /= np.iinfo(kind).max
            np.maximum(values, -1, out=values)  # the lowest integer is one step beyond
        return values

    def _at(self, parts: list[Any], index: int, name: str) -> Any:
        if index >= len(parts):
            raise InputError(f"{self.path}: expected an index of {name} below {len(parts)}, found {index}")
        return parts[index]
