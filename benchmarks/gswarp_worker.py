"""Renders one scene with gswarp (NVIDIA Warp) on the CPU, on request.

    PYTHONPATH=FOLDER python benchmarks/gswarp_worker.py SCENE.pt

FOLDER: pip install --no-deps --target FOLDER gswarp==1.1.0 warp-lang==1.19.0. A process of its own, because it patches
what it uses: gswarp is made for CUDA, so its validation is left out, and Warp's experimental CPU blocks are switched
on, without which it renders something else. It reads lines, "forward", "both" or "save FILE", and answers with
milliseconds. The first call of each pass compiles for minutes.
"""

import os
import sys
import time
from typing import Any

import torch


def rasterizer(scene: dict[str, Any]) -> Any:
    import warp as wp  # pyright: ignore[reportMissingImports]

    wp.config.enable_cpu_blocks = True
    wp.config.quiet = True
    import gswarp.rasterizer as gswarp  # pyright: ignore[reportMissingImports]

    gswarp.validate_rasterizer_inputs = lambda *_: None
    w2c, K, size, near, far = scene["w2c"], scene["K"], scene["size"], 0.01, 100.0
    fx, fy = float(K[0, 0]), float(K[1, 1])
    projection = torch.zeros(4, 4)
    projection[0, 0], projection[1, 1], projection[3, 2] = 2 * fx / size, 2 * fy / size, 1.0
    projection[2, 2], projection[2, 3] = far / (far - near), -far * near / (far - near)
    return gswarp.GaussianRasterizer(
        gswarp.GaussianRasterizationSettings(
            image_height=size,
            image_width=size,
            tanfovx=size / (2 * fx),
            tanfovy=size / (2 * fy),
            bg=torch.ones(3),
            scale_modifier=1.0,
            viewmatrix=w2c.mT.contiguous(),
            projmatrix=(projection @ w2c).mT.contiguous(),
            sh_degree=0,
            campos=torch.linalg.inv(w2c)[:3, 3].contiguous(),
            prefiltered=False,
            auto_tune=False,
            auto_tune_verbose=False,
        )
    )


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the packages print is not an answer
    scene: dict[str, Any] = torch.load(sys.argv[1])
    leaves = {name: scene[name].clone().requires_grad_() for name in ("means", "quats", "scales", "opacities", "rgb")}
    draw = rasterizer(scene)

    def forward() -> torch.Tensor:
        out = draw(
            leaves["means"],
            torch.zeros_like(leaves["means"]),
            leaves["opacities"][:, None],
            colors_precomp=leaves["rgb"],
            scales=leaves["scales"],
            rotations=leaves["quats"],
        )
        return next(t for t in out if isinstance(t, torch.Tensor) and t.shape == scene["cotangent"].shape)

    for line in sys.stdin:
        command, *rest = line.split()
        before = time.perf_counter()
        if command == "forward":
            with torch.no_grad():
                forward()
        else:
            image = forward()
            gradients = torch.autograd.grad(image, list(leaves.values()), scene["cotangent"])
            if command == "save":
                torch.save({"image": image.detach(), **dict(zip(leaves, gradients, strict=True))}, rest[0])
        print(1e3 * (time.perf_counter() - before), file=replies, flush=True)


if __name__ == "__main__":
    main()
