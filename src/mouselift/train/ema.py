"""The moving average of a model's weights, which is what is validated and kept."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mouselift.models.checkpoint_io import save_weights
from mouselift.train.distributed import placed_like, whole


class EMA:
    """Exponential moving average of a model's weights, with the usual ramp (1 + n) / (10 + n) at the start.

    Args:
        model: Before its weights are cut up and its layers changed.
        decay: Share of the average that stays at each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: list[Tensor] = []
        """In the order of the model's parameters, and cut up as these are."""
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._names = [name for name, _ in self._model.named_parameters()]
        self._is_cut = False
        self.values = list(self._model.parameters())

    def cut_like(self, model: nn.Module) -> None:
        """Keep only this process's part of the average, as the model keeps only its part of the weights."""
        pairs = zip(self.values, model.parameters(), strict=True)
        self.values = [placed_like(value.detach(), parameter).clone() for value, parameter in pairs]
        self._is_cut = True
        self._fill([value.to("meta") for value in self._model.parameters()])

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's weights after its step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, value in zip(self.values, model.parameters(), strict=True):
            average.lerp_(value, 1 - decay)

    @contextmanager
    def averaged(self, *, here: bool) -> Iterator[nn.Module]:
        """The model with the averaged weights in one piece, for the length of the block; all processes must ask.

        Args:
            here: Whether this process uses it; the others get a model without values.
        """
        if not self._is_cut:
            yield self._model
            return
        full = [value if here else value.to("meta") for value in map(whole, self.values)]
        self._fill(full)
        try:
            yield self._model
        finally:
            self._fill([value.to("meta") for value in full])

    def copy_buffers(self, model: nn.Module) -> None:
        """Take over what a model holds besides its weights."""
        for mine, theirs in zip(self._model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)

    def save(self, path: Path, record: Mapping[str, Any], *, here: bool) -> None:
        """Write the averaged weights as safetensors; all processes must ask, and one of them writes."""
        with self.averaged(here=here) as model:
            if here:
                save_weights(model, path, record)

    def _fill(self, values: list[Tensor]) -> None:
        # Not strict, because buffers, which `copy_buffers` brings, are not among the names.
        self._model.load_state_dict(dict(zip(self._names, values, strict=True)), strict=False, assign=True)
