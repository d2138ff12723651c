"""One optimiser step, shared by all processes."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.train import distributed
from mouselift.train.distributed import Processes
from mouselift.train.groups import describe_groups, parameter_groups
from mouselift.train.optimizers import make_optimizer
from mouselift.train.order import SampleStream, micro_generator
from mouselift.train.run_config import RunConfig, learning_rate
from mouselift.train.task import Task

logger = logging.getLogger(__name__)


@runtime_checkable
class Warming(Protocol):
    """A task some of whose weights follow the step."""

    step: int


class LossOf(nn.Module):
    """A task's loss as a module, so that whatever the task does with its model happens inside one `forward`.

    DDP and FSDP gather weights and average gradients around that call.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self.task = task

    def forward(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The task's loss and figures."""
        return self.task.loss(samples, generator)


class Learner:
    """Gradients of a global batch over all processes, and the optimiser that follows them.

    Args:
        task: What is trained; its model is cut up in place with `fsdp`.
        config: How.
        processes: That share the run.
    """

    def __init__(self, task: Task, config: RunConfig, processes: Processes) -> None:
        if config.accumulation % processes.world:
            raise InputError(
                f"expected run.accumulation to be a multiple of the {processes.world} processes, "
                f"found {config.accumulation}"
            )
        self._config, self._processes = config, processes
        self.model = task.model
        self._task = task
        self._loss: nn.Module = LossOf(task)
        if config.parallel == "fsdp":
            distributed.shard(self._loss, processes)
        if processes.is_first:
            for line in describe_groups(self.model, config.groups):
                logger.info(line)
        groups = parameter_groups(  # freezes what is not trained, which DDP must know
            self.model, config.groups, learning_rate=config.learning_rate, weight_decay=config.weight_decay
        )
        self.optimizer = make_optimizer(groups, config)
        self._rate_shares = [group["lr"] / config.learning_rate for group in self.optimizer.param_groups]
        if config.parallel == "ddp":
            self._loss = distributed.replicate(self._loss, processes)

    def gradients(self, stream: SampleStream, step: int) -> dict[str, float]:
        """Forward and backward of this process's share of a step's micro-batches.

        Returns:
            Means of the figures over this share, and the norm of the whole gradient, which is clipped.
        """
        self.optimizer.zero_grad(set_to_none=True)
        config, totals = self._config, {}
        if isinstance(self._task, Warming):
            self._task.step = step
        mine = range(self._processes.rank, config.accumulation, self._processes.world)
        for micro in mine:
            with self._averaged_at_the_end(last=micro == mine[-1]):
                loss, figures = self._loss(stream.take(), micro_generator(config.seed, step, micro))
                (loss / len(mine)).backward()
            for name, value in {"loss": float(loss.detach()), **figures}.items():
                totals[name] = totals.get(name, 0.0) + value / len(mine)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        return {**totals, "gradient_norm": float(distributed.whole(norm))}

    def update(self, step: int) -> None:
        """Follow the gradients."""
        rate = learning_rate(self._config, step)
        for group, share in zip(self.optimizer.param_groups, self._rate_shares, strict=True):
            group["lr"] = rate * share
        self.optimizer.step()

    @contextmanager
    def _averaged_at_the_end(self, *, last: bool) -> Iterator[None]:
        """DDP talks once a step; FSDP after each micro-batch, so as to keep its own part of the gradient only."""
        if isinstance(self._loss, nn.parallel.DistributedDataParallel) and not last:
            with self._loss.no_sync():
                yield
        else:
            yield
