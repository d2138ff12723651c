"""The command `batch`."""

import sys
from pathlib import Path

from tyro.conf import Positional

from mouselift.cli.app import Out, app
from mouselift.cli.options import USUAL, How
from mouselift.errors import InputError


@app.command
def batch(
    pictures: Positional[tuple[Path, ...]],
    /,
    *,
    out: Out,
    masks: Path | None = None,
    how: How = USUAL,
) -> None:
    """Reconstruct many pictures, each into a folder of its own, with one page of all.

    Args:
        pictures: Files, or folders of pictures.
        out: Folder for index.html and a result folder for each picture. A run that was cut off goes on.
        masks: Folder of masks named as the pictures; pictures without one are segmented.
        how: How the Gaussians are made, and by which weights.
    """
    from mouselift.batch import find_pictures, reconstruct_all

    found = find_pictures(pictures)
    done = reconstruct_all(found, out, masks=masks, config=how.config(), models=how.models())
    sys.stdout.write(f"{len(done.made)} of {len(found)} pictures: look at {out / 'index.html'}\n")
    if done.left_out:
        first = next(iter(done.left_out.values()))
        more = "" if len(done.left_out) == 1 else f", and {len(done.left_out) - 1} more in {out / 'left_out.tsv'}"
        raise InputError(f"{len(done.left_out)} of {len(found)} pictures could not be used: {first}{more}")
