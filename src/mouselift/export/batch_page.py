"""The page of many results: every picture beside what was made of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mouselift.atomic import atomic_path
from mouselift.export.picture import write_png
from mouselift.export.report_html import Html, bullets, heading, linked_picture, page, section
from mouselift.geometry.rigs import turntable
from mouselift.reconstruct import Reconstruction
from mouselift.render import render

STRIPS = "strips"
STRIP_VIEWS, STRIP_SIZE_PX = 4, 160
ELEVATION_DEG, FOV_DEG = 20.0, 35.0
WHITE = (1.0, 1.0, 1.0)


def write_strip(result: Reconstruction, out: Path, name: str) -> None:
    """A framed picture and its Gaussians from four sides, in a row on white: `strips/NAME.png`."""
    cameras = turntable(STRIP_VIEWS, elevation_deg=ELEVATION_DEG, fov_deg=FOV_DEG, size_px=STRIP_SIZE_PX)
    with torch.no_grad():
        made = render(result.gaussians, cameras, WHITE).image.clamp(0, 1)
    given = result.context[:1].resized(STRIP_SIZE_PX, STRIP_SIZE_PX).over(torch.tensor(WHITE)).images
    (out / STRIPS).mkdir(exist_ok=True)
    write_png(torch.cat([*given, *made], dim=-1), out / STRIPS / f"{name}.png")


def write_batch_page(out: Path, summaries: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]) -> None:
    """Write `index.html`: a strip of every result, which leads to its viewer, and what could not be used.

    Args:
        out: Holds a strip and a folder with `viewer.html` for each result.
        summaries: What their summary.json hold, by name.
        left_out: Names of pictures that could not be used, and why.
    """
    size = ((1 + STRIP_VIEWS) * STRIP_SIZE_PX, STRIP_SIZE_PX)
    shown = [
        linked_picture(f"{STRIPS}/{name}.png", f"{name}/viewer.html", _caption(name, summary), size)
        for name, summary in summaries.items()
    ]
    count = f"{len(shown)} of {len(shown) + len(left_out)} pictures"
    parts: list[Html] = [heading("MouseLift", f"{count}; a click opens the 3D viewer")]
    if left_out:
        parts.append(section("Left out", bullets([f"{name}: {why}" for name, why in left_out.items()], "bad")))
    if shown:
        parts.append(section("Results", *shown, intro="The picture, and its Gaussians from four sides."))
    with atomic_path(out / "index.html") as partial:
        partial.write_text(page("MouseLift: pictures", *parts), encoding="utf-8")


def _caption(name: str, summary: Mapping[str, Any]) -> str:
    fit = summary["settings"].get("silhouette_iou")
    told = "" if fit is None else f", silhouette matched to {fit:.2f}"
    return f"{name}: {summary['num_gaussians']:,} Gaussians{told}"
