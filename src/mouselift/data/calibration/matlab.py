"""MATLAB files of either kind as plain dictionaries, lists and arrays."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mouselift.data.calibration.parsing import read_bytes
from mouselift.errors import InputError

# What scipy raises, besides its own MatReadError, for files that are cut or overwritten.
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, OSError, EOFError, struct.error, zlib.error, MemoryError)


def load_mat(path: Path) -> dict[str, Any]:
    """Read a `.mat` file, version 5 to 7.3.

    Returns:
        Variables by name. Structs are dictionaries, cells and arrays of structs lists, arrays lose dimensions of
        length one, and texts are `str`.

    Raises:
        InputError: The file is missing, empty, damaged or no MATLAB file, or is of version 7.3 and h5py is missing.
    """
    if is_hdf5(read_bytes(path)):
        return _load_hdf5(path)
    from scipy.io import loadmat  # here, because every import of mouselift would wait for it
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, simplify_cells=True)
    except NotImplementedError:
        raise InputError(f"{path}: expected a MATLAB file of version 5 to 7.3, found another") from None
    except (MatReadError, *_DAMAGE) as error:
        raise InputError(f"{path}: expected a MATLAB file, found {' '.join(str(error).split())}") from None
    return {name: value for name, value in content.items() if not name.startswith("__")}


def is_hdf5(content: bytes) -> bool:
    """Whether a file's first bytes are those of HDF5, which MATLAB puts behind 512 bytes of text."""
    return content.startswith(b"\x89HDF\r\n\x1a\n") or content.startswith(b"MATLAB 7.3")


def structs(value: Any, where: str) -> list[Mapping[str, Any]]:
    """The elements of a cell or struct array; one alone comes without its list.

    Raises:
        InputError: They are no structs.
    """
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, list | np.ndarray) or not all(isinstance(item, Mapping) for item in found):
        raise InputError(f"{where}: expected a cell of structs, found {type(value).__name__}")
    return list(found)


def _load_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ModuleNotFoundError:
        raise InputError(f"{path}: a MATLAB 7.3 file needs h5py (pip install h5py), or save it with -v7") from None

    def convert(node: Any) -> Any:
        if isinstance(node, h5py.Group):
            return _struct({name: convert(item) for name, item in node.items()})
        if node.attrs.get("MATLAB_empty", 0):
            return np.zeros(0)
        values = node[()]
        if node.dtype == h5py.ref_dtype:
            return [convert(file[reference]) for reference in np.ravel(values, order="C")]
        if node.attrs.get("MATLAB_class", b"") == b"char":
            return "".join(map(chr, np.ravel(values)))
        return np.squeeze(np.transpose(values))  # HDF5 keeps MATLAB's memory order, so the axes are reversed

    try:
        with h5py.File(path, "r") as file:
            return {name: convert(file[name]) for name in map(str, file) if not name.startswith("#")}
    except (OSError, RuntimeError, KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a MATLAB 7.3 file, found {' '.join(str(error).split())}") from None


def _struct(fields: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
    """An array of structs is stored as a struct of lists of one length."""
    lengths = {len(value) if isinstance(value, list) else -1 for value in fields.values()}
    if len(lengths) != 1 or lengths == {-1}:
        return fields
    return [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
