"""Second thoughts on a network's mask: shadows of a dark animal leave it, a tail that is missing joins it."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from mouselift.data.proposals import disc
from mouselift.data.tail import trace_tail

BODY_PX = 72.0  # square root of the animal's area in the working scale; finer than a tail needs, and fast
MAX_ENLARGEMENT = 2.0
ROOM = 2.6  # of the square root of the area: kept around the mask, for the tail
STRETCH_REACH_PX = 40
BLACK_PERCENT, WHITE_PERCENT = 1.0, 99.5

SHADOW_ROUNDS = 3  # a mask can hold several shadows, by several lamps
MIN_DARK_SHARE = 0.5  # of the mask: fewer dark pixels are a pattern, not an animal
MAX_DARK_SPREAD = 0.25  # of the step from dark to light: an evenly dark animal
SHADOW_THICK = 0.06  # of the square root of the dark part's area: a light part with a smaller radius is a tail
SHADOW_AREA = 0.06  # of the dark part: lighter parts below it are ears and feet
THIN = 0.085  # of the square root of the body's area: radius of what is too thin for a body
FAINT = 0.3  # saliency that may still belong to an animal (as in cleaning masks)
SALIENCY_RANGE = 32.0  # saliency as a layer for tracing: a tail that the network is half sure of counts in full
MIN_COLOUR = 2.0  # spread of a colour, of 255: below it the picture is grey
EDGE_PX = 2  # of what is kept
STUB = 0.35  # of it: a thin part no longer than this is an ear or a foot, and stays beside a tail that was found

Mask = Bool[np.ndarray, "h w"]
Grey = UInt8[np.ndarray, "h w"]
Layer = Float32[np.ndarray, "h w"]


def refine_outline(
    picture: UInt8[np.ndarray, "h w 3"], saliency: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Take shadows out of a soft mask and draw the tail into it.

    Args:
        picture: sRGB.
        saliency: In [0, 1], something above one half: the largest such part is the animal.

    Returns:
        The saliency where the animal is, the tail with an edge about a pixel wide, 0 elsewhere.
    """
    animal = _largest(saliency > 0.5)
    left, top, right, bottom = _room_around(animal)
    size = float(np.sqrt(np.count_nonzero(animal)))
    scale = min(BODY_PX / size, MAX_ENLARGEMENT)
    wide, high = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(picture[top:bottom, left:right], (wide, high), interpolation=how)
    coarse = _largest(cv2.resize(animal[top:bottom, left:right].astype(np.float32), (wide, high)) > 0.5)
    grey = _stretched(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), coarse)

    kept = without_shadows(grey, coarse)
    found = cv2.resize(np.where(animal, saliency, 0)[top:bottom, left:right], (wide, high)) * SALIENCY_RANGE
    if kept.sum() == coarse.sum() and _with_tail([found], coarse)[1].any():
        return saliency  # the network drew the tail itself, and sees more than lines
    kept, tail = _with_tail([grey.astype(np.float32), *_colours(small)], kept)
    if not tail.any() and kept.sum() == coarse.sum():
        return saliency
    window = left, top, right, bottom
    near = cv2.dilate(kept.astype(np.uint8), disc(EDGE_PX)).astype(np.float32)
    faint = _part_of(saliency > FAINT, animal)  # all that could later be taken for a part of the animal
    rest = np.where(faint, np.minimum(saliency, _at_full_size(near, window, saliency.shape)), saliency)
    dropped = _at_full_size((coarse & ~kept).astype(np.float32), window, saliency.shape)
    added = _at_full_size(tail, window, saliency.shape)
    return np.maximum(rest * (1 - dropped), added).astype(np.float32)


def without_shadows(grey: Grey, mask: Mask) -> Mask:
    """Drop large parts that are lighter than an evenly dark animal and darker than what surrounds it.

    The rule is for a dark animal on a bright floor; elsewhere, and where light and dark do not fall apart, the mask
    stays. A dark animal with a large light patch loses that patch.
    """
    for _ in range(SHADOW_ROUNDS):
        fewer = _without_lightest(grey, mask)
        if fewer is None:
            break
        mask = fewer
    return mask


