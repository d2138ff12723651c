"""What one camera sees without the animal, as far as a few frames of a recording show it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

MIN_OBSERVATIONS = 3  # of a pixel without the animal: with fewer, what is behind it is not known
NOISE_FLOOR = 2.0  # grey values: quantisation and the codec move even a still pixel by this much
LOW, HIGH = 0.16, 0.84  # quantiles one standard deviation from the median of a normal distribution
BAND_ROWS = 128  # frames are sorted band by band, which bounds the working memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Background:
    """The robust mean of each pixel over time, the animal left out.

    Attributes:
        median: Y, Cr, Cb as OpenCV scales them.
        spread: Standard deviation of the luma over time, robust; grey values, at least `NOISE_FLOOR`.
        known: Where the animal was absent often enough; elsewhere the other two mean nothing.
    """

    median: UInt8[np.ndarray, "h w 3"]
    spread: Float32[np.ndarray, "h w"]
    known: Bool[np.ndarray, "h w"]


def estimate_background(
    frames: Sequence[UInt8[np.ndarray, "h w 3"]], animals: Sequence[Bool[np.ndarray, "h w"]]
) -> Background:
    """Median and spread of each pixel over the frames in which the animal does not cover it.

    A plain median would contain an animal that hardly moves; here such pixels are unknown instead.

    Args:
        frames: Y, Cr, Cb; a dozen spread over the recording suffice, because the animal is left out.
        animals: Where the animal may be in each frame, generously.
    """
    height, width = animals[0].shape
    median = np.empty((height, width, 3), np.uint8)
    spread = np.empty((height, width), np.float32)
    absent = np.zeros((height, width), np.int64)
    for top in range(0, height, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        covered = np.stack([animal[rows] for animal in animals])
        absent[rows] = count = len(covered) - covered.sum(0)
        for channel in range(3):
            values = np.stack([frame[rows, :, channel] for frame in frames])
            values[covered] = 255  # sorts behind every observation, or beside equal ones
            values.sort(0)
            median[rows, :, channel] = _ranked(values, count, 0.5)
            if channel == 0:
                low, high = _ranked(values, count, LOW), _ranked(values, count, HIGH)
                spread[rows] = (high.astype(np.float32) - low) / 2
    return Background(
        median=median, spread=np.maximum(spread, NOISE_FLOOR), known=absent >= min(MIN_OBSERVATIONS, len(frames))
    )


def _ranked(values: np.ndarray, count: np.ndarray, quantile: float) -> np.ndarray:
    """The quantile of the first `count` of values sorted along the first dimension."""
    rank = np.rint(quantile * np.maximum(count - 1, 0)).astype(np.int64)
    return np.take_along_axis(values, rank[None], axis=0)[0]
