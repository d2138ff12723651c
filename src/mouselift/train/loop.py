"""The training loop: the same for every model; a task says what the loss is."""

import logging
import math
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.train.checkpoint import EMA, TrainState, load_checkpoint, save_checkpoint
from mouselift.train.log import TrainLog

logger = logging.getLogger(__name__)
MAX_SKIPPED_SHARE = 0.2  # of the steps since the last log line; more means that the data or the rate is wrong


class TrainingError(RuntimeError):
    """The run cannot go on: it says why."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, how fast and on what."""

    steps: int = 10_000
    batch_size: int = 1
    accumulation: int = 4
    """Micro-batches per optimiser step."""
    learning_rate: float = 4e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    """On matrices only."""
    warmup_steps: int = 200
    final_rate_share: float = 0.02
    """Of the learning rate, where the cosine ends."""
    clip_norm: float = 1.0
    skip_norm: float = 100.0
    """A step whose gradient norm exceeds this is skipped and counted."""
    ema_decay: float = 0.999
    bf16: bool = True
    device: str = "cpu"
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    seed: int = 0
    initial_weights: str | None = None
    """Weights (.safetensors or .pt) to start from instead of random ones."""
    log_every: int = 50
    validate_every: int = 500
    validation_samples: int = 16
    checkpoint_every_s: float = 120.0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.accumulation, self.log_every, self.validate_every) < 1:
            raise ValueError("steps, batch_size, accumulation, log_every and validate_every must be at least 1")
        if not self.learning_rate > 0 or not 0 <= self.ema_decay < 1:
            raise ValueError(f"{self.learning_rate=} must be positive and {self.ema_decay=} in [0, 1)")


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
        """Scalar loss of a batch, and figures for the log."""
        ...

    def validate(self, model: Any, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        """Figures of `model` on held-out samples, and a picture (3, H, W) in [0, 1] of the first ones."""
        ...


def train(
    task: Task,
    config: RunConfig,
    data: MouseDataset,
    held_out: MouseDataset,
    folder: Path,
    record: Mapping[str, Any],
) -> TrainState:
    """Train, log and checkpoint in `folder`; goes on from the checkpoint that lies there.

    Every random number comes from (seed, step), so a resumed run continues bit for bit as an undisturbed one would.
    SIGTERM and Ctrl-C end the run after the current step, with a checkpoint.

    Args:
        task: What is trained.
        config: How.
        data: Training samples.
        held_out: Samples for validation.
        folder: Gets `last.pt`, `best.safetensors`, `final.safetensors`, `log.csv`, TensorBoard events and panels.
        record: What the weights should remember: configuration, version.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    folder.mkdir(parents=True, exist_ok=True)
    task.model.to(config.device).train()
    optimizer = torch.optim.AdamW(_parameter_groups(task.model, config), betas=config.betas, fused=True)
    ema = EMA(task.model, config.ema_decay)
    state = TrainState()
    if (folder / "last.pt").exists():
        state = load_checkpoint(folder / "last.pt", task.model, ema, optimizer)
        logger.info("resuming at step %d", state.step)
    stop = _StopRequest()
    held_out_samples = [held_out[i] for i in range(min(config.validation_samples, len(held_out)))]
    saved_at, skipped_since_log = time.monotonic(), 0
    with (
        TrainLog(folder) as log,
        stop,
        tqdm(total=config.steps, initial=state.step, unit="step", smoothing=0.05) as bar,
    ):
        while state.step < config.steps and not stop.asked:
            rate = learning_rate(config, state.step)
            figures, skipped = _step(task, config, data, optimizer, state.step, rate)
            ema.update(task.model, state.step)
            state.step += 1
            state.skipped += skipped
            skipped_since_log += skipped
            bar.update()
            if state.step % config.log_every == 0:
                log.write(state.step, {**figures, "rate": rate, "skipped": state.skipped})
                bar.set_postfix(loss=f"{figures['loss']:.4f}")
                if skipped_since_log > MAX_SKIPPED_SHARE * config.log_every:
                    raise TrainingError(
                        f"{skipped_since_log} of the last {config.log_every} steps were skipped: the gradients explode"
                    )
                skipped_since_log = 0
            if state.step % config.validate_every == 0 or state.step == config.steps:
                _validate(task, ema, held_out_samples, state, folder, log, record)
            if time.monotonic() - saved_at > config.checkpoint_every_s:
                save_checkpoint(folder / "last.pt", state, task.model, ema, optimizer)
                saved_at = time.monotonic()
        save_checkpoint(folder / "last.pt", state, task.model, ema, optimizer)
        ema.save(folder / "final.safetensors", {**record, "step": state.step})
    return state


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `final_rate_share`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    low = config.final_rate_share
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def sample_indices(num_samples: int, seed: int, first: int, count: int) -> list[int]:
    """Positions first .. first + count - 1 of an endless stream of shuffled epochs, without any state."""
    indices = []
    for position in range(first, first + count):
        epoch, offset = divmod(position, num_samples)
        order = torch.randperm(num_samples, generator=torch.Generator().manual_seed(_mix(seed, epoch, 1)))
        indices.append(int(order[offset]))
    return indices


def _step(
    task: Task,
    config: RunConfig,
    data: MouseDataset,
    optimizer: torch.optim.Optimizer,
    step: int,
    rate: float,
) -> tuple[dict[str, float], int]:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    totals: dict[str, float] = {}
    for micro in range(config.accumulation):
        position = (step * config.accumulation + micro) * config.batch_size
        samples = [data[i] for i in sample_indices(len(data), config.seed, position, config.batch_size)]
        generator = torch.Generator().manual_seed(_mix(config.seed, step, 2 + micro))
        loss, figures = task.loss(samples, generator)
        (loss / config.accumulation).backward()
        for name, value in {"loss": float(loss.detach()), **figures}.items():
            totals[name] = totals.get(name, 0.0) + value / config.accumulation
    norm = float(nn.utils.clip_grad_norm_(task.model.parameters(), config.clip_norm))
    totals["gradient_norm"] = norm
    if not norm <= config.skip_norm:  # NaN is skipped too
        return totals, 1
    optimizer.step()
    return totals, 0


def _validate(
    task: Task,
    ema: EMA,
    samples: Sequence[Sample],
    state: TrainState,
    folder: Path,
    log: TrainLog,
    record: Mapping[str, Any],
) -> None:
    with torch.no_grad():
        figures, panel = task.validate(ema.model, samples)
    log.write(state.step, {f"val_{name}": value for name, value in figures.items()})
    log.panel(state.step, panel)
    score = figures[task.better]
    if score > state.best:
        state.best = score
        ema.save(folder / "best.safetensors", {**record, "step": state.step, task.better: score})


def _parameter_groups(model: nn.Module, config: RunConfig) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay, "lr": config.learning_rate}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0, "lr": config.learning_rate})
    return groups


def _mix(*values: int) -> int:
    """One seed from several numbers (splitmix64's finaliser over their combination)."""
    state = 0
    for value in values:
        state = (state ^ (value + 0x9E3779B97F4A7C15 + (state << 6) + (state >> 2))) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return state ^ (state >> 31)


class _StopRequest:
    """Turns SIGTERM and SIGINT into a flag while the loop runs, then gives the handlers back."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "_StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        logger.info("signal %d: stopping after this step", number)
        self.asked = True
