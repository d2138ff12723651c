"""The animal's mask in one frame: what the background, the colours, the place and other cameras say together."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from mouselift.data.components import Window
from mouselift.data.segmentation.appearance import Odds, change_bins, colour_bins
from mouselift.data.segmentation.background import Background
from mouselift.data.segmentation.regions import box_of, depth_inside, fill_holes, size_of

COLOUR_BESIDE_CHANGE = 0.3  # weight of the colour where the change is known too: they are not independent
FARTHEST = 1.6  # of the place's size: how far outside it the animal may reach, a tail for instance
INSIDE, OUTSIDE = 1.0, -1.0  # log-odds of the place on both sides of its edge
FADING = 2.0  # log-odds lost on the way from there to the farthest point
EDGE = 0.04  # of the place's size: how far from its edge the former are reached
VETO = 2.5  # log-odds against what the other cameras do not confirm
SMOOTH_RADIUS, SMOOTH_EPSILON = 2, 25.0  # px and squared grey values of the guided filter
STRONGEST = 6.0  # log-odds of one pixel's looks
SURE, POSSIBLE = 0.0, -1.0  # log-odds of the animal, and of what fades out from it
HOLE_SHARE = 0.01  # of the animal: holes up to this size are filled

Picture = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Log-odds of the animal in a window of a frame, from what its pixels look like.

    Attributes:
        values: Smoothed, but not across edges.
        window: Where in the frame.
        shape: Of the frame: height, width.
    """

    values: Float32[np.ndarray, "_ _"]
    window: Window
    shape: tuple[int, int]


def gather_evidence(ycc: Picture, place: Mask, odds: Odds, background: Background | None = None) -> Evidence:
    """Look at every pixel that the animal may reach.

    Args:
        ycc: Y, Cr, Cb.
        place: About where the animal is, not empty.
        odds: Of this camera.
        background: Of this camera.
    """
    window = _within_reach(place)
    values = looks(ycc, window, odds, background)
    left, top, right, bottom = window
    luma = ycc[top:bottom, left:right, 0].astype(np.float32)
    return Evidence(values=_guided(values, luma), window=window, shape=(ycc.shape[0], ycc.shape[1]))


def draw_animal(evidence: Evidence, place: Mask, confirmed: Mask | None = None) -> Mask:
    """Draw the animal: the pixels whose looks, distance from the place and confirmation together speak for it.

    Args:
        evidence: Of the frame.
        place: About where the animal is, within the window of the evidence.
        confirmed: Where the other cameras allow the animal to be.

    Returns:
        The largest part that reaches into the place, with what fades out from it; empty when nothing there looks
        like the animal.
    """
    left, top, right, bottom = evidence.window
    area = np.s_[top:bottom, left:right]
    total = evidence.values + _nearness(place[area])
    if confirmed is not None:
        total -= np.float32(VETO) * ~confirmed[area]
    mask = np.zeros(evidence.shape, bool)
    mask[area] = _largest_part(total, place[area])
    return mask


def looks(ycc: Picture, window: Window, odds: Odds, background: Background | None) -> Float32[np.ndarray, "_ _"]:
    """Log-odds of the animal in a window, from each pixel's colour and its change against the background."""
    left, top, right, bottom = window
    area = np.s_[top:bottom, left:right]
    found = odds.colour[colour_bins(ycc[area])]
    if background is not None and odds.change is not None:
        change = odds.change[change_bins(ycc[area], background.median[area])]
        unknown = found + background.lodging[area]
        found = np.where(background.known[area], change + np.float32(COLOUR_BESIDE_CHANGE) * found, unknown)
    return np.clip(found, -STRONGEST, STRONGEST)


def _within_reach(place: Mask) -> Window:
    height, width = place.shape
    left, top, right, bottom = box_of(place)
    margin = round(FARTHEST * size_of(place)) + 2
    return max(left - margin, 0), max(top - margin, 0), min(right + margin, width), min(bottom + margin, height)


def _nearness(place: Mask) -> Float32[np.ndarray, "h w"]:
    size = np.float32(max(size_of(place), 1))
    outside, inside = depth_inside(~place), depth_inside(place)
    across = np.clip((inside - outside) / (EDGE * size), -1, 1)
    edge = (INSIDE + OUTSIDE) / 2 + (INSIDE - OUTSIDE) / 2 * across
    return edge - FADING / (FARTHEST * size) * outside


def _guided(values: Float32[np.ndarray, "h w"], guide: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Smooth values, but not across edges of the guide (He et al., "Guided Image Filtering", 2010)."""

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(image, cv2.CV_32F, (2 * SMOOTH_RADIUS + 1,) * 2)

    guide_mean, value_mean = mean(guide), mean(values)
    variance = mean(guide * guide) - guide_mean**2
    slope = (mean(guide * values) - guide_mean * value_mean) / (variance + SMOOTH_EPSILON)
    return mean(slope) * guide + mean(value_mean - slope * guide_mean)


def _largest_part(total: Float32[np.ndarray, "h w"], place: Mask) -> Mask:
    _, labels, stats, _ = cv2.connectedComponentsWithStats((total > SURE).view(np.uint8), connectivity=8)
    overlap = np.bincount(labels[place], minlength=len(stats))
    overlap[0] = 0  # the label of what is no animal
    if not overlap.any():
        return np.zeros_like(place)
    core = labels == overlap.argmax()
    _, labels = cv2.connectedComponents((total > POSSIBLE).view(np.uint8), connectivity=8)
    return fill_holes(labels == labels[core][0], HOLE_SHARE * np.count_nonzero(core))
