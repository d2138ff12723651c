"""OpenCV's FileStorage without OpenCV: YAML 1.0 with `!!opencv-matrix`, and JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mouselift.data.calibration.parsing import load_json, read_text
from mouselift.errors import InputError

MATRIX_TAG = "tag:yaml.org,2002:opencv-matrix"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, for which an OpenCV matrix is a mapping {rows, cols, dt, data}."""


def _opencv_matrix(loader: _Loader, node: Any) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(MATRIX_TAG, _opencv_matrix)


def load_storage(path: Path) -> Any:
    """Read an OpenCV storage or any plain YAML or JSON; matrices are mappings with rows, cols and data.

    Raises:
        InputError: The file is neither, or has other tags than OpenCV's matrices.
    """
    text = read_text(path)
    if text.lstrip()[0] in "{[":
        return load_json(path)
    first, _, rest = text.partition("\n")
    try:
        # OpenCV's first line, %YAML:1.0, is no directive of any YAML.
        return yaml.load(rest if first.startswith("%YAML:") else text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: expected OpenCV's YAML, found {' '.join(str(error).split())}") from None


def storage_text(entry: Mapping[str, Any], indent: str = "") -> str:
    """One camera as OpenCV writes it: lists of lists become matrices of doubles, all else stays.

    Args:
        entry: Names that start with a letter -> number, text, or rows of numbers.
        indent: Put before each line.
    """
    lines = []
    for key, value in entry.items():
        if not isinstance(value, list):
            lines.append(f"{key}: {_quoted(value) if isinstance(value, str) else value}")
            continue
        numbers = ", ".join(f"{number:.17e}" for row in value for number in row)  # with a point, or YAML has no number
        lines.append(f"{key}: !!opencv-matrix")
        lines += [f"   rows: {len(value)}", f"   cols: {len(value[0])}", "   dt: d", f"   data: [ {numbers} ]"]
    return "".join(f"{indent}{line}\n" for line in lines)


def _quoted(value: str) -> str:
    escaped = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
    return f'"{"".join(escaped)}"'
