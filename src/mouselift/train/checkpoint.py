"""Checkpoints that are written whole or not at all, and the moving average of the weights."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.models.checkpoint_io import save_weights


@dataclass(kw_only=True)
class TrainState:
    """Where a run stands; everything random follows from the step."""

    step: int = 0
    skipped: int = 0
    best: float = float("-inf")


class EMA:
    """Exponential moving average of a model's weights, with the usual ramp (1 + n) / (10 + n) at the start."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's weights after its step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(value, 1 - decay)

    def save(self, path: Path, record: Mapping[str, Any]) -> None:
        """Write the averaged weights as safetensors."""
        save_weights(self.model, path, record)


def save_checkpoint(
    path: Path, state: TrainState, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer
) -> None:
    """Write everything that an exact resume needs, atomically."""
    content = {
        "state": asdict(state),
        "model": model.state_dict(),
        "ema": ema.model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic_path(path) as partial:
        torch.save(content, partial)


def load_checkpoint(path: Path, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> TrainState:
    """Read what `save_checkpoint` wrote.

    Raises:
        InputError: The file is damaged, or belongs to another model.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(content["model"], strict=True)
        ema.model.load_state_dict(content["ema"], strict=True)
        optimizer.load_state_dict(content["optimizer"])
        return TrainState(**content["state"])
    except (UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{path}: expected a checkpoint of this very configuration, found {reason}") from None
