"""What a run says about itself: CSV, TensorBoard and panels."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class TrainLog:
    """Appends figures to `log.csv` (step, seconds, name, value) and to TensorBoard; panels go to `panels/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started = time.monotonic()

    def __enter__(self) -> "TrainLog":
        path = self.folder / "log.csv"
        is_new = not path.exists()
        self._file = path.open("a", newline="")
        self._csv = csv.writer(self._file)
        if is_new:
            self._csv.writerow(["step", "seconds", "name", "value"])
        self._board = SummaryWriter(str(self.folder / "tensorboard"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Record figures of one step."""
        seconds = f"{time.monotonic() - self._started:.1f}"
        for name, value in figures.items():
            self._csv.writerow([step, seconds, name, f"{value:.6g}"])
            self._board.add_scalar(name, value, step)
        self._file.flush()

    def panel(self, step: int, picture: Float[Tensor, "3 h w"]) -> None:
        """Save a picture of validation results; the newest one is also `panels/latest.png`."""
        pixels = (picture.clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        panels = self.folder / "panels"
        panels.mkdir(exist_ok=True)
        for name in (f"{step:07d}.png", "latest.png"):
            Image.fromarray(pixels).save(panels / name)
