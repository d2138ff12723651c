"""The training loop: the same for every model; a task says what the loss is."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mouselift.atomic import remove_leftovers
from mouselift.data.dataset import MouseDataset
from mouselift.train.alarms import TrainingError, Window, warn_of_starvation, watch_collapse
from mouselift.train.checkpoint import LAST, Trained, TrainState, resume, save_checkpoint
from mouselift.train.distributed import Processes, joined
from mouselift.train.ema import EMA
from mouselift.train.layers import compile_layers, recompute_layers
from mouselift.train.log import TrainLog
from mouselift.train.order import SampleStream
from mouselift.train.run_config import RunConfig, learning_rate
from mouselift.train.step import Learner
from mouselift.train.stop import StopRequest
from mouselift.train.task import Task

logger = logging.getLogger(__name__)
BEST, FINAL = "best.safetensors", "final.safetensors"


def train(
    task: Task,
    config: RunConfig,
    data: MouseDataset,
    held_out: MouseDataset,
    folder: Path,
    record: Mapping[str, Any],
) -> TrainState:
    """Train, log and checkpoint in `folder`; goes on from the checkpoint that lies there.

    Every random number comes from (seed, step, place in the global batch), so a resumed run continues bit for bit as
    an undisturbed one would, and several processes do what one does. Ctrl-C, SIGTERM and SIGUSR1 end the run after the
    current step, with a checkpoint.

    Args:
        task: What is trained.
        config: How.
        data: Training samples.
        held_out: Samples for validation.
        folder: Gets `last.pt`, `previous.pt`, `best.safetensors`, `log.csv`, events, panels, and at the end of the run
            `final.safetensors`.
        record: What the weights should remember: configuration, version.

    Raises:
        InputError: The configuration, the processes and the checkpoint do not fit each other.
        TrainingError: The run makes no sense any more.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with joined(config.parallel, config.device) as processes:
        return _Run(task, config, data, held_out, folder, record, processes).go()


class _Run:
    """One part of a run, from a checkpoint to the end or the next interruption."""

    def __init__(
        self,
        task: Task,
        config: RunConfig,
        data: MouseDataset,
        held_out: MouseDataset,
        folder: Path,
        record: Mapping[str, Any],
        processes: Processes,
    ) -> None:
        self.task, self.config, self.data, self.folder = task, config, data, folder
        self.record, self.processes = record, processes
        if processes.is_first:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder, [LAST, BEST, FINAL, "log.csv"])
        wanted = config.validation_samples if processes.is_first else 0
        self.held_out = [held_out[i] for i in range(min(wanted, len(held_out)))]
        task.model.to(processes.device).train()
        self.ema = EMA(task.model, config.ema_decay)
        if config.compile_layers:
            compile_layers(task.model)
        if config.recompute_layers:
            recompute_layers(task.model)
        self.learner = Learner(task, config, processes)
        if config.parallel == "fsdp":
            self.ema.cut_like(task.model)
        self.trained = Trained(model=task.model, ema=self.ema, optimizer=self.learner.optimizer)
        self.state = resume(folder, self.trained, processes)
        if self.state.step and processes.is_first:
            logger.info("resuming at step %d", self.state.step)

    def go(self) -> TrainState:
        state, config, processes = self.state, self.config, self.processes
        log = TrainLog(self.folder, state.step, config.trackers) if processes.is_first else None
        with ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            stream = SampleStream(self.data, config, state.step, processes.rank, processes.world)
            stack.enter_context(stream)
            if log is not None:
                stack.enter_context(log)
            bar = tqdm(total=config.steps, initial=state.step, unit="step", smoothing=0.05, disable=log is None)
            stack.enter_context(bar)
            self._steps(stream, stop, log, bar.update)
            self._save()
            if state.step == config.steps:
                self.ema.save(self.folder / FINAL, {**self.record, "step": state.step}, here=processes.is_first)
        return state

    def _steps(
        self, stream: SampleStream, stop: StopRequest, log: TrainLog | None, report: Callable[[], object]
    ) -> None:
        state, config = self.state, self.config
        window = Window()
        saved_at = clock = time.monotonic()
        stopping = False
        while state.step < config.steps and not stopping:
            waited = stream.waited_s
            figures = self.learner.gradients(stream, state.step)
            due = self.processes.is_first and time.monotonic() - saved_at > config.checkpoint_every_s
            bad = not figures["gradient_norm"] <= config.skip_norm  # NaN is skipped too
            stopping, due, skipped = self.processes.any(stop.asked, due, bad)
            if not skipped:
                self.learner.update(state.step)
            self.ema.update(self.task.model, state.step)
            state.step += 1
            state.skipped += skipped
            seconds, clock = time.monotonic() - clock, time.monotonic()
            state.seconds += seconds
            window.add(skipped=skipped, seconds=seconds, waited_s=stream.waited_s - waited)
            report()
            if state.step % config.log_every == 0:
                self._log(log, figures, window)
                window = Window()
            if state.step % config.validate_every == 0 or state.step == config.steps:
                self._validate(log)
                seconds, clock = time.monotonic() - clock, time.monotonic()
                state.seconds += seconds
            if due:
                self._save()
                saved_at = time.monotonic()

    def _log(self, log: TrainLog | None, figures: Mapping[str, float], window: Window) -> None:
        everywhere = self.processes.mean({**figures, **window.figures()})
        if log is not None:
            rate = learning_rate(self.config, self.state.step - 1)
            shown = {**everywhere, "rate": rate, "skipped": float(self.state.skipped)}
            log.write(self.state.step, self.state.seconds, shown)
            warn_of_starvation(everywhere["waiting_share"])
        window.check_skipped()

    def _validate(self, log: TrainLog | None) -> None:
        """Figures of the averaged weights, by the first process; the others wait for what it decides."""
        state, reason, best = self.state, None, False
        with self.ema.averaged(here=log is not None) as model:
            if log is not None:
                with torch.no_grad():
                    figures, pictures = self.task.validate(model, self.held_out)
                log.write(state.step, state.seconds, {f"val_{name}": value for name, value in figures.items()})
                log.panels(state.step, {"": pictures} if isinstance(pictures, Tensor) else pictures)
                best = figures[self.task.better] > state.best
                state.best = max(state.best, figures[self.task.better])
                reason = watch_collapse(figures, self.task.better, state, self.config)
        state.best, state.collapsed, best, reason = self.processes.from_first(
            (state.best, state.collapsed, best, reason)
        )
        if best:
            record = {**self.record, "step": state.step, self.task.better: state.best}
            self.ema.save(self.folder / BEST, record, here=log is not None)
        if reason is not None:
            self._save()
            raise TrainingError(reason)

    def _save(self) -> None:
        save_checkpoint(self.folder, self.state, self.trained, self.processes)
