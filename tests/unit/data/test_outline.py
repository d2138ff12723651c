"""Tails, shadows and proposals on drawings whose truth is known."""

import cv2
import numpy as np
import pytest

from mouselift.data.outline import refine_outline, without_shadows
from mouselift.data.proposals import overlap, propose_windows
from mouselift.data.tail import trace_tail

ALONG = np.linspace(0, 1, 30)
TAIL = np.stack([150 + 95 * ALONG, 110 - 12 * np.sin(np.pi * ALONG) + 30 * ALONG**2], 1)  # from the body outwards


def drawing(animal: int, floor: int, tail: bool = True) -> np.ndarray:
    """A grey ellipse, with a tail, 200 px high and 300 px wide."""
    grey = np.full((200, 300), floor, np.uint8)
    cv2.ellipse(grey, (110, 110), (45, 28), 0, 0, 360, animal, -1, cv2.LINE_AA)
    if tail:
        cv2.polylines(grey, [(TAIL * 16).round().astype(np.int32)], False, animal, 4, cv2.LINE_AA, 4)
    noise = np.random.default_rng(0).normal(0, 3, grey.shape)
    return (grey + noise).clip(0, 255).astype(np.uint8)


def body() -> np.ndarray:
    return drawing(255, 0, tail=False) > 127


def colour(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


@pytest.mark.parametrize(("animal", "floor"), [(200, 60), (40, 200)])
def test_a_tail_is_traced_to_its_tip_whether_bright_or_dark(animal: int, floor: int) -> None:
    found = trace_tail([drawing(animal, floor).astype(np.float32)], body())
    assert found is not None
    assert np.linalg.norm(found.middle[-1] - TAIL[-1]) < 6
    area, length = (
        np.count_nonzero((drawing(255, 0) > 127) & ~body()),
        np.linalg.norm(np.diff(TAIL, axis=0), axis=1).sum(),
    )
    assert np.median(found.widths_px) == pytest.approx(area / length, abs=1)
    for point in TAIL[4::5]:
        assert np.linalg.norm(found.middle - point, axis=1).min() < 3


def test_without_a_tail_none_is_traced() -> None:
    assert trace_tail([drawing(200, 60, tail=False).astype(np.float32)], body()) is None


def test_a_line_that_passes_by_is_no_tail() -> None:
    grey = drawing(200, 60, tail=False)
    cv2.line(grey, (0, 60), (299, 60), 200, 4)
    assert trace_tail([grey.astype(np.float32)], body()) is None


def test_a_tail_that_the_network_missed_joins_the_mask() -> None:
    saliency = body().astype(np.float32)
    refined = refine_outline(colour(drawing(200, 60)), saliency)
    with_tail = drawing(255, 0) > 127
    before = np.count_nonzero((saliency > 0.5) & with_tail) / np.count_nonzero((saliency > 0.5) | with_tail)
    after = np.count_nonzero((refined > 0.5) & with_tail) / np.count_nonzero((refined > 0.5) | with_tail)
    assert before < 0.93
    assert after > 0.96


def test_a_mask_that_has_its_tail_stays() -> None:
    saliency = (drawing(255, 0) > 127).astype(np.float32)
    assert (refine_outline(colour(drawing(200, 60)), saliency) == saliency).all()


def shadowed() -> tuple[np.ndarray, np.ndarray]:
    """A dark animal on a bright floor with a shadow beside it; and the mask of both."""
    grey = np.full((200, 300), 210, np.uint8)
    cv2.ellipse(grey, (118, 126), (45, 28), 0, 0, 360, 120, -1, cv2.LINE_AA)
    shadow = grey < 165
    cv2.ellipse(grey, (110, 110), (45, 28), 0, 0, 360, 20, -1, cv2.LINE_AA)
    return grey, shadow | body()


def test_the_shadow_of_a_dark_animal_leaves_the_mask() -> None:
    grey, mask = shadowed()
    kept = without_shadows(grey, mask)
    assert np.count_nonzero(mask & ~body()) > 1000
    assert np.count_nonzero(kept & ~body()) < 150
    assert np.count_nonzero(body() & ~kept) < 100


def test_a_bright_animal_with_a_dark_side_is_kept() -> None:
    grey, mask = shadowed()
    assert (without_shadows(255 - grey, mask) == mask).all()


def test_the_likeliest_place_is_proposed_first() -> None:
    dice = np.random.default_rng(3)
    grey = drawing(220, 60, tail=False)
    for x, y in dice.uniform(0, 1, (150, 2)) * (300, 200):  # bedding
        cv2.line(grey, (int(x), int(y)), (int(x) + 9, int(y) + 4), 120, 2)
    grey[body()] = 220
    windows = propose_windows(colour(grey), 3)
    assert overlap(windows[0], (65, 82, 155, 138)) > 0.8
    left, top, right, bottom = windows[0]
    assert right - left < 140
    assert bottom - top < 100


def test_an_even_picture_proposes_nothing() -> None:
    assert propose_windows(np.full((100, 150, 3), 128, np.uint8), 3) == []
