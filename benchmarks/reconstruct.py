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

WAYS = {
    "body": ReconstructConfig(device="cpu"),
    "generator": ReconstructConfig(unseen="generator", device="cpu"),
    "generator, 4 steps": ReconstructConfig(unseen="generator", steps=4, device="cpu"),
}


def benchmark(repeats: int = 3) -> None:
    """Measure.

    Args:
        repeats: After the first one.
    """
    picture = Path(str(resources.files("mouselift"))) / "assets" / "demo_mouse.jpg"
    columns: dict[str, list[dict[str, float]]] = {}
    for name, config in WAYS.items():
        runs = [_once(picture, config) for _ in range(repeats + 1)]
        if not columns:
            columns["first (body)"] = runs[:1]
        columns[name] = runs[1:]
    stages = list(dict.fromkeys(stage for runs in columns.values() for stage in runs[0] if stage != "total"))
    lines = ["| stage (s) | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for stage in [*stages, "total"]:
        cells = [
            f"{statistics.median(run[stage] for run in runs):.2f}" if stage in runs[0] else "-"
            for runs in columns.values()
        ]
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    sys.stdout.write(f"{_machine()}\n\n" + "\n".join(lines) + "\n")


def _once(picture: Path, config: ReconstructConfig) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        result = reconstruct(picture, config=config)
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
