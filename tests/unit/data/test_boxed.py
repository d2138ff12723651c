"""Boxes hold all of a mask, and a store gives back what it got."""

import cv2
import numpy as np
import pytest

import mouselift.data.boxed as module
from mouselift.data.boxed import MaskStore, PixelWindow, boxed


def blob(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mask = np.zeros((90, 120), np.uint8)
    centre = (int(generator.integers(20, 100)), int(generator.integers(20, 70)))
    cv2.circle(mask, centre, 12, 255, -1, cv2.LINE_AA)
    return mask


def test_a_box_holds_the_mask_and_nothing_beside_it() -> None:
    mask = blob(0)
    small = boxed(mask)
    assert (small.width, small.height) == (120, 90)
    assert small.pixels.shape == (small.window.bottom - small.window.top, small.window.right - small.window.left)
    assert all(small.pixels[side].any() for side in (0, -1))
    assert np.array_equal(small.within(PixelWindow(0, 0, 120, 90)), mask)
    part = PixelWindow(small.window.left + 5, 0, 110, small.window.top + 9)
    assert np.array_equal(small.within(part), mask[part.slices])
    beyond = small.within(PixelWindow(-10, -4, 130, 95))
    assert np.array_equal(beyond[4:94, 10:130], mask)
    assert beyond.sum() == mask.sum()
    assert not boxed(np.zeros((9, 9), np.uint8)).within(PixelWindow(0, 0, 9, 9)).any()


@pytest.mark.parametrize("in_memory", [1 << 20, 100], ids=["in memory", "in a file"])
def test_a_store_gives_back_what_it_got(in_memory: int, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", in_memory)
    store, whole = MaskStore(tmp_path), PixelWindow(0, 0, 120, 90)
    masks = {instant: [blob(instant), blob(instant + 1), np.zeros((90, 120), np.uint8)] for instant in (3, 7, 50)}
    for instant, row in masks.items():
        store.put(instant, [boxed(mask) for mask in row])
        assert np.array_equal(store.get(3)[0].within(whole), masks[3][0])  # reading in between does no harm
    for instant in (50, 3, 7):
        found = [mask.within(whole) for mask in store.get(instant)]
        assert np.array_equal(found, masks[instant])
    assert 7 in store
    assert 8 not in store
    assert list(tmp_path.iterdir()) == []  # the file has no name: nothing is left, however this process ends
