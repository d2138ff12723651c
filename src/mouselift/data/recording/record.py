"""What a recording is: synchronised footage of several cameras, and how its frames belong together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from mouselift.data.calibration.record import Calibration
from mouselift.data.recording.footage import Footage
from mouselift.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewSource:
    """One camera's footage.

    Attributes:
        name: As the calibration names the camera.
        frames: Its pictures.
        masks: Its masks, where they lie in files of their own.
        alpha: The masks are the pictures' transparency.
    """

    name: str
    frames: Footage
    masks: Footage | None = None
    alpha: bool = False

    @property
    def has_masks(self) -> bool:
        """Whether this view has masks of either kind."""
        return self.alpha or self.masks is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Synchronised footage of a rig. Holds no open files, and can be pickled.

    Attributes:
        root: The folder or YAML file that was opened.
        layout: How its files lie.
        calibration: The cameras of `views`, in the same order; None where there is no calibration.
        views: In the calibration's order, or sorted by name.
        sync: Row t gives the frame number of each view at instant t; None where frame t is instant t in all views.
        fps: Instants a second, where files or the user say.
        keypoints: Folder of 2D keypoints, where the layout has one.
    """

    root: Path
    layout: str
    calibration: Calibration | None
    views: tuple[ViewSource, ...]
    sync: Int64[np.ndarray, "t v"] | None = None
    fps: float | None = None
    keypoints: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The views' names."""
        return tuple(view.name for view in self.views)

    @property
    def has_masks(self) -> bool:
        """Whether every view has masks."""
        return all(view.has_masks for view in self.views)

    @cached_property
    def num_instants(self) -> int:
        """Rows of the sync table, or frames of the shortest view."""
        return len(self.sync) if self.sync is not None else min(view.frames.num_frames for view in self.views)

    def frame_numbers(self, indices: Sequence[int]) -> Int64[np.ndarray, "n v"]:
        """The frame number of each view at these instants.

        Raises:
            InputError: An instant that the recording does not have.
        """
        instants = np.asarray(indices, np.int64).reshape(-1)
        outside = instants[(instants < 0) | (instants >= self.num_instants)]
        if outside.size:
            raise InputError(f"{self.root}: instants 0 to {self.num_instants - 1} exist, asked for {outside[0]}")
        columns = np.broadcast_to(instants[:, None], (len(instants), len(self.views)))
        return columns if self.sync is None else self.sync[instants]

    def describe(self) -> list[str]:
        """What was found, one line each, for people."""
        return list(_lines(self))


def _lines(recording: Recording) -> Iterator[str]:
    yield f"recording    {recording.root}: {recording.layout}"
    calibration = recording.calibration
    source = f"{_relative(calibration.source, recording.root)} ({calibration.format})" if calibration else "none"
    yield f"calibration  {source}"
    rate = f" at {recording.fps:g} frames a second" if recording.fps else ""
    table = " of a sync table" if recording.sync is not None else ""
    yield f"instants     {recording.num_instants}{table}{rate}"
    for view in recording.views:
        yield f"view {view.name:<7} {_footage_line(view.frames, recording.root)}, {_mask_words(view, recording.root)}"
    if recording.keypoints:
        yield f"keypoints    {_relative(recording.keypoints, recording.root)}"
    for note in _notes(recording):
        yield f"note         {note}"


def _footage_line(footage: Footage, root: Path) -> str:
    first = footage.parts[0]
    more = f" and {len(footage.parts) - 1} more" if len(footage.parts) > 1 else ""
    kind = f"{footage.videos[0].codec} {footage.videos[0].pixel_format}" if footage.videos else "pictures"
    size = f"{first.width}x{first.height}"
    return f"{_relative(first.path, root)}{more}: {footage.num_frames} frames, {size}, {kind}"


def _mask_words(view: ViewSource, root: Path) -> str:
    if view.masks is not None:
        return f"masks {_relative(view.masks.parts[0].path, root)}"
    return "masks in its alpha channel" if view.alpha else "no masks"


def _notes(recording: Recording) -> Iterator[str]:
    deep = [view.name for view in recording.views if any(video.bit_depth > 8 for video in view.frames.videos)]
    if deep:
        yield f"more than 8 bits a colour, converted to 8: {', '.join(deep)}"
    gaps = {view.frames.gaps for view in recording.views}
    if recording.sync is None and len(gaps) == 1:
        for gap in gaps.pop():
            yield f"all views pause for {gap.missing} frames after instant {gap.after}"


def _relative(path: Path, root: Path) -> Path:
    folder = root if root.is_dir() else root.parent
    return path.relative_to(folder) if path.is_relative_to(folder) else path
