import pytest
import torch
from torch import Tensor

from mouselift.data.components import bounding_box, component_areas, components, without_small_holes


def drawn(*rows: str) -> Tensor:
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


TWO_PARTS = drawn(
    "##....",
    "##..#.",
    "..#...",
    ".....#",
    "....##",
)


def test_parts_come_largest_first_and_corners_connect() -> None:
    parts = list(components(TWO_PARTS))
    assert [int(part.sum()) for part in parts] == component_areas(TWO_PARTS) == [5, 3, 1]
    assert parts[0][2, 2]  # hangs on by a corner
    assert torch.equal(torch.stack(parts).sum(0) == 1, TWO_PARTS)


def test_an_empty_mask_has_no_parts() -> None:
    empty = torch.zeros(3, 4, dtype=torch.bool)
    assert list(components(empty)) == []
    assert component_areas(empty) == []
    with pytest.raises(ValueError, match="no bounding box"):
        bounding_box(empty)


def test_the_bounding_box_is_tight() -> None:
    left, top, right, bottom = bounding_box(TWO_PARTS)
    assert (left, top, right, bottom) == (0, 0, 6, 5)
    assert bounding_box(drawn("....", ".##.", "....")) == (1, 1, 3, 2)


def test_only_small_holes_are_filled() -> None:
    mask = drawn(
        "#######.",
        "#.#...#.",
        "###...#.",
        "#######.",
    )
    filled = without_small_holes(mask, max_area=1)
    assert filled[1, 1]
    assert not filled[1, 4]
    assert not filled[:, 7].any()
    assert bool((filled >= mask).all())
    assert int(without_small_holes(mask, max_area=6).sum()) == 28
