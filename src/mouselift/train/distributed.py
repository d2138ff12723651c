"""Several processes that share one run, started by torchrun: who they are, what they agree on, where weights lie."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from mouselift.errors import InputError
from mouselift.train.layers import repeated_layers
from mouselift.train.run_config import Parallel

TIMEOUT = timedelta(hours=1)  # others wait while the first one validates and writes
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among all. One that is alone agrees with itself, without any communication."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process raises it."""
        if self.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32)  # on the CPU: the device does not wait
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes]

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Mean of each figure over the processes that have it."""
        if self.world == 1:
            return dict(figures)
        everywhere: list[Any] = [None] * self.world
        dist.all_gather_object(everywhere, dict(figures))
        names = dict.fromkeys(name for each in everywhere for name in each)
        values = {name: [each[name] for each in everywhere if name in each] for name in names}
        return {name: sum(found) / len(found) for name, found in values.items()}

    def from_first(self, value: Value) -> Value:
        """What the first process holds; the values of the others are ignored."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def joined(parallel: Parallel, device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, or stay alone, for the length of the block.

    Args:
        parallel: How the run is shared; `none` stays alone.
        device: As in the configuration; `cuda` becomes this process's own card.

    Raises:
        InputError: torchrun and `parallel` contradict each other.
    """
    launched = num_processes()
    if parallel == "none":
        if launched > 1:
            raise InputError(f"expected run.parallel=ddp or fsdp under torchrun with {launched} processes, found none")
        yield Processes(device=torch.device(device))
        return
    if "RANK" not in os.environ:
        raise InputError(
            f"run.parallel={parallel}: expected processes started by torchrun, found none; "
            "as in torchrun --nproc-per-node=2 -m mouselift.cli train ..."
        )
    place = torch.device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(rank=dist.get_rank(), world=dist.get_world_size(), device=place)
    finally:
        dist.destroy_process_group()


def is_first_process() -> bool:
    """Whether this process writes files, by torchrun's environment."""
    return int(os.environ.get("RANK", "0")) == 0


def num_processes() -> int:
    """That torchrun started, by its environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def shard(module: nn.Module, processes: Processes) -> None:
    """Cut the weights of a module up over the processes (FSDP2), layer by layer, in place."""
    mesh = init_device_mesh(processes.device.type, (processes.world,))
    for layer in repeated_layers(module):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)


def replicate(module: nn.Module, processes: Processes) -> DistributedDataParallel:
    """Keep the weights of a module on every process, and average their gradients (DDP)."""
    ids = [processes.device.index] if processes.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)


def whole(value: Tensor) -> Tensor:
    """A tensor in one piece; all processes must ask for it when it is cut up."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def placed_like(value: Tensor, like: Tensor) -> Tensor:
    """A tensor in one piece, that every process has, placed as another one is: on its device, cut up in its way."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
