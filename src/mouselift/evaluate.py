"""Reconstruction of held-out samples from one view or several, beside trivial baselines."""

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

import mouselift
from mouselift.data.dataset import MouseDataset
from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, split_rig_and_free
from mouselift.geometry import Views
from mouselift.geometry.picture_frame import half_widths
from mouselift.geometry.rigs import azimuth_elevation_deg
from mouselift.metrics import iou_alpha, psnr_fg, psnr_full, ssim_fg
from mouselift.models.bundled import Models
from mouselift.models.gslrm import as_context
from mouselift.reconstruct import ReconstructConfig, reconstruct_sample
from mouselift.render import render

logger = logging.getLogger(__name__)
WHITE = (1.0, 1.0, 1.0)
METRICS = ("psnr_fg", "ssim_fg", "iou_alpha", "psnr_full")
BOOTSTRAP_DRAWS = 1000
ANGLE_EDGES_DEG = (0, 30, 60, 90, 120, 150, 181)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one method on one held-out view."""

    sample: str
    view: str
    method: str
    angle_deg: float
    """Between the input camera and this one, about the vertical axis."""
    figures: dict[str, float]


def evaluate_reconstruction(
    held_out: MouseDataset,
    training: MouseDataset,
    *,
    config: ReconstructConfig,
    models: Models,
    num_views: int = 1,
    input_view: int = 0,
) -> tuple[list[Row], list[dict[str, Tensor]]]:
    """Reconstruct every held-out sample and compare with all of its other views.

    From one free photograph; or from the photograph and true views of the rig around it, spread
    evenly, straight through GS-LRM.

    Args:
        held_out: Samples that no model has seen.
        training: Where the mean image comes from.
        config: How to reconstruct.
        models: The weights.
        num_views: How many views are given, 1 to 7.
        input_view: Which of the free views is the photograph.

    Returns:
        One row per sample, view and method, and pictures of each sample: "input", "truth", "made".
    """
    mean = _mean_view(training)
    rows, pictures = [], []
    for number in tqdm(range(len(held_out)), unit="sample"):
        sample = held_out[number]
        on_rig, free = split_rig_and_free(sample.views)
        chosen = (free or on_rig)[input_view]
        around = facelift_subset(sample.views.cameras, on_rig, chosen)
        context = [chosen, *(around[k * len(around) // (num_views - 1)] for k in range(num_views - 1))]
        others = [i for i in on_rig + free if i not in context]
        truth = sample.views[others].over(torch.tensor(WHITE))
        result = reconstruct_sample(sample, context, config=config, models=models)
        out = render(result.gaussians, truth.cameras, WHITE)
        given = sample.views[[chosen]].over(torch.tensor(WHITE))
        methods = {
            "mouselift": (out.image.clamp(0, 1), out.alpha),
            "nearest_view": nearest_view(given, truth),
            "mean_image": _mean_image(mean, truth),
            "blank": (torch.ones_like(truth.images), torch.zeros_like(truth.masks)),
        }
        if num_views > 1 and models.gslrm.config.start_from_hull:
            methods["visual_hull"] = _visual_hull(sample.views[context], models, truth)
        angles = _angles_deg(sample, chosen, others)
        names = [sample.views.cameras.names[i] for i in others]
        for method, (images, alpha) in methods.items():
            figures = figures_of(images, alpha, truth)
            rows += [
                Row(
                    sample=sample.sample_id,
                    view=names[i],
                    method=method,
                    angle_deg=angles[i],
                    figures={key: float(values[i]) for key, values in figures.items()},
                )
                for i in range(len(others))
            ]
        pictures.append({"input": given.images, "truth": truth.images[:6], "made": methods["mouselift"][0][:6]})
    return rows, pictures


def summarise(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Means over samples with 95 % bootstrap intervals (resampling samples), and means by angle from the input."""
    samples = sorted({row.sample for row in rows})
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(samples), (BOOTSTRAP_DRAWS, len(samples)), generator=generator)
    summary: dict[str, Any] = {}
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        entry: dict[str, Any] = {}
        for metric in METRICS:
            per_sample = torch.tensor(
                [_mean([r.figures[metric] for r in mine if r.sample == sample]) for sample in samples]
            )
            low, high = torch.quantile(per_sample[draws].mean(1), torch.tensor([0.025, 0.975])).tolist()
            entry[metric] = {"mean": float(per_sample.mean()), "low": low, "high": high}
        entry["by_angle"] = [
            {
                "from_deg": low,
                "to_deg": high,
                **{m: _mean([r.figures[m] for r in mine if low <= r.angle_deg < high]) for m in METRICS},
            }
            for low, high in pairwise(ANGLE_EDGES_DEG)
        ]
        summary[method] = entry
    return {"num_samples": len(samples), "mouselift": mouselift.__version__, "methods": summary}


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """One line per sample, view and method."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "view", "method", "angle_deg", *METRICS])
        for row in rows:
            writer.writerow(
                [
                    row.sample,
                    row.view,
                    row.method,
                    f"{row.angle_deg:.1f}",
                    *(f"{row.figures[m]:.4f}" for m in METRICS),
                ]
            )


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """The summary as JSON."""
    path.write_text(json.dumps(summary, indent=1))


def table(summary: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    lines = ["| method | " + " | ".join(METRICS) + " |", "|---|" + "---|" * len(METRICS)]
    for method, entry in summary["methods"].items():
        cells = [f"{entry[m]['mean']:.3f} [{entry[m]['low']:.3f}, {entry[m]['high']:.3f}]" for m in METRICS]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figures_of(images: Float[Tensor, "v 3 h w"], alpha: Float[Tensor, "v 1 h w"], truth: Views) -> dict[str, Tensor]:
    """Every metric of pictures over white, one value for each view (V,)."""
    return {
        "psnr_fg": psnr_fg(images, truth.images, truth.masks),
        "ssim_fg": ssim_fg(images, truth.images, truth.masks),
        "iou_alpha": iou_alpha(alpha, truth.masks),
        "psnr_full": psnr_full(images, truth.images),
    }


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values).nanmean()) if values else float("nan")


def _angles_deg(sample: Sample, chosen: int, others: Sequence[int]) -> list[float]:
    azimuths, _ = azimuth_elevation_deg(sample.views.cameras)
    return [abs((float(azimuths[i] - azimuths[chosen]) + 180) % 360 - 180) for i in others]


def _shown_at(view: Views, half_width: float) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"]]:
    """A view (1,) over white as a frame of another width at the subject would show it: zoomed about its centre."""
    size = view.cameras.width
    zoomed = max(1, round(size * float(half_widths(view.cameras)[0]) / half_width))
    resized = view.resized(zoomed, zoomed)
    margin = (size - zoomed) // 2
    cut = resized.cropped(-margin, -margin, size, size).over(torch.tensor(WHITE))
    return cut.images[0], cut.masks[0]


def nearest_view(given: Views, truth: Views) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"]]:
    """The input picture (1,) itself, at the scale of each wanted frame, over white."""
    shown = [_shown_at(given, float(width)) for width in half_widths(truth.cameras)]
    return torch.stack([image for image, _ in shown]), torch.stack([mask for _, mask in shown])


def _visual_hull(
    context: Views, models: Models, truth: Views
) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"]]:
    """What GS-LRM starts from, without what it has learnt."""
    given = as_context(context.reshape(1, len(context.cameras)), models.gslrm, torch.tensor(WHITE))
    out = render(models.gslrm.visual_hull(given)[0], truth.cameras, WHITE)
    return out.image.clamp(0, 1), out.alpha


def _mean_view(training: MouseDataset) -> Views:
    """The mean of the training samples' first rig views over white, with the mean mask."""
    views = []
    for number in range(len(training)):
        sample = training[number]
        on_rig, _ = split_rig_and_free(sample.views)
        views.append(sample.views[on_rig[:1]].over(torch.tensor(WHITE)))
    return Views(
        images=torch.stack([view.images for view in views]).mean(0),
        masks=torch.stack([view.masks for view in views]).mean(0),
        cameras=views[0].cameras,
    )


def _mean_image(mean: Views, truth: Views) -> tuple[Float[Tensor, "v 3 h w"], Float[Tensor, "v 1 h w"]]:
    """The mean training picture at the scale of each wanted frame.

    It is composited already, so it is zoomed as an opaque picture, and so is its mask.
    """
    opaque = torch.ones_like(mean.masks)
    picture = Views(images=mean.images, masks=opaque, cameras=mean.cameras)
    mask = Views(images=mean.masks.expand(-1, 3, -1, -1), masks=opaque, cameras=mean.cameras)
    widths = [float(width) for width in half_widths(truth.cameras)]
    images = torch.stack([_shown_at(picture, width)[0] for width in widths])
    masks = [image[:1] * inside for image, inside in (_shown_at(mask, width) for width in widths)]
    return images, torch.stack(masks)
