"""Which pixels are the mouse: a soft mask for a plain picture, and the checks that every mask passes."""

import logging
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.data.components import (
    Window,
    bounding_box,
    component_areas,
    components,
    without_small_holes,
)
from mouselift.data.saliency import Network, u2netp, window_saliency
from mouselift.errors import InputError

WINDOW_MARGIN = 0.4  # around the animal, of its longer side; on real frames 0.2 does as well, 1.0 worse
BOX_MARGIN = 0.15  # boxes are drawn roughly: an animal may reach beyond by this share of the longer side
MIN_SALIENCY = 0.3  # where the highest value stays below it, nothing stands out
CAGE_AREA = 0.2  # a foreground above this share of the picture may be the cage
SEARCH_CONFIDENCE = 0.9  # mean saliency of an animal found inside it; furniture and bedding reached 0.8
SEARCH_AREA = (0.01, 0.4)  # the animal's share of a search window

SECOND_SUBJECT = 0.35  # a second part above this share of the largest is another animal
FAINT = 0.3  # a tail fades out along its length: down to here it belongs to the animal it hangs on
HOLE_AREA = 0.02  # holes up to this share of the animal are filled

ELSEWISE = "say where it is with --box x0,y0,x1,y1, or give a mask with --mask"

logger = logging.getLogger(__name__)


def segment_foreground(
    image: Float[Tensor, "3 h w"], box: Window | None = None, network: Network | None = None
) -> Float[Tensor, "1 h w"]:
    """Find the animal in a plain picture and draw its soft mask.

    Two passes: a coarse one finds the animal, a second one draws it from a window around it, where it is large
    in the network's input. A coarse foreground so large that it may be the cage is searched with smaller
    windows.

    Args:
        image: sRGB in [0, 1].
        box: Left, top, right, bottom in pixels (right and bottom outside): where the animal is; nothing far
            beyond it is foreground.
        network: What finds the foreground; U2-Net-p when not given.

    Returns:
        Foreground in [0, 1], its highest value 1, to be cleaned (`clean_mask`).

    Raises:
        InputError: If nothing or more than one animal stands out, if the box does not lie in the picture, or
            if the packages of the extra `foreground` are missing.
    """
    height, width = image.shape[-2:]
    place = (0, 0, width, height) if box is None else _around(box, width, height)
    network = network or u2netp()

    coarse = _saliency_in(image, place, _grown(place, 0, width, height), network)
    check_single_subject(coarse)
    subject = bounding_box(next(components(coarse[0] > 0.5)))
    if box is None and float((coarse > 0.5).float().mean()) > CAGE_AREA:
        subject = _search_inside(image, subject, network) or subject
    return _saliency_in(image, place, _grown(subject, WINDOW_MARGIN, width, height), network)


def check_single_subject(mask: Float[Tensor, "1 h w"]) -> None:
    """Refuse masks that show no animal, or several.

    Raises:
        InputError: If nothing is above one half, or a second part is nearly as large as the largest.
    """
    areas = component_areas(mask[0] > 0.5)
    if not areas:
        raise InputError(f"expected one mouse, found none: {ELSEWISE}")
    animals = [area for area in areas if area > SECOND_SUBJECT * areas[0]]
    if len(animals) > 1:
        raise InputError(f"expected one mouse, found {len(animals)} parts of similar size: {ELSEWISE}")


def clean_mask(mask: Float[Tensor, "1 h w"]) -> Float[Tensor, "1 h w"]:
    """Keep the largest part together with what fades out from it, and fill small holes.

    Args:
        mask: In [0, 1], something above one half.

    Returns:
        The same values inside that part, 1 in the filled holes, 0 elsewhere.
    """
    core = next(components(mask[0] > 0.5))
    subject = next(part for part in components(mask[0] > FAINT) if bool((part & core).any()))
    filled = without_small_holes(subject, HOLE_AREA * float(core.sum()))
    return torch.where(filled & ~subject, 1.0, mask[0] * subject)[None]


