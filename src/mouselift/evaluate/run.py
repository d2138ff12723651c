"""The evaluation itself: every case of an index, by every method."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import mouselift
from mouselift.data.layout import Sample, read_sample
from mouselift.evaluate.baselines import Pictures, blank, mean_image, nearest_view, rendered
from mouselift.evaluate.figures import (
    WHITE,
    KeypointRow,
    Row,
    figures_of,
    group_summary,
    keypoint_summary,
    mean,
    metrics_of,
)
from mouselift.evaluate.index import Case, Index, view_numbers
from mouselift.evaluate.keypoints import keypoint_names, keypoints_of, surface_distances_mm
from mouselift.geometry import Gaussians, Views
from mouselift.geometry.hull import hull_gaussians
from mouselift.metrics import coverage
from mouselift.models.bundled import Models
from mouselift.perceptual import Perceptual
from mouselift.reconstruct import CALIBRATED_SIZE_PX, ReconstructConfig, calibrated_views, reconstruct_sample

logger = logging.getLogger(__name__)
MIN_HULL_VIEWS = 2
OWN_METHODS = ("polished", "feed_forward")  # ours, the better one first


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is evaluated beside the baselines that cost nothing."""

    reconstruct: ReconstructConfig = field(default_factory=ReconstructConfig)
    """How; its `refine_steps` are those of the method `polished`, 0 leaves that out."""
    scene_fit_steps: int = 400
    """Of the baseline `refine`, a fit of each scene that starts from the visual hull; 0 leaves it out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The worst view of one case, for the report.

    Attributes:
        case: Which case.
        method: What made it.
        view: Its name.
        figures: Metric -> value.
        given: First given view, over white.
        truth: Over white.
        made: Over white.
        alpha: Of what was made.
    """

    case: Case
    method: str
    view: str
    figures: Mapping[str, float]
    given: Float[Tensor, "3 h w"]
    truth: Float[Tensor, "3 h w"]
    made: Float[Tensor, "3 h w"]
    alpha: Float[Tensor, "1 h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """All that came out.

    Attributes:
        index: What was done.
        rows: One for each case, compared view and method.
        keypoints: One for each case, method and labelled keypoint.
        shown: The worst view of each case by our best method.
        seconds: Method -> number of views -> mean seconds of a reconstruction.
        size_px: At which views were compared.
        perceptual: Title of the perceptual distance, or why there is none.
    """

    index: Index
    rows: tuple[Row, ...]
    keypoints: tuple[KeypointRow, ...]
    shown: tuple[Shown, ...]
    seconds: Mapping[str, Mapping[int, float]]
    size_px: int
    perceptual: str


def evaluate(
    root: Path,
    index: Index,
    *,
    models: Models,
    mean_training_view: Views,
    config: EvaluateConfig | None = None,
    perceptual: Perceptual | None = None,
    labels: Float[np.ndarray, "t k 3"] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Reconstruct every case of an index, by every method, and compare with views that were not given.

    Args:
        root: The dataset.
        index: From `make_index` or `read_index`.
        models: The weights.
        mean_training_view: From `mean_view`.
        config: What else.
        perceptual: Adds a metric.
        labels: 3D keypoints of the recording, mm; the samples' own when not given.
        progress: Show a bar.

    Raises:
        InputError: A sample or view of the index does not exist, or a given view shows nothing.
    """
    config = config or EvaluateConfig()
    rows: list[Row] = []
    keypoint_rows: list[KeypointRow] = []
    shown: list[Shown] = []
    seconds: dict[str, dict[int, list[float]]] = {}
    size_px = 0
    for case, sample in _samples(root, index, progress):
        numbers = view_numbers(sample, case.given, f"sample {case.sample}")
        others = view_numbers(sample, case.compared, f"sample {case.sample}")
        given, truth = calibrated_views(sample, numbers), _compared(sample, others)
        size_px = truth.cameras.width
        scenes: dict[str, Gaussians] = {}
        for method, scene, took in _scenes(sample, numbers, given, models, config):
            scenes[method] = scene
            seconds.setdefault(method, {}).setdefault(len(numbers), []).append(took)
        made = {method: rendered(scene, truth) for method, scene in scenes.items()}
        made |= {
            "nearest_view": nearest_view(given, truth),
            "mean_image": mean_image(mean_training_view, truth),
            "blank": blank(truth),
        }
        mine = _rows(case, made, given, truth, perceptual)
        rows += mine
        keypoints = keypoints_of(sample, labels)
        if keypoints is not None:
            keypoint_rows += _keypoint_rows(case, sample, scenes, keypoints)
        best = next(method for method in OWN_METHODS if method in made)
        shown.append(_worst(case, best, [row for row in mine if row.method == best], made[best], given, truth))
    return Evaluation(
        index=index,
        rows=tuple(rows),
        keypoints=tuple(keypoint_rows),
        shown=tuple(shown),
        seconds={method: {n: mean(few) for n, few in by.items()} for method, by in seconds.items()},
        size_px=size_px,
        perceptual="none" if perceptual is None else perceptual.title,
    )


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """What metrics.json holds: the figures of every group, and those of the first group under `methods`."""
    groups = []
    for split, num_views in evaluation.index.groups:
        rows = [row for row in evaluation.rows if (row.split, row.num_views) == (split, num_views)]
        labelled = [row for row in evaluation.keypoints if (row.split, row.num_views) == (split, num_views)]
        groups.append(
            {
                "split": split,
                "num_views": num_views,
                "num_samples": len({row.sample for row in rows}),
                "num_compared": len({(row.sample, row.view) for row in rows}),
                "coverage": mean([row.coverage for row in rows]),
                "methods": group_summary(rows),
                **({"keypoints": keypoint_summary(labelled)} if labelled else {}),
            }
        )
    return {
        "mouselift": mouselift.__version__,
        "about": evaluation.index.about,
        "dataset": dict(evaluation.index.dataset),
        "compared_at_px": evaluation.size_px,
        "perceptual": evaluation.perceptual,
        "metrics": list(metrics_of(evaluation.rows)),
        "num_samples": groups[0]["num_samples"],
        "methods": groups[0]["methods"],
        "groups": groups,
        "seconds": {method: {str(n): round(s, 3) for n, s in by.items()} for method, by in evaluation.seconds.items()},
    }


def _samples(root: Path, index: Index, progress: bool) -> Iterator[tuple[Case, Sample]]:
    """Every case with its sample, which is read once for the cases that follow each other."""
    sample = None
    for case in tqdm(index.cases, unit="case", disable=None if progress else True):
        if sample is None or sample[0] != case.sample:
            sample = (case.sample, read_sample(root / case.sample))
        yield case, sample[1]


def _compared(sample: Sample, numbers: list[int]) -> Views:
    """At the size at which views are used; one that does not show the animal is compared all the same."""
    views = sample.views[numbers]
    size = min(CALIBRATED_SIZE_PX, views.cameras.width)
    return views.resized(size, size).over(torch.tensor(WHITE))


def _scenes(
    sample: Sample, numbers: list[int], given: Views, models: Models, config: EvaluateConfig
) -> Iterator[tuple[str, Gaussians, float]]:
    """Every method that makes Gaussians: its name, what it made, and its seconds."""
    from mouselift.optimise import OptimiseConfig, optimise_sample  # it takes baselines from this package

    started = perf_counter()
    quick = reconstruct_sample(sample, numbers, config=replace(config.reconstruct, refine_steps=0), models=models)
    yield "feed_forward", quick.gaussians, perf_counter() - started
    if config.reconstruct.refine_steps:
        started = perf_counter()
        slow = reconstruct_sample(sample, numbers, config=config.reconstruct, models=models)
        yield "polished", slow.gaussians, perf_counter() - started
    if len(numbers) < MIN_HULL_VIEWS:
        return
    if config.scene_fit_steps:
        started = perf_counter()
        fit = OptimiseConfig(steps=config.scene_fit_steps, device=config.reconstruct.device)
        yield "refine", optimise_sample(sample, numbers, config=fit).gaussians, perf_counter() - started
    started = perf_counter()
    yield "visual_hull", hull_gaussians(given), perf_counter() - started


def _rows(
    case: Case, made: Mapping[str, Pictures], given: Views, truth: Views, perceptual: Perceptual | None
) -> list[Row]:
    towards, others = (F.normalize(views.cameras.centres, dim=-1) for views in (given, truth))
    angles = torch.rad2deg((others @ towards.mT).amax(1).clamp(-1, 1).acos()).tolist()
    shares = coverage(truth.masks).tolist()
    rows = []
    for method, (images, alpha) in made.items():
        figures = figures_of(images, alpha, truth, perceptual)
        rows += [
            Row(
                sample=case.sample,
                split=case.split,
                num_views=len(case.given),
                view=view,
                method=method,
                angle_deg=angles[k],
                coverage=shares[k],
                figures={metric: float(values[k]) for metric, values in figures.items()},
            )
            for k, view in enumerate(case.compared)
        ]
    return rows


def _keypoint_rows(
    case: Case, sample: Sample, scenes: Mapping[str, Gaussians], keypoints: Float[Tensor, "k 3"]
) -> list[KeypointRow]:
    scale = float(sample.scene_from_world.scale)
    return [
        KeypointRow(
            sample=case.sample,
            split=case.split,
            num_views=len(case.given),
            method=method,
            keypoint=name,
            distance_mm=distance,
        )
        for method, scene in scenes.items()
        for name, distance in zip(
            keypoint_names(len(keypoints)), surface_distances_mm(scene, keypoints, scale).tolist(), strict=True
        )
    ]


def _worst(case: Case, method: str, rows: list[Row], made: Pictures, given: Views, truth: Views) -> Shown:
    values = torch.tensor([row.figures["psnr_fg"] for row in rows]).nan_to_num(torch.inf)
    k = int(values.argmin())
    return Shown(
        case=case,
        method=method,
        view=rows[k].view,
        figures=rows[k].figures,
        given=given[0].over(torch.tensor(WHITE)).images,
        truth=truth.images[k],
        made=made[0][k],
        alpha=made[1][k],
    )
