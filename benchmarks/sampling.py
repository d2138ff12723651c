"""Sampling of the shipped generator: what a step costs, and what caching, batches, bfloat16 and the compiler bring.

    python benchmarks/sampling.py

One thread and processor time, which other work does not lengthen much; medians, interleaved. Operations are counted by
PyTorch, and the share is that of the rate of a large matrix product in float32, measured in the same run.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from mouselift.geometry import Cameras, Views
from mouselift.geometry.rigs import mouse_rig, orbit
from mouselift.models.bundled import SIZE_PX, weights_path
from mouselift.models.checkpoint_io import load_generator
from mouselift.models.generator import PIXEL_CHANNELS, Generator
from mouselift.train.layers import compile_layers

PRODUCT = 1536  # rows and columns of the matrix product
NUM_VIEWS = 6


def benchmark_sampling(
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 50),
    batches: tuple[int, ...] = (1, 2, 4, 8),
    repeats: int = 5,
    compiled: bool = True,
    weights: Path | None = None,
) -> None:
    """Print Markdown tables.

    Args:
        steps: Of the sampler.
        batches: Pictures at once.
        repeats: Of each measurement.
        compiled: Compile the layers as well, which takes a C++ compiler.
        weights: Of a generator; the shipped ones by default.
    """
    torch.set_num_threads(1)
    path = weights or weights_path("generator")
    model = load_generator(path)
    sys.stdout.write(f"torch {torch.__version__}, one of {os.cpu_count()} threads, load {os.getloadavg()[0]:.1f}\n\n")
    parts = _parts(model, repeats)
    for name, (seconds, share) in parts.items():
        sys.stdout.write(f"{name}: {1e3 * seconds:.1f} ms{share}\n")
    look, step = (parts[name][0] for name in ("looking at picture and cameras", "one step"))
    lines = ["", "| steps | s a picture | without keeping what does not change |", "|---|---|---|"]
    for count in steps:
        found = _median({"": lambda count=count: _generate(model, 1, count)}, repeats)[""]
        lines.append(f"| {count} | {found:.2f} | {count * (look + step):.2f} |")
    lines += ["", "| pictures at once | s each, 4 steps |", "|---|---|"]
    for size, found in _median({size: lambda n=size: _generate(model, n, 4) for size in batches}, repeats).items():
        lines.append(f"| {size} | {found / size:.3f} |")
    ways: dict[str, Callable[[], object]] = {
        "float32": lambda: _generate(model, 1, 16),
        "bfloat16": lambda: _generate(model, 1, 16, bf16=True),
    }
    if compiled:
        faster = load_generator(path)
        compile_layers(faster)
        ways["float32, layers compiled"] = lambda: _generate(faster, 1, 16)
    lines += ["", "| numbers | s a picture, 16 steps |", "|---|---|"]
    lines += [f"| {name} | {found:.2f} |" for name, found in _median(ways, repeats).items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _parts(model: Generator, repeats: int) -> dict[str, tuple[float, str]]:
    """Seconds of what is done once and of what every step does, with the share of the machine's rate."""
    view, rig = _task(1)
    noise = torch.randn(1, NUM_VIEWS, PIXEL_CHANNELS, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))
    time_ = torch.full((1,), 0.5)
    square = torch.randn(PRODUCT, PRODUCT)
    with torch.no_grad():
        seen = model.look(view, rig)
        counter = FlopCounterMode(display=False)
        with counter:
            model.denoise(noise, time_, seen)
        found = _median(
            {
                "looking at picture and cameras": lambda: model.look(view, rig),
                "one step": lambda: model.denoise(noise, time_, seen),
                "product": lambda: square @ square,
            },
            repeats,
        )
    rate = 2 * PRODUCT**3 / found.pop("product")
    flops = counter.get_total_flops()
    share = flops / found["one step"] / rate
    told = f" ({flops / 1e9:.1f} GFLOP, {100 * share:.0f} % of a matrix product's {rate / 1e9:.0f} GFLOP/s)"
    return {name: (seconds, told if name == "one step" else "") for name, seconds in found.items()}


def _generate(model: Generator, pictures: int, steps: int, bf16: bool = False) -> Views:
    view, rig = _task(pictures)
    return model.generate(view, rig, steps=steps, generator=torch.Generator().manual_seed(0), bf16=bf16)


def _task(pictures: int) -> tuple[Views, Cameras]:
    dice = torch.Generator().manual_seed(0)
    masks = torch.zeros(pictures, 1, 1, SIZE_PX, SIZE_PX)
    masks[..., SIZE_PX // 4 : -SIZE_PX // 4, SIZE_PX // 4 : -SIZE_PX // 4] = 1
    camera = orbit([-90.0], 35.0, fov_deg=30, size_px=SIZE_PX)
    view = Views(
        images=torch.rand(pictures, 1, 3, SIZE_PX, SIZE_PX, generator=dice),
        masks=masks,
        cameras=Cameras.cat([camera] * pictures).reshape(pictures, 1),
    )
    rig = Cameras.cat([mouse_rig(size_px=SIZE_PX)] * pictures).reshape(pictures, NUM_VIEWS)
    return view, rig


def _median(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Processor seconds of each, one after the other in every round, after one to warm up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(repeats + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            if round_:
                found[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in found.items()}


if __name__ == "__main__":
    tyro.cli(benchmark_sampling)
