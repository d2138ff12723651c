"""What one camera sees without the animal, as far as a few frames of a recording show it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

MIN_OBSERVATIONS = 3  # of a pixel without the animal: with fewer, what is behind it is not known
BAND_ROWS = 128  # frames are sorted band by band, which bounds the working memory
ALWAYS, NEVER = 2.0, -1.0  # log-odds of the animal where it was seen in all frames, and where in none


@dataclass(frozen=True, kw_only=True, eq=False)
class Background:
    """The median of each pixel over time, the animal left out.

    Attributes:
        median: Y, Cr, Cb as OpenCV scales them.
        known: Where the animal was absent often enough; elsewhere the median means nothing.
        lodging: Log-odds of the animal where the background is not known, by how often it was seen there; else 0.
    """

    median: UInt8[np.ndarray, "h w 3"]
    known: Bool[np.ndarray, "h w"]
    lodging: Float32[np.ndarray, "h w"]


def estimate_background(
    frames: Sequence[UInt8[np.ndarray, "h w 3"]],
    animals: Sequence[Bool[np.ndarray, "h w"]],
    covered: Sequence[Bool[np.ndarray, "h w"]],
) -> Background:
    """Median of each pixel over the frames in which the animal does not cover it.

    A plain median would contain an animal that hardly moves; here such pixels are unknown instead.

    Args:
        frames: Y, Cr, Cb; several spread over the recording suffice, because the animal is left out.
        animals: About where the animal is in each frame.
        covered: The same, generously.
    """
    height, width = covered[0].shape
    median = np.empty((height, width, 3), np.uint8)
    known = np.empty((height, width), bool)
    for top in range(0, height, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        hidden = np.stack([region[rows] for region in covered])
        absent = len(hidden) - hidden.sum(0)
        known[rows] = absent >= min(MIN_OBSERVATIONS, len(frames))
        for channel in range(3):
            values = np.stack([frame[rows, :, channel] for frame in frames])
            values[hidden] = 255  # sorts behind every observation, or beside equal ones
            values.sort(0)
            median[rows, :, channel] = np.take_along_axis(values, (np.maximum(absent - 1, 0) // 2)[None], axis=0)[0]
    seen = np.mean(animals, axis=0, dtype=np.float32)
    return Background(median=median, known=known, lodging=np.where(known, 0, NEVER + (ALWAYS - NEVER) * seen))
