"""Where figures and pictures go besides the CSV: TensorBoard, Weights & Biases, trackio."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mouselift.errors import InputError
from mouselift.train.run_config import TrackerName

Picture = UInt8[np.ndarray, "h w 3"]


@runtime_checkable
class Tracker(Protocol):
    """Takes what a run says about itself."""

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step."""
        ...

    def picture(self, step: int, name: str, pixels: Picture) -> None:
        """A panel of a step."""
        ...

    def close(self) -> None:
        """Nothing follows."""
        ...


def open_tracker(name: TrackerName, folder: Path, step: int) -> Tracker:
    """Open a tracker for a run that goes on at a step.

    Raises:
        InputError: Its package is not installed.
    """
    if name == "tensorboard":
        return _TensorBoard(folder, step)
    return _Tables(_import_wandb() if name == "wandb" else _import_trackio(), name, folder)


class _TensorBoard:
    """Event files in `tensorboard/`; what an interrupted run wrote beyond its last checkpoint is hidden."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: Picture) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Tables:
    """wandb and trackio, which share an interface; both stay on this machine unless their environment says otherwise.

    A run is known by its folder, so that it goes on under the same name after an interruption.
    """

    def __init__(self, package: Any, name: str, folder: Path) -> None:
        self._package = package
        where = folder.resolve()
        start: Callable[..., Any] = package.init
        if name == "wandb":
            identity = hashlib.sha256(str(where).encode()).hexdigest()[:16]
            mode = os.environ.get("WANDB_MODE", "offline")
            self._run = start(
                project="mouselift", name=where.name, id=identity, resume="allow", dir=str(where), mode=mode
            )
        else:
            self._run = start(project="mouselift", name=where.name, resume="allow")

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def picture(self, step: int, name: str, pixels: Picture) -> None:
        self._run.log({name: self._package.Image(pixels)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _import_wandb() -> Any:
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("run.trackers names wandb: pip install 'mouselift[wandb]'") from None
    return wandb


def _import_trackio() -> Any:
    try:
        import trackio  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("run.trackers names trackio: pip install 'mouselift[trackio]'") from None
    return trackio
