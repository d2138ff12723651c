"""Optimisers: the usual one, and refusals of the one in 8 bits."""

import pytest
import torch

from mouselift.errors import InputError
from mouselift.train import optimizers
from mouselift.train.optimizers import make_optimizer
from mouselift.train.run_config import RunConfig

EIGHT_BITS = RunConfig(optimizer="adamw_8bit")


def groups(device: str = "cpu") -> list[dict]:
    return [{"params": [torch.zeros(2, 2, device=device, requires_grad=True)], "lr": 1e-3, "weight_decay": 0.1}]


def test_the_usual_one_keeps_rates_and_decay_of_its_groups() -> None:
    optimizer = make_optimizer(groups(), RunConfig(betas=(0.8, 0.9)))
    assert type(optimizer) is torch.optim.AdamW
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (1e-3, 0.1, (0.8, 0.9))


def test_eight_bits_need_a_gpu() -> None:
    with pytest.raises(InputError, match="expected an NVIDIA GPU, found the device cpu"):
        make_optimizer(groups(), EIGHT_BITS)


def test_eight_bits_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        device = torch.device("cuda")

    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mouselift\[adam8bit\]'"):
        make_optimizer([{"params": [OnGpu()]}], EIGHT_BITS)
