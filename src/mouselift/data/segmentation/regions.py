"""Small operations on binary masks at picture size, through OpenCV for speed."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mouselift.data.components import Window

Mask = Bool[np.ndarray, "h w"]


def size_of(mask: Mask) -> float:
    """Diameter of the disc of the same area, pixels."""
    return float(np.sqrt(4 / np.pi * np.count_nonzero(mask)))


def box_of(mask: Mask) -> Window:
    """Bounds of a mask that is not empty."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return left, top, left + width, top + height


def depth_inside(mask: Mask) -> np.ndarray:
    """Distance of each pixel of a mask from the nearest one outside, 0 there; pixels, about."""
    return cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)


def grown(mask: Mask, by_px: float) -> Mask:
    """Everything within a distance of a mask."""
    return depth_inside(~mask) <= by_px


def fill_holes(mask: Mask, largest: float) -> Mask:
    """Fill holes of at most so many pixels; larger ones, as inside the loop of a tail, stay open."""
    padded = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    result = cv2.connectedComponentsWithStats(padded, connectivity=4)
    labels, stats = np.asarray(result[1], np.int32), result[2]
    fill = stats[:, cv2.CC_STAT_AREA] <= largest
    fill[labels[0, 0]] = False  # the outside
    return mask | (fill[labels][1:-1, 1:-1] & ~mask)


def soft_edge(mask: Mask) -> UInt8[np.ndarray, "h w"]:
    """The mask as 0 to 255 with an edge about a pixel wide, its contour where it was."""
    return cv2.GaussianBlur(mask.view(np.uint8) * np.uint8(255), (3, 3), 0.6)
