"""What a model brings to the training loop."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mouselift.data.layout import Sample


@runtime_checkable
class Task(Protocol):
    """What is trained: a model, its loss on samples, and its figures on held-out samples."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    better: str
    """The name of the validation figure that decides which weights are the best (higher is better)."""

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss of a batch, and figures for the log.

        Randomness comes from `generator` alone, so that a batch gives the same loss on whichever process it lands.
        """
        ...

    def validate(self, model: Any, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor | Mapping[str, Tensor]]:
        """Figures of `model` on held-out samples, and pictures (3, H, W) in [0, 1] of the first ones.

        One picture, or several by name. Figures that the alarm for collapse looks at, when they are there:
        `blank_` + the name in `better`, what a blank picture would get; `mean_alpha` and `mean_mask`, the mean of
        the rendered and of the true alpha.
        """
        ...
