"""Masks cut down to what they show: a mouse covers little of a picture, and most work is on the rest."""

import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from mouselift.errors import InputError

IN_MEMORY_BYTES = 64 * 2**20  # of packed masks, about 15,000; more go to a file
FASTEST = 1  # of zlib's levels; masks are runs of equal values


@dataclass(frozen=True)
class PixelWindow:
    """Rows top to bottom - 1 and columns left to right - 1 of a picture or a grid."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of a picture (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxedMask:
    """A mask as the box around what it shows.

    Attributes:
        window: The smallest that holds all foreground; empty where there is none.
        pixels: Of the window, 0 to 255; they may share memory with the mask: do not write to them.
        width: Of the picture.
        height: Of the picture.
    """

    window: PixelWindow
    pixels: UInt8[np.ndarray, "_ _"]
    width: int
    height: int

    def within(self, window: PixelWindow) -> UInt8[np.ndarray, "_ _"]:
        """The mask in another window, which may be larger or reach beyond the picture."""
        height, width = window.bottom - window.top, window.right - window.left
        result = np.zeros((max(height, 0), max(width, 0)), np.uint8)
        rows, columns = (
            slice(max(ours[0], theirs[0]), min(ours[1], theirs[1]))
            for ours, theirs in (
                ((self.window.top, self.window.bottom), (window.top, window.bottom)),
                ((self.window.left, self.window.right), (window.left, window.right)),
            )
        )
        if rows.start < rows.stop and columns.start < columns.stop:
            result[
                rows.start - window.top : rows.stop - window.top,
                columns.start - window.left : columns.stop - window.left,
            ] = self.pixels[
                rows.start - self.window.top : rows.stop - self.window.top,
                columns.start - self.window.left : columns.stop - self.window.left,
            ]
        return result


def boxed(mask: UInt8[np.ndarray, "h w"]) -> BoxedMask:
    """Find the box of a mask."""
    left, top, width, height = cv2.boundingRect(mask)
    window = PixelWindow(left, top, left + width, top + height)
    return BoxedMask(window=window, pixels=mask[window.slices], width=mask.shape[1], height=mask.shape[0])


class MaskStore:
    """Keeps masks of many instants, packed: a few kilobytes each, in memory until they are many, then in a file.

    The file has no name and goes when the process ends, however it ends.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Begin with nothing.

        Args:
            folder: On the disk that may be used; the system's temporary folder when not given.
        """
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=None if folder is None else str(folder))  # noqa: SIM115 (lives as long as this)
        self._places: dict[int, tuple[tuple[int, int, PixelWindow, int, int], ...]] = {}

    def __contains__(self, instant: int) -> bool:
        """Whether its masks were put in."""
        return instant in self._places

    def put(self, instant: int, masks: Iterable[BoxedMask]) -> None:
        """Keep the masks of all views of an instant.

        Raises:
            InputError: The disk is full.
        """
        places = []
        for mask in masks:
            packed = zlib.compress(mask.pixels.tobytes(), FASTEST)
            start = self._file.seek(0, 2)
            try:
                self._file.write(packed)
            except OSError as error:
                raise InputError(f"expected room for temporary files, found: {error.strerror}") from error
            places.append((start, len(packed), mask.window, mask.width, mask.height))
        self._places[instant] = tuple(places)

    def get(self, instant: int) -> Sequence[BoxedMask]:
        """The masks of all views as they were put in."""
        masks = []
        for start, length, window, width, height in self._places[instant]:
            self._file.seek(start)
            pixels = np.frombuffer(zlib.decompress(self._file.read(length)), np.uint8)
            shape = (window.bottom - window.top, window.right - window.left)
            masks.append(BoxedMask(window=window, pixels=pixels.reshape(shape), width=width, height=height))
        return masks
