"""The tail of an animal whose body is known: the line that leaves the body and differs most from both its sides.

Networks for whole objects lose tails, which are a few pixels wide. A tail is traced instead: from every point of the
body's outline paths go outwards in small steps, each turning a little or not, and gain by the contrast of the line
under them against its weaker side. The path with the highest sum is the tail, if it is long and clear enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from scipy import ndimage

ORIENTATIONS = 16  # of a line, over half a turn
HEADINGS = 2 * ORIENTATIONS  # of a path, over a whole turn
WIDTHS_PX = (2.0, 3.5, 5.0, 7.0)  # of a tail, in the working scale, where the body is some 72 px across
FLANK_PX = 1.7  # beyond half of the width: there a line is compared with what is beside it
LINE_SIGMA_PX, ACROSS_SIGMA_PX, KERNEL_REACH_PX = 2.5, 0.8, 5
STEP_PX = 3.0
PATHS = 500  # kept after each step
OUTWARD_SPREAD = 5  # headings to both sides of straight outwards at which paths start
CLUTTER_QUANTILE = 0.9  # of the contrasts of lines around the animal: what a tail is measured against
MIN_CLUTTER = 4.0  # grey values of 255: less is noise, whatever the surroundings
COST = 1.2  # of a step, in clutter: a line gains where its contrast is higher than this
MAX_GAIN = 4.0  # of a step, in clutter, before its cost
TURN_COST = 0.15
LONGEST, SHORTEST = 3.0, 0.5  # of the square root of the body's area
LOWEST_SCORE = -2.5  # of a path on its way: a tail begins at the body, not at a line that passes it
MIN_SCORE = 25.0  # sum along the path; bedding reached 17, tails 32 and more
FADED = 0.4  # of the first half's contrast: below it the tail has ended
MAX_WIDTH_PX, MIN_WIDTH_PX = 8.0, 1.0
PROFILE_REACH_PX, PROFILE_STEP_PX, OFF_CENTRE_PX = 7.0, 0.25, 1.0

Layer = Float32[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]
Contrast = Float32[np.ndarray, "16 h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tail:
    """A tail in a picture.

    Attributes:
        middle: Points from the root to the tip, pixels; the centre of the first pixel is (0, 0), as in OpenCV.
        widths_px: At these points.
        score: Sum of the gains along it.
    """

    middle: Float[np.ndarray, "n 2"]
    widths_px: Float[np.ndarray, "n"]
    score: float

    def outline(self) -> Float[np.ndarray, "m 2"]:
        """Its polygon."""
        beside = _normals(self.middle) * self.widths_px[:, None] / 2
        return np.concatenate([self.middle + beside, (self.middle - beside)[::-1]])


def trace_tail(layers: Sequence[Layer], body: Mask) -> Tail | None:
    """Find the tail that hangs on a body.

    Args:
        layers: What a tail may stand out in, 0 to 255 at most: the picture's grey, its colours, what a network
            found; the body some 72 px across.
        body: Without its tail.

    Returns:
        None where no line is long and clear enough.
    """
    size = float(np.sqrt(np.count_nonzero(body)))
    near = ~body & (_depth(~body) < size)
    best: Tail | None = None
    signed = [(layer, *pair) for layer in layers for pair in zip((1, -1), _line_contrasts(layer), strict=True)]
    for layer, sign, contrast in signed:
        clutter = max(float(np.quantile(contrast.max(0)[near], CLUTTER_QUANTILE)), MIN_CLUTTER)
        score, path = _best_path(contrast / clutter, body, round(LONGEST * size / STEP_PX))
        if score < max(MIN_SCORE, 0.0 if best is None else best.score):
            continue
        path = path[: _end(contrast, path)]
        if len(path) * STEP_PX >= SHORTEST * size:
            middle, widths = _measured(sign * layer, path)
            best = Tail(middle=middle, widths_px=widths, score=score)
    return best


def _line_contrasts(layer: Layer) -> tuple[Contrast, Contrast]:
    """By how much a line through each pixel is brighter, and darker, than the nearer in grey of its two sides."""
    brighter, darker = [], []
    y, x = np.mgrid[-KERNEL_REACH_PX : KERNEL_REACH_PX + 1, -KERNEL_REACH_PX : KERNEL_REACH_PX + 1]
    for angle in np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS:
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        kernel = np.exp(
            -0.5 * ((x * along[0] + y * along[1]) / LINE_SIGMA_PX) ** 2
            - 0.5 * ((x * across[0] + y * across[1]) / ACROSS_SIGMA_PX) ** 2
        ).astype(np.float32)
        line = cv2.filter2D(layer, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
        sides = [
            [_moved(line, side * across * (width / 2 + FLANK_PX)) for side in (1, -1)] for width in WIDTHS_PX
        ]  # fmt: skip
        brighter.append(np.max([line - np.maximum(*pair) for pair in sides], axis=0))
        darker.append(np.max([np.minimum(*pair) - line for pair in sides], axis=0))
    return np.stack(brighter), np.stack(darker)


def _moved(values: Float32[np.ndarray, "h w"], by_px: Float[np.ndarray, "2"]) -> Float32[np.ndarray, "h w"]:
    """What lies so far from each pixel."""
    matrix = np.array([[1, 0, by_px[0]], [0, 1, by_px[1]]], np.float32)
    return cv2.warpAffine(
        values,
        matrix,
        (values.shape[1], values.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _best_path(gains: Contrast, body: Mask, steps: int) -> tuple[float, Float[np.ndarray, "n 2"]]:
    """The path from the body's outline with the highest sum of gains, by beam search."""
    directions = np.stack(
        [np.cos(2 * np.pi * np.arange(HEADINGS) / HEADINGS), np.sin(2 * np.pi * np.arange(HEADINGS) / HEADINGS)], 1
    )
    points, headings = _starts(body)
    scores = np.zeros(len(points))
    places, parents = [points], [np.zeros(len(points), np.int64)]
    best_score, best_step = 0.0, 0
    for step in range(1, steps + 1):
        turned = np.concatenate([(headings + turn) % HEADINGS for turn in (-1, 0, 1)])
        parent = np.tile(np.arange(len(points)), 3)
        moved = points[parent] + STEP_PX * directions[turned]
        cost = np.repeat([TURN_COST, 0.0, TURN_COST], len(points))
        reached = scores[parent] - cost + _gain(gains, body, moved, turned)
        kept = _without_doubles(moved, turned, reached)
        kept = kept[reached[kept] > LOWEST_SCORE]
        if not len(kept):
            break
        points, headings, scores = moved[kept], turned[kept], reached[kept]
        places.append(points)
        parents.append(parent[kept])
        if scores[0] > best_score:
            best_score, best_step = float(scores[0]), step
    path, number = [], 0
    for step in range(best_step, -1, -1):
        path.append(places[step][number])
        number = parents[step][number]
    return best_score, np.array(path[::-1])


