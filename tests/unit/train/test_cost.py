"""The analytic costs against PyTorch's own counter and against the tensors that really live."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from blobs import write_blobs
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mouselift.config import load_config
from mouselift.data.dataset import MouseDataset
from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.geometry.rigs import orbit
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.train.cost import (
    Workload,
    forward_flops,
    layer_bytes,
    num_parameters,
    num_tokens,
    training_flops,
    training_memory,
)
from mouselift.train.layers import recompute_layers
from mouselift.train.live_memory import LiveMemory
from mouselift.train.memory import GB, USABLE_SHARE, fitted
from mouselift.train.run import TrainConfig, fit_to_memory
from mouselift.train.run_config import RunConfig

SMALL = GSLRMConfig(width=128, head_dim=32, num_layers=3)
VIEWS = Workload(num_views=3, size_px=48)
FACELIFT, FULL = GSLRMConfig(), Workload(num_views=6, size_px=512)


def context(work: Workload) -> Views:
    cameras = orbit([50.0 * i for i in range(work.num_views)], 20.0, fov_deg=30, size_px=work.size_px)
    shape = (work.batch, work.num_views)
    return Views(
        images=torch.rand(*shape, 3, work.size_px, work.size_px),
        masks=torch.ones(*shape, 1, work.size_px, work.size_px),
        cameras=cameras.reshape(1, work.num_views),
    )


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, start_from_hull=True, num_free_gaussians=0, sh_degree=1)])
def test_operations_are_those_that_pytorch_counts(config: GSLRMConfig) -> None:
    model, views = GSLRM(config), context(VIEWS)
    # Attention as plain matrix products, because PyTorch does not count its fused kernel on a CPU.
    with sdpa_kernel(SDPBackend.MATH):
        geometry, counter = FlopCounterMode(display=False), FlopCounterMode(display=False)
        with geometry, torch.no_grad():
            model.look(views, views)  # rays and hull: a few small products that are not the network's
        with counter:
            gaussians = model(views)
            forward = counter.get_total_flops() - geometry.get_total_flops()
            sum(value.sum() for value in (gaussians.means, gaussians.quats, gaussians.sh)).backward()
    assert forward == forward_flops(config, VIEWS)
    backward = counter.get_total_flops() - geometry.get_total_flops() - forward
    assert backward == pytest.approx(training_flops(config, VIEWS) - forward, rel=0.08)  # pixels need no gradient


def test_published_model_costs_what_the_specification_says() -> None:
    assert num_parameters(FACELIFT) == 303_565_824
    assert num_tokens(FACELIFT, FULL) == 24_578
    assert forward_flops(FACELIFT, FULL) / 1e12 == pytest.approx(74.3, abs=0.05)
    assert forward_flops(FACELIFT, replace(FULL, num_views=4)) / 1e12 == pytest.approx(36.3, abs=0.05)
    assert forward_flops(FACELIFT, replace(FULL, size_px=256)) / 1e12 == pytest.approx(7.4, abs=0.05)


def test_published_model_counts_the_same_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = GSLRM(FACELIFT)
        patches = torch.empty(1, num_tokens(FACELIFT, FULL) - 2, 576)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tokens = torch.cat([model.gaussian_position_embeddings[None], model.patch_embedder[1](patches)], dim=1)
            for layer in model.transformer_layers:
                tokens = layer(tokens)
            model.pixel_gaussian_decoder(tokens[:, 2:])
            model.gaussian_upsampler(tokens[:, :2])
    assert counter.get_total_flops() == forward_flops(FACELIFT, FULL)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("hull", [False, True])
def test_memory_is_that_of_the_tensors_that_live(bf16: bool, recompute: bool, hull: bool) -> None:
    config = replace(SMALL, num_layers=6, start_from_hull=hull)
    model, views = GSLRM(config), context(VIEWS)
    if recompute:
        recompute_layers(model)
    with LiveMemory() as live:
        gaussians = model(views, bf16=bf16)
        until_render = live.peak
        sum(value.square().sum() for value in (gaussians.means, gaussians.sh, gaussians.scales)).backward()
    expected = training_memory(config, replace(VIEWS, num_targets=0), bf16=bf16, recompute=recompute)
    if not recompute:
        assert until_render == pytest.approx(expected.activations, rel=0.12)
    gradients = 4 * num_parameters(config)
    assert live.peak <= 1.02 * (expected.activations + gradients)
    assert live.peak >= 0.8 * expected.activations


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_layer_keeps_what_is_said(bf16: bool, qk_norm: bool) -> None:
    config = replace(SMALL, num_layers=1, qk_norm=qk_norm)
    layer = GSLRM(config).transformer_layers[0]
    tokens = torch.randn(1, 200, config.width, requires_grad=True)
    with LiveMemory() as live, torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = layer(tokens)
    weights = 2 * 12 * config.width**2 if bf16 else 0  # autocast's copies
    assert out.nbytes == tokens.nbytes  # the next layer's input is this one's output
    assert live.now - weights == layer_bytes(config, 200, bf16=bf16)


def test_attention_keeps_no_scores() -> None:
    """What the count of a layer's memory rests on."""
    attention = nn.functional.scaled_dot_product_attention
    q = torch.rand(1, 2, 1024, 32, requires_grad=True)
    with LiveMemory() as live:
        attention(q, q, q)
    assert live.peak < 1024 * 1024 * 4


def test_micro_batches_grow_with_the_device_and_the_global_batch_stays() -> None:
    run = RunConfig(batch_size=2, accumulation=8)
    chosen = {gb: fitted(replace(run, memory_gb=gb), FACELIFT, FULL) for gb in (24, 48, 80)}
    for config in chosen.values():
        assert config.batch_size * config.accumulation == 16
    assert [config.recompute_layers for config in chosen.values()] == [True, False, False]
    assert chosen[48].batch_size < chosen[80].batch_size
    for gb, config in chosen.items():
        work = replace(FULL, batch=config.batch_size)
        needs = training_memory(FACELIFT, work, bf16=True, recompute=config.recompute_layers)
        assert needs.total <= gb * GB * USABLE_SHARE
    assert fitted(run, FACELIFT, FULL) == run


def test_a_model_that_cannot_fit_is_refused() -> None:
    with pytest.raises(InputError, match="found one that needs"):
        fitted(RunConfig(memory_gb=4), FACELIFT, FULL)
    with pytest.raises(InputError, match="that 3 processes can share, found 4"):
        fitted(RunConfig(memory_gb=80), FACELIFT, FULL, processes=3)


def test_a_configuration_is_fitted_to_its_dataset(tmp_path: Path) -> None:
    data = MouseDataset(write_blobs(tmp_path), "train")
    config = load_config(TrainConfig, None, ["gslrm.run.memory_gb=80", "gslrm.run.accumulation=16"])
    run = fit_to_memory("gslrm", config, data).gslrm.run
    assert (run.batch_size, run.accumulation, run.recompute_layers) == (16, 1, False)  # 32 px are nothing
    with pytest.raises(InputError, match=r"pose.run.memory_gb: expected 0 for every model but gslrm"):
        fit_to_memory("pose", load_config(TrainConfig, None, ["pose.run.memory_gb=80"]), data)
