"""A rig of cameras drawn from above and from the side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mouselift.export.overlay import AXIS_COLOURS, INK, PAPER, Rgb, draw_line, draw_points, draw_text, text_size
from mouselift.geometry import Cameras

QUIET, RING, SUBJECT = (140, 146, 156), (222, 224, 228), (214, 92, 44)
CAMERA_COLOURS = ((38, 98, 190), (20, 135, 120), (150, 80, 180), (196, 110, 20), (60, 140, 50), (190, 55, 95))
FRUSTUM_SHARE = 0.22  # of the mean distance: how far frustums are drawn
LABEL_PX = 15
SHOWN_GAP_DEG = 10.0  # narrower gaps have no room for a figure
MARGIN_PX, HEADER_PX, FOOTER_PX = 64, 48, 52


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One view of the rig: which world axes go right and up, and where they lie in the picture."""

    left_px: int
    size_px: tuple[int, int]
    right: int
    up: int
    middle: tuple[float, float]
    px_per_unit: float

    def pixels(self, points: Float[Tensor, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Where world points fall, orthographically."""
        x = (points[..., self.right] - self.middle[0]) * self.px_per_unit + self.left_px + self.size_px[0] / 2
        y = -(points[..., self.up] - self.middle[1]) * self.px_per_unit + HEADER_PX + self.size_px[1] / 2
        return torch.stack([x, y], dim=-1).double().numpy()


def rig_plot(
    cameras: Sequence[Cameras],
    centre: Float[Tensor, "3"],
    *,
    track: Float[Tensor, "t 3"] | None = None,
    unit: str = "mm",
    width_px: int = 1400,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a rig: frustums, names, azimuths about the subject and the gaps between them, and a scale.

    Args:
        cameras: (1,) each, with a name, in a world whose +Z is up.
        centre: Of the subject.
        track: Where the subject was.
        unit: Of the world.
        width_px: Of the picture.
    """
    centre = centre.double()
    places = torch.cat([camera.centres.double() for camera in cameras])
    distance = float((places - centre).norm(dim=-1).mean())
    frustums = [_frustum(camera, FRUSTUM_SHARE * distance) for camera in cameras]
    above, beside = _panels(torch.cat([places, *frustums, centre[None]]), centre, width_px)
    picture = np.full((HEADER_PX + above.size_px[1] + FOOTER_PX, width_px, 3), PAPER, np.uint8)
    for panel, title in ((above, "from above"), (beside, "from the side, looking along +y")):
        draw_text(picture, (panel.left_px + MARGIN_PX / 2, 14), title, size_px=18, colour=INK)
    radius = float((places - centre)[:, :2].norm(dim=-1).mean()) * above.px_per_unit
    _circle(picture, above.pixels(centre), radius, RING)
    ground = torch.stack([centre, centre])
    ground[:, 0] += torch.tensor([-1.3, 1.3]).double() * distance
    draw_line(picture, beside.pixels(ground), RING)
    for panel in (above, beside):
        if track is not None:
            draw_points(picture, panel.pixels(track.double()), SUBJECT, radius_px=2.0)
        _world_axes(picture, panel, centre, 0.16 * distance)
        _draw_cameras(picture, panel, cameras, places, frustums)
    _azimuths(picture, above, cameras, places - centre, centre)
    _elevations(picture, beside, cameras, places, centre)
    _scale_bar(picture, above, distance, unit)
    return picture


def _frustum(camera: Cameras, depth: float) -> Float[Tensor, "4 3"]:
    """The corners of the picture at a depth, world."""
    width, height = float(camera.width), float(camera.height)
    corners = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]], dtype=torch.float64)
    pinhole = Cameras(K=camera.K.double(), w2c=camera.w2c.double(), width=camera.width, height=camera.height)
    return pinhole.unproject(corners, torch.full((1, 4), depth, dtype=torch.float64))[0]


def _panels(points: Float[Tensor, "n 3"], centre: Float[Tensor, "3"], width_px: int) -> tuple[_Panel, _Panel]:
    """Both views at one scale: as wide as the rig, as high as the higher of the two."""
    low, high = points.amin(0), points.amax(0)
    half = float(torch.maximum(high - centre, centre - low)[:2].max())
    width = width_px // 2
    scale = (width - 2 * MARGIN_PX) / (2 * half)
    rise = float(high[2] - low[2]) * scale
    height = round(max(float(high[1] - low[1]) * scale, rise) + 1.6 * MARGIN_PX)
    middle = ((low + high) / 2).tolist()

    def panel(left_px: int, up: int) -> _Panel:
        return _Panel(
            left_px=left_px,
            size_px=(width, height),
            right=0,
            up=up,
            middle=(middle[0], middle[up]),
            px_per_unit=scale,
        )

    return panel(0, 1), panel(width, 2)


def _draw_cameras(
    picture: UInt8[np.ndarray, "h w 3"],
    panel: _Panel,
    cameras: Sequence[Cameras],
    places: Float[Tensor, "v 3"],
    frustums: Sequence[Float[Tensor, "4 3"]],
) -> None:
    for v in range(len(cameras)):
        colour = camera_colour(v)
        eye, corners = panel.pixels(places[v]), panel.pixels(frustums[v])
        tint = picture.copy()
        hull = cv2.convexHull(np.vstack([eye, corners]).round().astype(np.int32))
        cv2.fillConvexPoly(tint, hull, colour, cv2.LINE_AA)
        picture[:] = cv2.addWeighted(tint, 0.14, picture, 0.86, 0)
        draw_line(picture, np.vstack([corners, corners[:1]]), colour)
        for corner in corners:
            draw_line(picture, np.stack([eye, corner]), colour)
        draw_points(picture, eye[None], colour, radius_px=4.0)


