"""Instants of a calibrated recording straight to samples, without a dataset that is kept."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mouselift.data.layout import Sample, read_sample
from mouselift.data.plan import PrepareConfig
from mouselift.data.recording import Recording
from mouselift.errors import InputError
from mouselift.prepare import prepare
from mouselift.reconstruct import CALIBRATED_SIZE_PX


@dataclass(frozen=True, kw_only=True)
class Instants:
    """Which instants of a recording: first, first + every, ... before `end`."""

    first: int
    end: int
    every: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.first < self.end and self.every >= 1):
            raise InputError(
                f"expected instants first:end:every with 0 <= first < end and every >= 1, found "
                f"{self.first}:{self.end}:{self.every}"
            )


def parse_instants(text: str) -> Instants:
    """Read "0:300:30" or "0:300".

    Raises:
        InputError: The text is something else.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"expected instants as in 0:300:30, found {text!r}")
    first, end, *every = map(int, parts)
    return Instants(first=first, end=end, every=every[0] if every else 1)


def recorded_samples(recording: Recording, instants: Instants, size_px: int = CALIBRATED_SIZE_PX) -> Iterator[Sample]:
    """Cut the animal out of every view of some instants, exactly as `mouselift prepare` does.

    All share one scale and one field of view; `scene_from_world` of each sample leads back to the rig's millimetres.

    Args:
        recording: From `open_recording`, with a calibration and masks.
        instants: Which; those that cannot be used are left out as long as they are few.
        size_px: Of the views.

    Raises:
        InputError: The recording ends before them, has no masks, or its cameras and masks do not fit together.
    """
    if instants.first >= recording.num_instants:
        raise InputError(
            f"{recording.root}: expected instants from {instants.first} on, found {recording.num_instants} instants"
        )
    config = PrepareConfig(
        size_px=size_px, first=instants.first, last=instants.end - 1, every=instants.every, val_share=0.0
    )
    with tempfile.TemporaryDirectory() as place:
        done = prepare(recording, config, Path(place) / "instants", progress=False)
        for name in done.samples:
            yield read_sample(Path(place) / "instants" / name)
