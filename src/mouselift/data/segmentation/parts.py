"""Parts of a picture that may be the animal, found on a coarse grid without knowing where it was before."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

from mouselift.data.segmentation.appearance import Odds
from mouselift.data.segmentation.background import Background
from mouselift.data.segmentation.frame import looks
from mouselift.data.segmentation.regions import box_of

COARSE = 4  # px of the picture in one of the coarse grid
LIKELY_AREA = (0.15, 4.0)  # of the camera's usual: rearing towards a camera, or half hidden behind something
MAX_PARTS = 8
SURE = 1.5  # log-odds of a cell of the coarse grid


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One connected part of a mask: perhaps the animal.

    Attributes:
        mask: Its pixels, at the size of the camera's picture.
        centre: Its centroid, pixels.
        size_px: Half the diagonal of its bounds.
        weight: How much speaks for it: summed log-odds, or its area.
    """

    mask: Bool[np.ndarray, "h w"]
    centre: Float64[np.ndarray, "2"]
    size_px: float
    weight: float


def whole(mask: Bool[np.ndarray, "h w"]) -> Part:
    """A mask that is not empty as one part."""
    rows, columns = np.nonzero(mask)
    left, top, right, bottom = box_of(mask)
    return Part(
        mask=mask,
        centre=np.array([columns.mean() + 0.5, rows.mean() + 0.5]),
        size_px=float(np.hypot(right - left, bottom - top)) / 2,
        weight=float(len(rows)),
    )


def coarse_background(background: Background) -> Background:
    """The background at the size of the coarse grid; known where all of a cell is."""
    height, width = background.known.shape
    size = (max(width // COARSE, 1), max(height // COARSE, 1))
    known = cv2.resize(background.known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return Background(
        median=cv2.resize(background.median, size, interpolation=cv2.INTER_AREA),
        known=known > 0.99,
        lodging=cv2.resize(background.lodging, size, interpolation=cv2.INTER_AREA) * (known <= 0.99),
    )


def find_parts(ycc: UInt8[np.ndarray, "h w 3"], odds: Odds, background: Background, usual_area: float) -> list[Part]:
    """Parts of a likely size that look like the animal and unlike the background, the weightiest first.

    Args:
        ycc: Y, Cr, Cb.
        odds: Of this camera.
        background: Of this camera, from `coarse_background`.
        usual_area: Of the animal in this camera, pixels.
    """
    height, width = background.known.shape
    small = cv2.resize(ycc, (width, height), interpolation=cv2.INTER_AREA)
    evidence = cv2.blur(looks(small, (0, 0, width, height), odds, background), (3, 3))
    count, labels, stats, _ = cv2.connectedComponentsWithStats((evidence > SURE).view(np.uint8), connectivity=8)
    weights = np.bincount(labels.ravel(), weights=evidence.ravel(), minlength=count)
    areas = stats[:, cv2.CC_STAT_AREA] * float(ycc.shape[0] * ycc.shape[1]) / (height * width)
    low, high = (share * usual_area for share in LIKELY_AREA)
    likely = [i for i in range(1, count) if low <= areas[i] <= high]
    chosen = sorted(likely, key=lambda i: -weights[i])[:MAX_PARTS]
    return [_part((labels == i), ycc.shape[:2], float(weights[i])) for i in chosen]


def _part(small: Bool[np.ndarray, "_ _"], shape: tuple[int, int], weight: float) -> Part:
    full = cv2.resize(small.view(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    part = whole(full)
    return Part(mask=full, centre=part.centre, size_px=part.size_px, weight=weight)
