"""The lists of a dataset: is every sample there, in one split only, and is there a gap between the splits?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mouselift.check.report import Findings
from mouselift.data.layout import CAMERA_FILE, DATASET_FILE, SPLIT_FILES, list_samples
from mouselift.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What the lists of a dataset name.

    Attributes:
        folders: Of all samples that are there.
        instants: Name of a split -> sample folder -> instant of the recording, of those samples that say.
        record: `dataset.json`; empty for sets that other tools made.
    """

    folders: tuple[Path, ...]
    instants: Mapping[str, Mapping[Path, int]]
    record: Mapping[str, Any]


def check_lists(findings: Findings, root: Path) -> Listed:
    """Count the samples, find missing and shared ones, and measure the gap between the splits.

    Raises:
        InputError: The folder is no dataset.
    """
    splits, record = _splits(root), _record(root)
    findings.lines.append(f"dataset      {root}: {record.get('made_by', f'no {DATASET_FILE}')}")
    for split in SPLIT_FILES.keys() - splits.keys():
        findings.notes.append(f"the split {split} is empty")
    missing = [folder for folders in splits.values() for folder in folders if not (folder / CAMERA_FILE).is_file()]
    if missing:
        findings.failures.append(
            f"{root}: expected a folder with {CAMERA_FILE} for every sample that is listed, found none for "
            f"{len(missing)}; the first is {missing[0].name}"
        )
    shared = set(splits.get("train", ())) & set(splits.get("val", ()))
    if shared:
        findings.failures.append(
            f"{root}: expected samples in one split each, found {len(shared)} in both, such as {min(shared).name}"
        )
    counts = {split: len(folders) for split, folders in splits.items()}
    instants = {split: _instants(folders) for split, folders in splits.items()}
    gap = _gap(instants) if "recording" in record else None
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    findings.lines.append(f"samples      {listed}" + ("" if gap is None else f", at least {gap} instants apart"))
    findings.figures |= {"made_by": record.get("made_by"), "samples": counts, "gap_between_splits_instants": gap}
    if gap is not None and gap <= 1 and not shared:
        findings.failures.append(
            f"{root}: expected a gap between training and validation samples, found neighbouring instants in both; "
            "likely cause: samples were split at random"
        )
    there = sorted({folder for folders in splits.values() for folder in folders} - set(missing))
    return Listed(folders=tuple(there), instants=instants, record=record)


def _splits(root: Path) -> dict[str, list[Path]]:
    """The sample folders of each split that has a list with something in it."""
    found, problem = {}, None
    for split in SPLIT_FILES:
        try:
            found[split] = list_samples(root, split)
        except InputError as error:  # one list may be empty or missing, not both
            problem = error
    if not found and problem is not None:
        raise problem
    return found


def _record(root: Path) -> dict[str, Any]:
    """`dataset.json`; empty for sets that other tools made."""
    file = root / DATASET_FILE
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: expected JSON, found: {error}") from None
    return found if isinstance(found, dict) else {}


def _gap(instants: Mapping[str, Mapping[Path, int]]) -> int | None:
    """Smallest distance between a training and a validation sample of one recording, in its instants."""
    train, val = (np.array(list(instants.get(split, {}).values()), np.int64) for split in ("train", "val"))
    return int(np.abs(train[:, None] - val[None]).min()) if len(train) and len(val) else None


def _instants(folders: list[Path]) -> dict[Path, int]:
    """Of those samples that say; what cannot be read is found when samples are."""
    found = {}
    for folder in folders:
        try:
            record = json.loads((folder / CAMERA_FILE).read_text())
        except (OSError, json.JSONDecodeError):
            continue
        if isinstance(record, dict) and isinstance(record.get("frame_index"), int):
            found[folder] = record["frame_index"]
    return found
