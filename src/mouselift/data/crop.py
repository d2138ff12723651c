"""From a decoded frame to a framed picture: undistortion, rotation, crop and resize in one interpolation."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from mouselift.geometry import Cameras

CELL_PX = 8  # the map is computed once for each such cell and interpolated: less than 0.01 px off for real lenses
NOWHERE_PX = -1e5
COLOUR_MARGIN_PX = 6  # colours are kept this far outside the mask, and are black beyond


@dataclass(frozen=True)
class PixelWindow:
    """Rows top to bottom - 1 and columns left to right - 1 of a picture or a grid."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of a picture (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def crop_view(
    frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], raw: Cameras, virtual: Cameras
) -> UInt8[np.ndarray, "s s 4"]:
    """What the virtual camera would have seen of the subject, straight from the frame.

    Both cameras share their centre, so the map between their pictures is exact at every depth: a homography, and the
    lens. Where the frame is finer than the result, several samples are averaged for each pixel of the result.

    Args:
        frame: sRGB, as decoded.
        mask: Foreground, 255 inside.
        raw: () the camera that took the frame, lens and all.
        virtual: () pinhole at the same centre, of the result's size.

    Returns:
        Straight colour and alpha = mask. Colours farther than a few pixels from the mask are black.

    Raises:
        ValueError: The cameras have different centres, or the frame is not of the camera's size.
    """
    if frame.shape[:2] != (raw.height, raw.width) or mask.shape != frame.shape[:2]:
        raise ValueError(f"expected {raw.width}x{raw.height} px, found frame {frame.shape} and mask {mask.shape}")
    result = np.zeros((virtual.height, virtual.width, 4), np.uint8)
    subject = _bounds(mask)
    if subject is None:
        return result
    nodes = raw_from_virtual(raw, virtual, _cell_centres(virtual.width), _cell_centres(virtual.height)).numpy()
    cells = _cells_of(subject, nodes)
    if cells is None:
        return result
    fine = max(1, round(float(raw.K[0, 0] / virtual.K[0, 0])))
    where = _interpolated(nodes, cells, fine)
    source = _source(frame, mask, where)
    if source is None:
        return result
    pixels, window = source
    corner = (window.left + 0.5, window.top + 0.5)  # OpenCV puts the centre of the first pixel at 0
    sampled = cv2.remap(pixels, where - np.float32(corner), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    if fine > 1:
        sampled = cv2.resize(sampled, None, fx=1 / fine, fy=1 / fine, interpolation=cv2.INTER_AREA)
    near = cv2.dilate(sampled[..., 3], np.ones((2 * COLOUR_MARGIN_PX + 1,) * 2, np.uint8)) > 0
    sampled[..., :3] *= near[..., None]
    rows, columns = cells.top * CELL_PX, cells.left * CELL_PX
    shown = result[rows : rows + sampled.shape[0], columns : columns + sampled.shape[1]]
    shown[:] = sampled[: shown.shape[0], : shown.shape[1]]
    return result


def raw_from_virtual(
    raw: Cameras, virtual: Cameras, columns: Float[Tensor, "w"], rows: Float[Tensor, "h"]
) -> Float[Tensor, "h w 2"]:
    """Pixels of the raw frame that pixels of the virtual camera see, exactly.

    Args:
        raw: () with or without distortion.
        virtual: () pinhole at the same centre.
        columns: Horizontal pixel coordinates in the virtual picture.
        rows: Vertical ones.

    Returns:
        float64; NaN where the lens does not see.

    Raises:
        ValueError: The centres differ by more than a millionth of the distance from the world's origin.
    """
    raw, virtual = raw.to(torch.float64), virtual.to(torch.float64)
    apart = float((raw.centres - virtual.centres).norm())
    if apart > 1e-5 * (1 + float(raw.centres.norm())):
        raise ValueError(f"a virtual camera must stand where the real one stands, found it {apart:.3g} away")
    y, x = torch.meshgrid(rows.double(), columns.double(), indexing="ij")
    points = virtual.unproject(torch.stack([x, y], dim=-1).flatten(0, 1), torch.ones(x.numel(), dtype=torch.float64))
    return raw.project(points).reshape(*x.shape, 2)


def _cell_centres(size: int) -> Float[Tensor, "n"]:
    """Centres of the cells that cover `size` pixels, and of one more cell on both sides."""
    return (torch.arange(-1, math.ceil(size / CELL_PX) + 1, dtype=torch.float64) + 0.5) * CELL_PX


def _bounds(mask: UInt8[np.ndarray, "h w"]) -> PixelWindow | None:
    left, top, width, height = cv2.boundingRect(mask)
    return PixelWindow(left, top, left + width, top + height) if width else None


def _cells_of(subject: PixelWindow, nodes: Float64[np.ndarray, "r c 2"]) -> PixelWindow | None:
    """The cells that show the subject or lie beside one that does."""
    x, y = nodes[..., 0], nodes[..., 1]
    with np.errstate(invalid="ignore"):  # NaN is not near
        spread = 1 + max(float(np.nanmax(np.abs(np.diff(nodes, axis=axis)), initial=0)) for axis in (0, 1))
        near = (
            (x > subject.left - spread)
            & (x < subject.right + spread)
            & (y > subject.top - spread)
            & (y < subject.bottom + spread)
        )[1:-1, 1:-1]
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if not len(rows):
        return None
    return PixelWindow(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _interpolated(nodes: Float64[np.ndarray, "r c 2"], cells: PixelWindow, fine: int) -> Float32[np.ndarray, "h w 2"]:
    """The map at `fine` samples along each pixel of the cells, bilinear between the nodes.

    Where the lens does not see, the map points far outside every frame.
    """
    around = nodes[cells.top : cells.bottom + 2, cells.left : cells.right + 2]
    known = np.nan_to_num(around, nan=NOWHERE_PX).astype(np.float32)
    scale = CELL_PX * fine
    return cv2.resize(known, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)[scale:-scale, scale:-scale]


def _source(
    frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], where: Float32[np.ndarray, "a b 2"]
) -> tuple[UInt8[np.ndarray, "c d 4"], PixelWindow] | None:
    """The part of the frame that the map reads, colour and mask together."""
    height, width = mask.shape
    left, top = np.maximum(where.min((0, 1)), 0)
    right, bottom = np.minimum(where.max((0, 1)), (width, height))
    window = PixelWindow(
        max(int(left) - 2, 0), max(int(top) - 2, 0), min(int(right) + 3, width), min(int(bottom) + 3, height)
    )
    if right <= left or bottom <= top:
        return None
    return np.dstack([frame[window.slices], mask[window.slices]]), window
