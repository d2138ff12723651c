"""One training step of GS-LRM and one reconstruction: time, memory, and how much of the machine they use.

    python benchmarks/train_step.py                     # the processor, one thread
    python benchmarks/train_step.py --device cuda       # the sizes of FaceLift
    python benchmarks/train_step.py --tiers             # what run.memory_gb chooses, without running anything

Operations are counted from the sizes (mouselift.train.cost), the forward pass and twice as much for the backward pass;
layers that are computed again do not count. The share is that of the rate of a large matrix product of the same kind of
numbers, measured in the same run. On a processor the time is processor time, which other work does not lengthen much,
and memory counts the tensors that live; on a GPU it is what the allocator handed out at most.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor

from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.geometry.rigs import orbit
from mouselift.losses import l2
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.models.presets import GSLRM_PRESETS
from mouselift.render import render
from mouselift.train.cost import Workload, forward_flops, num_parameters, num_tokens, training_flops, training_memory
from mouselift.train.ema import EMA
from mouselift.train.layers import compile_layers, recompute_layers
from mouselift.train.live_memory import LiveMemory
from mouselift.train.memory import GB, fitted
from mouselift.train.run_config import RunConfig

CPU_SIZES = ("small:7x64", "small:6x128", "base:4x64", "base:4x128")
GPU_SIZES = ("base:6x256", "facelift:4x256", "facelift:6x256", "facelift:4x512", "facelift:6x512")
TIERS_GB = (12, 24, 48, 80)
PRODUCT_SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
NUM_TARGETS = 3
HEAD = (
    "| model, views | tokens | numbers | reconstruction | of the matrix rate | step | of the matrix rate | peak memory "
    "| predicted |\n|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How to time, and on what."""

    device: torch.device
    repeats: int

    def median_s(self, work: Callable[[], object]) -> float:
        """Median time of a call after one to warm up."""
        work()
        return statistics.median(self._once(work) for _ in range(self.repeats))

    def _once(self, work: Callable[[], object]) -> float:
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        started = clock()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return clock() - started


def benchmark_train_step(
    sizes: tuple[str, ...] = (),
    device: str = "cpu",
    numbers: tuple[str, ...] = ("float32", "bfloat16"),
    recompute: bool = False,
    compiled: bool = False,
    repeats: int = 3,
    tiers: bool = False,
) -> None:
    """Print Markdown tables.

    Args:
        sizes: MODEL:VIEWSxPIXELS, as in facelift:6x512; usual ones for the device when not given.
        device: cpu or cuda.
        numbers: float32, bfloat16.
        recompute: Compute layers again in the backward pass.
        compiled: With torch.compile.
        repeats: Of each measurement.
        tiers: Print what fits cards of 12 to 80 GB instead.
    """
    if tiers:
        _print_tiers(sizes or GPU_SIZES)
        return
    torch.set_num_threads(1)
    timing = Timing(device=torch.device(device), repeats=repeats)
    rates = {kind: _matrix_rate(timing, getattr(torch, kind)) for kind in numbers}
    name = _cpu_name() if device == "cpu" else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}")
    print("matrix products: " + ", ".join(f"{kind} {rate / 1e9:,.0f} GFLOP/s" for kind, rate in rates.items()))
    print(HEAD)
    for size in sizes or (CPU_SIZES if device == "cpu" else GPU_SIZES):
        for kind, rate in rates.items():
            print(_row(size, kind == "bfloat16", rate, timing, recompute=recompute, compiled=compiled), flush=True)


def _row(size: str, bf16: bool, rate: float, timing: Timing, *, recompute: bool, compiled: bool) -> str:
    config, work = _parse(size)
    torch.manual_seed(0)
    model = GSLRM(config).to(timing.device)
    ema = EMA(model, 0.999)
    if compiled:
        compile_layers(model)
    if recompute:
        recompute_layers(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    context, target = (_views(count, work.size_px, timing.device) for count in (work.num_views, NUM_TARGETS))

    def reconstruct() -> None:
        with torch.no_grad():
            model(context, bf16=bf16)

    def step() -> Tensor:
        out = render(model(context, bf16=bf16), target.cameras, (1.0, 1.0, 1.0))
        loss = l2(out.image, target.images) + l2(out.alpha, target.masks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model, 1000)
        return loss

    forward_s, step_s = timing.median_s(reconstruct), timing.median_s(step)
    peak = _peak_bytes(step, model, timing.device)
    predicted = training_memory(config, work, bf16=bf16, recompute=recompute)
    forward, whole = (count(config, work) / rate for count in (forward_flops, training_flops))
    return (
        f"| {size} | {num_tokens(config, work):,} | {'bf16' if bf16 else 'float32'} | {forward_s:.3g} s | "
        f"{forward / forward_s:.0%} | {step_s:.3g} s | {whole / step_s:.0%} | {peak / GB:.2f} GiB | "
        f"{predicted.total / GB:.2f} GiB |"
    )


def _peak_bytes(step: Callable[[], object], model: GSLRM, device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device)
    with LiveMemory() as live:
        step()
    return live.peak + 16 * num_parameters(model.config)  # weights, two moments and average lived before


def _views(count: int, size_px: int, device: torch.device) -> Views:
    cameras = orbit([360.0 / count * i for i in range(count)], 20.0, fov_deg=30, size_px=size_px)
    dice = torch.Generator().manual_seed(count)
    views = Views(
        images=torch.rand(1, count, 3, size_px, size_px, generator=dice),
        masks=torch.ones(1, count, 1, size_px, size_px),
        cameras=cameras.reshape(1, count),
    )
    return views.to(device)


def _parse(size: str) -> tuple[GSLRMConfig, Workload]:
    try:
        model, views = size.split(":")
        count, size_px = map(int, views.split("x"))
        # Every patch counts, as for pictures that the animal fills.
        config = replace(GSLRM_PRESETS[model], skip_empty_patches=False, context_size_px=None)
    except (ValueError, KeyError):
        raise InputError(f"expected MODEL:VIEWSxPIXELS of {', '.join(GSLRM_PRESETS)}, found {size!r}") from None
    return config, Workload(num_views=count, size_px=size_px, num_targets=NUM_TARGETS, target_px=size_px)


def _matrix_rate(timing: Timing, dtype: torch.dtype) -> float:
    """The fastest of some square products, operations per second."""
    rates = []
    for n in PRODUCT_SIZES[timing.device.type]:
        a, b = (torch.randn(n, n, device=timing.device).to(dtype) for _ in range(2))
        rates.append(2 * n**3 / timing.median_s(lambda a=a, b=b: a @ b))
    return max(rates)


def _print_tiers(sizes: tuple[str, ...]) -> None:
    print("| model, views | " + " | ".join(f"{gb} GB" for gb in TIERS_GB) + " |\n|---|" + "---|" * len(TIERS_GB))
    for size in sizes:
        config, work = _parse(size)
        cells = []
        for gb in TIERS_GB:
            try:
                run = fitted(RunConfig(batch_size=1, accumulation=16, memory_gb=gb), config, work)
            except InputError:
                cells.append("-")
                continue
            needs = training_memory(
                config, replace(work, batch=run.batch_size), bf16=True, recompute=run.recompute_layers
            )
            again = ", layers again" if run.recompute_layers else ""
            cells.append(f"{run.batch_size} x {run.accumulation}{again} ({needs.total / GB:.0f} GiB)")
        print(f"| {size} | " + " | ".join(cells) + " |")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processor")


if __name__ == "__main__":
    try:
        tyro.cli(benchmark_train_step)
    except InputError as error:
        sys.exit(str(error))