def _without_lightest(grey: Grey, mask: Mask) -> Mask | None:
    """One round of `without_shadows`; None where nothing is to be dropped."""
    solid = mask.astype(np.uint8)
    around = (cv2.dilate(solid, disc(15)) > 0) & (cv2.dilate(solid, disc(5)) == 0)
    threshold, _ = cv2.threshold(grey[mask][:, None], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dark, light = mask & (grey <= threshold), mask & (grey > threshold)
    if not (dark.any() and light.any() and around.any()):
        return None
    dark_grey, light_grey = float(np.median(grey[dark])), float(np.median(grey[light]))
    spread = 1.48 * float(np.median(np.abs(grey[dark] - dark_grey)))
    even = spread <= MAX_DARK_SPREAD * (light_grey - dark_grey)
    between = dark_grey < light_grey < float(np.median(grey[around]))
    if not (even and between and np.count_nonzero(dark) >= MIN_DARK_SHARE * np.count_nonzero(mask)):
        return None
    thick = SHADOW_THICK * float(np.sqrt(np.count_nonzero(dark)))
    opened = cv2.morphologyEx(light.astype(np.uint8), cv2.MORPH_OPEN, disc(thick))
    labels, stats = _parts(opened > 0)
    large = stats[:, cv2.CC_STAT_AREA] > SHADOW_AREA * np.count_nonzero(dark)
    large[0] = False  # everything else
    if not large.any():
        return None
    shadow = (cv2.dilate(large[labels].astype(np.uint8), disc(thick)) > 0) & light
    rest = cv2.morphologyEx((mask & ~shadow).astype(np.uint8), cv2.MORPH_OPEN, disc(2)) > 0
    return _largest(rest) if rest.any() else None


def _with_tail(layers: list[Layer], mask: Mask) -> tuple[Mask, Float32[np.ndarray, "h w"]]:
    """The body with its ears and feet, and the tail, soft; the mask as it is and nothing where no tail is found."""
    nothing = np.zeros(mask.shape, np.float32)
    size = float(np.sqrt(np.count_nonzero(mask)))
    thick = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(THIN * size)) > 0
    if not thick.any():
        return mask, nothing
    body = _largest(thick)
    tail = trace_tail(layers, body)
    if tail is None:
        return mask, nothing
    labels, stats = _parts(mask & ~body)
    stub = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) < STUB * size
    stub[0] = False
    drawn = np.zeros(mask.shape, np.uint8)
    outline = (tail.outline() * 16).round().astype(np.int32)  # sixteenths of a pixel
    cv2.fillPoly(drawn, [outline], 255, lineType=cv2.LINE_AA, shift=4)
    return body | stub[labels], drawn.astype(np.float32) / 255


def _colours(picture: UInt8[np.ndarray, "h w 3"]) -> list[Layer]:
    """Red against green and yellow against blue (CIELAB), where the picture has colours."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    return [lab[..., i] for i in (1, 2) if float(lab[..., i].std()) > MIN_COLOUR]


def _room_around(mask: Mask) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    room = ROOM * np.sqrt(np.count_nonzero(mask))
    height, width = mask.shape
    return (
        int(max(0, columns[0] - room)),
        int(max(0, rows[0] - room)),
        int(min(width, columns[-1] + room)),
        int(min(height, rows[-1] + room)),
    )


def _at_full_size(
    values: Float32[np.ndarray, "a b"], window: tuple[int, int, int, int], shape: tuple[int, ...]
) -> Float32[np.ndarray, "h w"]:
    left, top, right, bottom = window
    full = np.zeros(shape, np.float32)
    full[top:bottom, left:right] = cv2.resize(values, (right - left, bottom - top))
    return full


def _stretched(grey: Grey, mask: Mask) -> Grey:
    """Contrast by the greys of the mask and its surroundings."""
    near = cv2.dilate(mask.astype(np.uint8), disc(STRETCH_REACH_PX)) > 0
    black, white = np.percentile(grey[near], [BLACK_PERCENT, WHITE_PERCENT])
    return (((grey - black) / max(white - black, 1.0)).clip(0, 1) * 255).astype(np.uint8)


def _largest(mask: Mask) -> Mask:
    labels, stats = _parts(mask)
    return labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


def _parts(mask: Mask) -> tuple[Int32[np.ndarray, "h w"], Int32[np.ndarray, "n 5"]]:
    """Labels of the connected parts, 0 outside, and OpenCV's figures of each label."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return labels.astype(np.int32), stats.astype(np.int32)


def _part_of(mask: Mask, inside: Mask) -> Mask:
    """The connected part of a mask that holds another one."""
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]
    return labels == labels[inside][0]
