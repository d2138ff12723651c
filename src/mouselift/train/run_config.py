"""How a model is trained: length, rates, batches, processes, logs."""

import math
from dataclasses import dataclass
from typing import Literal

from mouselift.train.groups import ParameterGroup

Parallel = Literal["none", "ddp", "fsdp"]
OptimizerName = Literal["adamw", "adamw_8bit"]
TrackerName = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, how fast and on what."""

    steps: int = 10_000
    batch_size: int = 1
    """Samples of a micro-batch."""
    accumulation: int = 4
    """Micro-batches per optimiser step, over all processes together: the global batch is batch_size * accumulation,
    however many processes share it."""
    optimizer: OptimizerName = "adamw"
    """adamw, or adamw_8bit on an NVIDIA GPU: moments of a quarter of the size."""
    learning_rate: float = 4e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    """On matrices only."""
    groups: tuple[ParameterGroup, ...] = ()
    """Parameters that are frozen or learn at another rate, by patterns of their names; the first that matches counts
    (docs/training.md)."""
    warmup_steps: int = 200
    final_rate_share: float = 0.02
    """Of the learning rate, where the cosine ends."""
    clip_norm: float = 1.0
    skip_norm: float = 100.0
    """A step whose gradient norm exceeds this is skipped and counted."""
    ema_decay: float = 0.999
    bf16: bool = True
    device: str = "cpu"
    parallel: Parallel = "none"
    """How several processes share a run, which `torchrun` starts: ddp keeps the weights on each, fsdp cuts them up."""
    recompute_layers: bool = False
    """Keep only what enters each transformer layer and compute the rest again in the backward pass: a third more time,
    several times less memory."""
    compile_layers: bool = False
    """`torch.compile` each transformer layer."""
    memory_gb: float = 0.0
    """Memory of the device: batch_size, accumulation and recompute_layers are then chosen to fit, at the same global
    batch (docs/training.md). 0 leaves them as they are."""
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    workers: int = 2
    """Threads that read the coming samples ahead; 0 reads them when they are needed. Changes no number."""
    seed: int = 0
    initial_weights: str | None = None
    """Weights (.safetensors or .pt) to start from instead of random ones."""
    log_every: int = 50
    validate_every: int = 500
    validation_samples: int = 16
    checkpoint_every_s: float = 120.0
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Who gets the figures and panels besides `log.csv`."""
    collapse_patience: int = 3
    """Stop after so many validations in a row, once the warm-up is over, that are no better than a blank picture."""

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch_size, self.accumulation, self.log_every, self.validate_every)
        if min(*counts, self.collapse_patience) < 1:
            raise ValueError(
                "steps, batch_size, accumulation, log_every, validate_every and collapse_patience must be at least 1"
            )
        if min(self.workers, self.threads, self.memory_gb) < 0:
            raise ValueError("workers, threads and memory_gb must not be negative")
        if not self.learning_rate > 0 or not 0 <= self.ema_decay < 1:
            raise ValueError(f"{self.learning_rate=} must be positive and {self.ema_decay=} in [0, 1)")


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `final_rate_share`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    low = config.final_rate_share
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
