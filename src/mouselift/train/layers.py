"""What is done to every transformer layer of a model from outside: computing it again, compiling it, cutting it up."""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The members of a model's lists of modules: its transformer layers, whatever the model calls them."""
    return [layer for group in model.modules() if isinstance(group, nn.ModuleList) for layer in group]


def compile_layers(model: nn.Module) -> None:
    """`torch.compile` every layer, in place; the first step takes as long as the compiler does.

    Comes before `recompute_layers`: what is computed again is then compiled, too.
    """
    for layer in repeated_layers(model):
        layer.forward = torch.compile(layer.forward)


def recompute_layers(model: nn.Module) -> None:
    """Let every layer keep only its input, and compute the rest again in the backward pass; in place.

    Names of parameters stay as they are.
    """
    for layer in repeated_layers(model):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
