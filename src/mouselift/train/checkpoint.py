"""Checkpoints that are written whole or not at all, carry a checksum, and can be read by any number of processes."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from mouselift.atomic import atomic_path
from mouselift.errors import InputError
from mouselift.train.distributed import Processes, placed_like, whole
from mouselift.train.ema import EMA

logger = logging.getLogger(__name__)
LAST, PREVIOUS, DAMAGED = "last.pt", "previous.pt", "damaged.pt"
PARTS = ("model", "ema", "optimizer")


class DamagedCheckpoint(InputError):
    """A checkpoint that is not what was written."""


@dataclass(kw_only=True)
class TrainState:
    """Where a run stands; everything random follows from the step."""

    step: int = 0
    skipped: int = 0
    best: float = float("-inf")
    collapsed: int = 0
    """Validations in a row that were no better than a blank picture."""
    seconds: float = 0.0
    """Time spent so far, over all parts of the run."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What changes while a model is trained, besides the `TrainState`."""

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer


def save_checkpoint(folder: Path, state: TrainState, trained: Trained, processes: Processes) -> None:
    """Write everything that an exact resume needs, atomically; the one before is kept as `previous.pt`.

    All processes must call it: weights that are cut up are gathered, tensor by tensor, and the first process writes.
    """
    content: dict[str, Any] = {part: {} for part in PARTS}
    for part, name, value in _tensors(trained):
        full = whole(value.detach())
        if processes.is_first:
            content[part][name] = full.cpu()
    if not processes.is_first:
        return
    content["state"] = asdict(state)
    content["checksum"] = _checksum(content)
    with atomic_path(folder / LAST) as partial:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / PREVIOUS)


def resume(folder: Path, trained: Trained, processes: Processes) -> TrainState:
    """Go on from the newest whole checkpoint in a folder, or from the beginning when there is none.

    Raises:
        InputError: There are checkpoints and none is whole, or they belong to another model.
    """
    path = processes.from_first(_newest_whole(folder) if processes.is_first else None)
    if path is None:
        return TrainState()
    content = read_checkpoint(path)
    _fill(content, trained, path)
    return TrainState(**content["state"])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint and prove that it is what was written.

    Returns:
        Tensors by name under `model`, `ema` and `optimizer`, and the `state`.

    Raises:
        DamagedCheckpoint: It is not.
        InputError: It was written by an older version, without a checksum.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise DamagedCheckpoint(f"{path}: expected a checkpoint, found a damaged file ({reason})") from None
    if not isinstance(content, dict) or {*PARTS, "state", "checksum"} - set(content):
        raise InputError(f"{path}: expected a checkpoint with a checksum, found one of another version")
    if content["checksum"] != _checksum(content):
        raise DamagedCheckpoint(f"{path}: expected a checkpoint, found a damaged file (its checksum is another)")
    return content


def _newest_whole(folder: Path) -> Path | None:
    last, previous = folder / LAST, folder / PREVIOUS
    found = [path for path in (last, previous) if path.exists()]
    if not found:
        return None
    for path in found:
        try:
            read_checkpoint(path)
        except DamagedCheckpoint as error:
            if path == found[-1]:
                raise
            logger.warning("%s; going back to %s, the damaged one is kept as %s", error, PREVIOUS, DAMAGED)
            path.replace(folder / DAMAGED)
            continue
        if path == previous and not (folder / DAMAGED).exists():
            logger.warning("%s: %s is missing, going on from %s", folder, LAST, PREVIOUS)
        return path
    return None


def _tensors(trained: Trained) -> list[tuple[str, str, Tensor]]:
    """Part, name and value of everything that a checkpoint holds, in the same order on every process."""
    names = [name for name, _ in trained.model.named_parameters()]
    found = [("model", name, value) for name, value in trained.model.state_dict().items()]
    found += [("ema", name, value) for name, value in zip(names, trained.ema.values, strict=True)]
    for name, parameter in trained.model.named_parameters():
        moments: Mapping[str, Tensor] = trained.optimizer.state.get(parameter, {})
        found += [("optimizer", f"{name}.{key}", value) for key, value in moments.items()]
    return found


@torch.no_grad()
def _fill(content: Mapping[str, Any], trained: Trained, path: Path) -> None:
    parameters = dict(trained.model.named_parameters())
    model = trained.model.state_dict()
    for part, expected in (("model", model), ("ema", parameters)):
        wrong = set(expected) ^ set(content[part])
        wrong |= {name for name in set(expected) - wrong if expected[name].shape != content[part][name].shape}
        if wrong:
            name = min(wrong)
            have = {where: tuple(of[name].shape) for where, of in (("a", expected), ("b", content[part])) if name in of}
            raise InputError(
                f"{path}: expected a checkpoint of this very configuration, "
                f"found {have.get('b', 'nothing')} where `{name}` is {have.get('a', 'unknown')}"
            )
    for name, value in content["model"].items():
        model[name].copy_(placed_like(value, model[name]))
    for average, name in zip(trained.ema.values, parameters, strict=True):
        average.copy_(placed_like(content["ema"][name], average))
    trained.ema.copy_buffers(trained.model)
    trained.optimizer.state.clear()
    for key, value in content["optimizer"].items():
        name, _, moment = key.rpartition(".")
        parameter = parameters[name]
        whole_weight = value.shape == parameter.shape and moment != "step"
        placed = placed_like(value, parameter) if whole_weight else value.to(parameter.device)
        trained.optimizer.state[parameter][moment] = placed.clone()


def _checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of every name and value."""
    digest = hashlib.sha256(json.dumps(content["state"], sort_keys=True).encode())
    for part in PARTS:
        for name, value in sorted(content[part].items()):
            digest.update(f"{part} {name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
