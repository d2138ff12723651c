"""The pictures of a report: each view with what its camera and the other views say about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mouselift.check.epipolar import Outline, line_pixels, touching_planes
from mouselift.check.report import Gallery, Shown
from mouselift.export.overlay import Rgb, draw_axes, draw_floor, draw_line, draw_outline, draw_points, shrunk
from mouselift.export.rig_plot import camera_colour
from mouselift.geometry import Cameras

MASK_COLOUR, HULL_COLOUR = (60, 225, 255), (255, 84, 160)
MEASURED_COLOUR, EXPECTED_COLOUR = (255, 214, 74), (255, 255, 255)
OUTLINES = (
    "Blue: border of the mask. Pink: border of the visual hull of all masks, projected back; where it leaves the blue "
    "line, the other cameras contradict this mask, or it is a tail too thin for the small masks that are compared."
)
CLOSE_UP_PX, CLOSE_UP_MARGIN = 440, 1.5
MIN_CLOSE_UP_SHARE = 0.12  # of the picture's width


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """What is drawn into the world.

    Attributes:
        origin: Where the axes are drawn.
        axis_length: World units.
        floor_z: Height of the floor's grid; None draws no floor.
        floor_step: Edge of its cells.
    """

    origin: Float[Tensor, "3"]
    axis_length: float
    floor_z: float | None
    floor_step: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewPicture:
    """One view and what is known of it.

    Attributes:
        frame: As taken.
        camera: (1,) of the frame's size; None where there is no calibration.
        mask: [0, 1], the whole picture at any size.
        hull: The visual hull's silhouette, the same.
        points: Name of a kind -> pixels of the frame: "measured" are discs, "expected" rings.
        lines: Pixels of the frame along a line, and its colour.
    """

    frame: UInt8[np.ndarray, "h w 3"]
    camera: Cameras | None
    mask: Float[np.ndarray, "_ _"] | None
    hull: Float[np.ndarray, "_ _"] | None
    points: Mapping[str, Float[np.ndarray, "n 2"]]
    lines: tuple[tuple[Float[np.ndarray, "_ 2"], Rgb], ...] = ()


def whole(view: ViewPicture, stage: Stage | None, width_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """The whole frame at another width, with everything drawn on it."""
    picture = shrunk(view.frame, width_px)
    height = picture.shape[0]
    camera = None if view.camera is None else view.camera[0].resized(width_px, height)
    _draw(picture, camera, view.mask, view.hull, stage)
    if view.mask is None:  # beside outlines so small, points would hide what they should show
        _draw_points(picture, view, np.zeros(2), width_px / view.frame.shape[1], radius_px=1.5)
    return picture


def close_up(view: ViewPicture, stage: Stage | None) -> UInt8[np.ndarray, "h w 3"]:
    """A square around the subject (the mask, else the origin of the stage), with everything drawn on it."""
    left, top, side = _square(view, stage)
    height, width = view.frame.shape[:2]
    padded = np.full((side, side, 3), 24, np.uint8)
    rows, columns = (slice(max(low, 0), min(low + side, size)) for low, size in ((top, height), (left, width)))
    inside = view.frame[rows, columns]
    y, x = rows.start - top, columns.start - left
    padded[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    picture = shrunk(padded, CLOSE_UP_PX)
    camera = None if view.camera is None else view.camera[0].cropped(left, top, side, side)
    resized = None if camera is None else camera.resized(CLOSE_UP_PX, CLOSE_UP_PX)
    window = (left / width, top / height, side / width, side / height)
    mask, hull = (None if layer is None else _cut(layer, window) for layer in (view.mask, view.hull))
    for pixels, colour in view.lines:
        draw_line(picture, (pixels - (left, top)) * CLOSE_UP_PX / side, colour)
    _draw(picture, resized, mask, hull, stage)
    _draw_points(picture, view, np.array([left, top], np.float64), CLOSE_UP_PX / side, radius_px=3.0)
    return picture


def epipolar_close_ups(
    views: Sequence[ViewPicture], outlines: Sequence[Outline], names: Sequence[str], stage: Stage, moment: str
) -> Gallery | None:
    """Every view with the lines of sight of the other cameras that touch what these saw.

    Args:
        views: As in the other close-ups.
        outlines: What every view saw.
        names: Of the views.
        stage: Where the subject is.
        moment: Which, in words.

    Returns:
        None when no two views saw it.
    """
    shown, is_point = [], all(len(outline.pixels) <= 1 for outline in outlines)
    for b, (view, second) in enumerate(zip(views, outlines, strict=True)):
        lines = []
        for a, first in enumerate(outlines):
            touching = None if a == b else touching_planes(first, second)
            for ray in () if touching is None else touching.rays:
                lines.append((line_pixels(first, ray, second.camera, stage.origin), _lightened(camera_colour(a))))
        if not lines:
            continue
        points = {"measured": second.pixels.numpy()} if is_point else {}
        bare = replace(view, hull=None, points=points, lines=tuple(lines))
        shown.append(Shown(pixels=close_up(bare, None), caption=f"Camera {names[b]}, {moment}."))
    what = "meet in the keypoint" if is_point else "touch its outline on both sides"
    intro = (
        "What another camera sees lies somewhere on a line of sight, which is a line in this picture. Those that "
        f"touch the animal there must {what} here. Colours are the cameras', as in the plot of the rig."
    )
    return Gallery(title="Epipolar lines", intro=intro, shown=tuple(shown)) if shown else None


def checkerboard(
    image: Float[Tensor, "3 h w"], mask: Float[Tensor, "1 h w"], cell_px: int = 16
) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with transparency over a checkerboard of greys."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) // cell_px, torch.arange(width) // cell_px, indexing="ij")
    ground = 0.52 + 0.10 * ((x + y) % 2)
    over = image * mask + ground * (1 - mask)
    return over.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


def _draw(
    picture: UInt8[np.ndarray, "h w 3"],
    camera: Cameras | None,
    mask: Float[np.ndarray, "_ _"] | None,
    hull: Float[np.ndarray, "_ _"] | None,
    stage: Stage | None,
) -> None:
    """Floor, hull, mask, axes: in this order, so that thin lines stay on top of wide ones."""
    if camera is not None and stage is not None and stage.floor_z is not None:
        middle = torch.tensor([float(stage.origin[0]), float(stage.origin[1]), stage.floor_z], dtype=torch.float64)
        behind = None if mask is None else cv2.resize(mask.astype(np.float32), picture.shape[1::-1]) > 0.5
        draw_floor(picture, camera, middle, stage.floor_step, strength=0.4, behind=behind)
    for layer, colour, thickness in ((hull, HULL_COLOUR, 3), (mask, MASK_COLOUR, 1)):
        if layer is not None:
            draw_outline(picture, layer, colour, thickness)
    if camera is not None and stage is not None:
        draw_axes(picture, camera, stage.origin, stage.axis_length)


def _draw_points(
    picture: UInt8[np.ndarray, "h w 3"],
    view: ViewPicture,
    corner: Float[np.ndarray, "2"],
    scale: float,
    radius_px: float,
) -> None:
    styles: dict[str, tuple[Rgb, float, bool]] = {
        "measured": (MEASURED_COLOUR, radius_px, False),
        "expected": (EXPECTED_COLOUR, radius_px + 2, True),
    }
    for kind, pixels in view.points.items():
        colour, radius, hollow = styles[kind]
        draw_points(picture, (pixels - corner) * scale, colour, radius_px=radius, hollow=hollow)


def _lightened(colour: Rgb) -> Rgb:
    """Colours of plots are made for white paper; pictures are dark."""
    red, green, blue = (round(255 - 0.65 * (255 - value)) for value in colour)
    return red, green, blue


def _square(view: ViewPicture, stage: Stage | None) -> tuple[int, int, int]:
    """Left, top and side of the square to show, pixels of the frame; it may reach beyond the frame."""
    height, width = view.frame.shape[:2]
    inside = None if view.mask is None else np.argwhere(view.mask > 0.5)
    if inside is not None and view.mask is not None and len(inside):
        cells = np.array([height / view.mask.shape[0], width / view.mask.shape[1]])
        low, high = inside.min(0) * cells, (inside.max(0) + 1) * cells
        side = float((high - low).max()) * CLOSE_UP_MARGIN
        middle = ((low + high) / 2)[::-1]
    else:
        side, middle = 0.45 * width, np.array([width / 2, height / 2])
        if view.camera is not None and stage is not None:
            seen = view.camera[0].to(torch.float64).project(stage.origin.double()[None]).numpy()[0]
            middle = seen if np.isfinite(seen).all() else middle
    whole_side = max(round(side), round(MIN_CLOSE_UP_SHARE * width))
    return round(float(middle[0]) - whole_side / 2), round(float(middle[1]) - whole_side / 2), whole_side


def _cut(layer: Float[np.ndarray, "a b"], window: tuple[float, float, float, float]) -> Float[np.ndarray, "c d"]:
    """A window (left, top, width, height as shares of the picture) of a mask, sampled anew; 0 outside."""
    left, top, width, height = window
    rows, columns = layer.shape
    step_x, step_y = width * columns / CLOSE_UP_PX, height * rows / CLOSE_UP_PX
    source_from_shown = np.array(
        [[step_x, 0, left * columns + step_x / 2 - 0.5], [0, step_y, top * rows + step_y / 2 - 0.5]]
    )
    size, flags = (CLOSE_UP_PX, CLOSE_UP_PX), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(layer.astype(np.float32), source_from_shown, size, flags=flags)
