"""The training loop: exact resume, order of the data, rates, alarms, clean stops."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import blobs
import pytest
import torch
from blobs import TASKS, generator_task, gslrm_task, pose_task, write_blobs
from safetensors.torch import load_file
from torch import Tensor, nn

from mouselift.body.code import CODE_DIM, decode, encode
from mouselift.config import load_config
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.models.checkpoint_io import save_weights
from mouselift.models.generator import Generator, GeneratorConfig
from mouselift.models.gslrm import GSLRMConfig
from mouselift.train.alarms import TrainingError
from mouselift.train.checkpoint import TrainState
from mouselift.train.gslrm_task import GSLRMTask, GSLRMTaskConfig
from mouselift.train.pose_task import pose_code
from mouselift.train.run import TrainConfig, build_task, run_training
from mouselift.train.run_config import RunConfig, learning_rate
from mouselift.train.task import Task

RUN = RunConfig(
    steps=10,
    batch_size=2,
    accumulation=2,
    warmup_steps=2,
    skip_norm=1e5,  # random weights and tiny data
    log_every=5,
    validate_every=5,
    validation_samples=2,
    threads=1,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("dataset"))


def run(task: Task, dataset: Path, folder: Path, config: RunConfig = RUN) -> TrainState:
    return blobs.run(task, dataset, folder, config)


@pytest.mark.parametrize("name", TASKS)
def test_resumed_run_equals_undisturbed_run_bit_for_bit(name: str, dataset: Path, tmp_path: Path) -> None:
    run(TASKS[name](), dataset, tmp_path / "whole")

    halves = TASKS[name]()
    loss, calls = halves.loss, []

    def stop_after_five_steps(samples, generator):
        calls.append(1)
        if len(calls) == 5 * RUN.accumulation:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(samples, generator)

    halves.loss = stop_after_five_steps
    assert run(halves, dataset, tmp_path / "halves").step == 5
    assert run(TASKS[name](), dataset, tmp_path / "halves").step == 10
    whole, resumed = (load_file(tmp_path / f / "final.safetensors") for f in ("whole", "halves"))
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_a_killed_run_ends_as_an_undisturbed_one(dataset: Path, tmp_path: Path) -> None:
    """One kill -9 while it trains and writes; `benchmarks/kill_resume.py` does twenty."""
    config = replace(RUN, steps=40, checkpoint_every_s=0.0, log_every=1, validate_every=20)
    run(generator_task(), dataset, tmp_path / "whole", config)
    again = f"from blobs import *; run(generator_task(), Path({str(dataset)!r}), Path('killed'), {config!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", again],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(blobs.__file__).parent), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "killed" / "previous.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    run(generator_task(), dataset, tmp_path / "killed", config)
    for name in ("best.safetensors", "final.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    whole, killed = (logged(tmp_path / name) for name in ("whole", "killed"))
    assert len(whole) > 100
    assert whole == killed


def logged(folder: Path) -> list[tuple[str, str, str]]:
    """What a run said, but for its timings."""
    with (folder / "log.csv").open() as file:
        rows = [(row["step"], row["name"], row["value"]) for row in csv.DictReader(file)]
    return [row for row in rows if row[1] not in ("step_s", "waiting_share")]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_learns_its_blobs(name: str, dataset: Path, tmp_path: Path) -> None:
    config = replace(RUN, steps=40, learning_rate=2e-3, log_every=10, validate_every=20, skip_norm=1e4)
    run(TASKS[name](), dataset, tmp_path, config)
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "loss"]
    assert min(losses[1:]) < 0.85 * losses[0]
    assert (tmp_path / "best.safetensors").is_file()
    assert (tmp_path / "panels" / "latest.png").is_file()


def test_damaged_or_foreign_checkpoint_is_refused(dataset: Path, tmp_path: Path) -> None:
    config = replace(RUN, steps=2)
    run(generator_task(), dataset, tmp_path, config)
    whole = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="found a damaged file"):
        run(generator_task(), dataset, tmp_path, config)
    (tmp_path / "last.pt").write_bytes(whole)
    with pytest.raises(InputError, match="expected a checkpoint of this very configuration"):
        run(gslrm_task(), dataset, tmp_path, config)


class ExplodingTask:
    """A model whose gradient is never finite."""

    better = "score"

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1, bias=False)

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return self.model.weight.sum() * float("nan"), {}

    def validate(self, model, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        return {"score": 0.0}, torch.zeros(3, 8, 8)


def test_skipped_steps_leave_the_weights_alone_and_stop_the_run(dataset: Path, tmp_path: Path) -> None:
    task = ExplodingTask()
    before = task.model.weight.detach().clone()
    with pytest.raises(TrainingError, match="5 of the last 5 steps were skipped"):
        run(task, dataset, tmp_path)
    assert torch.equal(task.model.weight, before)


def test_rate_warms_up_then_falls_to_its_end() -> None:
    config = RunConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_rate_share=0.1)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))


def test_gslrm_trains_on_what_a_generator_makes(dataset: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "generator.safetensors"
    save_weights(Generator(GeneratorConfig(patch_size_px=8, width=64, head_dim=64, num_layers=1)), weights, {})
    settings = GSLRMTaskConfig(rig_context_share=1.0)

    def loss_with(config: GSLRMTaskConfig) -> float:
        torch.manual_seed(0)
        task = GSLRMTask(GSLRMConfig(width=64, head_dim=32, num_layers=1), config, bf16=False)
        return float(task.loss([MouseDataset(dataset, "train")[0]], torch.Generator().manual_seed(1))[0].detach())

    assert loss_with(settings) == loss_with(settings)
    assert loss_with(replace(settings, generator_weights=str(weights))) != loss_with(settings)


def test_a_run_starts_from_given_weights(dataset: Path, tmp_path: Path) -> None:
    config = load_config(
        TrainConfig,
        None,
        [
            f"data.root={dataset}",
            "pose.run.steps=1",
            "pose.run.validation_samples=1",
            "pose.run.batch_size=2",
            "pose.model.size_px=32",
            "pose.model.width=48",
            "pose.model.head_dim=24",
        ],
    )
    run_training("pose", config, tmp_path / "first")
    weights = tmp_path / "first" / "final.safetensors"
    again = replace(config, pose=replace(config.pose, run=replace(config.pose.run, initial_weights=str(weights))))
    started = build_task("pose", again).model.state_dict()
    for key, value in load_file(weights).items():
        assert torch.equal(started[key], value)


def test_codes_are_scaled_to_the_data(dataset: Path) -> None:
    samples = [MouseDataset(dataset, "train")[i] for i in range(4)]
    task = pose_task()
    task.scale_codes(samples)
    codes = [pose_code(s, s.views[[i]])[0] for s in samples for i in (8, 9)]  # the free views
    both = torch.stack(codes + [encode(decode(code).mirrored()) for code in codes])
    scaled = (both - task.model.code_mean) / task.model.code_std
    torch.testing.assert_close(scaled.mean(0), torch.zeros(CODE_DIM), atol=1e-3, rtol=0)
    varies = both.std(0) > 2e-3
    assert int(varies.sum()) > 10
    torch.testing.assert_close(scaled.std(0)[varies], torch.ones(int(varies.sum())), atol=1e-2, rtol=0)


def test_a_dataset_without_poses_is_refused(dataset: Path) -> None:
    sample = MouseDataset(dataset, "train")[0]
    with pytest.raises(InputError, match="expected a synthetic sample that says its pose"):
        pose_code(replace(sample, extra={}), sample.views[[8]])
