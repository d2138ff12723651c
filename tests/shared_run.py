"""One of two processes that share runs, for tests/unit/train/test_distributed.py.

python shared_run.py DATASET OUT PORT...
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from blobs import gslrm_task, pose_task, run

from mouselift.train.run_config import RunConfig
from mouselift.train.task import Task

STEPS, STOPPED_AT = 6, 3
RUN = RunConfig(
    steps=STEPS,
    batch_size=2,
    accumulation=4,
    learning_rate=2e-3,
    warmup_steps=2,
    skip_norm=1e5,  # random weights and tiny data
    log_every=1,
    validate_every=3,
    validation_samples=2,
    trackers=(),
    threads=1,
)


def stopping(task: Task, micro_batches: int) -> Task:
    """The task, with a request to stop while it works on its n-th micro-batch."""
    loss, calls = task.loss, []

    def counted(samples, generator):
        calls.append(1)
        if len(calls) == micro_batches:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(samples, generator)

    task.loss = counted
    return task


def main() -> None:
    torch.set_num_threads(1)
    dataset, out, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
    # Only the second process hears of the stop, in a step of which two micro-batches are its own.
    stopped = stopping(gslrm_task(2), 2 * STOPPED_AT) if rank == 1 else gslrm_task(2)
    shared: dict[str, tuple[Task, RunConfig]] = {
        "pose_ddp": (pose_task(), replace(RUN, parallel="ddp")),
        "pose_fsdp": (pose_task(), replace(RUN, parallel="fsdp")),
        "gslrm_fsdp": (gslrm_task(2), replace(RUN, parallel="fsdp", recompute_layers=True)),
        "stopped_by_one": (gslrm_task(2), replace(RUN, parallel="ddp")),
        "stopped_by_two": (stopped, replace(RUN, parallel="fsdp")),
    }
    for port, (name, (task, config)) in zip(sys.argv[3:], shared.items(), strict=True):
        os.environ["MASTER_PORT"] = port  # each meets at its own place, as runs by torchrun do
        state = run(task, dataset, out / name, config)
        assert state.step == (STOPPED_AT if name == "stopped_by_two" else STEPS), name


if __name__ == "__main__":
    main()
