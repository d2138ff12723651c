"""What is learned from one camera: colours, the background without the animal, and masks drawn from both."""

import numpy as np
import pytest
from cages import cage, overlap, picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mouselift.data.segmentation.appearance import (
    CHROMA_BINS,
    LUMA_BINS,
    RATIO_BINS,
    TINT_BINS,
    Odds,
    change_bins,
    colour_bins,
    learn_changes,
    learn_colours,
    to_ycc,
)
from mouselift.data.segmentation.background import Background, estimate_background
from mouselift.data.segmentation.frame import draw_animal, gather_evidence
from mouselift.data.segmentation.model import learn_camera
from mouselift.data.segmentation.parts import find_parts
from mouselift.data.segmentation.regions import box_of, fill_holes, grown, size_of, soft_edge
from mouselift.errors import InputError

SIZE = 160
PIXELS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(3)))


def disc(x: float, y: float, radius: float, size: int = SIZE) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] + 0.5
    return np.hypot(columns - x, rows - y) < radius


def animal(x: float, y: float) -> np.ndarray:
    """A body and a thin tail to its right."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    return disc(x, y, 18) | ((np.abs(rows - y) < 2) & (columns > x) & (columns < x + 48))


def body(x: float, y: float) -> np.ndarray:
    """A rough mask without the tail."""
    return disc(x, y, 17)


# ---- colours


@given(PIXELS, PIXELS)
def test_bins_lie_in_their_histograms(a: np.ndarray, b: np.ndarray) -> None:
    b = np.resize(b, a.shape)
    assert ((colour_bins(a) >= 0) & (colour_bins(a) < LUMA_BINS * CHROMA_BINS**2)).all()
    assert ((change_bins(a, b) >= 0) & (change_bins(a, b) < RATIO_BINS * TINT_BINS)).all()


def test_colours_of_the_animal_speak_for_it_and_those_beside_it_against() -> None:
    mask = disc(80, 80, 20)
    ycc = to_ycc(picture(cage(0), mask, 1))
    odds = learn_colours([(ycc, mask, ~mask)])[colour_bins(ycc)]
    assert np.median(odds[mask]) > 2
    assert np.median(odds[~mask]) < -2


def test_a_shadow_beside_the_animal_speaks_against_it_and_what_first_masks_lack_does_not() -> None:
    floor, mask = cage(0, level=180), disc(80, 80, 20)
    shaded = np.where(disc(80, 95, 30), 0.8, 1.0) * floor
    ycc = to_ycc(picture(shaded, mask, 1, animal=25))
    background = Background(
        median=to_ycc(picture(floor, np.zeros_like(mask), 2)),
        known=np.ones_like(mask),
        lodging=np.zeros(mask.shape, np.float32),
    )
    odds = learn_changes([(ycc, mask, grown(mask, 20) & ~mask)], background)
    assert odds is not None
    grey = to_ycc(np.full((1, 1, 3), 180, np.uint8))[0]

    def at(luma: int) -> float:
        pixel = grey.copy()
        pixel[0, 0] = luma
        return float(odds[change_bins(pixel, grey)][0])

    assert max(at(180), at(144)) < -2  # unchanged, shaded
    assert 1 < at(90) < at(25)  # a grey tail, the black animal


def test_without_any_known_background_there_is_nothing_to_learn_about_changes() -> None:
    mask = disc(80, 80, 20)
    nothing = Background(
        median=np.zeros((SIZE, SIZE, 3), np.uint8),
        known=np.zeros_like(mask),
        lodging=np.zeros(mask.shape, np.float32),
    )
    assert learn_changes([(to_ycc(picture(cage(0), mask, 1)), mask, ~mask)], nothing) is None


# ---- background


@given(arrays.arrays(np.uint8, (5, 3, 4, 3)), arrays.arrays(bool, (5, 3, 4)))
def test_the_background_is_the_median_of_what_is_not_covered(frames: np.ndarray, covered: np.ndarray) -> None:
    found = estimate_background(list(frames), list(covered), list(covered))
    for row, column in np.ndindex(3, 4):
        uncovered = frames[~covered[:, row, column], row, column]
        assert found.known[row, column] == (len(uncovered) >= 3)
        if len(uncovered) >= 3:
            assert (found.median[row, column] == np.sort(uncovered, 0)[(len(uncovered) - 1) // 2]).all()
            assert found.lodging[row, column] == 0


def test_bands_do_not_show() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 300, 5, 3), dtype=np.uint8)
    found = estimate_background(list(frames), [np.zeros((300, 5), bool)] * 3, [np.zeros((300, 5), bool)] * 3)
    np.testing.assert_array_equal(found.median, np.median(frames, axis=0))


def test_where_an_animal_stays_the_background_is_unknown_and_its_stay_is_evidence() -> None:
    mask = disc(80, 80, 20)
    frames = [to_ycc(picture(cage(0), mask, seed)) for seed in range(6)]
    found = estimate_background(frames, [mask] * 6, [grown(mask, 5)] * 6)
    assert not found.known[grown(mask, 4)].any()
    assert found.known[~grown(mask, 6)].all()
    assert (found.lodging[mask] > 0).all()
    assert (found.lodging[grown(mask, 4) & ~mask] < 0).all()


# ---- masks


@pytest.mark.parametrize("moves", [True, False], ids=["moving", "still"])
def test_an_animal_is_found_again_with_its_tail_though_first_masks_lack_it(moves: bool) -> None:
    places = [(40 + 12 * i * moves, 50 + 10 * i * moves) for i in range(6)]
    frames = [picture(cage(0), animal(*place), seed) for seed, place in enumerate(places)]
    model = learn_camera(frames, [body(*place) for place in places], "top")

    where = (66, 100) if moves else (41, 51)
    ycc = to_ycc(picture(cage(0), animal(*where), 99))
    parts = find_parts(ycc, model.odds, model.coarse, model.usual_area)
    assert parts[0].mask[round(where[1]), round(where[0])]
    mask = draw_animal(gather_evidence(ycc, parts[0].mask, model.odds, model.background), parts[0].mask)
    assert overlap(mask, animal(*where)) > 0.95
    assert mask[round(where[1]), round(where[0]) + 44]  # the tip of the tail


def test_an_animal_that_looks_like_its_cage_is_refused() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(40, 60, (SIZE, SIZE, 1), dtype=np.uint8).repeat(3, -1) for _ in range(5)]
    with pytest.raises(InputError, match=r"camera top: expected an animal that looks unlike .* in only \d of 5"):
        learn_camera(frames, [body(30 + 20 * i, 60) for i in range(5)], "top")


def test_what_other_cameras_do_not_confirm_is_left_out() -> None:
    flat = Odds(colour=np.full(LUMA_BINS * CHROMA_BINS**2, 0.2, np.float32), change=None)
    ycc = np.full((SIZE, SIZE, 3), 128, np.uint8)
    place, confirmed = disc(80, 80, 20), np.arange(SIZE)[None].repeat(SIZE, 0) < 85
    free = draw_animal(gather_evidence(ycc, place, flat), place)
    checked = draw_animal(gather_evidence(ycc, place, flat), place, confirmed)
    assert free[80, 95]
    assert not checked[:, 85:].any()
    np.testing.assert_array_equal(checked[:, :85] & free[:, :85], checked[:, :85])


def test_nothing_that_looks_like_the_animal_gives_an_empty_mask() -> None:
    against = Odds(colour=np.full(LUMA_BINS * CHROMA_BINS**2, -3, np.float32), change=None)
    place = disc(80, 80, 20)
    evidence = gather_evidence(np.full((SIZE, SIZE, 3), 128, np.uint8), place, against)
    assert not draw_animal(evidence, place).any()


# ---- regions


@given(st.integers(3, 40), st.integers(0, 30))
def test_growing_a_disc_grows_its_radius(radius: int, by: int) -> None:
    found = size_of(grown(disc(100, 100, radius, 200), by))
    assert found == pytest.approx(2 * (radius + by), abs=2 + 0.1 * by)  # the distance is a chamfer's


def test_small_holes_are_filled_and_loops_stay_open() -> None:
    ring = disc(80, 80, 40) & ~disc(80, 80, 20) & ~disc(110, 80, 2)
    filled = fill_holes(ring, 50)
    assert filled[80, 110]
    assert not filled[80, 80]
    assert not filled[~disc(80, 80, 40)].any()


def test_a_soft_edge_keeps_the_contour_and_is_about_a_pixel_wide() -> None:
    mask = disc(80, 80, 30)
    soft = soft_edge(mask)
    assert overlap(soft > 127, mask) > 0.995
    between = (soft > 0) & (soft < 255)
    assert not between[~(grown(mask, 1.5) & grown(~mask, 1.5))].any()
    assert between.any()


def test_bounds_of_a_mask() -> None:
    mask = np.zeros((10, 20), bool)
    mask[3:7, 11] = True
    assert box_of(mask) == (11, 3, 12, 7)
