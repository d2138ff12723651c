"""What sets the animal apart from its surroundings, as histograms: its colours, and how they change the background."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from scipy import ndimage

from mouselift.data.segmentation.background import Background

LUMA_BINS, CHROMA_BINS = 64, 16
LUMA_STEP, CHROMA_STEP = 256 // LUMA_BINS, 8  # grey values in a bin
CHROMA_RANGE = CHROMA_BINS * CHROMA_STEP // 2  # about neutral; fur, skin, bedding and infra-red lie within
COLOUR_SMOOTHING = (2.0, 0.7, 0.7)  # bins: light and shade differ from frame to frame by more than colour does
RATIO_BINS, TINT_BINS = 96, 8
RATIO_RANGE, DARK = (
    2.0,
    10,
)  # of the logarithm of the luma's ratio; grey values that keep it finite and calm in the dark
TINT_STEP = 3  # grey values of chroma in a bin of the distance from the background's
CHANGE_SMOOTHING = (1.5, 0.5)
RARE = 1e-5  # probability of what was never seen
UNIFORM = 0.2  # share of the animal whose luma may be any: first masks lack the tail, and few pixels may show change
SHADE = 0.4  # of the logarithm of the luma's ratio: shadows beside an animal change the background by less
MISSED = 0.1  # weight of greater changes beside the animal: most are what first masks lack of it, the tail above all

Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Odds:
    """Log-odds of the animal for each bin.

    Attributes:
        colour: For each colour (`colour_bins`).
        change: For each change against the background (`change_bins`): a shadow dims it a little and evenly, and was
            seen beside the animal; None where no background is known.
    """

    colour: Float32[np.ndarray, "bins"]
    change: Float32[np.ndarray, "changes"] | None


def to_ycc(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """RGB to Y, Cr, Cb: the colour space of all evidence, because shade moves mostly the first."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)


def colour_bins(ycc: UInt8[np.ndarray, "*pixels 3"]) -> Int32[np.ndarray, "*pixels"]:
    """Index of each pixel's colour."""
    luma = ycc[..., 0].astype(np.int32) // LUMA_STEP
    chroma = np.clip(ycc[..., 1:].astype(np.int32) - 128 + CHROMA_RANGE, 0, 2 * CHROMA_RANGE - 1) // CHROMA_STEP
    return (luma * CHROMA_BINS + chroma[..., 0]) * CHROMA_BINS + chroma[..., 1]


def change_bins(
    ycc: UInt8[np.ndarray, "*pixels 3"], behind: UInt8[np.ndarray, "*pixels 3"]
) -> Int32[np.ndarray, "*pixels"]:
    """Index of each pixel's change against the background: the ratio of lumas, and the distance of chromas."""
    ratio = (_LOG[ycc[..., 0]] - _LOG[behind[..., 0]]).clip(-RATIO_RANGE, RATIO_RANGE)
    ratio_bin = ((ratio + RATIO_RANGE) * ((RATIO_BINS - 1) / (2 * RATIO_RANGE)) + 0.5).astype(np.int32)
    tint = np.abs(ycc[..., 1:].astype(np.int32) - behind[..., 1:]).max(-1) // TINT_STEP
    return ratio_bin * TINT_BINS + np.minimum(tint, TINT_BINS - 1)


_LOG = np.log(np.arange(256, dtype=np.float32) + DARK)


def learn_colours(examples: Iterable[tuple[Picture, Mask, Mask]]) -> Float32[np.ndarray, "bins"]:
    """Log-odds of each colour.

    Args:
        examples: Y, Cr, Cb; where the animal is; where its surroundings are. Every example weighs the same.
    """
    shape = (LUMA_BINS, CHROMA_BINS, CHROMA_BINS)
    counts = np.zeros((2, np.prod(shape)))
    for ycc, *regions in examples:
        counts += [_shares(colour_bins(ycc[region]), counts.shape[1]) for region in regions]
    animal, surroundings = (_smoothed(c.reshape(shape), COLOUR_SMOOTHING) for c in counts)
    return np.log((animal + RARE) / (surroundings + RARE)).astype(np.float32)


def learn_changes(
    examples: Iterable[tuple[Picture, Mask, Mask]], background: Background
) -> Float32[np.ndarray, "changes"] | None:
    """Log-odds of each change against the background, as far as that is known."""
    shape = (RATIO_BINS, TINT_BINS)
    counts = np.zeros((2, np.prod(shape)))
    for ycc, *regions in examples:
        known = [region & background.known for region in regions]
        counts += [_shares(change_bins(ycc[k], background.median[k]), counts.shape[1]) for k in known]
    if not counts[1].any():
        return None
    animal, surroundings = (_smoothed(c.reshape(shape), CHANGE_SMOOTHING).reshape(shape) for c in counts)
    animal = (1 - UNIFORM) * animal + UNIFORM / RATIO_BINS * animal.sum(0)  # of any luma, but of the animal's tints
    beyond_shade = np.abs(np.linspace(-RATIO_RANGE, RATIO_RANGE, RATIO_BINS)) > SHADE
    surroundings[beyond_shade] *= MISSED
    return np.log((animal + RARE) / (surroundings + RARE)).ravel().astype(np.float32)


def _shares(bins: Int32[np.ndarray, " n"], size: int) -> np.ndarray:
    counts = np.bincount(bins, minlength=size)
    return counts / max(counts.sum(), 1)


def _smoothed(counts: np.ndarray, sigma: tuple[float, ...]) -> np.ndarray:
    smooth = ndimage.gaussian_filter(counts, sigma, mode="nearest").ravel()
    return smooth / max(smooth.sum(), 1e-12)
