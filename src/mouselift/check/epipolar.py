"""Epipolar lines: a plane through two cameras that touches the animal in one picture touches it in the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mouselift.check.report import Findings, Table
from mouselift.export.report_html import Cell
from mouselift.geometry import Cameras

FOREGROUND = 127
LINE_PIECES = 96
NEAR, BEYOND = 0.3, 3.0  # times the subject's distance: where lines of sight are drawn
MAX_SPREAD_RAD = 2.6  # planes that touch a silhouette farther apart than this may go round the other camera
FINE_PX, NOTED_PX = 5.0, 25.0  # of a picture 1000 px wide
MIN_PIXELS = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """What one camera saw of one thing.

    Attributes:
        camera: (1,) that saw it.
        pixels: Of its border, or one pixel for a point; nothing where it was not seen whole.
        rays: World, unit length, through these pixels.
    """

    camera: Cameras
    pixels: Float[Tensor, "n 2"]
    rays: Float[Tensor, "n 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Touching:
    """The two planes through a pair of cameras that touch what one of them saw, seen by the other.

    Attributes:
        rays: (2, 3) World, from the first camera, in the two planes.
        missed_px: How far, in the second picture, its own border is from the lines; pixels.
    """

    rays: Float[Tensor, "2 3"]
    missed_px: Float[Tensor, "2"]


def outline_of_mask(mask: UInt8[np.ndarray, "h w"], camera: Cameras) -> Outline:
    """The border of a mask; nothing when it is empty or the picture's border cuts it."""
    inside = (mask > FOREGROUND).astype(np.uint8)
    cut = inside[[0, -1]].any() or inside[:, [0, -1]].any()
    contours = [] if cut else cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    border = np.concatenate([contour[:, 0] for contour in contours]) if contours else np.zeros((0, 2), np.int32)
    border = border if len(border) >= MIN_PIXELS else border[:0]
    return outline_of(torch.from_numpy(border + 0.5), camera)


def outline_of(pixels: Float[Tensor, "n 2"], camera: Cameras) -> Outline:
    """The rays through pixels of one camera (1,); NaN pixels are left out."""
    seen = pixels[pixels.isfinite().all(-1)].double()
    if not len(seen):
        return Outline(camera=camera, pixels=seen, rays=torch.zeros(0, 3, dtype=torch.float64))
    ends = camera.to(torch.float64).unproject(seen[None], torch.ones(1, len(seen), dtype=torch.float64))[0]
    rays = F.normalize(ends - camera.centres.double(), dim=-1)
    known = rays.isfinite().all(-1)
    return Outline(camera=camera, pixels=seen[known], rays=rays[known])


def touching_planes(first: Outline, second: Outline) -> Touching | None:
    """Compare the planes that touch what two cameras saw.

    Returns:
        None when one of them saw nothing, or stands where the other looks, so that no plane touches.
    """
    if not len(first.rays) or not len(second.rays):
        return None
    baseline = F.normalize((second.camera.centres - first.camera.centres)[0].double(), dim=0)
    middle = first.rays.mean(0)
    across = middle - (middle @ baseline) * baseline
    if float(across.norm()) < 1e-3:
        return None
    side = F.normalize(across, dim=0)
    normal = torch.linalg.cross(baseline, side)
    angles = [torch.atan2(outline.rays @ normal, outline.rays @ side) for outline in (first, second)]
    if any(float(one.max() - one.min()) > MAX_SPREAD_RAD for one in angles):
        return None
    own, seen = ([int(one.argmin()), int(one.argmax())] for one in angles)
    turned = angles[0][own] - angles[1][seen]
    rays = second.rays[seen]
    along = (rays @ baseline)[:, None] * baseline  # the rest of the ray is turned about the baseline
    rest = rays - along
    moved = (
        along + rest * turned.cos()[:, None] + torch.linalg.cross(baseline.expand(2, 3), rest) * turned.sin()[:, None]
    )
    hit = second.camera[0].to(torch.float64).project(second.camera.centres.double() + moved)
    return Touching(rays=first.rays[own], missed_px=(hit - second.pixels[seen]).norm(dim=-1))


def line_pixels(
    first: Outline, ray: Float[Tensor, "3"], second: Cameras, centre: Float[Tensor, "3"]
) -> Float[np.ndarray, "n 2"]:
    """Where a camera (1,) sees the line of sight of another one; bent by its lens, NaN where it does not see."""
    distance = float((centre.double() - first.camera.centres[0].double()).norm())
    steps = torch.linspace(NEAR, BEYOND, LINE_PIECES, dtype=torch.float64)[:, None] * distance
    points = first.camera.centres.double() + steps * ray.double()
    return second[0].to(torch.float64).project(points).numpy()


def missed(outlines: Sequence[Outline]) -> Float[Tensor, "v v"]:
    """By how many pixels the lines of every camera (column) miss the border in every other one (row); else NaN."""
    count = len(outlines)
    found = torch.full((count, count), torch.nan, dtype=torch.float64)
    for a in range(count):
        for b in range(count):
            touching = None if a == b else touching_planes(outlines[a], outlines[b])
            if touching is not None:
                found[b, a] = touching.missed_px.mean()
    return found


def add_epipolar_table(
    findings: Findings, names: Sequence[str], moments: Sequence[Float[Tensor, "v v"]], width_px: int, what: str
) -> None:
    """The median over moments of what `missed` gives, as a table, figures and a line.

    Args:
        findings: Added to.
        names: Of the views.
        moments: Of every moment.
        width_px: Of the pictures: what is fine depends on it.
        what: That the lines touch or pass through, in words.
    """
    if not moments or not bool(torch.stack(list(moments)).isfinite().any()):
        return
    median = torch.stack(list(moments)).nanmedian(0).values
    scale = width_px / 1000
    cells = [
        tuple(_cell(float(value), scale) if a != b else Cell("", "quiet") for a, value in enumerate(row))
        for b, row in enumerate(median)
    ]
    each = zip(names, median.nanmedian(1).values.tolist(), strict=True)
    listed = "  ".join(f"{name} {value:.1f}" for name, value in each if value == value)
    findings.lines.append(f"epipolar     lines miss by px: {listed}")
    findings.figures["epipolar_px_median"] = {
        name: {other: float(value) for other, value in zip(names, row, strict=True) if other != name}
        for name, row in zip(names, median, strict=True)
    }
    findings.tables.append(
        Table(
            title="Epipolar lines",
            intro=(
                f"By how many pixels of the picture (row) the epipolar lines of another camera (column) miss {what}: "
                "medians. This compares two cameras at a time, so that a camera that is wrong is a bad row and column."
            ),
            header=("in the picture of", *names),
            rows=tuple((name, *row) for name, row in zip(names, cells, strict=True)),
        )
    )


def _cell(value: float, scale: float) -> Cell:
    if value != value:
        return Cell("none", "quiet")
    return Cell(f"{value:.1f}", "good" if value <= FINE_PX * scale else "warn" if value <= NOTED_PX * scale else "bad")
