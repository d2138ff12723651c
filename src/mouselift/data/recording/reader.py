"""Pictures and masks of all cameras, instant by instant, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from mouselift.data.boxed import BoxedMask, PixelWindow, boxed
from mouselift.data.recording.decoded import Decoded
from mouselift.data.recording.record import Recording, ViewSource
from mouselift.errors import InputError

Item = TypeVar("Item")
Picture = UInt8[np.ndarray, "_ _ 3"]  # cameras may differ in size
Mask = UInt8[np.ndarray, "_ _"]
PREFETCH = 2  # instants that are decoded ahead: enough to keep cameras in step while their frames cost unequally


@dataclass(frozen=True, kw_only=True, eq=False)
class Instant:
    """What all cameras saw at one moment; arrays may share a decoder's memory: do not write to them.

    Attributes:
        index: Number of the instant in the recording.
        frames: RGB of each view.
        masks: Foreground of each view, 0 to 255; None if they were not asked for or do not exist.
    """

    index: int
    frames: tuple[Picture, ...]
    masks: tuple[Mask, ...] | None


def read_instants(recording: Recording, indices: Sequence[int], with_masks: bool = True) -> Iterator[Instant]:
    """Decode instants, all cameras side by side, one thread each, never more than a few instants ahead.

    Closing the iterator, or an error in one view, ends all threads and closes all files.

    Args:
        recording: From `open_recording`.
        indices: Which instants, increasing.
        with_masks: Also read masks, where every view has them.

    Raises:
        InputError: A frame cannot be read; the message names camera, file and frame.
        ValueError: Indices do not increase.
    """
    if any(later <= earlier for earlier, later in pairwise(indices)):
        raise ValueError("instants are read in increasing order, each once")
    numbers = recording.frame_numbers(indices)
    with_masks = with_masks and recording.has_masks
    threads = max(1, (os.cpu_count() or 1) // len(recording.views))
    with ExitStack() as stack:
        columns = [
            stack.enter_context(Prefetched(_read_view(view, numbers[:, v], with_masks, threads), PREFETCH))
            for v, view in enumerate(recording.views)
        ]
        for index, *row in zip(indices, *columns, strict=True):
            frames, masks = zip(*row, strict=True)
            yield Instant(index=int(index), frames=frames, masks=masks if with_masks else None)


def read_masks(recording: Recording, indices: Sequence[int]) -> Iterator[tuple[int, tuple[Mask, ...]]]:
    """Only the masks, as `read_instants` otherwise; pictures are not decoded unless they hold the masks.

    Raises:
        InputError: A frame cannot be read, or a view has no masks.
    """
    for index, row in read_boxed_masks(recording, indices):
        yield index, tuple(mask.within(PixelWindow(0, 0, mask.width, mask.height)) for mask in row)


def read_boxed_masks(recording: Recording, indices: Sequence[int]) -> Iterator[tuple[int, tuple[BoxedMask, ...]]]:
    """As `read_masks`, only what they show: several times as fast.

    Raises:
        InputError: A frame cannot be read, or a view has no masks.
    """
    if not recording.has_masks:
        raise InputError(f"{recording.root}: expected masks of every camera, found none")
    yield from _side_by_side(recording, indices, _read_view_masks)


def read_frames(recording: Recording, indices: Sequence[int]) -> Iterator[tuple[int, tuple[Decoded, ...]]]:
    """Only the frames, as `read_instants` otherwise, for `cut_bgra` to cut parts out of.

    Raises:
        InputError: A frame cannot be read.
    """
    yield from _side_by_side(recording, indices, _read_view_frames)


def _side_by_side(
    recording: Recording,
    indices: Sequence[int],
    read: Callable[[ViewSource, list[int], int], Generator[Item, None, None]],
) -> Iterator[tuple[int, tuple[Item, ...]]]:
    """All views in step, a thread for each."""
    numbers = recording.frame_numbers(indices)
    threads = max(1, (os.cpu_count() or 1) // len(recording.views))
    with ExitStack() as stack:
        columns = [
            stack.enter_context(Prefetched(read(view, [int(n) for n in numbers[:, v]], threads), PREFETCH))
            for v, view in enumerate(recording.views)
        ]
        for index, *row in zip(indices, *columns, strict=True):
            yield int(index), tuple(row)


def _read_view_frames(view: ViewSource, numbers: list[int], threads: int) -> Generator[Decoded, None, None]:
    try:
        yield from view.frames.read_decoded(numbers, threads=threads)
    except InputError as error:
        raise InputError(f"camera {view.name}: {error}") from None


def _read_view_masks(view: ViewSource, numbers: list[int], threads: int) -> Generator[BoxedMask, None, None]:
    try:
        if view.masks is not None:
            yield from view.masks.read_boxed(numbers, threads=threads)
        else:
            for rgba in view.frames.read(numbers, "rgba", threads=threads):
                yield boxed(np.ascontiguousarray(rgba[..., 3]))
    except InputError as error:
        raise InputError(f"camera {view.name}: {error}") from None


def _read_view(
    view: ViewSource, numbers: Int64[np.ndarray, " n"], with_masks: bool, threads: int
) -> Generator[tuple[Picture, Mask | None], None, None]:
    try:
        if not with_masks:
            for picture in view.frames.read(map(int, numbers), "rgb", threads=threads):
                yield picture, None
        elif view.masks is None:
            for rgba in view.frames.read(map(int, numbers), "rgba", threads=threads):
                yield np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
        else:
            pictures = view.frames.read(map(int, numbers), "rgb", threads=threads)
            yield from zip(pictures, view.masks.read(map(int, numbers), "mask", threads=threads), strict=True)
    except InputError as error:
        raise InputError(f"camera {view.name}: {error}") from None


class Prefetched(Iterator[Item], Generic[Item]):
    """Runs a generator in a thread of its own, a fixed number of items ahead; what it raises comes out of `next`."""

    def __init__(self, items: Generator[Item, None, None], depth: int) -> None:
        """Begin at once.

        Args:
            items: What to run; closed at the end.
            depth: Items that are made before they are asked for.
        """
        self._items = items
        self._pool = ThreadPoolExecutor(1)
        self._pending: deque[Future[Item]] = deque(self._pool.submit(next, items) for _ in range(depth))

    def __next__(self) -> Item:
        item = self._pending.popleft().result()
        self._pending.append(self._pool.submit(next, self._items))
        return item

    def __enter__(self) -> "Prefetched[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the item in progress, drop the others, close the generator."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._items.close()
