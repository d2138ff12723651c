"""Time of every stage of `mouselift reconstruct` on the bundled picture, after imports.

    python benchmarks/reconstruct.py --repeats 3

Prints a Markdown table with the machine and the commit: medians over repeats, in one process, the first repeat (which
loads the models) left out of the medians and shown apart.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import torch
import tyro

from mouselift.export.result import write_result
from mouselift.reconstruct import ReconstructConfig, reconstruct


def benchmark(repeats: int = 3, steps: tuple[int, ...] = (1, 4, 16)) -> None:
    """Measure.

    Args:
        repeats: After the first one.
        steps: Of the generator.
    """
    picture = Path(str(resources.files("mouselift"))) / "assets" / "demo_mouse.jpg"
    columns: dict[str, list[dict[str, float]]] = {}
    for count in steps:
        runs = [_once(picture, count) for _ in range(repeats + 1)]
        if not columns:
            columns["first"] = runs[:1]
        columns[f"{count} steps"] = runs[1:]
    stages = list(columns["first"][0])
    lines = ["| stage (s) | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for stage in stages:
        cells = [f"{statistics.median(run[stage] for run in runs):.2f}" for runs in columns.values()]
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    sys.stdout.write(f"{_machine()}\n\n" + "\n".join(lines) + "\n")


def _once(picture: Path, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        result = reconstruct(picture, config=ReconstructConfig(steps=steps, device="cpu"))
        summary = write_result(result, Path(folder) / "out")
    return {**summary["timings_s"], "total": summary["total_s"]}


def _machine() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return (
        f"commit {commit.stdout.strip() or 'unknown'}, {platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    tyro.cli(benchmark)
