"""A micro-batch that fits the device, at the same global batch: what `run.memory_gb` does."""

import logging
from dataclasses import replace

from mouselift.errors import InputError
from mouselift.models.gslrm import GSLRMConfig
from mouselift.train.cost import Memory, Workload, training_memory
from mouselift.train.run_config import RunConfig

logger = logging.getLogger(__name__)
USABLE_SHARE = 0.9  # of the device; the rest is for the driver, the allocator's gaps and what kernels need as they run
GB = 2**30  # cards are sold in these


def fitted(run: RunConfig, model: GSLRMConfig, work: Workload, processes: int = 1) -> RunConfig:
    """Choose batch_size, accumulation and recompute_layers so that a step fits `run.memory_gb`.

    The largest micro-batch that fits without computing layers again; if none does, the largest one with it. The global
    batch stays the same, and so does validation, which needs less than a step. Random numbers belong to micro-batches:
    another choice is another run of the same kind, not the same run.

    Args:
        run: As configured.
        model: Sizes of the model.
        work: A sample: its views and targets.
        processes: That share the run.

    Raises:
        InputError: Not even one sample fits, or the processes cannot share the global batch.
    """
    if run.memory_gb == 0:
        return run
    samples = run.batch_size * run.accumulation
    if samples % processes:
        raise InputError(
            f"expected a global batch (batch_size * accumulation) that {processes} processes can share, found {samples}"
        )
    sizes = [n for n in range(samples // processes, 0, -1) if (samples // processes) % n == 0]
    shards = processes if run.parallel == "fsdp" else 1
    room = run.memory_gb * GB * USABLE_SHARE
    needs: Memory | None = None
    for recompute in (False, True):
        for batch in sizes:
            needs = training_memory(
                model, replace(work, batch=batch), bf16=run.bf16, recompute=recompute, shards=shards
            )
            if needs.total <= room:
                logger.info(
                    "memory: %.1f of %g GB for micro-batches of %d%s",
                    needs.total / GB,
                    run.memory_gb,
                    batch,
                    ", layers computed again" if recompute else "",
                )
                return replace(run, batch_size=batch, accumulation=samples // batch, recompute_layers=recompute)
    assert needs is not None  # a batch has at least one sample
    raise InputError(
        f"run.memory_gb={run.memory_gb:g}: expected a model of which one sample fits, found one that needs "
        f"{needs.total / GB / USABLE_SHARE:.1f} GB ({needs.state / GB:.1f} for weights, gradients and moments, which "
        "run.parallel=fsdp cuts up): use fewer or smaller context views"
    )
