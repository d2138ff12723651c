"""What every use case needs to run: a device, and how long its stages take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from mouselift.errors import InputError


@dataclass
class Clock:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def resolve_device(name: str) -> str:
    """Turn "auto" into "cuda" or "cpu"; refuse a GPU that is not there."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"expected an NVIDIA GPU for --device {name}, found none that torch can use")
    if name != "cpu" and not name.startswith("cuda"):
        raise InputError(f"expected the device auto, cpu or cuda, found {name!r}")
    return name
