"""What is measured on a view, and what many measurements come to: means with bootstrap intervals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.geometry import Views
from mouselift.metrics import iou_alpha, lpips_fg, psnr_fg, psnr_full, ssim_fg, ssim_full
from mouselift.perceptual import Perceptual

WHITE = (1.0, 1.0, 1.0)
METRICS = ("psnr_fg", "ssim_fg", "iou_alpha", "psnr_full", "ssim_full")
BOOTSTRAP_DRAWS = 1000
ANGLE_EDGES_DEG = tuple(range(0, 181, 15))


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one method on one view that it was not given.

    Attributes:
        sample: Whose view.
        split: "val" or "train": an instant that training never saw, or one that it did.
        num_views: How many views were given.
        view: Its name.
        method: What made the picture.
        angle_deg: At the subject, between this camera and the nearest given one.
        coverage: Share of the picture that the subject fills.
        figures: Metric -> value.
    """

    sample: str
    split: str
    num_views: int
    view: str
    method: str
    angle_deg: float
    coverage: float
    figures: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class KeypointRow:
    """How far one labelled keypoint lies from the surface that one method made.

    Attributes:
        sample: Of which sample.
        split: As in `Row`.
        num_views: As in `Row`.
        method: As in `Row`.
        keypoint: Its name.
        distance_mm: In the rig's world; NaN where there is no surface.
    """

    sample: str
    split: str
    num_views: int
    method: str
    keypoint: str
    distance_mm: float


def figures_of(
    images: Float[Tensor, "v 3 h w"],
    alpha: Float[Tensor, "v 1 h w"],
    truth: Views,
    perceptual: Perceptual | None = None,
) -> dict[str, Tensor]:
    """Every metric of pictures over white, one value for each view (V,).

    Args:
        images: What was made.
        alpha: Its silhouettes.
        truth: (V,) over white.
        perceptual: Adds its distance on the foreground, under its own name ("st_lpips_fg").
    """
    figures = {
        "psnr_fg": psnr_fg(images, truth.images, truth.masks),
        "ssim_fg": ssim_fg(images, truth.images, truth.masks),
        "iou_alpha": iou_alpha(alpha, truth.masks),
        "psnr_full": psnr_full(images, truth.images),
        "ssim_full": ssim_full(images, truth.images),
    }
    if perceptual is not None:
        figures[f"{perceptual.name}_fg"] = lpips_fg(images, truth.images, truth.masks, perceptual)
    return figures


def metrics_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """The names of all metrics of the rows, the usual ones first."""
    found = dict.fromkeys(name for row in rows for name in row.figures)
    return (*METRICS, *(name for name in found if name not in METRICS))


def group_summary(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Means of rows of one split and one number of views, by method, and by method and angle.

    Intervals are 95 % bootstrap intervals over samples: samples are drawn again, never single views, which are not
    independent.

    Args:
        rows: At least one.
        seed: Of the draws; the same for all methods, so that they are compared on the same ones.
    """
    metrics = metrics_of(rows)
    summary: dict[str, Any] = {}
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        entry: dict[str, Any] = {
            metric: interval(_by_sample(mine, lambda row, m=metric: row.figures[m]), seed) for metric in metrics
        }
        entry["by_angle"] = [
            {
                "from_deg": low,
                "to_deg": high,
                **{
                    m: interval(_by_sample(_between(mine, low, high), lambda row, m=m: row.figures[m]), seed)
                    for m in metrics
                },
            }
            for low, high in pairwise(ANGLE_EDGES_DEG)
        ]
        summary[method] = entry
    return summary


def _between(rows: Sequence[Row], low: float, high: float) -> list[Row]:
    """Rows of views from an angle in [low, high), or of 180 degrees, which belong to the last ones."""
    return [row for row in rows if low <= row.angle_deg < high or row.angle_deg >= high == ANGLE_EDGES_DEG[-1]]


def keypoint_summary(rows: Sequence[KeypointRow], seed: int = 0) -> dict[str, Any]:
    """Method -> mean distance of the keypoints with its interval (as in `group_summary`), and that of each one."""
    summary: dict[str, Any] = {}
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        names = dict.fromkeys(row.keypoint for row in mine)
        summary[method] = {
            "distance_mm": interval(_by_sample(mine, lambda row: row.distance_mm), seed),
            "by_keypoint_mm": {name: mean([r.distance_mm for r in mine if r.keypoint == name]) for name in names},
        }
    return summary


def interval(values: Float[Tensor, "n"], seed: int = 0) -> dict[str, float]:
    """Mean and 95 % bootstrap interval; values that are not numbers are left out."""
    known = values[values.isfinite()]
    if not len(known):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan")}
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(known), (BOOTSTRAP_DRAWS, len(known)), generator=generator)
    low, high = torch.quantile(known[draws].mean(1), torch.tensor([0.025, 0.975]).to(known)).tolist()
    return {"mean": float(known.mean()), "low": low, "high": high}


def mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN of none."""
    return float(torch.tensor(values).nanmean()) if values else float("nan")


def _by_sample(rows: Sequence[Any], value: Callable[[Any], float]) -> Float[Tensor, "n"]:
    """The mean of each sample, in the order of their names."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row.sample, []).append(value(row))
    return torch.tensor([mean(values[sample]) for sample in sorted(values)])
