"""The command `batch`."""

import sys
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from mouselift.cli.app import Out, app
from mouselift.errors import InputError


@app.command
def batch(
    pictures: Positional[tuple[Path, ...]],
    /,
    *,
    out: Out,
    masks: Path | None = None,
    unseen: Literal["body", "generator"] = "body",
    steps: int | None = None,
    guidance: float | None = None,
    refine: int = 80,
    seed: int = 0,
    elevation_deg: float | None = None,
    fov_deg: float | None = None,
    device: str = "auto",
    gslrm: Path | None = None,
    generator: Path | None = None,
    pose: Path | None = None,
) -> None:
    """Reconstruct many pictures, each into a folder of its own, with one page of all.

    Args:
        pictures: Files, or folders of pictures.
        out: Folder for index.html and a result folder for each picture. A run that was cut off goes on.
        masks: Folder of masks named as the pictures; pictures without one are segmented.
        unseen: As in `reconstruct`; so are all the following.
        steps: Generator steps.
        guidance: Of the generator.
        refine: Steps of polishing.
        seed: Same seed, same results.
        elevation_deg: Of all cameras above the ground; estimated when not given.
        fov_deg: Field of view of the framed pictures; estimated when not given.
        device: auto, cpu or cuda.
        gslrm: Other weights than the shipped ones.
        generator: Other weights than the shipped ones, or a pipeckpts folder.
        pose: Other weights than the shipped ones.
    """
    from mouselift.batch import find_pictures, reconstruct_all
    from mouselift.models.bundled import load_models
    from mouselift.reconstruct import ReconstructConfig

    config = ReconstructConfig(
        unseen=unseen,
        steps=steps,
        guidance=guidance,
        refine_steps=refine,
        seed=seed,
        elevation_deg=elevation_deg,
        fov_deg=fov_deg,
        device=device,
    )
    found = find_pictures(pictures)
    models = load_models(gslrm, generator, pose) if any((gslrm, generator, pose)) else None
    done = reconstruct_all(found, out, masks=masks, config=config, models=models)
    sys.stdout.write(f"{len(done.made)} of {len(found)} pictures: look at {out / 'index.html'}\n")
    if done.left_out:
        first = next(iter(done.left_out.values()))
        more = "" if len(done.left_out) == 1 else f", and {len(done.left_out) - 1} more in {out / 'left_out.tsv'}"
        raise InputError(f"{len(done.left_out)} of {len(found)} pictures could not be used: {first}{more}")
