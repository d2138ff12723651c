"""Pickles: all that a calibration may hold comes through, and nothing runs."""

import datetime
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mouselift.data.calibration import safe_pickle
from mouselift.data.calibration.safe_pickle import load_pickle
from mouselift.errors import InputError

CONTENTS = {
    "list of dictionaries": [{"K": np.eye(3), 0: "text", "none": None}, (1, 2.5, True), {3, 4}, b"bytes"],
    "float32 map": np.arange(12, dtype=np.float32).reshape(3, 4),
    "Fortran order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">f8"),
    "numpy scalar": np.float64(2.5),
    "array of objects": np.array([np.eye(2), {"a": 1}], dtype=object),
    "ordered": OrderedDict(a=1),
    "structured": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "empty array": np.zeros((0, 3)),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray) and b.dtype == object:
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("content", CONTENTS)
def test_arrays_and_containers_come_through(tmp_path: Path, content: str, protocol: int) -> None:
    path = tmp_path / "some.pkl"
    path.write_bytes(pickle.dumps(CONTENTS[content], protocol=protocol))
    assert same(load_pickle(path), pickle.loads(path.read_bytes()))


def test_numpys_old_and_new_module_names_are_one(tmp_path: Path) -> None:
    old = pickle.dumps(np.eye(3), protocol=2).replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in old
    (tmp_path / "old.pkl").write_bytes(old)
    assert same(load_pickle(tmp_path / "old.pkl"), np.eye(3))


# {'K': numpy.arange(2.)} as Python 2 writes it at protocol 2: names and the array's bytes are str
PYTHON_2 = (
    b"\x80\x02}q\x01U\x01Kq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    b"(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02f8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
    b"tb\x89U\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?tbs."
)


def test_python_2_pickles_load(tmp_path: Path) -> None:
    (tmp_path / "old.pkl").write_bytes(PYTHON_2)
    found = load_pickle(tmp_path / "old.pkl")
    assert list(found) == ["K"]
    assert same(found["K"], np.arange(2.0))


class Bomb:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def bombs(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    return {
        "os.system": pickle.dumps([Bomb(os.system, command)]),
        "os.system at protocol 0": pickle.dumps(Bomb(os.system, command), protocol=0),
        "eval": pickle.dumps(Bomb(eval, f"open({str(marker)!r}, 'w')")),
        "inside an array": pickle.dumps(np.array([Bomb(os.system, command)], dtype=object)),
        "another class": pickle.dumps({"when": datetime.date(2020, 1, 1)}),
        "getattr": pickle.dumps(Bomb(getattr, "text", "upper")),
        "numpy's own loader": pickle.dumps(Bomb(np.load, str(marker))),
        "numpy's array by itself": b"\x80\x02cnumpy\nndarray\n(K\x02ttR.",
    }


@pytest.mark.parametrize("name", bombs(Path("marker")))
def test_nothing_runs(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "bomb.pkl"
    path.write_bytes(bombs(marker)[name])
    with pytest.raises(InputError, match=r"bomb\.pkl: expected a pickle") as raised:
        load_pickle(path)
    assert "\n" not in str(raised.value)
    assert not marker.exists()


def test_the_functions_behind_names_cannot_be_changed(tmp_path: Path) -> None:
    """BUILD sets attributes on whatever stands on the stack: here on what the name numpy.dtype gave."""
    (tmp_path / "build.pkl").write_bytes(b"\x80\x02cnumpy\ndtype\nN}U\x0c__defaults__)s\x86b.")
    with pytest.raises(InputError, match=r"damaged"):
        load_pickle(tmp_path / "build.pkl")
    (tmp_path / "plain.pkl").write_bytes(b"\x80\x02cnumpy\ndtype\n}U\x04evilK\x01sb.")
    with pytest.raises(InputError, match=r"damaged"):
        load_pickle(tmp_path / "plain.pkl")
    assert not hasattr(safe_pickle._dtype, "evil")


def memo_bomb() -> bytes:
    """Stores None under a memo index for which CPython would allocate 32 GiB."""
    return b"\x80\x02Nr\xff\xff\xff\xff."


def array_bomb() -> bytes:
    """An array of 8 TB whose bytes are missing."""
    content = pickle.dumps(np.zeros(2**15 - 1), protocol=2)
    shape = next(p for op, a, p in pickletools.genops(content) if a == 2**15 - 1)
    assert shape is not None
    return content[:shape] + b"\x8a\x06\x00\x00\x00\x00\x00\x01" + content[shape + 3 :]


@pytest.mark.parametrize("content", [memo_bomb(), array_bomb(), b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f" + b"."])
def test_sizes_that_lie_allocate_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bomb.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"expected a pickle"):
        load_pickle(tmp_path / "bomb.pkl")


def test_every_truncation_is_one_clear_error(tmp_path: Path) -> None:
    content, path = pickle.dumps([{"K": np.eye(3), "name": "a"}], protocol=2), tmp_path / "cut.pkl"
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cut\.pkl: expected a pickle"):
            load_pickle(path)


def test_flipped_bytes_never_escape(tmp_path: Path) -> None:
    """Damage either goes unnoticed in a number or gives an InputError; no other exception comes out."""
    content, path = bytearray(pickle.dumps([{"K": np.eye(3), "n": "a"}], protocol=4)), tmp_path / "flipped.pkl"
    refused = 0
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 0x5A
        path.write_bytes(flipped)
        try:
            load_pickle(path)
        except InputError:
            refused += 1
    assert refused > len(content) // 3


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    with path.open("wb") as file:
        file.truncate(1 << 30)  # sparse
    with pytest.raises(InputError, match=r"found a file of 1074 MB"):
        load_pickle(path)
