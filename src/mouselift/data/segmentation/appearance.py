"""What colours the animal and its surroundings have, as histograms."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from scipy import ndimage

LUMA_BINS, CHROMA_BINS = 64, 16
LUMA_STEP, CHROMA_STEP = 256 // LUMA_BINS, 8  # grey values in a bin
CHROMA_RANGE = CHROMA_BINS * CHROMA_STEP // 2  # about neutral; fur, skin, bedding and infra-red lie within
SMOOTHING = (2.0, 0.7, 0.7)  # bins: light and shade differ from frame to frame by more than colour does
RARE = 1e-5  # probability of a colour that was never seen


@dataclass(frozen=True, kw_only=True, eq=False)
class Appearance:
    """Probability of each colour (see `colour_bins`) in the animal and beside it."""

    animal: Float32[np.ndarray, "bins"]
    surroundings: Float32[np.ndarray, "bins"]


def to_ycc(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB to Y, Cr, Cb: the colour space of all evidence, because shade moves mostly the first."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)


def colour_bins(ycc: UInt8[np.ndarray, "*pixels 3"]) -> Int32[np.ndarray, "*pixels"]:
    """Index of each pixel's colour in the histograms of `Appearance`."""
    luma = ycc[..., 0].astype(np.int32) // LUMA_STEP
    chroma = np.clip(ycc[..., 1:].astype(np.int32) - 128 + CHROMA_RANGE, 0, 2 * CHROMA_RANGE - 1) // CHROMA_STEP
    return (luma * CHROMA_BINS + chroma[..., 0]) * CHROMA_BINS + chroma[..., 1]


def learn_appearance(
    examples: Iterable[tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]],
) -> Appearance:
    """Count colours.

    Args:
        examples: Y, Cr, Cb; where the animal is; where its surroundings are. Every example weighs the same.
    """
    size = LUMA_BINS * CHROMA_BINS**2
    animal, surroundings = np.zeros(size), np.zeros(size)
    for ycc, inside, outside in examples:
        for counts, region in ((animal, inside), (surroundings, outside)):
            found = np.bincount(colour_bins(ycc[region]), minlength=size)
            counts += found / max(found.sum(), 1)
    return Appearance(animal=_smoothed(animal), surroundings=_smoothed(surroundings))


def _smoothed(counts: np.ndarray) -> Float32[np.ndarray, "bins"]:
    cube = ndimage.gaussian_filter(counts.reshape(LUMA_BINS, CHROMA_BINS, CHROMA_BINS), SMOOTHING, mode="nearest")
    return (cube.ravel() / max(cube.sum(), 1e-12) + RARE).astype(np.float32)
