"""Reconstruct a calibrated sample from all of its views, and look from around: what docs/results/real_rig.png shows.

mouselift segment ../shared/data/sleap_anipose_mouse4cam -c .../recalibrated.anipose.toml --every 20 -o masked
mouselift prepare masked/recording.yaml every=20 val_share=0 -o dataset
python scripts/show_sample.py --sample dataset/sample_000000 --out docs/results/real_rig.png
"""

from pathlib import Path

import torch
import tyro

from mouselift.data.layout import read_sample
from mouselift.export.picture import contact_sheet
from mouselift.geometry.rigs import turntable
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample
from mouselift.render import render

VIEW_PX = 256
WHITE = (1.0, 1.0, 1.0)
ELEVATIONS_DEG = (60.0, 25.0)


def show_sample(sample: Path, out: Path) -> None:
    """Write a sheet: the views and the Gaussians from the same cameras, then four sides from two heights.

    Args:
        sample: A sample folder of a dataset.
        out: The picture.
    """
    given = read_sample(sample)
    count = len(given.views.cameras)
    gaussians = reconstruct_sample(given, list(range(count)), config=ReconstructConfig()).gaussians
    truth = given.views.resized(VIEW_PX, VIEW_PX).over(torch.ones(count, 3))
    seen = render(gaussians, truth.cameras, WHITE).image
    names, fov = truth.cameras.names, float(truth.cameras.fov_deg[0, 0])
    rows = [
        [(f"camera {name}", image) for name, image in zip(names, truth.images, strict=True)],
        [("Gaussians, same camera", image) for image in seen],
    ]
    for row, elevation in zip(rows, ELEVATIONS_DEG, strict=True):
        around = turntable(4, elevation_deg=elevation, fov_deg=fov, size_px=VIEW_PX)
        row += [(f"turned, from {elevation:.0f} deg", image) for image in render(gaussians, around, WHITE).image]
    contact_sheet(rows, out)


if __name__ == "__main__":
    tyro.cli(show_sample)