def _starts(body: Mask) -> tuple[Float[np.ndarray, "n 2"], Int64[np.ndarray, "n"]]:
    """Points of the body's outline, each with headings around straight outwards."""
    contours, _ = cv2.findContours(body.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)[::2, 0]
    distance = _depth(~body) - _depth(body)
    slope_y, slope_x = np.gradient(ndimage.gaussian_filter(distance, 3.0))
    x, y = outline.T
    angles = np.arctan2(np.asarray(slope_y)[y, x], np.asarray(slope_x)[y, x])
    outward = np.round(angles / (2 * np.pi) * HEADINGS).astype(np.int64)
    spread = np.arange(-OUTWARD_SPREAD, OUTWARD_SPREAD + 1)
    headings = (outward[None] + spread[:, None]) % HEADINGS
    return np.tile(outline.astype(np.float64), (len(spread), 1)), headings.ravel()


def _gain(
    gains: Contrast, body: Mask, points: Float[np.ndarray, "n 2"], headings: Int64[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Of a step that ends at each point; crossing the body and leaving the picture cost."""
    height, width = body.shape
    x, y = np.round(points).astype(np.int64).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    x, y = x.clip(0, width - 1), y.clip(0, height - 1)
    value = gains[headings % ORIENTATIONS, y, x].clip(-1, MAX_GAIN) - COST
    return np.where(inside, np.where(body[y, x], -1.0, value), -99.0)


def _without_doubles(
    points: Float[np.ndarray, "n 2"], headings: Int64[np.ndarray, "n"], scores: Float[np.ndarray, "n"]
) -> Int64[np.ndarray, "k"]:
    """The best paths, best first, one for each heading in each square of two pixels."""
    order = np.argsort(-scores, kind="stable")
    x, y = (np.round(points[order]).astype(np.int64) // 2).T
    _, first = np.unique((x * 100_000 + y) * HEADINGS + headings[order], return_index=True)
    return order[np.sort(first)][:PATHS]


def _end(contrast: Contrast, path: Float[np.ndarray, "n 2"]) -> int:
    """How many points of a path still lie on the tail."""
    towards = np.asarray(np.gradient(path, axis=0))
    orientation = np.round(np.arctan2(towards[:, 1], towards[:, 0]) / np.pi * ORIENTATIONS).astype(np.int64)
    height, width = contrast.shape[1:]
    x, y = np.round(path).astype(np.int64).clip(0, [width - 1, height - 1]).T
    along = ndimage.uniform_filter1d(contrast[orientation % ORIENTATIONS, y, x], 3, mode="nearest")
    usual = np.median(along[2 : max(4, len(along) // 2)])
    faded = np.flatnonzero(along < FADED * usual)
    faded = faded[faded > len(path) // 3]
    return int(faded[0]) if len(faded) else len(path)


def _measured(
    bright: Float32[np.ndarray, "h w"], path: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
    """The middle and the widths of a bright line: where its profile across falls to half of its height."""
    smooth = np.asarray(ndimage.gaussian_filter1d(path, 1.0, axis=0, mode="nearest"))
    across = _normals(smooth)
    offsets = np.arange(-PROFILE_REACH_PX, PROFILE_REACH_PX + PROFILE_STEP_PX / 2, PROFILE_STEP_PX)
    x, y = (smooth[:, None] + across[:, None] * offsets[:, None]).transpose(2, 0, 1).astype(np.float32)
    profiles = cv2.remap(bright, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    profiles = np.asarray(ndimage.uniform_filter1d(profiles, 5, axis=0, mode="nearest"))
    middle, reach = len(offsets) // 2, round(OFF_CENTRE_PX / PROFILE_STEP_PX)
    peaks = middle - reach + np.asarray(profiles)[:, middle - reach : middle + reach + 1].argmax(1)
    halves = np.array([[_fall(row[peak::side]) for side in (1, -1)] for row, peak in zip(profiles, peaks, strict=True)])
    shift = (peaks - middle) * PROFILE_STEP_PX + (halves[:, 0] - halves[:, 1]) / 2
    shift = ndimage.uniform_filter1d(shift.clip(-1.5 * OFF_CENTRE_PX, 1.5 * OFF_CENTRE_PX), 5, mode="nearest")
    return smooth + across * shift[:, None], _tapered(halves.sum(1))


def _fall(profile: Float32[np.ndarray, "n"]) -> float:
    """How far a profile goes until it has fallen half of the way to its lowest value."""
    profile = profile[: round(6 / PROFILE_STEP_PX)]
    fallen = profile < (profile[0] + profile.min()) / 2
    return PROFILE_STEP_PX * (int(fallen.argmax()) if fallen.any() else len(profile) - 1)


def _tapered(widths: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """A straight line through the widths, outliers left out, that never grows towards the tip."""
    along = np.linspace(0, 1, len(widths))
    off = np.abs(widths - np.polyval(np.polyfit(along, widths, 1), along))
    usual = off < 1.5 * widths.std() + 0.1
    line = np.polyval(np.polyfit(along[usual], widths[usual], 1), along)
    return np.minimum.accumulate(line.clip(MIN_WIDTH_PX, MAX_WIDTH_PX))


def _depth(mask: Mask) -> Float32[np.ndarray, "h w"]:
    """Distance of each pixel of a mask from the nearest one outside, pixels."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _normals(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    towards = np.asarray(np.gradient(points, axis=0))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True).clip(1e-9)
    return np.stack([-towards[:, 1], towards[:, 0]], 1)
