"""The optimisers that a run can choose."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from mouselift.errors import InputError
from mouselift.train.run_config import RunConfig


def make_optimizer(groups: list[dict[str, Any]], config: RunConfig) -> torch.optim.Optimizer:
    """AdamW over parameter groups; with `optimizer: adamw_8bit` its two moments take a quarter of the memory.

    Raises:
        InputError: 8 bits were asked for where there is no CUDA device or no bitsandbytes.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=config.betas, fused=True)
    device = groups[0]["params"][0].device
    if device.type != "cuda":
        raise InputError(f"run.optimizer=adamw_8bit: expected an NVIDIA GPU, found the device {device.type}")
    if find_spec("bitsandbytes") is None:
        raise InputError("run.optimizer=adamw_8bit: bitsandbytes is not installed: pip install 'mouselift[adam8bit]'")
    if config.parallel == "fsdp":
        raise InputError("run.optimizer=adamw_8bit: expected run.parallel none or ddp, found fsdp")
    return import_module("bitsandbytes").optim.AdamW8bit(groups, lr=config.learning_rate, betas=config.betas)
