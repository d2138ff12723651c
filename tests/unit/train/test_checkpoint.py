"""Checkpoints: whole or refused, with a way back; the moving average."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from mouselift.errors import InputError
from mouselift.train.checkpoint import (
    DAMAGED,
    LAST,
    PREVIOUS,
    Trained,
    TrainState,
    read_checkpoint,
    resume,
    save_checkpoint,
)
from mouselift.train.distributed import Processes
from mouselift.train.ema import EMA

ALONE = Processes(device=torch.device("cpu"))


def trained(steps: int, width: int = 8) -> Trained:
    """A little network after a few steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.Linear(width, 1))
    model[0].register_buffer("mean", torch.full((4,), float(steps)))
    ema = EMA(model, 0.9)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()
        ema.update(model, step)
    return Trained(model=model, ema=ema, optimizer=optimizer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run that wrote after three steps and after five."""
    for steps in (3, 5):
        save_checkpoint(tmp_path, TrainState(step=steps, best=0.5), trained(steps), ALONE)
    return tmp_path


def assert_same(one: Trained, other: Trained) -> None:
    for a, b in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one.ema.values, other.ema.values, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        for key, moment in one.optimizer.state[a].items():
            assert torch.equal(moment, other.optimizer.state[b][key])


def test_what_was_written_comes_back(folder: Path) -> None:
    fresh = trained(0)
    assert resume(folder, fresh, ALONE) == TrainState(step=5, best=0.5)
    assert_same(trained(5), fresh)
    with fresh.ema.averaged(here=True) as average:
        assert torch.equal(average[0].mean, torch.full((4,), 5.0))  # what is not a weight comes along
    assert resume(folder / "nowhere", trained(0), ALONE) == TrainState()


def flip(path: Path, share: float) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_taken(
    damage: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = folder / LAST
    if damage == "flipped":
        weight = trained(5).model[2].weight.detach().numpy().tobytes()
        flip(last, (last.read_bytes().index(weight) + 5) / last.stat().st_size)
    else:
        last.write_bytes(last.read_bytes()[: 2000 if damage == "torn" else 0])
    fresh = trained(0)
    with caplog.at_level(logging.WARNING):
        assert resume(folder, fresh, ALONE).step == 3
    assert "damaged" in caplog.text
    assert PREVIOUS in caplog.text
    assert_same(trained(3), fresh)
    assert (folder / DAMAGED).exists()


def test_nothing_whole_is_an_error(folder: Path) -> None:
    for name in (LAST, PREVIOUS):
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"previous\.pt: expected a checkpoint, found a damaged file"):
        resume(folder, trained(0), ALONE)


def test_a_run_that_was_killed_between_two_names_goes_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / LAST).unlink()
    with caplog.at_level(logging.WARNING):
        assert resume(folder, trained(0), ALONE).step == 3
    assert "last.pt is missing" in caplog.text


def test_other_sizes_and_other_versions_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"found \(8,\) where `0.bias` is \(9,\)"):
        resume(folder, trained(0, width=9), ALONE)
    torch.save({"model": {}}, folder / LAST)
    with pytest.raises(InputError, match="found one of another version"):
        resume(folder, trained(0), ALONE)


def test_every_value_counts_in_the_checksum(folder: Path) -> None:
    content = torch.load(folder / LAST, weights_only=True)
    content["state"]["step"] += 1
    torch.save(content, folder / LAST)
    with pytest.raises(InputError, match="its checksum is another"):
        read_checkpoint(folder / LAST)
