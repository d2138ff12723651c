"""Where in a picture an animal may be, without a network: compact regions that differ from all around them."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mouselift.data.components import Window

LOOK_PX = 320  # the picture's longer side
BLACK_PERCENT, WHITE_PERCENT = 1.0, 99.5  # greys that become 0 and 255
STABLE_STEP = 4  # grey values over which a region must stay almost the same
MIN_SHARE, MAX_SHARE = 0.002, 0.15  # of the picture: a region's area
OPENING_PX = 2  # what is thinner is not a body
USUAL_ASPECT = 0.35  # breadth to length of a stretched mouse; more elongated regions count less
AT_EDGE = 0.6  # a region counts that much less for each edge of the picture that it touches
SAME_PLACE = 0.3  # of the smaller window: an overlap above it is the same place
MIN_MERIT = 0.5  # of the best region's: worse ones are not looked at

Grey = UInt8[np.ndarray, "h w"]
Region = Bool[np.ndarray, "h w"]


def propose_windows(picture: UInt8[np.ndarray, "h w 3"], count: int) -> list[Window]:
    """Bounds of the regions that an animal's body may be, the likeliest first.

    Maximally stable extremal regions (Matas et al., 2002) of the picture, made small, ranked by how much they differ
    from what is around them, how much of that is unlike them, and how near they come to a filled ellipse.

    Args:
        picture: sRGB.
        count: At most so many.
    """
    height, width = picture.shape[:2]
    shrink = LOOK_PX / max(height, width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    grey = _stretched(cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY))
    ranked = sorted(_regions(grey), key=lambda found: -found[0])
    chosen: list[Window] = []
    for merit, (left, top, right, bottom) in ranked:
        if merit < MIN_MERIT * ranked[0][0] or len(chosen) == count:
            break
        window = (
            max(0, int(left / shrink)),
            max(0, int(top / shrink)),
            min(width, int(np.ceil(right / shrink))),
            min(height, int(np.ceil(bottom / shrink))),
        )
        if not any(overlap(window, other) > SAME_PLACE for other in chosen):
            chosen.append(window)
    return chosen


def overlap(a: Window, b: Window) -> float:
    """What two windows share, as a share of the smaller one."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((w[2] - w[0]) * (w[3] - w[1]) for w in (a, b))
    return max(wide, 0) * max(high, 0) / max(smaller, 1)


def _regions(grey: Grey) -> list[tuple[float, Window]]:
    """Merit and bounds of every stable region."""
    total = grey.size
    detector = cv2.MSER.create(STABLE_STEP, int(MIN_SHARE * total), int(MAX_SHARE * total))
    found: list[tuple[float, Window]] = []
    for points in map(np.asarray, detector.detectRegions(grey)[0]):
        region = np.zeros(grey.shape, np.uint8)
        region[points[:, 1], points[:, 0]] = 1
        region = cv2.morphologyEx(region, cv2.MORPH_OPEN, disc(OPENING_PX))
        if np.count_nonzero(region) >= MIN_SHARE * total:
            left, top, wide, high = cv2.boundingRect(region)
            merit = _merit(grey, region) * AT_EDGE ** _edges_touched(region)
            found.append((merit, (left, top, left + wide, top + high)))
    return found


def _merit(grey: Grey, region: UInt8[np.ndarray, "h w"]) -> float:
    """How likely a region is an animal, 0 to 1."""
    inside = region > 0
    area = np.count_nonzero(inside)
    beyond = cv2.dilate(region, disc(max(3, int(0.5 * np.sqrt(area))))) > 0
    around = grey[beyond & (cv2.dilate(region, disc(OPENING_PX)) == 0)]
    if not len(around):
        return 0.0
    low, middle, high = np.percentile(grey[inside], [10, 50, 90])
    contrast = abs(float(np.median(around)) - middle) / 255
    apart = float(((around < low) | (around > high)).mean())
    spread = np.cov(np.stack(np.nonzero(inside)))
    variances = np.linalg.eigvalsh(spread).clip(1e-6)
    ellipse = 4 * np.pi * float(np.sqrt(variances.prod()))  # area of the ellipse with the same moments
    aspect = float(np.sqrt(variances[0] / variances[1]))
    return contrast * apart * min(area / ellipse, 1.0) ** 2 * min(1.0, aspect / USUAL_ASPECT)


def _edges_touched(region: UInt8[np.ndarray, "h w"]) -> int:
    return sum(bool(edge.any()) for edge in (region[0], region[-1], region[:, 0], region[:, -1]))


def _stretched(grey: Grey) -> Grey:
    black, white = np.percentile(grey, [BLACK_PERCENT, WHITE_PERCENT])
    return (((grey - black) / max(white - black, 1.0)).clip(0, 1) * 255).astype(np.uint8)


def disc(radius_px: float) -> UInt8[np.ndarray, "k k"]:
    """A filled disc, for morphology."""
    reach = int(np.ceil(radius_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return (x * x + y * y <= radius_px * radius_px + 0.25).astype(np.uint8)
