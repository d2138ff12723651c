"""The verdict: are the given views reproduced, and is the left-out camera better than every baseline."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.evaluate import WHITE, blank, figures_of, mean_image, mean_view, nearest_view, rendered
from mouselift.evaluate.baselines import Pictures
from mouselift.geometry import Gaussians, Views
from mouselift.geometry.hull import hull_gaussians
from mouselift.models.gslrm import GSLRM
from mouselift.overfit.training import CurvePoint, OverfitConfig, new_model, scene_of, train_on

MIN_VIEWS = 3  # two to give and one to leave out
COLLAPSED_DB = 1.0  # within so much of blank, nothing was learnt


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the dataset can be learnt.

    Attributes:
        passed: All that was asked for holds.
        reasons: One sentence for each thing that was asked for, with its figures.
    """

    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Overfit:
    """What came out.

    Attributes:
        config: What was asked for.
        model: As it was trained.
        curve: From before the first step to the end.
        given: (S, V) views that were given, over white.
        left_out: (S,) views that were not, over white.
        given_names: Of the V given views of the first sample.
        left_out_name: Of its left-out view.
        given_made: (S, V, 3, H, W) what the model makes of the given ones.
        left_out_made: Method -> pictures and silhouettes of the left-out ones.
        given_figures: Metric -> (S, V).
        left_out_figures: Method -> metric -> (S,).
        verdict: On the figures.
        seconds: Wall time of training.
        cpu_seconds: Of all threads, while training.
    """

    config: OverfitConfig
    model: GSLRM
    curve: tuple[CurvePoint, ...]
    given: Views
    left_out: Views
    given_names: tuple[str, ...]
    left_out_name: str
    given_made: Float[Tensor, "s v 3 h w"]
    left_out_made: Mapping[str, Pictures]
    given_figures: Mapping[str, Float[Tensor, "s v"]]
    left_out_figures: Mapping[str, Mapping[str, Float[Tensor, "s"]]]
    verdict: Verdict
    seconds: float
    cpu_seconds: float


def overfit(samples: Sequence[Sample], config: OverfitConfig | None = None, *, progress: bool = True) -> Overfit:
    """Train on samples, measure, judge. The same input gives the same result, unless time runs out first.

    Args:
        samples: Of one rig, at least one.
        config: How.
        progress: Show a bar.

    Raises:
        InputError: There are too few views, or a given one does not show the animal.
    """
    config = config or OverfitConfig()
    if config.threads:
        torch.set_num_threads(config.threads)
    given, left_out = _divided(samples, config)
    contexts = [views.reshape(1, -1) for views in given]
    model = new_model(config, contexts)
    wall, cpu = time.perf_counter(), time.process_time()
    curve = train_on(model, config, contexts, left_out, progress)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    scenes = [scene_of(model, context, config) for context in contexts]
    given_made = [rendered(scene, views) for scene, views in zip(scenes, given, strict=True)]
    made = _left_out_made(samples, scenes, given, left_out)
    white = torch.tensor(WHITE)
    over = [views.over(white) for views in given]
    truth = left_out.over(white)
    given_figures = [figures_of(*pictures, views) for pictures, views in zip(given_made, over, strict=True)]
    figures = {metric: torch.stack([f[metric] for f in given_figures]) for metric in given_figures[0]}
    left_out_figures = {method: figures_of(*pictures, truth) for method, pictures in made.items()}
    return Overfit(
        config=config,
        model=model,
        curve=curve,
        given=Views.stack(over),
        left_out=truth,
        given_names=given[0].cameras.names or tuple(map(str, range(len(given[0].cameras)))),
        left_out_name=(truth.cameras.names or ("left out",))[0],
        given_made=torch.stack([images for images, _ in given_made]),
        left_out_made=made,
        given_figures=figures,
        left_out_figures=left_out_figures,
        verdict=judge(
            float(figures["psnr_fg"].nanmean()),
            {method: values["psnr_fg"] for method, values in left_out_figures.items()},
            config.enough_db,
        ),
        seconds=wall,
        cpu_seconds=cpu,
    )


def judge(given_db: float, left_out_by_sample: Mapping[str, Float[Tensor, "s"]], enough_db: float) -> Verdict:
    """Hold figures against what was asked for.

    Args:
        given_db: Mean foreground PSNR of the given views.
        left_out_by_sample: "gslrm" and the baselines -> the same of each left-out view; their means count.
        enough_db: What the given views must reach.
    """
    left_out_db = {method: float(values.nanmean()) for method, values in left_out_by_sample.items()}
    ours, blank_db = left_out_db["gslrm"], left_out_db["blank"]
    baselines = {method: value for method, value in left_out_db.items() if method != "gslrm"}
    best = max(baselines, key=lambda method: baselines[method])
    above = int((left_out_by_sample["gslrm"] > left_out_by_sample[best]).sum())
    learnt = given_db >= enough_db
    in_3d = ours > baselines[best]
    reasons = [
        f"given views: {given_db:.2f} dB, {'at least' if learnt else 'below'} the {enough_db:g} dB asked for",
        f"left-out view: {ours:.2f} dB, {'above' if in_3d else 'not above'} the best baseline "
        f"({best} {baselines[best]:.2f} dB); above it in {above} of {len(left_out_by_sample[best])} samples",
    ]
    if not ours > blank_db + COLLAPSED_DB:
        reasons.append(f"collapsed: within {COLLAPSED_DB:g} dB of a blank picture ({blank_db:.2f} dB)")
    return Verdict(passed=learnt and in_3d and ours > blank_db + COLLAPSED_DB, reasons=tuple(reasons))


def _divided(samples: Sequence[Sample], config: OverfitConfig) -> tuple[list[Views], Views]:
    """The given views of each sample, and the left-out views of all."""
    if not samples:
        raise InputError("expected at least one sample, found none")
    given, left_out = [], []
    for sample in samples:
        count = len(sample.views.cameras)
        if count < MIN_VIEWS or not -count <= config.left_out < count:
            raise InputError(
                f"sample {sample.sample_id}: expected {MIN_VIEWS} views or more, and one with the number "
                f"{config.left_out} to leave out, found {count}"
            )
        chosen = config.left_out % count
        others = [i for i in range(count) if i != chosen]
        empty = [i for i in others if float(sample.views.masks[i].max()) < 0.5]
        if empty:
            raise InputError(f"sample {sample.sample_id}: expected the animal in every view, found none in {empty}")
        views = sample.views.resized(config.size_px, config.size_px)
        given.append(views[others])
        left_out.append(views[[chosen]])
    return given, Views.cat(left_out)


def _left_out_made(
    samples: Sequence[Sample], scenes: Sequence[Gaussians], given: Sequence[Views], left_out: Views
) -> dict[str, Pictures]:
    """The left-out views (S,) by the model and by every baseline."""
    truth = [left_out[[k]] for k in range(len(given))]
    mean = mean_view(samples)
    made = {
        "gslrm": [rendered(scene, one) for scene, one in zip(scenes, truth, strict=True)],
        "visual_hull": [rendered(hull_gaussians(views), one) for views, one in zip(given, truth, strict=True)],
        "nearest_view": [nearest_view(views, one) for views, one in zip(given, truth, strict=True)],
        "mean_image": [mean_image(mean, one) for one in truth],
        "blank": [blank(one) for one in truth],
    }
    return {
        method: (torch.cat([images for images, _ in few]), torch.cat([alpha for _, alpha in few]))
        for method, few in made.items()
    }
