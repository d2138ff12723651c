"""Figures of many mice, one by one: a benchmark that was cut off goes on, and never mixes with another."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mouselift.data.layout import DATASET_FILE
from mouselift.evaluate.index import FINGERPRINTS


class MiceLog:
    """A file of JSON lines: what was measured with what, then one line for each mouse.

    Attributes:
        found: Figures of the mice so far, by their order.
    """

    def __init__(self, file: Path, about: Mapping[str, Any], count: int) -> None:
        """Open or begin.

        Args:
            file: Its folder is made when missing.
            about: JSON that must be the same when a run goes on.
            count: How many mice are wanted; what the file holds beyond them is left alone.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        if not file.is_file():
            file.write_text(json.dumps({"about": about}) + "\n")
        first, *lines = file.read_text().splitlines()
        if json.loads(first).get("about") != json.loads(json.dumps(about)):
            raise SystemExit(f"{file}: expected figures of the same weights, dataset and ways; choose another folder")
        self.found: list[dict[str, Any]] = [json.loads(line) for line in lines[:count]]

    def add(self, figures: Mapping[str, Any]) -> None:
        """Take down the next mouse."""
        self.found.append(dict(figures))
        with self._file.open("a") as file:
            file.write(json.dumps(figures) + "\n")


def hash_of(path: Path) -> str:
    """Of a file, or of what a dataset says of its own making."""
    if path.is_dir():
        record = json.loads((path / DATASET_FILE).read_text())
        return " ".join(f"{key} {record[key]}" for key in FINGERPRINTS if key in record)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
