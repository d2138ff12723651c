"""The table of vertices in a PLY file: binary of either byte order or ascii, scalar properties of any type."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from itertools import chain, islice
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from mouselift.errors import InputError

MAX_HEADER_LINES = 400
MAX_LINE_BYTES = 1000
LONGEST_QUOTE = 60

SCALAR_TYPES = {  # both spellings of the format
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


@dataclass(frozen=True, kw_only=True)
class VertexTable:
    """The element `vertex` of one file.

    Attributes:
        rows: Structured, one record for each vertex.
        comments: The comment lines of the header, without the word itself.
    """

    rows: np.ndarray
    comments: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The properties, in the order of the file."""
        return self.rows.dtype.names or ()

    def columns(self, names: Sequence[str]) -> Float32[np.ndarray, "n k"]:
        """Some properties side by side, a copy."""
        if all(self.rows.dtype[i] == np.dtype("<f4") for i in range(len(self.names))):  # the usual file: one matrix
            matrix = self.rows.view("<f4").reshape(len(self.rows), len(self.names))
            first = self.names.index(names[0])
            if self.names[first : first + len(names)] == tuple(names):
                return matrix[:, first : first + len(names)].copy()
            return matrix[:, [self.names.index(name) for name in names]]
        chosen = np.empty((len(self.rows), len(names)), dtype=np.float32)
        with np.errstate(over="ignore"):  # doubles beyond float32 become infinite, which the caller refuses
            for i, name in enumerate(names):
                chosen[:, i] = self.rows[name]
        return chosen


def shown(words: Sequence[str]) -> str:
    """Words of a file, for a message: short, and without what would steer a terminal."""
    text = " ".join(words)
    plain = "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST_QUOTE])
    return plain + ("..." if len(text) > LONGEST_QUOTE else "")


def read_vertices(file: BufferedIOBase, path: Path) -> VertexTable:
    """Read the header and the vertices; elements after them are left alone.

    Args:
        file: At its beginning.
        path: Its name, for messages.

    Raises:
        InputError: If it is no PLY, its first element is not `vertex`, or it is damaged or truncated.
    """
    lines, comments = _read_header(file, path)
    layout = _read_layout(lines, path)
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    body = file.read(size)  # with its size known, it is read in place; without, it is copied once more
    rows = _read_ascii(body, layout, path) if layout.encoding == "ascii" else _read_binary(body, layout, path)
    return VertexTable(rows=rows, comments=comments)


@dataclass(frozen=True)
class _Layout:
    """The vertices of a file: their encoding, number and fields, and whether other elements come after them."""

    encoding: str
    count: int
    dtype: np.dtype[np.void]
    more_follows: bool


def _read_header(file: BufferedIOBase, path: Path) -> tuple[list[list[str]], tuple[str, ...]]:
    """The words of each header line between `ply` and `end_header`, and the comments apart."""
    if file.readline(MAX_LINE_BYTES).strip() != b"ply":
        raise InputError(f"{path}: expected a PLY file, found another kind of file")
    lines: list[list[str]] = []
    comments: list[str] = []
    for _ in range(MAX_HEADER_LINES):
        text = file.readline(MAX_LINE_BYTES).decode("ascii", "replace")
        words = text.split()
        if words == ["end_header"]:
            return lines, tuple(comments)
        if words and words[0] == "comment":
            comments.append(text.strip().removeprefix("comment").strip())
        elif words and words[0] != "obj_info":
            lines.append(words)
    raise InputError(f"{path}: expected a PLY header that ends with end_header, found none")


def _read_layout(header: list[list[str]], path: Path) -> _Layout:
    """What a header says about the vertices."""
    match header:
        case [["format", encoding, _], ["element", "vertex", count], *properties] if encoding in BYTE_ORDERS:
            pass
        case _:
            found = ", ".join(shown(words) for words in header[:2]) or "nothing"
            raise InputError(f"{path}: expected a PLY header with a format and the element vertex, found: {found}")
    others = [i for i, words in enumerate(properties) if words[0] == "element"]
    fields: list[tuple[str, str]] = []
    for words in properties[: others[0]] if others else properties:
        if len(words) != 3 or words[0] != "property" or words[1] not in SCALAR_TYPES:
            raise InputError(f"{path}: expected scalar properties of the vertices, found: {shown(words)}")
        fields.append((words[2], BYTE_ORDERS[encoding] + SCALAR_TYPES[words[1]]))
    if not fields or len({name for name, _ in fields}) < len(fields) or not count.isdigit():
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
    if not layout.count:
        return np.empty(0, dtype=layout.dtype)
    if 2 * layout.count * width > len(body) + 1:  # a digit and a space each
        raise InputError(f"{path}: expected {layout.count} lines of {width} numbers, found {len(body)} bytes")
    complaint = InputError(f"{path}: expected {width} numbers on each line after the header, found others")
    lines = (line for line in BytesIO(body) if not line.isspace())
    first = next(lines, b"")
    if len(first.split()) != width:  # NumPy makes room for as many columns as the first line has
        raise complaint
    try:
        rows = np.loadtxt(islice(chain([first], lines), layout.count), ndmin=2, comments=None)
    except ValueError:
        raise complaint from None
    if len(rows) < layout.count:
        raise InputError(f"{path}: expected {layout.count} lines after the header, found {len(rows)}")
    vertices = np.empty(layout.count, dtype=layout.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for values that are not finite
        for name, column in zip(names, rows.T, strict=True):
            vertices[name] = column
    return vertices
