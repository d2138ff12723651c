"""Which samples, given and compared views an evaluation is made of: a file that makes its figures reproducible."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from mouselift.atomic import atomic_path
from mouselift.data.layout import DATASET_FILE, Sample, list_samples, read_sample
from mouselift.data.selection import facelift_subset, split_rig_and_free
from mouselift.errors import InputError
from mouselift.geometry import Cameras

FINGERPRINTS = ("config_sha256", "first_seed", "made_from_sha256")  # of dataset.json: what its pictures depend on


@dataclass(frozen=True, kw_only=True)
class Case:
    """One reconstruction, and the views that it is compared with.

    Attributes:
        sample: Name of the sample's folder.
        split: "val" or "train".
        given: Names of the views that are given, in their order.
        compared: Names of views that are not.
    """

    sample: str
    split: str
    given: tuple[str, ...]
    compared: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Index:
    """An evaluation's cases.

    Attributes:
        cases: In the order in which they are done.
        dataset: What the dataset's record says about itself; the same dataset is asked for when the index is used.
        about: What it is for.
    """

    cases: tuple[Case, ...]
    dataset: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Split and number of given views of every group of cases, held-out instants and most views first."""
        found = {(case.split, len(case.given)) for case in self.cases}
        return sorted(found, key=lambda group: (group[0] != "val", -group[1]))


def make_index(
    root: Path, counts: Sequence[int], *, splits: Sequence[str] = ("val",), limit: int | None = None, about: str = ""
) -> Index:
    """Choose given and compared views of a dataset's samples.

    With views of a generator's ring: the first free photograph, then ring views, each as far as possible from those
    before; all views that are never given are compared. In a recording: as many cameras as are left over are left out,
    other ones in each sample.

    Args:
        root: The dataset.
        counts: Numbers of given views; all of them are compared with the same views.
        splits: Of "val" (instants that training never saw) and "train".
        limit: At most so many samples of each split, spread evenly.
        about: Goes into the file.

    Raises:
        InputError: There are too few views.
    """
    cases = []
    for split in splits:
        folders = list_samples(root, split)
        for number, folder in enumerate(spread(folders, limit)):
            views = read_sample(folder).views
            names = views.cameras.names
            given, compared = _choose(views.cameras, *split_rig_and_free(views), max(counts), number, folder)
            chosen = [given[:count] for count in sorted(set(counts), reverse=True)]
            cases += [
                Case(
                    sample=folder.name,
                    split=split,
                    given=tuple(names[i] for i in few),
                    compared=tuple(names[i] for i in compared),
                )
                for few in chosen
            ]
    return Index(cases=tuple(cases), dataset=_fingerprint(root), about=about)


def read_index(path: Path, root: Path) -> Index:
    """Read an index and make sure that a dataset is the one it was made for.

    Raises:
        InputError: The file is no index, or of another dataset.
    """
    try:
        record = json.loads(path.read_text())
        cases = tuple(
            Case(
                sample=str(case["sample"]),
                split=str(case["split"]),
                given=tuple(map(str, case["given"])),
                compared=tuple(map(str, case["compared"])),
            )
            for case in record["cases"]
        )
        index = Index(cases=cases, dataset=dict(record["dataset"]), about=str(record["about"]))
    except FileNotFoundError:
        raise InputError(f"expected an evaluation's index, found none at {path}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected an evaluation's index, found {type(error).__name__}: {error}") from None
    if not index.cases:
        raise InputError(f"{path}: expected at least one case, found none")
    found = _fingerprint(root)
    other = [key for key, value in index.dataset.items() if found.get(key) != value]
    if other:
        key = other[0]
        raise InputError(f"{root}: expected the dataset of {path} ({key} {index.dataset[key]}), found {found.get(key)}")
    return index


def write_index(index: Index, path: Path) -> None:
    """As JSON, one case a line."""
    head = json.dumps({"about": index.about, "dataset": dict(index.dataset)}, indent=1)[:-2]
    cases = ",\n".join("  " + json.dumps(asdict(case)) for case in index.cases)
    with atomic_path(path) as partial:
        partial.write_text(f'{head},\n "cases": [\n{cases}\n ]\n}}\n')


def view_numbers(sample: Sample, names: Sequence[str], where: str) -> list[int]:
    """Indices of named views.

    Raises:
        InputError: A name is unknown; `where` says who asked.
    """
    known = {name: number for number, name in enumerate(sample.views.cameras.names)}
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"{where}: expected views among {', '.join(known)}, found {', '.join(missing)}")
    return [known[name] for name in names]


def _choose(
    cameras: Cameras, on_rig: list[int], free: list[int], count: int, number: int, folder: Path
) -> tuple[list[int], list[int]]:
    """Given views, best spread first, and compared ones."""
    if free or len(on_rig) < len(cameras):
        around = facelift_subset(cameras, on_rig, free[0])
        candidates, start = [free[0], *around], free[0]
    else:
        left_out = {(number + k) % len(on_rig) for k in range(len(on_rig) - count)}
        candidates = [i for i in on_rig if i not in left_out]
        start = candidates[0] if candidates else 0
    if not 1 <= count <= min(len(candidates), len(cameras) - 1):
        raise InputError(f"{folder}: expected 1 to {len(cameras) - 1} given views, of {len(candidates)}, found {count}")
    given = _farthest_first(cameras, candidates, start)[:count]
    return given, [i for i in on_rig + free if i not in given]


def _farthest_first(cameras: Cameras, candidates: Sequence[int], start: int) -> list[int]:
    """Cameras in an order in which each looks from as far as possible from all before it."""
    towards = F.normalize(cameras.centres, dim=-1)
    order = [start]
    while len(order) < len(candidates):
        rest = [i for i in candidates if i not in order]
        nearest = (towards[rest] @ towards[order].mT).amax(1)
        order.append(rest[int(nearest.argmin())])
    return order


def spread(folders: Sequence[Path], limit: int | None) -> list[Path]:
    """At most so many, spread evenly, the first and the last among them; all without a limit."""
    if limit is None or limit >= len(folders):
        return list(folders)
    return [folders[k] for k in torch.linspace(0, len(folders) - 1, limit).round().long().tolist()]


def _fingerprint(root: Path) -> dict[str, Any]:
    file = root / DATASET_FILE
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        return {}  # FaceLift's own datasets have no record
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: expected a dataset's record, found {error}") from None
    return {key: record[key] for key in FINGERPRINTS if key in record}
