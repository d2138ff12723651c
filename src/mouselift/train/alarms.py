"""What a run watches in itself: skipped steps, starved processors, models that give up."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from mouselift.train.checkpoint import TrainState
from mouselift.train.run_config import RunConfig

logger = logging.getLogger(__name__)
MAX_SKIPPED_SHARE = 0.2  # of the steps since the last log line; more means that the data or the rate is wrong
MAX_WAITING_SHARE = 0.3  # of the time since the last log line, spent waiting for samples
BLANK_MARGIN_DB = 1.0
MIN_ALPHA_SHARE = 0.1  # of the true coverage


class TrainingError(RuntimeError):
    """The run cannot go on: it says why."""


@dataclass(kw_only=True)
class Window:
    """What happened since the last log line."""

    steps: int = 0
    skipped: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0

    def add(self, *, skipped: bool, seconds: float, waited_s: float) -> None:
        """One more step."""
        self.steps, self.skipped = self.steps + 1, self.skipped + skipped
        self.seconds, self.waited_s = self.seconds + seconds, self.waited_s + waited_s

    def figures(self) -> dict[str, float]:
        """For the log: seconds per step, and the share of the time spent waiting for samples."""
        return {"step_s": self.seconds / self.steps, "waiting_share": self.waited_s / max(self.seconds, 1e-9)}

    def check_skipped(self) -> None:
        """Stop a run whose gradients explode.

        Raises:
            TrainingError: Too many steps were skipped.
        """
        if self.skipped > MAX_SKIPPED_SHARE * self.steps:
            raise TrainingError(f"{self.skipped} of the last {self.steps} steps were skipped: the gradients explode")


def warn_of_starvation(waiting_share: float) -> None:
    """Say when samples come too slowly."""
    if waiting_share > MAX_WAITING_SHARE:
        logger.warning(
            "%.0f %% of the time goes by waiting for samples: raise run.workers, or put the dataset on a faster disk",
            100 * waiting_share,
        )


def collapse(figures: Mapping[str, float], better: str) -> str | None:
    """Why these validation figures are those of a model that gave up, or None."""
    blank = figures.get(f"blank_{better}")
    if blank is not None and figures[better] < blank + BLANK_MARGIN_DB:
        return f"{better} is {figures[better]:.2f}, a blank picture gets {blank:.2f}"
    alpha, mask = figures.get("mean_alpha"), figures.get("mean_mask")
    if alpha is not None and mask is not None and alpha < MIN_ALPHA_SHARE * mask:
        return f"the mean alpha is {alpha:.4f}, that of the masks {mask:.4f}"
    return None


def watch_collapse(figures: Mapping[str, float], better: str, state: TrainState, config: RunConfig) -> str | None:
    """Count validations in a row that look collapsed, in the state, and warn of them.

    Returns:
        Why the run should end, once there were `collapse_patience` of them after the warm-up.
    """
    reason = collapse(figures, better)
    if reason is None or state.step < config.warmup_steps:
        state.collapsed = 0
        return None
    state.collapsed += 1
    logger.warning("step %d looks collapsed (%d in a row): %s", state.step, state.collapsed, reason)
    if state.collapsed < config.collapse_patience:
        return None
    return f"collapsed: in {state.collapsed} validations in a row {reason}"
