"""What a run says about itself: CSV, panels, and whoever else wants it."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mouselift.atomic import atomic_path
from mouselift.train.run_config import TrackerName
from mouselift.train.trackers import open_tracker

HEADER = ["step", "seconds", "name", "value"]


class TrainLog:
    """Appends figures to `log.csv` (step, seconds, name, value) and to the trackers; panels go to `panels/`.

    Args:
        folder: Of the run.
        step: At which the run goes on; rows of later steps, which will come again, are removed.
        trackers: By name.
    """

    def __init__(self, folder: Path, step: int = 0, trackers: Iterable[TrackerName] = ()) -> None:
        self.folder = folder
        _keep_rows_until(folder / "log.csv", step)
        self._trackers = [open_tracker(name, folder, step) for name in trackers]

    def __enter__(self) -> "TrainLog":
        self._file = (self.folder / "log.csv").open("a", newline="")
        self._csv = csv.writer(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        for tracker in self._trackers:
            tracker.close()

    def write(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """Record figures of one step, and the time that the run has taken until then."""
        for name, value in figures.items():
            self._csv.writerow([step, f"{seconds:.1f}", name, f"{value:.6g}"])
        self._file.flush()
        for tracker in self._trackers:
            tracker.scalars(step, figures)

    def panels(self, step: int, pictures: Mapping[str, Float[Tensor, "3 _ _"]]) -> None:
        """Save pictures of validation results; the newest ones are also `panels/latest*.png`.

        Args:
            step: Of the validation.
            pictures: By name; the name "" stands for the only or main one.
        """
        folder = self.folder / "panels"
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            pixels = (picture.clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
            ending = f"_{name}.png" if name else ".png"
            for stem in (f"{step:07d}", "latest"):
                with atomic_path(folder / (stem + ending)) as partial:
                    Image.fromarray(pixels).save(partial)
            for tracker in self._trackers:
                tracker.picture(step, f"panels/{name or 'validation'}", pixels)


def _keep_rows_until(path: Path, step: int) -> None:
    """Leave the rows up to a step, and none that a killed run left half written."""
    kept = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(HEADER) and row[0].isdigit()]
        kept = [row for row in rows if int(row[0]) <= step]
    with atomic_path(path) as partial, partial.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *kept])
