"""Turn finished training runs into the weights that ship in the package.

    python scripts/release_weights.py --runs runs

Reads runs/{gslrm,generator,pose}/best.safetensors (the moving average with the best held-out figure), stores them in
8 bits (each row with a scale of its own) under src/mouselift/assets/weights with the record of what made them, and
copies each run's curve (log.csv) beside the model card.
"""

import csv
from pathlib import Path
from typing import Literal

import torch
import tyro

from mouselift.errors import InputError
from mouselift.models.bundled import WEIGHT_FILES
from mouselift.models.checkpoint_io import (
    load_generator,
    load_gslrm,
    load_pose_estimator,
    read_record,
    save_weights,
)

LOADERS = {"gslrm": load_gslrm, "generator": load_generator, "pose": load_pose_estimator}
MAX_TOTAL_BYTES = 40_000_000  # of all weights together


def release(
    names: tuple[Literal["gslrm", "generator", "pose"], ...] = WEIGHT_FILES,
    runs: Path = Path("runs"),
    assets: Path = Path("src/mouselift/assets/weights"),
) -> None:
    """Write the shipped weights.

    Args:
        names: Which ones; the others stay as they are.
        runs: Folder with one training run for each model.
        assets: Where the package keeps its weights.
    """
    assets.mkdir(parents=True, exist_ok=True)
    curves = Path("docs/results/curves")
    curves.mkdir(parents=True, exist_ok=True)
    for name in names:
        source = runs / name / "best.safetensors"
        model, record = LOADERS[name](source), read_record(source)
        save_weights(model, assets / f"{name}.safetensors", record, torch.int8)
        _copy_validation_curve(runs / name / "log.csv", curves / f"{name}.csv")
    total = sum((assets / f"{name}.safetensors").stat().st_size for name in WEIGHT_FILES)
    if total > MAX_TOTAL_BYTES:
        raise InputError(f"{assets}: expected at most {MAX_TOTAL_BYTES} bytes of weights, found {total}")


def _copy_validation_curve(log: Path, out: Path) -> None:
    """Keep the held-out figures and the loss: a few kB instead of the whole log."""
    with log.open(newline="") as source, out.open("w", newline="") as target:
        rows = csv.reader(source)
        writer = csv.writer(target)
        writer.writerow(next(rows))
        writer.writerows(
            row for row in rows if row[2].startswith("val_") or (row[2] == "loss" and int(row[0]) % 250 == 0)
        )


if __name__ == "__main__":
    tyro.cli(release)
