"""What a run that makes samples finds when it goes on after it was cut off."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mouselift.atomic import atomic_path
from mouselift.data.layout import CAMERA_FILE
from mouselift.errors import InputError

LEFT_OUT_FILE = "left_out.tsv"


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """A short hash of what samples are made from (JSON values), to tell whether others were made in the same way."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def is_finished(folder: Path, fingerprint: str, **made_from: object) -> bool:
    """Whether a sample is there already; one made otherwise is an error, because mixing them would hide it.

    Args:
        folder: Of the sample.
        fingerprint: What it holds under `config_sha256`.
        made_from: One key of the sample's file and the value that it must have there.

    Raises:
        InputError: The sample was made from something else.
    """
    file = folder / CAMERA_FILE
    if not file.exists():
        return False
    record = json.loads(file.read_text())
    expected = {"config_sha256": fingerprint, **made_from}
    found = {key: record.get(key) for key in expected}
    if found != expected:
        told = (", ".join(f"{key} {value}" for key, value in values.items()) for values in (expected, found))
        raise InputError("{}: expected {}, found {}; use another folder".format(file, *told))
    return True


def read_left_out(out: Path) -> dict[str, str]:
    """What could not be used, by its name, and why."""
    file = out / LEFT_OUT_FILE
    if not file.is_file():
        return {}
    cells = (line.partition("\t") for line in file.read_text().splitlines())
    return {name: why for name, _, why in cells}


def write_left_out(out: Path, left_out: Mapping[str, str]) -> None:
    """Write what `read_left_out` reads."""
    with atomic_path(out / LEFT_OUT_FILE) as partial:
        partial.write_text("".join(f"{name}\t{' '.join(why.split())}\n" for name, why in left_out.items()))
