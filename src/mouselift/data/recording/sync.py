"""Tables of frame numbers: which frame of each camera belongs to one instant."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Num

from mouselift.data.calibration.dannce import camera_names
from mouselift.data.calibration.matlab import load_mat, structs
from mouselift.errors import InputError


def read_sync(path: Path, names: Sequence[str], aliases: Sequence[str] | None = None) -> Int64[np.ndarray, "t v"]:
    """Read a table of frame numbers, counted from 0.

    Args:
        path: DANNCE's `*dannce.mat` (`sync[c].data_frame`, a column for each of `camnames`), or a CSV file whose first
            line names the cameras.
        names: The views, in order.
        aliases: Their other names (of files or folders), in the same order.

    Returns:
        Row t: the frame number of each view at instant t.

    Raises:
        InputError: Not such a table, a camera is not in it, or its numbers are not whole, negative, or go back.
    """
    columns = _read_mat(path) if path.suffix.lower() == ".mat" else _read_csv(path)
    chosen = []
    for name, alias in zip(names, aliases or names, strict=True):
        column = columns.get(name, columns.get(alias))
        if column is None:
            raise InputError(f"{path}: expected frame numbers of {name}, found those of {', '.join(columns)}")
        chosen.append(column)
    lengths = {name: len(column) for name, column in zip(names, chosen, strict=True)}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{path}: expected as many frame numbers for every camera, found {listed}")
    return _checked(path, names, np.stack(chosen, axis=1))


def _checked(path: Path, names: Sequence[str], table: Num[np.ndarray, "t v"]) -> Int64[np.ndarray, "t v"]:
    values = table.astype(np.float64)
    wrong = np.argwhere(~np.isfinite(values) | (values < 0) | (values != np.round(values)))
    if wrong.size:
        row, view = wrong[0]
        raise InputError(f"{path}: row {row}, {names[view]}: expected a frame number, found {values[row, view]:g}")
    back = np.argwhere(np.diff(values, axis=0) < 0)
    if back.size:
        row, view = back[0]
        raise InputError(
            f"{path}: row {row + 1}, {names[view]}: expected frame {values[row, view]:g} or later, "
            f"found {values[row + 1, view]:g}"
        )
    return values.astype(np.int64)


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    content = load_mat(path)
    if "sync" not in content:
        raise InputError(f"{path}: expected a variable `sync`, found {', '.join(content) or 'none'}")
    tables = structs(content["sync"], f"{path}: sync")
    names = camera_names(content, len(tables), path)
    if any("data_frame" not in table for table in tables):
        raise InputError(f"{path}: expected `data_frame` in every table of `sync`, found one without")
    return {name: np.atleast_1d(table["data_frame"]) for name, table in zip(names, tables, strict=True)}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        table = np.array([[float(cell) for cell in row] for row in rows], np.float64).reshape(len(rows), len(header))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: expected a line of camera names and lines of frame numbers, found: {error}"
        ) from None
    return dict(zip(header, table.T, strict=True))
