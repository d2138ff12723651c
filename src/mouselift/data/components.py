"""Connected parts of binary masks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from scipy import ndimage
from torch import Tensor

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are outside

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)  # a thin tail is often connected by corners only


def components(mask: Bool[Tensor, "h w"]) -> Iterator[Bool[Tensor, "h w"]]:
    """Every 8-connected part, the largest first."""
    labels, areas = _labelled(mask.numpy(), EIGHT_NEIGHBOURS)
    for label in np.argsort(-areas, kind="stable") + 1:
        yield torch.from_numpy(labels == label)


def component_areas(mask: Bool[Tensor, "h w"]) -> list[int]:
    """Areas of all 8-connected parts in pixels, the largest first."""
    _, areas = _labelled(mask.numpy(), EIGHT_NEIGHBOURS)
    return sorted(areas.tolist(), reverse=True)


def bounding_box(mask: Bool[Tensor, "h w"]) -> Window:
    """The smallest window that holds a mask.

    Raises:
        ValueError: If the mask is empty.
    """
    rows = mask.any(dim=1).nonzero()
    columns = mask.any(dim=0).nonzero()
    if not len(rows):
        raise ValueError("an empty mask has no bounding box")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def without_small_holes(mask: Bool[Tensor, "h w"], max_area: float) -> Bool[Tensor, "h w"]:
    """Fill holes of at most `max_area` pixels; larger ones, as inside the loop of a tail, stay open."""
    solid = mask.numpy()
    labels, areas = _labelled(ndimage.binary_fill_holes(solid) & ~solid)
    small = np.concatenate([[False], areas <= max_area])  # label 0 is everything that is no hole
    return torch.from_numpy(solid | small[labels])


def _labelled(mask: np.ndarray, structure: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels from 1 on, 0 for the rest, and the area of each label in pixels."""
    result: Any = ndimage.label(mask, structure=structure)  # typed as if it could return less
    labels, count = result
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]
