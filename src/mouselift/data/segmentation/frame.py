"""The animal's mask in one frame: what the background, the colours and the place say together."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from mouselift.data.components import Window
from mouselift.data.segmentation.appearance import LUMA_STEP, Appearance, colour_bins
from mouselift.data.segmentation.background import Background

SURPRISE = 0.1  # probability that a known background shows another colour of the surroundings: shadows, moved bedding
CHROMA_NOISE = 4.0  # grey values; videos store chroma at half the resolution
FARTHEST = 1.2  # of the place's size: how far outside it the animal may reach, a tail for instance
INSIDE, OUTSIDE = 1.0, 3.0  # log-odds of the place: within it, and lost on the way to the farthest point
SMOOTH_RADIUS, SMOOTH_EPSILON = 2, 25.0  # px and squared grey values of the guided filter
STRONGEST = 6.0  # log-odds of one pixel's colour
SURE, POSSIBLE = 0.0, -1.0  # log-odds of the animal, and of what fades out from it
HOLE_SHARE = 0.02  # of the animal: holes up to this size are filled


def segment_frame(
    ycc: UInt8[np.ndarray, "h w 3"],
    place: Bool[np.ndarray, "h w"],
    appearance: Appearance,
    background: Background | None = None,
) -> Bool[np.ndarray, "h w"]:
    """Draw the animal.

    Per pixel, the probability of its colour in the animal is weighed against that in its surroundings or, where
    the background behind it is known, against that background; and against its distance from the place.

    Args:
        ycc: Y, Cr, Cb.
        place: About where the animal is: its mask a moment ago, or a rough one.
        appearance: Of this camera.
        background: Of this camera.

    Returns:
        All parts of the animal that reach into its place; empty when nothing there looks like it.
    """
    mask = np.zeros(place.shape, bool)
    if not place.any():
        return mask
    window = _window(place)
    left, top, right, bottom = window
    area = np.s_[top:bottom, left:right]
    evidence = colour_evidence(ycc, window, appearance, background)
    evidence = _guided(evidence, ycc[area][..., 0].astype(np.float32)) + _place_evidence(place[area])
    mask[area] = _animal(evidence, place[area])
    return mask


def colour_evidence(
    ycc: UInt8[np.ndarray, "h w 3"], window: Window, appearance: Appearance, background: Background | None
) -> Float32[np.ndarray, "_ _"]:
    """Log-odds of the animal in a window, from each pixel's colour alone."""
    left, top, right, bottom = window
    area = np.s_[top:bottom, left:right]
    pixels = ycc[area]
    bins = colour_bins(pixels)
    beside = appearance.surroundings[bins]
    if background is not None:
        behind = _probability_behind(pixels, background.median[area], background.spread[area])
        beside = np.where(background.known[area], SURPRISE * beside + (1 - SURPRISE) * behind, beside)
    return np.clip(np.log(appearance.animal[bins] / beside), -STRONGEST, STRONGEST).astype(np.float32)


def _probability_behind(pixels: np.ndarray, median: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Probability of a colour's bin if the background is in sight: normal in luma and chroma."""
    apart = pixels.astype(np.float32) - median
    exponent = (apart[..., 0] / spread) ** 2 + ((apart[..., 1:] / CHROMA_NOISE) ** 2).sum(-1)
    return np.minimum(LUMA_STEP / (spread * np.sqrt(2 * np.pi)), 1) * np.exp(-exponent / 2)


def size_of(place: Bool[np.ndarray, "h w"]) -> float:
    """Diameter of the disc of the same area, pixels."""
    return float(np.sqrt(4 / np.pi * np.count_nonzero(place)))


def box_of(mask: Bool[np.ndarray, "h w"]) -> Window:
    """Bounds of a mask that is not empty."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return left, top, left + width, top + height


def _window(place: Bool[np.ndarray, "h w"]) -> Window:
    height, width = place.shape
    left, top, right, bottom = box_of(place)
    margin = round(FARTHEST * size_of(place)) + 2
    return max(left - margin, 0), max(top - margin, 0), min(right + margin, width), min(bottom + margin, height)


def _place_evidence(place: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    distance = cv2.distanceTransform((~place).view(np.uint8), cv2.DIST_L2, 3)
    return INSIDE - (INSIDE + OUTSIDE) * np.minimum(distance / (FARTHEST * size_of(place)), 2).astype(np.float32)


def _guided(values: Float32[np.ndarray, "h w"], guide: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Smooth values, but not across edges of the guide (He et al., "Guided Image Filtering", 2010)."""

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(image, cv2.CV_32F, (2 * SMOOTH_RADIUS + 1,) * 2)

    guide_mean, value_mean = mean(guide), mean(values)
    variance = mean(guide * guide) - guide_mean**2
    slope = (mean(guide * values) - guide_mean * value_mean) / (variance + SMOOTH_EPSILON)
    return mean(slope) * guide + mean(value_mean - slope * guide_mean)


def _animal(evidence: Float32[np.ndarray, "h w"], place: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest part that reaches into the place, with what fades out from it, its small holes filled."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((evidence > SURE).view(np.uint8), connectivity=8)
    overlap = np.bincount(labels[place], minlength=len(stats))
    overlap[0] = 0
    if not overlap.any():
        return np.zeros_like(place)
    core = labels == overlap.argmax()
    _, labels = cv2.connectedComponents((evidence > POSSIBLE).view(np.uint8), connectivity=8)
    return fill_holes(labels == labels[core][0], HOLE_SHARE * np.count_nonzero(core))


def fill_holes(mask: Bool[np.ndarray, "h w"], largest: float) -> Bool[np.ndarray, "h w"]:
    """Fill holes of at most so many pixels; larger ones, as inside the loop of a tail, stay open."""
    padded = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(padded, connectivity=4)
    fill = stats[:, cv2.CC_STAT_AREA] <= largest
    fill[labels[0, 0]] = False  # the outside
    return mask | (fill[labels][1:-1, 1:-1] & ~mask)


def soft_edge(mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """The mask as 0 to 255 with an edge about a pixel wide, its contour where it was."""
    return cv2.GaussianBlur(mask.view(np.uint8) * np.uint8(255), (3, 3), 0.6)
