"""Which samples come when, and with which random numbers: functions of the seed and the position alone."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from types import TracebackType

import torch

from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.train.run_config import RunConfig

MICRO_BATCHES_AHEAD = 2


def sample_indices(num_samples: int, seed: int, first: int, count: int) -> list[int]:
    """Positions first .. first + count - 1 of an endless stream of shuffled epochs, without any state."""
    places = (divmod(position, num_samples) for position in range(first, first + count))
    return [_epoch(num_samples, seed, epoch)[offset] for epoch, offset in places]


@lru_cache(maxsize=2)  # a batch touches two epochs at most
def _epoch(num_samples: int, seed: int, epoch: int) -> list[int]:
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(mix(seed, epoch, 1))).tolist()


def micro_generator(seed: int, step: int, micro: int) -> torch.Generator:
    """The random numbers of one micro-batch, whichever process has it."""
    return torch.Generator().manual_seed(mix(seed, step, 2 + micro))


def mix(*values: int) -> int:
    """One seed from several numbers (splitmix64's finaliser over their combination)."""
    state = 0
    for value in values:
        state = (state ^ (value + 0x9E3779B97F4A7C15 + (state << 6) + (state >> 2))) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return state ^ (state >> 31)


class SampleStream:
    """The micro-batches of one process from a step on, read ahead by threads; the order does not depend on them.

    Micro-batch m of a step belongs to process m modulo their number.

    Args:
        data: Training samples.
        config: Sizes and seed.
        first_step: Where the run goes on.
        rank: Of this process.
        world: Number of processes.
    """

    def __init__(self, data: MouseDataset, config: RunConfig, first_step: int, rank: int = 0, world: int = 1) -> None:
        self.waited_s = 0.0
        """Time that `take` has spent waiting for samples."""
        self._data = data
        self._wanted = _micro_batches(len(data), config, first_step, rank, world)
        self._threads = ThreadPoolExecutor(config.workers, "samples") if config.workers else None
        self._ahead = max(MICRO_BATCHES_AHEAD, -(-config.workers // config.batch_size))
        self._coming: deque[list[Future[Sample]]] = deque()

    def __enter__(self) -> "SampleStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def take(self) -> list[Sample]:
        """The next micro-batch.

        Raises:
            InputError: A sample cannot be read.
        """
        started = time.monotonic()
        if self._threads is None:
            samples = [self._data[index] for index in next(self._wanted)]
        else:
            for indices in islice(self._wanted, 1 + self._ahead - len(self._coming)):
                self._coming.append([self._threads.submit(self._data.__getitem__, index) for index in indices])
            samples = [future.result() for future in self._coming.popleft()]
        self.waited_s += time.monotonic() - started
        return samples


def _micro_batches(num_samples: int, config: RunConfig, first_step: int, rank: int, world: int) -> Iterator[list[int]]:
    for step in range(first_step, config.steps):
        for micro in range(rank, config.accumulation, world):
            position = (step * config.accumulation + micro) * config.batch_size
            yield sample_indices(num_samples, config.seed, position, config.batch_size)
