"""From a decoded frame to a framed picture: undistortion, rotation, crop and resize in one interpolation."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from mouselift.data.boxed import BoxedMask, PixelWindow, boxed
from mouselift.geometry import Cameras

NO_SECOND_MAP = np.empty(0, np.float32)  # OpenCV's way to say that one map holds both coordinates
CELL_PX = 8  # the map is computed once for each such cell and interpolated: less than 0.01 px off for real lenses
NOWHERE_PX = -1e4  # within the range of OpenCV's fixed-point maps
COLOUR_MARGIN_PX = 6  # colours are kept this far outside the mask, and are black beyond


@dataclass(frozen=True, kw_only=True, eq=False)
class CropMap:
    """Where the pixels of a framed picture lie in the frame it is cut out of.

    Attributes:
        nodes: Pixel coordinates in the frame of the centres of the picture's cells, and of one more ring of cells; NaN
            where the lens does not see.
        fine: Samples along each pixel, so that a frame that is finer than the picture is averaged.
        width: Of the picture.
        height: Of the picture.
    """

    nodes: Float64[np.ndarray, "r c 2"]
    fine: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What of a frame is needed.

    Attributes:
        cells: Of the crop's map that show the animal or lie beside one that does.
        window: Of the frame, which these cells see.
    """

    cells: PixelWindow
    window: PixelWindow


def crop_maps(raw: Cameras, virtual: Cameras) -> list[CropMap]:
    """The maps of several cameras.

    Args:
        raw: (V,) the cameras that took the frames, lens and all; their image size does not matter.
        virtual: (V,) pinhole cameras at the same centres, of the pictures' size.

    Raises:
        ValueError: A virtual camera does not stand where its real one stands.
    """
    nodes = raw_from_virtual(raw, virtual, _cell_centres(virtual.width), _cell_centres(virtual.height)).numpy()
    ratios = (raw.K[:, 0, 0] / virtual.K[:, 0, 0]).tolist()
    return [
        CropMap(nodes=nodes[v], fine=max(1, round(ratio)), width=virtual.width, height=virtual.height)
        for v, ratio in enumerate(ratios)
    ]


def crop_view(
    frame: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], crop: CropMap
) -> UInt8[np.ndarray, "s s 4"]:
    """What the virtual camera would have seen of the subject, straight from the frame.

    Both cameras share their centre, so the map between their pictures is exact at every depth: a homography, and the
    lens. Where the frame is finer than the result, several samples are averaged for each pixel of the result.

    Args:
        frame: sRGB, as decoded.
        mask: Foreground, 255 inside.
        crop: From `crop_maps`.

    Returns:
        Straight colour and alpha = mask. Colours farther than a few pixels from the mask are black.
    """
    small = boxed(mask)
    needed = what_is_needed(crop, small)
    pixels = None if needed is None else np.dstack([frame[needed.window.slices], small.within(needed.window)])
    return crop_part(crop, needed, pixels)


def what_is_needed(crop: CropMap, mask: BoxedMask) -> Needed | None:
    """The part of a frame that the animal's crop is made of; None where the crop does not show the animal."""
    subject = mask.window
    cells = None if subject.right == subject.left else _cells_of(subject, crop.nodes)
    if cells is None:
        return None
    around = crop.nodes[cells.top : cells.bottom + 2, cells.left : cells.right + 2]
    window = _window_around(around, mask.width, mask.height)
    return None if window is None else Needed(cells=cells, window=window)


