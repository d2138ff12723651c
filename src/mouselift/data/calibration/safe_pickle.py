"""Pickles from strangers: numbers, texts, plain containers and numpy arrays, and nothing that could run.

`pickle.load` runs whatever the file names. Here a name resolves to one of a handful of functions of our own, which make
empty arrays, dtypes and bytes; anything else is refused before it is looked up.
"""

import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mouselift.data.calibration.parsing import read_bytes
from mouselift.errors import InputError

# What loading a damaged pickle raises, besides UnpicklingError (the pickle module's documentation).
_DAMAGE = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)


def load_pickle(path: Path) -> Any:
    """Read a pickle of numbers, texts, lists, tuples, sets, dictionaries and numpy arrays, Python 2's too.

    Returns:
        The object. Byte strings of Python 2 come as texts (latin-1), except in arrays.

    Raises:
        InputError: The file is missing, empty, damaged, too large, or names anything else than numpy arrays.
    """
    content = read_bytes(path)
    try:
        _check_opcodes(content)
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{path}: expected a pickle, found a damaged one ({error})") from None


def _check_opcodes(content: bytes) -> None:
    """Walk through the pickle without running it: it must be whole, and memo indices must be sane.

    A memo index of 2^32 - 1 makes CPython's unpickler allocate 64 GiB.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > len(content):
            raise InputError(f"expected a pickle, found one with a memo index of {argument}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # As numpy before 2.0 and Python 3 have it; protocols up to 2 are written with Python 2's names.
        module = module.replace("numpy._core.", "numpy.core.").replace("__builtin__", "builtins")
        if (module, name) == ("numpy", "ndarray"):
            return None  # only ever an argument of _reconstruct, which ignores it; None cannot be called
        if (module, name) not in _ALLOWED:
            raise InputError(f"expected a pickle of numpy arrays and plain containers, found {module}.{name}")
        return partial(_ALLOWED[module, name])  # a new object each time: a pickle may set attributes on what it gets


def _empty_array(*_: Any) -> np.ndarray:
    """Arrays are filled by their state, which brings its own bytes: a shape without bytes must not allocate."""
    return np.empty(0)


def _scalar(dtype: np.dtype, content: bytes | str) -> Any:
    raw = content.encode("latin1") if isinstance(content, str) else content  # Python 2 wrote str
    return np.frombuffer(raw, dtype=dtype, count=1)[0]


def _from_buffer(buffer: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if order not in ("C", "F"):
        raise ValueError(f"array order {order!r}")
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _dtype(kind: str, *_: Any) -> np.dtype:
    """A new object, because its byte order and fields arrive later, as its state."""
    return np.dtype(kind, align=False, copy=True)


def _no_bytes() -> bytes:
    """So b"" is written at protocol 2; `bytes` itself would also take a length."""
    return b""


def _encode(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes so at protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
}
