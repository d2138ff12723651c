"""Two processes (gloo) do what one does, and go on with what any number of processes left."""

import csv
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from blobs import gslrm_task, pose_task, run, write_blobs
from safetensors.torch import load_file
from shared_run import RUN, STEPS, STOPPED_AT, stopping

from mouselift.errors import InputError
from mouselift.train.distributed import Processes
from mouselift.train.step import Learner

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Folders of runs of one process and of two; all with the same global batch."""
    out = tmp_path_factory.mktemp("runs")
    dataset = write_blobs(tmp_path_factory.mktemp("dataset"))
    assert run(stopping(gslrm_task(2), 4 * STOPPED_AT), dataset, out / "stopped_by_one", RUN).step == STOPPED_AT
    both = [_process(rank, dataset, out, ports) for rank, ports in enumerate([_free_ports(5)] * 2)]
    run(pose_task(), dataset, out / "pose", RUN)
    run(gslrm_task(2), dataset, out / "gslrm", RUN)
    try:
        codes = [process.wait(timeout=240) for process in both]
    finally:
        for process in both:
            process.kill()
    said = [(out / f"process_{rank}.log").read_text()[-2000:] for rank in range(2)]
    assert codes == [0, 0], "\n".join(said)
    assert run(gslrm_task(2), dataset, out / "stopped_by_two", RUN).step == STEPS
    return out


def _process(rank: int, dataset: Path, out: Path, ports: list[int]) -> subprocess.Popen:
    whereabouts = {"MASTER_ADDR": "localhost", "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    return subprocess.Popen(
        [sys.executable, str(TESTS / "shared_run.py"), str(dataset), str(out), *map(str, ports)],
        env={**os.environ, **whereabouts, "OMP_NUM_THREADS": "1"},
        stderr=(out / f"process_{rank}.log").open("w"),
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def figures(folder: Path, *names: str) -> list[tuple[str, str, float]]:
    with (folder / "log.csv").open() as file:
        rows = [(row["step"], row["name"], float(row["value"])) for row in csv.DictReader(file)]
    return [row for row in rows if row[1] in names]


@pytest.mark.parametrize(
    ("shared", "alone"),
    [
        ("pose_ddp", "pose"),
        ("pose_fsdp", "pose"),
        ("gslrm_fsdp", "gslrm"),
        ("stopped_by_two", "gslrm"),
        ("stopped_by_one", "gslrm"),
    ],
)
def test_two_processes_do_what_one_does(shared: str, alone: str, runs: Path) -> None:
    names = ("loss", "gradient_norm", "val_psnr_fg", "val_minus_keypoint_error_mm")
    expected = figures(runs / alone, *names)
    found = figures(runs / shared, *names)
    assert len(expected) == 2 * STEPS + 2
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    for (step, name, value), (_, _, reference) in zip(found, expected, strict=True):
        assert value == pytest.approx(reference, rel=2e-4), (step, name)
    one, two = (load_file(runs / name / "final.safetensors") for name in (alone, shared))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=2e-4, rtol=0, msg=lambda text, key=key: f"{key}: {text}")


def test_processes_must_share_the_micro_batches_evenly() -> None:
    with pytest.raises(InputError, match="multiple of the 3 processes, found 4"):
        Learner(gslrm_task(), RUN, Processes(device=torch.device("cpu"), world=3))


def test_torchrun_and_the_configuration_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write_blobs(tmp_path / "dataset")
    with pytest.raises(InputError, match=r"run\.parallel=ddp: expected processes started by torchrun"):
        run(gslrm_task(), dataset, tmp_path / "run", replace(RUN, parallel="ddp"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"expected run\.parallel=ddp or fsdp under torchrun with 2 processes"):
        run(gslrm_task(), dataset, tmp_path / "run", RUN)
