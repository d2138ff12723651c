"""Drawing on pictures what cameras say should be there: outlines, points, axes, a floor; and sheets of such pictures.

Pictures are (H, W, 3) uint8 sRGB and are drawn upon in place. Pixel coordinates are ours: the centre of the first pixel
is (0.5, 0.5). Points that a camera does not see (NaN) are left out.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mouselift.geometry import Cameras

Rgb = tuple[int, int, int]
WHITE, INK, PAPER, SHADE = (255, 255, 255), (38, 42, 50), (250, 250, 248), (18, 20, 26)
AXIS_COLOURS = ((235, 70, 60), (70, 185, 85), (70, 120, 255))  # x, y, z
SUBPIXEL_BITS = 4  # OpenCV takes fixed-point coordinates
CONTOUR_ZOOM = 4  # a soft edge is followed this many times finer than its pixels
PIECES = 24  # of a projected line: lenses bend it
FAR = 4.0  # picture sizes from the picture: nothing beyond is drawn
GAP_PX = 6


def draw_outline(
    picture: UInt8[np.ndarray, "h w 3"], mask: Float[np.ndarray, "a b"], colour: Rgb, thickness_px: int = 1
) -> None:
    """Draw the border of a mask, where it passes a half.

    Args:
        picture: Drawn upon.
        mask: [0, 1], of the same view at any size.
        colour: Of the line.
        thickness_px: Of the line.
    """
    height, width = picture.shape[:2]
    size = (width * CONTOUR_ZOOM, height * CONTOUR_ZOOM)
    fine = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
    contours, _ = cv2.findContours(fine.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        _polyline(picture, (contour[:, 0] + 0.5) / CONTOUR_ZOOM, colour, thickness_px, closed=True)


def draw_line(
    picture: UInt8[np.ndarray, "h w 3"], pixels: Float[np.ndarray, "n 2"], colour: Rgb, thickness_px: int = 1
) -> None:
    """Draw through pixels, interrupted where one is NaN or far outside the picture."""
    with np.errstate(invalid="ignore"):  # NaN is not near
        near = np.abs(pixels / picture.shape[1::-1] - 0.5).max(axis=-1) < FAR
    for run in np.split(np.arange(len(pixels)), np.flatnonzero(near[1:] != near[:-1]) + 1):
        if len(run) > 1 and near[run[0]]:
            _polyline(picture, pixels[run], colour, thickness_px, closed=False)


def draw_points(
    picture: UInt8[np.ndarray, "h w 3"],
    pixels: Float[np.ndarray, "n 2"],
    colour: Rgb,
    *,
    names: Sequence[str] = (),
    radius_px: float = 3.0,
    hollow: bool = False,
) -> None:
    """Draw points as discs with a dark rim, or as rings, with their names beside them."""
    size = np.array(picture.shape[1::-1])
    scale = 1 << SUBPIXEL_BITS
    for k, pixel in enumerate(pixels):
        if not (np.isfinite(pixel).all() and (pixel >= 0).all() and (pixel < size).all()):
            continue
        centre = [round(float(value - 0.5) * scale) for value in pixel]
        radius, shift = round(radius_px * scale), SUBPIXEL_BITS
        if hollow:
            cv2.circle(picture, centre, radius, colour, 1, cv2.LINE_AA, shift)
        else:
            cv2.circle(picture, centre, radius + scale, SHADE, cv2.FILLED, cv2.LINE_AA, shift)
            cv2.circle(picture, centre, radius, colour, cv2.FILLED, cv2.LINE_AA, shift)
        if names:
            beside = (float(pixel[0]) + radius_px + 3, float(pixel[1]))
            draw_text(picture, beside, names[k], size_px=12, colour=colour, anchor="lm", halo=SHADE)


def draw_axes(
    picture: UInt8[np.ndarray, "h w 3"],
    camera: Cameras,
    origin: Float[Tensor, "3"],
    length: float,
    thickness_px: int = 2,
) -> None:
    """Draw the world's axes at a point: x red, y green, z blue.

    Args:
        picture: Drawn upon.
        camera: () of the picture's size.
        origin: World.
        length: World units.
        thickness_px: Of the lines.
    """
    steps = torch.linspace(0, length, PIECES, dtype=torch.float64)
    for axis, colour in enumerate(AXIS_COLOURS):
        direction = torch.eye(3, dtype=torch.float64)[axis]
        draw_line(picture, _seen(camera, origin.double() + steps[:, None] * direction), colour, thickness_px)


def draw_floor(
    picture: UInt8[np.ndarray, "h w 3"],
    camera: Cameras,
    centre: Float[Tensor, "3"],
    step: float,
    *,
    cells: int = 10,
    colour: Rgb = WHITE,
    strength: float = 0.5,
    behind: Bool[np.ndarray, "h w"] | None = None,
) -> None:
    """Draw a square grid on the plane z = const through a point.

    Args:
        picture: Drawn upon.
        camera: () of the picture's size.
        centre: World; the grid's middle.
        step: Edge of a cell, world units.
        cells: Along each side.
        colour: Of the lines.
        strength: Their opacity.
        behind: Where something stands in front of the floor.
    """
    drawn = picture.copy()
    lines = (torch.arange(cells + 1, dtype=torch.float64) - cells / 2) * step
    along = torch.linspace(float(lines[0]), float(lines[-1]), PIECES * 2, dtype=torch.float64)
    for line in lines:
        across = line.expand_as(along)
        for x, y in ((along, across), (across, along)):
            points = centre.double() + torch.stack([x, y, torch.zeros_like(x)], dim=-1)
            draw_line(drawn, _seen(camera, points), colour)
    blended = cv2.addWeighted(drawn, strength, picture, 1 - strength, 0)
    picture[:] = blended if behind is None else np.where(behind[..., None], picture, blended)


def draw_text(
    picture: UInt8[np.ndarray, "h w 3"],
    where: tuple[float, float],
    text: str,
    *,
    size_px: int = 14,
    colour: Rgb = WHITE,
    anchor: str = "lt",
    halo: Rgb | None = None,
) -> None:
    """Write one line in Pillow's own font.

    Args:
        picture: Drawn upon.
        where: x, y of the anchor.
        text: What.
        size_px: Of the font.
        colour: Of the letters.
        anchor: l, m or r across, then t, m or b down: which point of the text lies at `where`.
        halo: Colour of a rim around the letters, for unquiet grounds.
    """
    coverage = _letters(text, size_px)
    height, width = coverage.shape
    left = round(where[0] - {"l": 0.0, "m": width / 2, "r": float(width)}[anchor[0]])
    top = round(where[1] - {"t": 0.0, "m": height / 2, "b": float(height)}[anchor[1]])
    rows = slice(max(top, 0), max(min(top + height, picture.shape[0]), 0))
    columns = slice(max(left, 0), max(min(left + width, picture.shape[1]), 0))
    window = picture[rows, columns]
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    if halo is not None:
        _blend(window, cv2.dilate(coverage, np.ones((3, 3), np.uint8))[inside], halo)
    _blend(window, coverage[inside], colour)


def text_size(text: str, size_px: int = 14) -> tuple[int, int]:
    """Width and height of `draw_text`, pixels."""
    height, width = _letters(text, size_px).shape
    return width, height


def draw_label(picture: UInt8[np.ndarray, "h w 3"], text: str, *, size_px: int = 14, colour: Rgb = WHITE) -> None:
    """Write a title into the upper left corner, on a darkened ground."""
    width, height = text_size(text, size_px)
    ground = picture[: height + 6, : width + 12]
    ground[:] = (ground * 0.35 + np.array(SHADE) * 0.65).astype(np.uint8)
    draw_text(picture, (6, 3), text, size_px=size_px, colour=colour)


def shrunk(picture: UInt8[np.ndarray, "h w 3"], width_px: int) -> UInt8[np.ndarray, "a b 3"]:
    """The picture at another width, its own copy; averaged, not sampled."""
    height = max(1, round(picture.shape[0] * width_px / picture.shape[1]))
    kind = cv2.INTER_AREA if width_px < picture.shape[1] else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(picture, (width_px, height), interpolation=kind))


def sheet(
    rows: Sequence[Sequence[UInt8[np.ndarray, "_ _ 3"]]], row_titles: Sequence[str] = (), paper: Rgb = PAPER
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay out pictures in rows, each with a title above it when titles are given."""
    width = max(sum(picture.shape[1] + GAP_PX for picture in row) for row in rows) + GAP_PX
    strips = []
    for k, row in enumerate(rows):
        title_px = 28 if row_titles else 0
        height = max(picture.shape[0] for picture in row)
        strip = np.full((height + GAP_PX + title_px, width, 3), paper, np.uint8)
        if row_titles:
            draw_text(strip, (GAP_PX, title_px / 2 + 2), row_titles[k], size_px=16, colour=INK, anchor="lm")
        left = GAP_PX
        for picture in row:
            strip[title_px : title_px + picture.shape[0], left : left + picture.shape[1]] = picture
            left += picture.shape[1] + GAP_PX
        strips.append(strip)
    return np.concatenate([np.full((0 if row_titles else GAP_PX, width, 3), paper, np.uint8), *strips])


def _seen(camera: Cameras, points: Float[Tensor, "n 3"]) -> Float[np.ndarray, "n 2"]:
    return camera.to(torch.float64).project(points).numpy()


def _polyline(
    picture: UInt8[np.ndarray, "h w 3"], pixels: Float[np.ndarray, "n 2"], colour: Rgb, thickness_px: int, closed: bool
) -> None:
    fixed = np.round((pixels - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.polylines(picture, [fixed], closed, colour, thickness_px, cv2.LINE_AA, SUBPIXEL_BITS)


@lru_cache(maxsize=32)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _letters(text: str, size_px: int) -> UInt8[np.ndarray, "h w"]:
    """How much of each pixel the letters cover, 0 to 255, with a margin of one pixel."""
    font = _font(size_px)
    width, height = int(font.getlength(text)) + 3, round(size_px * 1.3) + 2
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((1, height - 1 - round(size_px * 0.3)), text, fill=255, font=font, anchor="ls")
    return np.array(image)


def _blend(window: UInt8[np.ndarray, "h w 3"], coverage: UInt8[np.ndarray, "h w"], colour: Rgb) -> None:
    share = coverage[..., None] / 255
    window[:] = (window * (1 - share) + np.array(colour) * share).round().astype(np.uint8)
