"""Times `render`, forward and forward + backward, on random Gaussians in the unit ball.

    python benchmarks/render.py [--sizes 10000x128 100000x256] [--isa avx2] [--prototype DIR]

Use an idle machine and OMP_WAIT_POLICY=passive. The reference is timed where it takes seconds, not minutes. DIR holds
another kernel to compare with: a module `splat_cpu.py` with `rasterize` and `Ctx` as its first sketch had them.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.sh import dc_from_rgb
from mouselift.render import cpu, render

DEFAULT_SIZES = [f"{count}x{size}" for count in (10_000, 100_000, 400_000) for size in (128, 256, 512)]
REFERENCE_LIMIT = 10_000  # Gaussians
CAMERA_DISTANCE, FOCAL_AT_512 = 2.7, 548.99  # FaceLift's rig: scene units, px

Run = Callable[[], object]


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


def backend_runs(backend: Any, gaussians: Gaussians, cameras: Cameras) -> tuple[Run, Run]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in vars(gaussians).items()}
    cotangent = torch.randn(1, 3, cameras.height, cameras.width)

    def forward() -> None:
        with torch.no_grad():
            render(gaussians, cameras, backend=backend)

    def both() -> None:
        output = render(Gaussians(**leaves), cameras, backend=backend)
        torch.autograd.grad(output.image, list(leaves.values()), cotangent)

    return forward, both


def prototype_runs(folder: Path, gaussians: Gaussians, cameras: Cameras) -> tuple[Run, Run]:
    spec = importlib.util.spec_from_file_location("splat_cpu", folder / "splat_cpu.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    workspace, K, size = module.Ctx(), cameras.K[0], cameras.width
    camera = (cameras.w2c[0], (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])), size, size)
    inputs = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.rgb.contiguous()]
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    background, cotangent = torch.ones(3), torch.randn(size, size, 3)

    def forward() -> None:
        module.rasterize(*inputs, *camera, background, workspace)

    def both() -> None:
        image, _ = module.rasterize(*leaves, *camera, background, workspace)
        torch.autograd.grad(image, leaves, cotangent)

    return forward, both


def median_ms(run: Run, budget_s: float = 2.0) -> float:
    run()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < budget_s and len(times) < 25):
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    return statistics.median(times)


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    isa = os.environ.get(cpu.ISA_VARIABLE, ("none", *cpu.supported_isas())[-1])
    return (
        f"{model}, {torch.get_num_threads()} threads, kernel {isa}, torch {torch.__version__}, "
        f"commit {described.stdout.strip() or 'unknown'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=DEFAULT_SIZES, help="Gaussians x pixels, such as 100000x256")
    parser.add_argument("--isa", choices=cpu.ISAS, help="the build of the kernel; the widest by default")
    parser.add_argument("--prototype", type=Path, help="a folder with another kernel to compare with")
    options = parser.parse_args()
    if options.isa:
        os.environ[cpu.ISA_VARIABLE] = options.isa
    print(machine())
    print("\nMedian milliseconds, forward / forward + backward.\n")
    print("| Gaussians | pixels | cpu | reference | prototype |\n|---|---|---|---|---|")
    for count, size in (map(int, item.split("x")) for item in options.sizes):
        scene = ball(count, size)
        columns = {"cpu": backend_runs("cpu", *scene)}
        if count <= REFERENCE_LIMIT and size <= 256:
            columns["reference"] = backend_runs("reference", *scene)
        if options.prototype:
            columns["prototype"] = prototype_runs(options.prototype, *scene)
        cells = {name: " / ".join(f"{median_ms(run):.1f}" for run in runs) for name, runs in columns.items()}
        texts = [cells.get(name, "") for name in ("cpu", "reference", "prototype")]
        print(f"| {count} | {size} | {' | '.join(texts)} |", flush=True)


if __name__ == "__main__":
    main()
