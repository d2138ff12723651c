"""Leave one camera of a recording out, reconstruct from the others, and look: what docs/results/rig.png shows.

    python scripts/make_rig_sheet.py --recording ../shared/data/markerless_mouse_1_sim --out docs/results/rig.png

Every camera is left out once at a few instants spread over the recording. Prints the figures of the cameras left out,
as means over instants with the spread between them; nothing was trained on the recording.
"""

import sys
import tempfile
from pathlib import Path

import torch
import tyro

from mouselift.data.layout import Sample, read_sample
from mouselift.data.plan import PrepareConfig
from mouselift.data.recording import open_recording
from mouselift.export.picture import contact_sheet
from mouselift.geometry import Gaussians, Views
from mouselift.metrics import iou_alpha, psnr_fg
from mouselift.prepare import prepare
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample
from mouselift.render import render

VIEW_PX = 256
SHOWN_INSTANTS = 2
WHITE = (1.0, 1.0, 1.0)


def make_rig_sheet(recording: Path, out: Path = Path("docs/results/rig.png"), instants: int = 4) -> None:
    """Write the sheet, print the figures.

    Args:
        recording: With a calibration and masks.
        out: The picture.
        instants: How many, spread evenly over the recording.
    """
    scores, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        done = prepare(open_recording(recording), PrepareConfig(max_samples=instants), Path(folder) / "set")
        for number, name in enumerate(done.samples):
            sample = read_sample(Path(folder) / "set" / name)
            figures = [left_out(sample, view) for view in range(len(sample.views.cameras))]
            scores.append([[psnr, iou] for psnr, iou, _ in figures])
            if number < SHOWN_INSTANTS:
                rows += _rows_of(sample, figures)
    contact_sheet(rows, out)
    values = torch.tensor(scores)  # (instants, cameras, 2)
    means, spread = values.mean((0, 1)), values.mean(1).std(0)
    sys.stdout.write(
        f"{len(scores)} instants x {values.shape[1]} cameras left out (+- between instants): "
        f"psnr_fg {means[0]:.2f} +- {spread[0]:.2f} dB, iou_alpha {means[1]:.3f} +- {spread[1]:.3f}\n"
    )


def left_out(sample: Sample, view: int) -> tuple[float, float, torch.Tensor]:
    """Foreground PSNR, silhouette IoU and the picture of a camera that the reconstruction was not given."""
    others = [i for i in range(len(sample.views.cameras)) if i != view]
    gaussians = reconstruct_sample(sample, others, config=ReconstructConfig()).gaussians
    return _seen_by(gaussians, _at_size(sample.views[[view]]))


def _seen_by(gaussians: Gaussians, truth: Views) -> tuple[float, float, torch.Tensor]:
    out = render(gaussians, truth.cameras, WHITE)
    return (
        float(psnr_fg(out.image, truth.images, truth.masks)[0]),
        float(iou_alpha(out.alpha, truth.masks)[0]),
        out.image[0],
    )


def _at_size(views: Views) -> Views:
    return views.resized(VIEW_PX, VIEW_PX).over(torch.ones(len(views.cameras), 3))


def _rows_of(sample: Sample, figures: list[tuple[float, float, torch.Tensor]]) -> list[list[tuple[str, torch.Tensor]]]:
    truth = _at_size(sample.views)
    names = truth.cameras.names
    return [
        [(f"camera {name}", image) for name, image in zip(names, truth.images, strict=True)],
        [(f"left out: {psnr:.1f} dB, IoU {iou:.2f}", image) for psnr, iou, image in figures],
    ]


if __name__ == "__main__":
    tyro.cli(make_rig_sheet)
