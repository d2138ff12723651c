"""Times `render`, forward and forward + backward, beside its peers, on random Gaussians in the unit ball.

    OMP_WAIT_POLICY=passive python benchmarks/render.py [--sizes 10000x128 100000x256] [--prototypes DIR] [--gswarp DIR]
        [--json FILE]

Everything runs in one process, each once a round and in an order drawn anew, so that what else the machine does, and
what a run leaves behind in caches and heap, falls on all alike; figures are medians. DIR of --prototypes holds
`splat_cpu.py` with `libsplat_cpu.so` (AVX-512) and `libsplat_w8.so` (AVX2) beside it; that of --gswarp the packages
named in `gswarp_worker.py`. The reference and gswarp are timed where they take seconds, not minutes.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import render_peers as peers
import torch
from render_peers import Run

from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.sh import dc_from_rgb
from mouselift.render import cpu, render
from mouselift.render.renderer import Backend

DEFAULT_SIZES = [f"{count}x{size}" for count in (10_000, 100_000, 400_000) for size in (128, 256, 512)]
REFERENCE_LIMIT = 100_000 * 256  # Gaussians times pixels across
GSWARP_LIMIT = 100_000  # Gaussians, for the backward pass
SLOW_REPEATS = 2
CAMERA_DISTANCE, FOCAL_AT_512 = 2.7, 548.99  # FaceLift's rig: scene units, px
LIKE_AGAINST_LIKE = {"prototype AVX-512": "AVX-512", "prototype AVX2": "AVX2", "reference": "AVX2", "gswarp": "AVX2"}
NAMES = {"avx512": "AVX-512", "avx2": "AVX2", "baseline": "baseline"}


def ball(count: int, size: int) -> tuple[Gaussians, Cameras]:
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    gaussians = Gaussians(
        means=directions * torch.rand(count, 1, generator=generator) ** (1 / 3),
        quats=torch.randn(count, 4, generator=generator),
        scales=0.005 + 0.015 * torch.rand(count, 3, generator=generator),
        opacities=torch.rand(count, generator=generator),
        sh=dc_from_rgb(torch.rand(count, 1, 3, generator=generator)),
    )
    focal = FOCAL_AT_512 * size / 512
    w2c = torch.eye(4)
    w2c[2, 3] = CAMERA_DISTANCE
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return gaussians, Cameras(K=K[None], w2c=w2c[None], width=size, height=size)


def backend_runs(
    backend: Backend, gaussians: Gaussians, cameras: Cameras, isa: str | None = None
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The two passes with one backend; `isa` chooses the build of the kernel."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in vars(gaussians).items()}
    cotangent = torch.randn(1, 3, cameras.height, cameras.width)

    def choose() -> None:
        if isa:
            os.environ[cpu.ISA_VARIABLE] = isa

    def forward() -> None:
        choose()
        with torch.no_grad():
            render(gaussians, cameras, backend=backend)

    def both() -> None:
        choose()
        output = render(Gaussians(**leaves), cameras, backend=backend)
        torch.autograd.grad(output.image, list(leaves.values()), cotangent)

    return forward, both


def timed(run: Callable[[], None]) -> Run:
    def milliseconds() -> float:
        before = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - before)

    return milliseconds


def interleaved(runs: dict[str, tuple[Run, ...]], repeats: int) -> dict[str, list[float]]:
    """Medians in milliseconds, for each name one for each of its runs."""
    times: dict[str, list[list[float]]] = {name: [[] for _ in own] for name, own in runs.items()}
    every = [(name, k) for name, own in runs.items() for k in range(len(own))]
    shuffle = random.Random(0).shuffle
    for repeat in range(repeats + 1):
        shuffle(every)  # what ran before leaves the caches and the heap in its own way
        for name, k in every:
            found = runs[name][k]()
            if repeat:  # the first one warms up
                times[name][k].append(found)
    return {name: [statistics.median(t) for t in own] for name, own in times.items()}


def measure(count: int, size: int, options: argparse.Namespace, stack: ExitStack) -> dict[str, list[float]]:
    scene = ball(count, size)
    quick = {
        NAMES[isa]: tuple(timed(run) for run in backend_runs("cpu", *scene, isa))
        for isa in reversed(cpu.supported_isas())
    }
    if options.prototypes:
        for name, library in peers.PROTOTYPES.items():
            quick[name] = tuple(timed(run) for run in peers.prototype_runs(options.prototypes, library, *scene))
    result = interleaved(quick, options.repeats or (25 if count < 400_000 else 11))
    slow: dict[str, tuple[Run, ...]] = {}
    if count * size <= REFERENCE_LIMIT:
        slow["reference"] = tuple(timed(run) for run in backend_runs("reference", *scene))
    if options.gswarp:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        worker = stack.enter_context(peers.Gswarp(options.gswarp, Path(folder), *scene))
        slow["gswarp"] = (worker.forward, worker.both) if count <= GSWARP_LIMIT else (worker.forward,)
    if slow:
        fastest = next(iter(quick))
        again = interleaved({fastest: quick[fastest], **slow}, SLOW_REPEATS)
        result |= {name: again[name] for name in slow}  # the kernel's own figure is that with many repeats
    return result


def ratios(result: dict[str, list[float]]) -> dict[str, list[float]]:
    """How many times longer each peer takes than the kernel's build of the same instruction set."""
    return {
        peer: [theirs / ours for theirs, ours in zip(result[peer], result[own][: len(result[peer])], strict=True)]
        for peer, own in LIKE_AGAINST_LIKE.items()
        if peer in result and own in result
    }


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    command = ["git", "describe", "--always", "--dirty"]
    described = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return (
        f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"commit {described.stdout.strip() or 'unknown'}"
    )


def row(count: int, size: int, names: list[str], cells: dict[str, list[float]], digits: int) -> str:
    texts = [" / ".join(f"{value:.{digits}f}" for value in cells.get(name, [])) for name in names]
    return f"| {count:,} | {size}² | {' | '.join(texts)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=DEFAULT_SIZES, help="Gaussians x pixels, such as 100000x256")
    parser.add_argument("--prototypes", type=Path, help="a folder with the prototypes' libraries")
    parser.add_argument("--gswarp", type=Path, help="a folder with gswarp and warp-lang")
    parser.add_argument("--repeats", type=int, help="of the fast ones; 25, or 11 from 400,000 Gaussians on")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    options = parser.parse_args()
    sizes = [(int(count), int(size)) for count, size in (item.split("x") for item in options.sizes)]
    print(machine(), flush=True)
    results: dict[tuple[int, int], dict[str, list[float]]] = {}
    for count, size in sizes:
        with ExitStack() as stack:
            results[count, size] = measure(count, size, options, stack)
        print(count, size, {k: [round(t, 2) for t in v] for k, v in results[count, size].items()}, flush=True)
    for title, table, digits in (
        ("Median milliseconds, forward / forward + backward.", results, 1),
        ("Times faster than each peer.", {key: ratios(result) for key, result in results.items()}, 2),
    ):
        names = list(dict.fromkeys(name for result in table.values() for name in result))
        print(f"\n{title}\n\n| Gaussians | pixels | {' | '.join(names)} |\n{'|---' * (len(names) + 2)}|")
        print("\n".join(row(*key, names, result, digits) for key, result in table.items()), flush=True)
    if options.json:
        rows = [{"gaussians": n, "pixels": s, "ms": r, "ratios": ratios(r)} for (n, s), r in results.items()]
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
