"""Damaged files of Gaussians by number: the same case for the same format and number, for `benchmarks/fuzz_files.py`.

Half of the damage knows nothing of the formats (cuts, flipped bits, numbers that are not); the other half goes to where
they keep what they say of themselves: headers, counts, archives, JSON. Bombs are files that ask for far more than they
weigh.
"""

import gzip
import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plyfile import PlyData
from samples import random_gaussians, seeded

from mouselift.export.files import write_gaussians

OWN_KINDS = ("ply", "ply-big-endian", "ply-ascii", "splat", "glb")
PACKED_KINDS = ("compressed.ply", "spz", "sog", "ksplat")
SIZES = ((1, 0), (7, 0), (40, 1), (300, 3))  # Gaussians and degree of the sound files
BOMB_BYTES = 300_000_000
WORDS = [struct.pack("<f", value) for value in (np.nan, np.inf, -np.inf, 3e38, 1e-45, -1.0, 0.0)] + [
    struct.pack("<I", value) for value in (1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
]
NUMBERS = (
    -1,
    0,
    1,
    2,
    255,
    256,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63,
    10**30,
    -(10**30),
    1.5,
    1e308,
    1e400,
)
VALUES = (*NUMBERS, None, True, "", "x", "../../../etc/passwd", "a" * 5000, [], {}, [[]] * 50, {"a": {}})

Rng = np.random.Generator


def file_suffix(kind: str) -> str:
    """What a file of this kind is called."""
    return ".ply" if kind.startswith("ply") else f".{kind}"


def damaged_file(kind: str, number: int) -> bytes:
    """The bytes of one case."""
    rng = np.random.default_rng([(*OWN_KINDS, *PACKED_KINDS).index(kind), number])
    count, degree = SIZES[rng.integers(len(SIZES))]
    data = sound_file(kind, count, degree)
    special = SPECIAL.get(kind, SPECIAL["ply"])
    if rng.random() < 0.02:
        return BOMBS.get(kind, BOMBS["ply"])(data, rng)
    for _ in range(rng.integers(1, 4)):
        data = (special if rng.random() < 0.5 else _anywhere)(data, rng)
    return data


@cache
def sound_file(kind: str, count: int, degree: int) -> bytes:
    """A file that nothing is wrong with."""
    gaussians = random_gaussians(seeded(count), count=count, degree=degree).to(torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{file_suffix(kind)}"
        write_gaussians(gaussians, path)
        data = path.read_bytes()
    if kind in ("ply-big-endian", "ply-ascii"):
        text = kind == "ply-ascii"
        other = io.BytesIO()
        PlyData(list(PlyData.read(io.BytesIO(data))), text=text, byte_order="=" if text else ">").write(other)
        return other.getvalue()
    return data


# ---- damage that knows nothing of the format


def _anywhere(data: bytes, rng: Rng) -> bytes:
    changes = (_cut, _flip, _overwrite, _word, _drop, _repeat, _insert, _append, _another)
    return changes[rng.choice(len(changes), p=[0.25, 0.2, 0.1, 0.2, 0.07, 0.06, 0.06, 0.04, 0.02])](data, rng)


def _cut(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _flip(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(2 ** rng.integers(7) if data else 0):
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(changed)


def _overwrite(data: bytes, rng: Rng) -> bytes:
    start = int(rng.integers(len(data) + 1))
    return data[:start] + rng.bytes(int(rng.integers(1, 40))) + data[start + 40 :]


def _word(data: bytes, rng: Rng) -> bytes:
    """A number of four bytes that means trouble; mostly near the beginning, where counts are."""
    reach = min(len(data), 256) if rng.random() < 0.5 else len(data)
    start = int(rng.integers(reach // 4 + 1)) * 4
    return data[:start] + WORDS[rng.integers(len(WORDS))] + data[start + 4 :]


def _range(data: bytes, rng: Rng) -> tuple[int, int]:
    start, end = sorted(rng.integers(len(data) + 1, size=2).tolist())
    return start, end


def _drop(data: bytes, rng: Rng) -> bytes:
    start, end = _range(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, rng: Rng) -> bytes:
    start, end = _range(data, rng)
    return data[:end] + data[start:]


def _insert(data: bytes, rng: Rng) -> bytes:
    start = int(rng.integers(len(data) + 1))
    return data[:start] + rng.bytes(int(rng.integers(1, 200))) + data[start:]


def _append(data: bytes, rng: Rng) -> bytes:
    return data + (bytes(1000), data, b"\n", rng.bytes(100))[rng.integers(4)]


def _another(data: bytes, rng: Rng) -> bytes:
    others = [
        b"",
        b"\x00" * 100,
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"PK\x03\x04" + bytes(50),
        b"\x1f\x8b\x08" + bytes(9),
    ]
    kinds = (*OWN_KINDS, *PACKED_KINDS)
    return [*others, sound_file(kinds[rng.integers(len(kinds))], 7, 0)][rng.integers(len(others) + 1)]


# ---- PLY


def _ply(data: bytes, rng: Rng) -> bytes:
    """Lines of the header changed, dropped, repeated, shuffled, or made long."""
    head, end, body = data.partition(b"end_header\n")
    if not end:
        return _anywhere(data, rng)
    lines = head.splitlines()
    at = int(rng.integers(len(lines)))
    words = lines[at].split() or [b""]
    match rng.integers(10):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        case 2:
            lines[at] = lines[at] + b" x" * int(10 ** rng.integers(7))
        case 3:
            lines[at:at] = [b"comment " + b"c" * 70] * int(10 ** rng.integers(6))
        case 4:
            lines[2:] = [lines[2 + k] for k in rng.permutation(max(len(lines) - 2, 0))]
        case 5:
            kinds = (b"double", b"uchar", b"int8", b"list uchar int", b"list float double", b"float16", b"", b"short")
            lines[at] = b"property " + kinds[rng.integers(len(kinds))] + b" " + words[-1]
        case 6:
            lines = [b"element vertex %d" % _count(rng) if b"element vertex" in line else line for line in lines]
        case 7:
            formats = (
                b"ascii 1.0",
                b"binary_big_endian 1.0",
                b"binary_little_endian 1.0",
                b"binary_little_endian",
                b"x",
            )
            lines[1:2] = [b"format " + formats[rng.integers(len(formats))]]
        case 8:
            lines.insert(at, (b"element face 3", b"property list uchar int i", b"\xff\xfe", b"")[rng.integers(4)])
        case _:
            joined = (b"\r\n", b"\r", b" \n\n")[rng.integers(3)].join(lines)
            return joined + b"\n" + (end, b"end_header\r\n", b"")[rng.integers(3)] + body
    return b"\n".join(lines) + b"\n" + end + body


def _count(rng: Rng) -> int:
    return int(10 ** rng.integers(0, 40)) if rng.random() < 0.5 else int(rng.integers(-3, 400))


# ---- archives


def _spz(data: bytes, rng: Rng) -> bytes:
    """Within the archive: magic, version, count, degree, bits after the point, flags, and then bytes."""
    try:
        inner = bytearray(gzip.decompress(data))
    except (OSError, EOFError, zlib.error):
        return _anywhere(data, rng)
    match rng.integers(4):
        case 0 if len(inner) >= 16:
            inner[4 * rng.integers(1, 3)] = rng.integers(6)
        case 1 if len(inner) >= 16:
            inner[8:12] = struct.pack("<I", [0, 1, 2**20, 10_000_001, 2**31, 2**32 - 1][rng.integers(6)])
        case 2 if len(inner) >= 16:
            inner[12 + rng.integers(4)] = rng.integers(256)
        case _:
            inner = bytearray(_anywhere(bytes(inner), rng))
    return gzip.compress(bytes(inner), compresslevel=1)


def _sog(data: bytes, rng: Rng) -> bytes:
    """A file of the archive changed, dropped or renamed; most of all its JSON."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error):
        return _anywhere(data, rng)
    if not files:
        return _anywhere(data, rng)
    at = int(rng.integers(len(files)))
    name, content = files[at]
    match rng.integers(6):
        case 0:
            del files[at]
        case 1:
            files[at] = (("../../../outside", "/outside", "", "a" * 60_000, name.upper())[rng.integers(5)], content)
        case 2:
            files[at] = (name, _anywhere(content, rng))
        case 3:
            files[at] = (name, files[int(rng.integers(len(files)))][1])
        case _:
            files = [(n, _json(c, rng) if n.endswith(".json") else c) for n, c in files]
    return _zipped(files, zipfile.ZIP_STORED if rng.random() < 0.8 else zipfile.ZIP_DEFLATED)


def _zipped(files: list[tuple[str, bytes]], compression: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return written.getvalue()


# ---- JSON


def _json(text: bytes, rng: Rng) -> bytes:
    """A few values become others, or go."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _anywhere(text, rng)
    for _ in range(rng.integers(1, 4)):
        parts = _containers(document)
        if not parts:
            break
        part = parts[rng.integers(len(parts))]
        key = list(part)[rng.integers(len(part))] if isinstance(part, dict) else int(rng.integers(len(part)))
        if rng.random() < 0.2:
            del part[key]
        else:
            numeric = isinstance(part[key], int | float) and rng.random() < 0.7
            choice = NUMBERS if numeric else VALUES
            part[key] = choice[rng.integers(len(choice))]
    return json.dumps(document).encode()


def _containers(value: Any) -> list[Any]:
    """Every list and object that is not empty; long lists of numbers count once."""
    if not isinstance(value, list | dict) or not value:
        return []
    below = value if isinstance(value, list) else list(value.values())
    return [value, *(found for part in below for found in _containers(part))]


def _glb(data: bytes, rng: Rng) -> bytes:
    """The document, the lengths of the parts, or their names."""
    if len(data) < 28 or data[:4] != b"glTF":
        return _anywhere(data, rng)
    length = int.from_bytes(data[12:16], "little")
    text, rest = data[20 : 20 + length], data[20 + length :]
    if rng.random() < 0.15:
        return data[:12] + WORDS[rng.integers(len(WORDS))] + data[16:]
    text = _json(text, rng)
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON") + text + rest


# ---- ksplat, splat: records, and nothing that could be taken apart


def _ksplat(data: bytes, rng: Rng) -> bytes:
    """A number of the file's header or of its first section's."""
    start = 4 * int(rng.integers(12)) + (4096 if rng.random() < 0.5 else 0)
    return data[:start] + WORDS[rng.integers(len(WORDS))] + data[start + 4 :]


# ---- bombs


def _ply_bomb(data: bytes, rng: Rng) -> bytes:
    """Counts of anything, headers without end, and text of which every byte could become a number."""
    tiny = b"ply\nformat ascii 1.0\nelement vertex 3\n" + b"property char x\n" * 3 + b"end_header\n"
    return (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 9999999999999\nproperty float x\nend_header\n"
        + bytes(999),
        b"ply\n" + b"comment x\n" * 500_000,
        b"ply\n" + b"x" * 20_000_000,
        tiny + b"1\n" * 5_000_000,
        data.replace(b"binary_little_endian", b"ascii") + b"\n" * 5_000_000,
        b"ply\nformat ascii 1.0\nelement vertex 2000000\nproperty char x\nend_header\n" + b"1 " * 2_000_000,
    )[rng.integers(6)]


def _spz_bomb(_: bytes, rng: Rng) -> bytes:
    count = int([10_000_000, BOMB_BYTES // 65, 2**32 - 1][rng.integers(3)])
    header = struct.pack("<III", 0x5053474E, 3, count) + bytes([3, 12, 0, 0])
    return gzip.compress(header + bytes(BOMB_BYTES), compresslevel=1)


def _sog_bomb(data: bytes, rng: Rng) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = [(info.filename, archive.read(info)) for info in archive.infolist()]
    match rng.integers(3):
        case 0:  # a file of zeros
            files[0] = (files[0][0], bytes(BOMB_BYTES))
        case 1:  # a picture that says it is 16383 x 16383
            files = [(name, _huge_webp(content) if name.endswith("webp") else content) for name, content in files]
        case _:  # as many Gaussians as anybody likes
            meta = json.loads(dict(files)["meta.json"])
            meta["count"] = 2**31 - 1
            files = [(name, json.dumps(meta).encode() if name == "meta.json" else content) for name, content in files]
    return _zipped(files, zipfile.ZIP_DEFLATED)


def _huge_webp(content: bytes) -> bytes:
    at = content.find(b"VP8L")
    return content if at < 0 else content[: at + 9] + b"\xff\xff\xff\x0f" + content[at + 13 :]


def _glb_bomb(_: bytes, rng: Rng) -> bytes:
    text = (
        b"[" * 3_000_000,
        b'{"nodes":[' + b"{}," * 900_000 + b"{}]}",
        b'{"nodes":[{"children":[0]}]}' + b" " * 9_000_000,
    )
    chosen = text[rng.integers(3)]
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(chosen), len(chosen), b"JSON") + chosen


def _ksplat_bomb(data: bytes, _: Rng) -> bytes:
    return data[:4] + struct.pack("<5I", 2**31, 2**31, 2**31, 2**31, 2**31) + data[24:]


SPECIAL: dict[str, Callable[[bytes, Rng], bytes]] = {
    "ply": _ply,
    "compressed.ply": _ply,
    "splat": _word,
    "glb": _glb,
    "spz": _spz,
    "sog": _sog,
    "ksplat": _ksplat,
}
BOMBS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "ply": _ply_bomb,
    "compressed.ply": _ply_bomb,
    "splat": lambda data, _: data * 2_000,
    "glb": _glb_bomb,
    "spz": _spz_bomb,
    "sog": _sog_bomb,
    "ksplat": _ksplat_bomb,
}
