"""A clean end on request: Ctrl-C, SIGTERM, or SIGUSR1, which SLURM can be told to send ahead of time."""

import logging
import signal
from typing import Any

logger = logging.getLogger(__name__)
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]


class StopRequest:
    """Turns the signals into a flag while the block runs, then gives the handlers back."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        logger.info("signal %d: stopping after this step", number)
        self.asked = True
