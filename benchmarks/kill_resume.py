"""Kill -9 at random moments of a training run: does it end with the weights of an undisturbed run?

    python benchmarks/kill_resume.py --dataset datasets/synthetic --kills 20 --steps 600

Trains a tiny GS-LRM twice with the command that users type, a checkpoint after every step: once undisturbed, and once
killed again and again. Most kills come at a random moment after the run has begun to train; every fourth one at a
random moment of its start, while it imports, reads its checkpoint or cleans up. Prints a Markdown table of the kills,
and fails unless weights, moments, moving average and logged figures are equal to the last bit.
"""

import csv
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from mouselift.config import load_config, to_yaml
from mouselift.train.checkpoint import LAST, PREVIOUS, read_checkpoint
from mouselift.train.run import TrainConfig

TIMINGS = {"step_s", "waiting_share"}  # figures that differ between any two runs
POLL_S = 0.002


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What one kill hit."""

    after_s: float
    in_start: bool
    step: int
    """Of the newest whole checkpoint afterwards."""
    in_writing: bool
    """A file was half written."""


def benchmark_kill_resume(
    dataset: Path, kills: int = 20, steps: int = 600, seed: int = 0, out: Path | None = None
) -> None:
    """Train, kill, compare.

    Args:
        dataset: Made by `mouselift synth` or `prepare`; its first 16 samples are used.
        kills: How many.
        steps: Of the run; the more, the longer the stretches between kills.
        seed: Of the moments.
        out: Where the two runs go; a temporary folder by default.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.yaml"
        config.write_text(to_yaml(_config(dataset, steps)))
        started = time.monotonic()
        process = _start(config, folder / "undisturbed")
        while not (folder / "undisturbed" / LAST).exists() and process.poll() is None:
            time.sleep(POLL_S)
        start_s = time.monotonic() - started
        if process.wait() != 0:
            raise SystemExit(f"the undisturbed run failed: see {folder / 'undisturbed.txt'}")
        train_s = time.monotonic() - started - start_s
        moments = random.Random(seed)
        done = [
            _run_and_kill(config, folder / "killed", moments, in_start=k % 4 == 3, start_s=start_s, window_s=window)
            for k, window in enumerate([0.8 * train_s / kills] * kills)
        ]
        if _start(config, folder / "killed").wait() != 0:
            raise SystemExit(f"the killed run did not end well: see {folder / 'killed.txt'}")
        print(_table(done, start_s, train_s))
        differences = _differences(folder / "undisturbed", folder / "killed")
        if differences:
            raise SystemExit("the killed run ended elsewhere: " + ", ".join(differences))
        print(f"\nafter {len(done)} kills: weights, moments, moving average and log equal to the last bit")


def _config(dataset: Path, steps: int) -> TrainConfig:
    overrides = {
        "data.root": dataset,
        "data.limit": 16,
        "gslrm.model.width": 64,
        "gslrm.model.head_dim": 32,
        "gslrm.model.num_layers": 2,
        "gslrm.model.skip_empty_patches": "true",
        "gslrm.model.context_size_px": 32,
        "gslrm.run.steps": steps,
        "gslrm.run.batch_size": 1,
        "gslrm.run.accumulation": 2,
        "gslrm.run.skip_norm": 1e9,
        "gslrm.run.log_every": 1,
        "gslrm.run.validate_every": max(2, steps // 12),
        "gslrm.run.validation_samples": 2,
        "gslrm.run.checkpoint_every_s": 0.0,
        "gslrm.run.collapse_patience": 10**6,
        "gslrm.run.threads": 1,
    }
    return load_config(TrainConfig, None, [f"{key}={value}" for key, value in overrides.items()])


def _start(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mouselift.cli", "train", "gslrm", "--config", str(config), "-o", str(folder)]
    with folder.with_suffix(".txt").open("ab") as said:
        return subprocess.Popen(command, stdout=said, stderr=said)


def _run_and_kill(
    config: Path, folder: Path, moments: random.Random, *, in_start: bool, start_s: float, window_s: float
) -> Kill:
    last = folder / LAST
    before = last.stat().st_mtime_ns if last.exists() else 0
    process = _start(config, folder)
    wait_s = moments.uniform(0, start_s) if in_start else moments.uniform(0, window_s)
    while not in_start and process.poll() is None and (last.stat().st_mtime_ns if last.exists() else 0) == before:
        time.sleep(POLL_S)
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit("the run was over before it could be killed: raise --steps")
    found = next((path for path in (last, folder / PREVIOUS) if path.exists()), None)
    return Kill(
        after_s=wait_s,
        in_start=in_start,
        step=0 if found is None else read_checkpoint(found)["state"]["step"],
        in_writing=any(folder.glob(".*-*")),
    )


def _table(kills: list[Kill], start_s: float, train_s: float) -> str:
    lines = [
        f"undisturbed: {start_s:.1f} s to the first checkpoint, {train_s:.1f} s of training",
        "",
        "| kill | moment | newest checkpoint | a file was being written |",
        "|---|---|---|---|",
    ]
    for number, kill in enumerate(kills, 1):
        moment = f"{kill.after_s:.2f} s after {'the start' if kill.in_start else 'its first checkpoint'}"
        lines.append(f"| {number} | {moment} | step {kill.step} | {'yes' if kill.in_writing else 'no'} |")
    return "\n".join(lines)


def _differences(one: Path, other: Path) -> list[str]:
    """What is not the same in the end."""
    a, b = read_checkpoint(one / LAST), read_checkpoint(other / LAST)
    found = []
    for part in ("model", "ema", "optimizer"):
        if a[part].keys() != b[part].keys():
            found.append(f"names of {part}")
        found += [f"{part} {name}" for name in a[part] if not torch.equal(a[part][name], b[part].get(name))]
    for name in ("best.safetensors", "final.safetensors"):
        if (one / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    if _rows(one) != _rows(other):
        found.append("log.csv")
    return found


def _rows(folder: Path) -> list[tuple[str, ...]]:
    with (folder / "log.csv").open() as file:
        return [(r["step"], r["name"], r["value"]) for r in csv.DictReader(file) if r["name"] not in TIMINGS]


if __name__ == "__main__":
    tyro.cli(benchmark_kill_resume)
