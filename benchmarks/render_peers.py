"""Other renderers that run on the CPU, as the benchmarks of `render` use them."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mouselift.geometry import Cameras, Gaussians

Run = Callable[[], float]  # does the work once; milliseconds
PROTOTYPES = {"prototype AVX-512": "libsplat_cpu.so", "prototype AVX2": "libsplat_w8.so"}


def prototype(folder: Path, library: str) -> Any:
    """The prototypes' binding, bound to one of their libraries."""
    path = folder / "splat_cpu.py"
    module = types.ModuleType(f"splat_cpu_{library}")
    module.__file__ = str(path)
    source = path.read_text().replace("\nL=load()", f"\nL=load({library!r})")
    exec(compile(source, str(path), "exec"), vars(module))
    return module


def prototype_render(module: Any, workspace: Any, cameras: Cameras, inputs: list[Tensor], background: Tensor) -> Tensor:
    """Image (H, W, 3) of the first camera; inputs are means, quats, scales, opacities and RGB."""
    K, size = cameras.K[0], cameras.width
    intrinsics = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
    return module.rasterize(*inputs, cameras.w2c[0], intrinsics, size, size, background, workspace)[0]


def prototype_runs(
    folder: Path, library: str, gaussians: Gaussians, cameras: Cameras
) -> tuple[Callable[[], None], Callable[[], None]]:
    module = prototype(folder, library)
    workspace, background = module.Ctx(), torch.ones(3)
    inputs = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.rgb.contiguous()]
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    cotangent = torch.randn(cameras.height, cameras.width, 3)

    def forward() -> None:
        prototype_render(module, workspace, cameras, inputs, background)

    def both() -> None:
        image = prototype_render(module, workspace, cameras, leaves, background)
        torch.autograd.grad(image, leaves, cotangent)

    return forward, both


class Gswarp:
    """A process that renders one scene with gswarp: see `gswarp_worker.py`."""

    def __init__(self, folder: Path, scratch: Path, gaussians: Gaussians, cameras: Cameras) -> None:
        size = cameras.width
        scene = {
            "means": gaussians.means,
            "quats": torch.nn.functional.normalize(gaussians.quats, dim=-1),  # it does not normalise them
            "scales": gaussians.scales,
            "opacities": gaussians.opacities,
            "rgb": gaussians.rgb,
            "w2c": cameras.w2c[0],
            "K": cameras.K[0],
            "size": size,
            "cotangent": torch.randn(3, size, size, generator=torch.Generator().manual_seed(1)),
        }
        self.cotangent: Tensor = scene["cotangent"]
        torch.save(scene, scratch / "scene.pt")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("gswarp_worker.py")), str(scratch / "scene.pt")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(folder)},
        )

    def __enter__(self) -> "Gswarp":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def ask(self, command: str) -> float:
        """Send a command and wait; milliseconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"gswarp ended on {command!r}; run benchmarks/gswarp_worker.py by hand to see why")
        return float(answer)

    def forward(self) -> float:
        """The forward pass; milliseconds."""
        return self.ask("forward")

    def both(self) -> float:
        """Forward and backward; milliseconds."""
        return self.ask("both")