def _azimuths(
    picture: UInt8[np.ndarray, "h w 3"],
    panel: _Panel,
    cameras: Sequence[Cameras],
    offsets: Float[Tensor, "v 3"],
    centre: Float[Tensor, "3"],
) -> None:
    """Names and azimuths outside the cameras, the gaps between neighbours inside their ring."""
    azimuths = torch.rad2deg(torch.atan2(offsets[:, 1], offsets[:, 0])) % 360
    order = azimuths.argsort().tolist()
    labels = _Labels(picture, panel)
    for v in order:
        outward = offsets[v, :2] / offsets[v, :2].norm().clamp_min(1e-9)
        way = -1 if outward[1] >= 0 else 1
        x, y = panel.pixels(centre + offsets[v]) + np.array([20 * float(outward[0]), 22 * way])
        labels.write(x, y, _name(cameras[v], v), f"{azimuths[v]:.0f}°", camera_colour(v), way)
    ring = float(offsets[:, :2].norm(dim=-1).mean()) * 0.66
    for v, following in zip(order, order[1:] + order[:1], strict=True):
        gap = float(azimuths[following] - azimuths[v]) % 360
        if gap < SHOWN_GAP_DEG:
            continue
        between = math.radians(float(azimuths[v]) + gap / 2)
        place = centre + ring * torch.tensor([math.cos(between), math.sin(between), 0.0], dtype=torch.float64)
        x, y = panel.pixels(place)
        draw_text(picture, (x, y), f"{gap:.0f}°", size_px=14, colour=QUIET, anchor="mm")


def _elevations(
    picture: UInt8[np.ndarray, "h w 3"],
    panel: _Panel,
    cameras: Sequence[Cameras],
    places: Float[Tensor, "v 3"],
    centre: Float[Tensor, "3"],
) -> None:
    """Names and elevations above the cameras."""
    offsets = places - centre
    elevations = torch.rad2deg(torch.atan2(offsets[:, 2], offsets[:, :2].norm(dim=-1)))
    labels = _Labels(picture, panel)
    for v, (x, y) in enumerate(panel.pixels(places)):
        labels.write(x, y - 20, _name(cameras[v], v), f"{elevations[v]:+.0f}°", camera_colour(v), -1)


class _Labels:
    """Names with a figure beside them, none over another: a label that would be is moved up or down."""

    def __init__(self, picture: UInt8[np.ndarray, "h w 3"], panel: _Panel) -> None:
        self._picture, self._panel = picture, panel
        self._taken: list[tuple[float, float, float]] = []

    def write(self, x: float, y: float, name: str, figure: str, colour: Rgb, way: int) -> None:
        """Write about (x, y), or farther up (way = -1) or down (1)."""
        name_px, figure_px = text_size(name, LABEL_PX)[0], text_size(figure, LABEL_PX - 2)[0]
        half = (name_px + 4 + figure_px) / 2
        low, high = self._panel.left_px + half + 4, self._panel.left_px + self._panel.size_px[0] - half - 4
        x = min(max(x, low), high)
        line = 1.25 * LABEL_PX
        while any(abs(x - there) < half + width and abs(y - at) < line for there, at, width in self._taken):
            y += way * line / 2
        self._taken.append((x, y, half))
        draw_text(self._picture, (x - half, y), name, size_px=LABEL_PX, colour=colour, anchor="lm", halo=PAPER)
        place = (x - half + name_px + 4, y)
        draw_text(self._picture, place, figure, size_px=LABEL_PX - 2, colour=QUIET, anchor="lm", halo=PAPER)


def camera_colour(number: int) -> Rgb:
    """The colour that a rig's camera has in all plots."""
    return CAMERA_COLOURS[number % len(CAMERA_COLOURS)]


def _name(camera: Cameras, number: int) -> str:
    return camera.names[0] if camera.names else f"{number}"


def _world_axes(picture: UInt8[np.ndarray, "h w 3"], panel: _Panel, centre: Float[Tensor, "3"], length: float) -> None:
    for axis, name in ((panel.right, "x"), (panel.up, "yz"[panel.up - 1])):
        end = centre.clone()
        end[axis] += length
        line = panel.pixels(torch.stack([centre, end]))
        draw_line(picture, line, AXIS_COLOURS[axis], 2)
        beyond = line[1] + (line[1] - line[0]) * 0.18
        draw_text(picture, (beyond[0], beyond[1]), name, size_px=15, colour=AXIS_COLOURS[axis], anchor="mm", halo=PAPER)
    draw_points(picture, panel.pixels(centre)[None], SUBJECT, radius_px=4.0)


def _scale_bar(picture: UInt8[np.ndarray, "h w 3"], panel: _Panel, distance: float, unit: str) -> None:
    """A round length of about a third of the mean distance, common to both views."""
    power = 10 ** math.floor(math.log10(distance / 3))
    length = max(step * power for step in (1, 2, 5) if step * power <= distance / 3)
    y, left = picture.shape[0] - 26, panel.left_px + MARGIN_PX / 2
    right = left + length * panel.px_per_unit
    for ends in (((left, y), (right, y)), ((left, y - 5), (left, y + 5)), ((right, y - 5), (right, y + 5))):
        draw_line(picture, np.array(ends), INK, 2)
    draw_text(picture, (right + 10, y), f"{length:g} {unit}", size_px=16, colour=INK, anchor="lm")


def _circle(picture: UInt8[np.ndarray, "h w 3"], middle: Float[np.ndarray, "2"], radius_px: float, colour: Rgb) -> None:
    angles = np.linspace(0, 2 * np.pi, 181)
    draw_line(picture, middle + radius_px * np.stack([np.cos(angles), np.sin(angles)], axis=-1), colour)
