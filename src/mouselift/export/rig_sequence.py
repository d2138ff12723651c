"""The output folder of several instants of a rig: Gaussians for each, and a film."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mouselift
from mouselift.atomic import atomic_folder
from mouselift.export.camera_path import cameras_along, framed
from mouselift.export.film import film_frames, write_animation
from mouselift.export.panels import film_layer
from mouselift.export.ply import Units, write_ply
from mouselift.export.result import in_units
from mouselift.export.sequence import RESULT_FILE
from mouselift.reconstruct import Reconstruction

FILM_SIZE_PX, FILM_FPS, FRAMES_EACH = 384, 24, 6  # a quarter of a second for each instant
WHITE = (1.0, 1.0, 1.0)


def write_rig_sequence(results: Iterable[tuple[int, Reconstruction]], out: Path, units: Units) -> dict[str, Any]:
    """Write `instant_000123/gaussians.ply` for each, sequence.mp4 and summary.json; `mouselift view` plays the folder.

    Args:
        results: Instant of the recording, and what was made of it; at least one.
        out: The folder; an existing one is replaced.
        units: Of the files.

    Returns:
        What summary.json holds.
    """
    scenes, rows = [], []
    with atomic_folder(out) as folder:
        for instant, result in results:
            place = folder / f"instant_{instant:06d}"
            place.mkdir()
            write_ply(
                in_units(result, units),
                place / RESULT_FILE,
                units=units,
                scene_from_world=result.scene_from_world,
            )
            scenes.append(result.gaussians)
            rows.append(
                {
                    "instant": instant,
                    "num_gaussians": len(result.gaussians),
                    "seconds": round(sum(result.timings_s.values()), 3),
                }
            )
        cameras = cameras_along("turntable", FRAMES_EACH * len(scenes), size_px=FILM_SIZE_PX)
        frames = film_frames(framed(scenes), cameras, background=WHITE, layer=film_layer("colour"))
        write_animation(frames, folder / "sequence.mp4", FILM_FPS)
        summary = {"units": units, "instants": rows, "mouselift": mouselift.__version__}
        (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    return summary
