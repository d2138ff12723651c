"""The output folder of a reconstruction: it appears whole or not at all."""

import json
import os
import platform
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float

import mouselift
from mouselift.atomic import atomic_folder
from mouselift.body.skeleton import KEYPOINTS
from mouselift.errors import InputError
from mouselift.export.film import turntable_frames, write_film
from mouselift.export.picture import contact_sheet, write_png
from mouselift.export.ply import Units, write_ply
from mouselift.export.viewer_html import write_viewer_html
from mouselift.geometry import Gaussians, Views
from mouselift.optimise import LeftOut
from mouselift.reconstruct import Reconstruction
from mouselift.render import render

SUMMARY_FILE = "summary.json"
FILM_FRAMES, FILM_FPS, FILM_SIZE_PX = 72, 24, 512
WHITE = (1.0, 1.0, 1.0)
FRAMES: dict[Units, str] = {
    "scene": "scene units, +Z up, the animal near the origin",
    "mm": "mm, the world of the rig's calibration",
}


def check_output(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that could not be written, before the work begins.

    Raises:
        InputError: It exists with something in it and `overwrite` is off, is no folder, or its place is not writable.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"expected an output folder, found a file at {out}")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"expected a new or empty output folder, found results in {out}; --overwrite replaces them")
    place = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    if not place.is_dir():
        raise InputError(f"expected a folder to write {out} into, found a file at {place}")
    if not os.access(place if place != out.absolute() else place.parent, os.W_OK | os.X_OK):
        raise InputError(f"expected permission to write {out}, found none in {place}")


def in_units(result: Reconstruction, units: Units) -> Gaussians:
    """The Gaussians in scene units, or in mm of the rig's world.

    Raises:
        InputError: mm are asked for, and nothing says where the scene lies in the world.
    """
    if units == "scene":
        return result.gaussians
    if result.scene_from_world is None:
        raise InputError("expected views of a calibrated rig for units in mm, found a picture without calibration")
    return result.gaussians.transformed(result.scene_from_world.inverse())


def write_result(
    result: Reconstruction, out: Path, left_out: LeftOut | None = None, *, units: Units = "scene"
) -> dict[str, Any]:
    """Write every file of a reconstruction.

    Args:
        result: What was reconstructed.
        out: The folder, replaced if it exists (`check_output` is the guard).
        left_out: Views that were not given: their figures go into the summary, their pictures into left_out.png.
        units: Of gaussians.ply.

    Returns:
        What `summary.json` holds.
    """
    timings = dict(result.timings_s)

    def timed(name: str, started: float) -> None:
        timings[name] = perf_counter() - started

    with atomic_folder(out) as folder:
        started = perf_counter()
        placed = in_units(result, units)
        write_ply(placed, folder / "gaussians.ply", units=units, scene_from_world=result.scene_from_world)
        timed("write gaussians.ply", started)
        started = perf_counter()
        contact_sheet(_rows(result), folder / "views.png")
        if result.picture is not None and result.picture.mask is not None:
            write_png(result.picture.mask.expand(3, -1, -1), folder / "mask.png")
        if left_out is not None:
            contact_sheet(_left_out_rows(left_out), folder / "left_out.png")
        timed("write views.png", started)
        started = perf_counter()
        frames = turntable_frames(result.gaussians, num_frames=FILM_FRAMES, size_px=FILM_SIZE_PX)
        write_film(frames, folder / "turntable.mp4", fps=FILM_FPS)
        timed("write turntable.mp4", started)
        started = perf_counter()
        write_viewer_html(result.gaussians, folder / "viewer.html", title="MouseLift")
        timed("write viewer.html", started)
        summary = {
            "input": str(result.picture.source) if result.picture is not None else None,
            "settings": dict(result.settings),
            "num_gaussians": len(result.gaussians),
            "num_input_views": result.num_inputs,
            "num_context_views": len(result.context.cameras),
            "frame": FRAMES[units],
            **_keypoints(result),
            **({} if left_out is None else {"left_out": _left_out_figures(left_out)}),
            "timings_s": {name: round(seconds, 3) for name, seconds in timings.items()},
            "total_s": round(sum(timings.values()), 3),
            "versions": {
                "mouselift": mouselift.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1))
    return summary


def _keypoints(result: Reconstruction) -> dict[str, Any]:
    """The fitted body's keypoints by name, in scene units and, where the rig is calibrated, in its millimetres."""
    points = result.keypoints_scene
    if points is None:
        return {}
    found = {"keypoints_scene": _named(points)}
    if result.scene_from_world is not None:
        world_from_scene = result.scene_from_world.inverse()
        found["keypoints_world_mm"] = _named(world_from_scene.apply(points.to(world_from_scene.translation)))
    return found


def _named(points: Float[torch.Tensor, "22 3"]) -> dict[str, list[float]]:
    return {name: [round(x, 4) for x in point] for name, point in zip(KEYPOINTS, points.tolist(), strict=True)}


def _left_out_figures(left_out: LeftOut) -> dict[str, Any]:
    """View -> way -> metric -> value."""
    return {
        name: {
            way: {metric: round(float(values[k]), 4) for metric, values in figures.items()}
            for way, figures in left_out.figures.items()
        }
        for k, name in enumerate(_names(left_out.truth))
    }


def _left_out_rows(left_out: LeftOut) -> list[list[tuple[str, torch.Tensor]]]:
    """A row for each view: the truth, and what each way makes of it."""
    figures = _left_out_figures(left_out)
    return [
        [
            (f"{name}: left out", left_out.truth.images[k]),
            *(
                (f"{way}: {values['psnr_fg']:.1f} dB, IoU {values['iou_alpha']:.2f}", left_out.pictures[way][k])
                for way, values in figures[name].items()
            ),
        ]
        for k, name in enumerate(figures)
    ]


def _names(views: Views) -> tuple[str, ...]:
    return views.cameras.names or tuple(f"view {k}" for k in range(len(views.cameras)))


def _rows(result: Reconstruction) -> list[list[tuple[str, torch.Tensor]]]:
    """Titled pictures: what was given, what was made of it, and the Gaussians from the same cameras."""
    context: Views = result.context.over(torch.tensor(WHITE))
    rendered = render(result.gaussians, context.cameras, WHITE).image.clamp(0, 1)
    names = context.cameras.names or tuple(
        ["input"] * result.num_inputs + ["front", "front right", "right", "back", "left", "front left"]
    )
    masks = [mask.expand(3, -1, -1) for mask in context.masks]
    return [
        [
            (f"{name}: {'given' if i < result.num_inputs else 'made'}", context.images[i])
            for i, name in enumerate(names)
        ],
        [(f"{name}: alpha", masks[i]) for i, name in enumerate(names)],
        [(f"{name}: Gaussians", rendered[i]) for i, name in enumerate(names)],
    ]