def crop_part(
    crop: CropMap, needed: Needed | None, pixels: UInt8[np.ndarray, "h w 4"] | None
) -> UInt8[np.ndarray, "s s 4"]:
    """As `crop_view`, from the needed part of the frame.

    Args:
        crop: From `crop_maps`.
        needed: From `what_is_needed`.
        pixels: Of its window: three colours in any order, which the result keeps, and the mask.
    """
    result = np.zeros((crop.height, crop.width, 4), np.uint8)
    if needed is None or pixels is None:
        return result
    cells, window = needed.cells, needed.window
    around = crop.nodes[cells.top : cells.bottom + 2, cells.left : cells.right + 2]
    corner = np.array([window.left + 0.5, window.top + 0.5])  # OpenCV puts the centre of the first pixel at 0
    where = cv2.convertMaps(_interpolated(around - corner, crop.fine), NO_SECOND_MAP, cv2.CV_16SC2)
    small = _averaged(cv2.remap(pixels, *where, cv2.INTER_LINEAR), crop.fine)
    near = cv2.dilate(cv2.extractChannel(small, 3), np.ones((2 * COLOUR_MARGIN_PX + 1,) * 2, np.uint8))
    rows, columns = cells.top * CELL_PX, cells.left * CELL_PX
    shown = result[rows : rows + len(small), columns : columns + small.shape[1]]
    height, width = shown.shape[:2]
    shown[:] = cv2.bitwise_and(small, small, mask=near)[:height, :width]  # alpha is nowhere but near
    return result


def raw_from_virtual(
    raw: Cameras, virtual: Cameras, columns: Float[Tensor, "w"], rows: Float[Tensor, "h"]
) -> Float[Tensor, "*batch h w 2"]:
    """Pixels of the raw frames that pixels of virtual cameras see, exactly.

    Args:
        raw: With or without distortion.
        virtual: Pinhole cameras at the same centres, batch shape as `raw`.
        columns: Horizontal pixel coordinates in the virtual pictures.
        rows: Vertical ones.

    Returns:
        float64; NaN where the lens does not see.

    Raises:
        ValueError: Centres differ by more than a hundred-thousandth of their distance from the world's origin.
    """
    raw, virtual = raw.to(torch.float64), virtual.to(torch.float64)
    apart = (raw.centres - virtual.centres).norm(dim=-1)
    if bool((apart > 1e-5 * (1 + raw.centres.norm(dim=-1))).any()):
        raise ValueError(
            f"a virtual camera must stand where the real one stands, found it {float(apart.max()):.3g} away"
        )
    y, x = torch.meshgrid(rows.double(), columns.double(), indexing="ij")
    pixels = torch.stack([x, y], dim=-1).flatten(0, 1).expand(*raw.batch_shape, -1, 2)
    points = virtual.unproject(pixels, torch.ones(pixels.shape[:-1], dtype=torch.float64))
    return raw.project(points).reshape(*raw.batch_shape, *x.shape, 2)


def _cell_centres(size: int) -> Float[Tensor, "n"]:
    """Centres of the cells that cover `size` pixels, and of one more cell on both sides."""
    return (torch.arange(-1, math.ceil(size / CELL_PX) + 1, dtype=torch.float64) + 0.5) * CELL_PX


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


def _interpolated(around: Float64[np.ndarray, "r c 2"], fine: int) -> Float32[np.ndarray, "h w 2"]:
    """The map at `fine` samples along each pixel of the inner cells, bilinear between the nodes.

    Where the lens does not see, the map points far outside every frame.
    """
    known = np.nan_to_num(around, nan=NOWHERE_PX).astype(np.float32)
    scale = CELL_PX * fine
    return cv2.resize(known, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)[scale:-scale, scale:-scale]


def _window_around(nodes: Float64[np.ndarray, "r c 2"], width: int, height: int) -> PixelWindow | None:
    """The part of the frame that lies between the nodes, or None."""
    with np.errstate(invalid="ignore"):
        left, top = np.maximum(np.nanmin(nodes, axis=(0, 1)), 0)
        right, bottom = np.minimum(np.nanmax(nodes, axis=(0, 1)), (width, height))
    if right <= left or bottom <= top:
        return None
    return PixelWindow(
        max(int(left) - 2, 0), max(int(top) - 2, 0), min(int(right) + 3, width), min(int(bottom) + 3, height)
    )


def _averaged(pixels: UInt8[np.ndarray, "h w *c"], fine: int) -> UInt8[np.ndarray, "h2 w2 *c"]:
    if fine == 1:
        return pixels
    return cv2.resize(pixels, None, fx=1 / fine, fy=1 / fine, interpolation=cv2.INTER_AREA)