def parse_box(text: str) -> Window:
    """Read "x0,y0,x1,y1": left, top, right, bottom in pixels.

    Raises:
        InputError: If the text is something else.
    """
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"expected a box x0,y0,x1,y1 in whole pixels, found {text!r}") from error
    return left, top, right, bottom


def _saliency_in(
    image: Float[Tensor, "3 h w"], place: Window, window: Window, network: Network
) -> Float[Tensor, "1 h w"]:
    """What the network finds in a window, zero outside `place`, its highest value raised to 1.

    U2-Net's authors raise it too; here only if something stands out.
    """
    left, top, right, bottom = place
    outside = torch.ones(1, *image.shape[-2:], dtype=torch.bool)
    outside[:, top:bottom, left:right] = False
    saliency = window_saliency(image, window, network).masked_fill(outside, 0)
    peak = saliency.max()
    if float(peak) < MIN_SALIENCY:
        raise InputError(f"expected a mouse that stands out, found none: {ELSEWISE}")
    return saliency / peak


def _search_inside(image: Float[Tensor, "3 h w"], region: Window, network: Network) -> Window | None:
    """Look for one animal inside a large foreground, which may be the cage.

    An animal in a cage stands out whole in at least one of several smaller windows, while an animal that
    fills the picture is cut by all of them.

    Returns:
        Its bounding box; None if no window shows a whole animal.

    Raises:
        InputError: If the windows show animals in different places.
    """
    found: list[tuple[float, Window]] = []
    for window in _search_windows(region):
        left, top, right, bottom = window
        saliency = window_saliency(image, window, network)[0, top:bottom, left:right]
        for part in components(saliency > 0.5):
            cut = bool(part[[0, -1]].any()) or bool(part[:, [0, -1]].any())
            confidence, share = float(saliency[part].mean()), float(part.float().mean())
            if not cut and confidence > SEARCH_CONFIDENCE and SEARCH_AREA[0] < share < SEARCH_AREA[1]:
                x0, y0, x1, y1 = bounding_box(part)
                found.append((confidence, (left + x0, top + y0, left + x1, top + y1)))
    if not found:
        return None
    _, best = max(found)
    if not all(_overlap(best, other) for _, other in found):
        raise InputError(f"expected one mouse, found several things that stand out: {ELSEWISE}")
    logger.warning(
        "the foreground looks like a cage: taking what stands out inside it, --box %d,%d,%d,%d; check the mask",
        *best,
    )
    return best


def _search_windows(region: Window) -> Iterator[Window]:
    """Nine overlapping windows, three by three, of half the region's longer side."""
    left, top, right, bottom = region
    side = max(right - left, bottom - top) // 2
    width, height = min(side, right - left), min(side, bottom - top)
    for row in range(3):
        for column in range(3):
            x = left + column * (right - left - width) // 2
            y = top + row * (bottom - top - height) // 2
            yield x, y, x + width, y + height


def _overlap(a: Window, b: Window) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _around(box: Window, width: int, height: int) -> Window:
    """The user's box with its margin."""
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InputError(
            f"expected a box x0,y0,x1,y1 with x0 < x1 <= {width} and y0 < y1 <= {height}, "
            f"found {','.join(map(str, box))}"
        )
    margin = round(BOX_MARGIN * max(right - left, bottom - top))
    return _clipped(left - margin, top - margin, right + margin, bottom + margin, width, height)


def _grown(window: Window, margin: float, width: int, height: int) -> Window:
    """A square about the window, `margin` longer than its longer side, cut off at the picture's edges."""
    left, top, right, bottom = window
    x, y = (left + right) / 2, (top + bottom) / 2
    half = (1 + margin) * max(right - left, bottom - top) / 2
    return _clipped(int(x - half), int(y - half), int(x + half) + 1, int(y + half) + 1, width, height)


def _clipped(left: int, top: int, right: int, bottom: int, width: int, height: int) -> Window:
    return max(0, left), max(0, top), min(width, right), min(height, bottom)
