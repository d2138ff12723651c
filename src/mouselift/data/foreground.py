"""Which pixels are the mouse: a soft mask for a plain picture, and the checks that every mask passes."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mouselift.data.components import (
    Window,
    bounding_box,
    component_areas,
    components,
    without_small_holes,
)
from mouselift.data.outline import refine_outline
from mouselift.data.proposals import overlap, propose_windows
from mouselift.data.saliency import Network, u2netp, window_saliency
from mouselift.errors import InputError

WINDOW_MARGIN = 0.4  # around the animal, of its longer side; on real frames 0.2 does as well, 1.0 worse
BOX_MARGIN = 0.15  # boxes are drawn roughly: an animal may reach beyond by this share of the longer side
MIN_SALIENCY = 0.3  # where the highest value stays below it, nothing stands out
CAGE_AREA = 0.2  # a foreground above this share of the picture may be the cage
SEARCH_CONFIDENCE = 0.9  # mean saliency of an animal found inside it; furniture and bedding reached 0.8
SEARCH_AREA = (0.01, 0.6)  # the animal's share of a search window
SEARCH_MARGINS = (1.0, 0.4)  # around a region that may be an animal: a window twice as long, then a narrower one
CANDIDATES = 3  # such regions are looked at
ALIKE = 0.3  # of a thing's contrast: greys that differ less may be two mice of one cage

SECOND_SUBJECT = 0.35  # a second part above this share of the largest is another animal
FAINT = 0.3  # a tail fades out along its length: down to here it belongs to the animal it hangs on
HOLE_AREA = 0.02  # holes up to this share of the animal are filled

ELSEWISE = "say where it is with --box x0,y0,x1,y1, or give a mask with --mask"

logger = logging.getLogger(__name__)


def segment_foreground(
    image: Float[Tensor, "3 h w"],
    box: Window | None = None,
    network: Network | None = None,
    *,
    refined: bool = True,
) -> Float[Tensor, "1 h w"]:
    """Find the animal in a plain picture and draw its soft mask.

    A first pass of the network finds the animal, a second one draws it from a window around it, where it is large in
    the network's input. Where the first one finds nothing, several things, or so much that it may be the cage, compact
    regions that differ from their surroundings are looked at instead. In the end shadows are taken out and the tail is
    traced (`mouselift.data.outline`).

    Args:
        image: sRGB in [0, 1].
        box: Left, top, right, bottom in pixels (right and bottom outside): where the animal is; nothing far
            beyond it is foreground.
        network: What finds the foreground; U2-Net-p when not given.
        refined: Take shadows out and trace the tail.

    Returns:
        Foreground in [0, 1], its highest value 1, to be cleaned (`clean_mask`).

    Raises:
        InputError: If nothing or more than one animal stands out, if the box does not lie in the picture, or
            if the packages of the extra `foreground` are missing.
    """
    saliency, place = find_foreground(image, box, network)
    if refined:
        saliency = torch.from_numpy(refine_outline(_as_bytes(image), saliency[0].numpy()))[None]
    return _only_inside(saliency, place)


def find_foreground(
    image: Float[Tensor, "3 h w"], box: Window | None = None, network: Network | None = None
) -> tuple[Float[Tensor, "1 h w"], Window]:
    """What the network draws: `segment_foreground` before shadows are taken out and the tail is traced.

    Returns:
        Foreground in [0, 1], its highest value 1; and the window outside which nothing is foreground.

    Raises:
        InputError: As `segment_foreground`.
    """
    height, width = image.shape[-2:]
    network = network or u2netp()
    if box is None:
        place = (0, 0, width, height)
        subject = _find(image, network)
    else:
        place = _around(box, width, height)
        coarse = _saliency_in(image, place, _grown(place, 0, width, height), network)
        check_single_subject(coarse)
        subject = bounding_box(next(components(coarse[0] > 0.5)))
    return _saliency_in(image, place, _grown(subject, WINDOW_MARGIN, width, height), network), place


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


def _find(image: Float[Tensor, "3 h w"], network: Network) -> Window:
    """Where the animal is in a picture of which nothing is known.

    Raises:
        InputError: If nothing or more than one animal stands out.
    """
    height, width = image.shape[-2:]
    whole = (0, 0, width, height)
    coarse = _only_inside(window_saliency(image, whole, network), whole)[0]
    peak = float(coarse.max())
    things = [_thing(image, part, whole) for part in components(coarse > 0.5 * max(peak, MIN_SALIENCY))]
    rivals = [other for other in things[1:] if other.area > SECOND_SUBJECT * things[0].area]
    if any(_alike(things[0], other) for other in rivals):
        raise InputError(f"expected one mouse, found {1 + len(rivals)} parts of similar size: {ELSEWISE}")
    if things and not rivals and things[0].area <= CAGE_AREA * height * width:
        return things[0].bounds
    found = _look_closer(image, propose_windows(_as_bytes(image), CANDIDATES), network)
    if found:
        twins = [other for other in found[1:] if _alike(found[0], other)]
        if twins:
            raise InputError(f"expected one mouse, found {1 + len(twins)} things that look alike: {ELSEWISE}")
        logger.warning(
            "the network does not find one mouse in the whole picture: taking what stands out at --box %d,%d,%d,%d; "
            "check the mask",
            *found[0].bounds,
        )
        return found[0].bounds
    if not things:
        raise InputError(f"expected a mouse that stands out, found none: {ELSEWISE}")
    if rivals:
        raise InputError(f"expected one mouse, found {1 + len(rivals)} parts of similar size: {ELSEWISE}")
    return things[0].bounds


@dataclass(frozen=True, kw_only=True)
class _Thing:
    """Something whole that stands out in a window.

    Attributes:
        bounds: In the picture, pixels.
        area: Pixels.
        grey: Its mean, 0 to 1.
        around: Mean grey of the rest of the window.
    """

    bounds: Window
    area: float
    grey: float
    around: float


def _alike(a: _Thing, b: _Thing) -> bool:
    """Whether two things in different places may both be mice: of about the same size and grey."""
    apart = overlap(a.bounds, b.bounds) == 0
    size = min(a.area, b.area) > SECOND_SUBJECT * max(a.area, b.area)
    return apart and size and abs(a.grey - b.grey) < ALIKE * abs(a.grey - a.around)


def _thing(image: Float[Tensor, "3 h w"], part: Bool[Tensor, "a b"], window: Window) -> _Thing:
    left, top, right, bottom = window
    grey = image[:, top:bottom, left:right].mean(0)
    x0, y0, x1, y1 = bounding_box(part)
    return _Thing(
        bounds=(left + x0, top + y0, left + x1, top + y1),
        area=float(part.sum()),
        grey=float(grey[part].mean()),
        around=float(grey[~part].mean()) if not bool(part.all()) else 0.0,
    )


def _look_closer(image: Float[Tensor, "3 h w"], candidates: list[Window], network: Network) -> list[_Thing]:
    """The whole animals that the network sees, without doubt, in windows about the candidates.

    The wider of two windows shows more of what an animal stands out from; the narrower one leaves out walls.
    """
    found = []
    for candidate in candidates:
        for margin in SEARCH_MARGINS:
            seen = _sure_things(image, _grown(candidate, margin, image.shape[-1], image.shape[-2]), network)
            if seen:
                found += seen
                break
    return found


def _sure_things(image: Float[Tensor, "3 h w"], window: Window, network: Network) -> list[_Thing]:
    left, top, right, bottom = window
    picture = (0, 0, image.shape[-1], image.shape[-2])
    saliency = window_saliency(image, window, network)[0, top:bottom, left:right]
    found = []
    for part in components(saliency > 0.5):
        thing = _thing(image, part, window)
        # Cut off by the window, not by the picture: an animal may reach beyond the picture itself.
        cut = any(edge == at != end for edge, at, end in zip(thing.bounds, window, picture, strict=True))
        sure = float(saliency[part].mean()) > SEARCH_CONFIDENCE
        if sure and not cut and SEARCH_AREA[0] < thing.area / part.numel() < SEARCH_AREA[1]:
            found.append(thing)
    return found


def _saliency_in(
    image: Float[Tensor, "3 h w"], place: Window, window: Window, network: Network
) -> Float[Tensor, "1 h w"]:
    """What the network finds in a window, zero outside `place`, its highest value raised to 1.

    U2-Net's authors raise it too; here only if something stands out.
    """
    saliency = _only_inside(window_saliency(image, window, network), place)
    peak = saliency.max()
    if float(peak) < MIN_SALIENCY:
        raise InputError(f"expected a mouse that stands out, found none: {ELSEWISE}")
    return saliency / peak


def _as_bytes(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def _only_inside(mask: Float[Tensor, "1 h w"], place: Window) -> Float[Tensor, "1 h w"]:
    left, top, right, bottom = place
    inside = torch.zeros_like(mask)
    inside[:, top:bottom, left:right] = mask[:, top:bottom, left:right]
    return inside


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
