"""One instant's calibrated views to Gaussians by gradient: slower than a network, and the measure of its quality."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.evaluate import WHITE, figures_of, nearest_view, rendered
from mouselift.export.files import read_placed
from mouselift.geometry import Gaussians, Views
from mouselift.geometry.hull import hull_gaussians
from mouselift.models.bundled import Models
from mouselift.reconstruct import (
    BOX,
    MIN_OPACITY,
    ReconstructConfig,
    Reconstruction,
    calibrated_views,
    reconstruct_sample,
)
from mouselift.refine import Objective, around_subject, refine, shares_px
from mouselift.runtime import Clock, resolve_device

MIN_VIEWS = 2
# Starting from a hull of fewer and wider Gaussians leaves fewer holes that only other cameras see.
HULL_SHRINK = 2
HULL_FOOTPRINT = 1.0  # widths of those larger pixels
STARTS = ("hull", "gslrm")


@dataclass(frozen=True, kw_only=True)
class OptimiseConfig:
    """How to fit (docs/refining.md says how the values were found)."""

    init: str | Path = "hull"
    """Where to start: "hull", "gslrm" (the feed-forward result) or a file of Gaussians."""
    steps: int = 400
    opacity_weight: float = 0.0
    """Of the mean opacity in what is minimised."""
    scale_weight: float = 0.0
    """Of the mean standard deviation, scene units."""
    prune_every: int = 100
    """Steps between two rounds of pruning of what no view needs; 0 for none."""
    device: str = "auto"
    """"cpu", "cuda", or "auto" for a GPU when there is one."""

    def __post_init__(self) -> None:
        if not 0 <= self.steps <= 100_000:
            raise InputError(f"expected 0 to 100000 steps, found {self.steps}")
        if self.prune_every < 0:
            raise InputError(f"expected 0 or more steps between prunings, found {self.prune_every}")
        for name in ("opacity_weight", "scale_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"expected {name} to be 0 or more, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Views that were not given, and what several ways make of them, over white.

    Attributes:
        truth: (V,) the views.
        pictures: Way -> (V, 3, H, W).
        figures: Way -> metric -> one value for each view.
    """

    truth: Views
    pictures: Mapping[str, Tensor]
    figures: Mapping[str, Mapping[str, Tensor]]


def optimise_sample(
    sample: Sample,
    input_views: list[int],
    *,
    config: OptimiseConfig | None = None,
    models: Models | None = None,
    progress: bool = False,
) -> Reconstruction:
    """Fit Gaussians to calibrated views of one instant. The same input gives the same bits: nothing is drawn by lot.

    Args:
        sample: Read with `read_sample`.
        input_views: Indices into its views, at least two different ones.
        config: How.
        models: Other weights than the shipped ones, for a start from GS-LRM.
        progress: Show a bar.

    Raises:
        InputError: The views cannot be used, or there is nothing to start from; the message says why.
    """
    config = config or OptimiseConfig()
    if len(set(input_views)) < max(MIN_VIEWS, len(input_views)):
        raise InputError(f"expected at least {MIN_VIEWS} different input views, found {input_views}")
    views = calibrated_views(sample, input_views)
    device, clock = resolve_device(config.device), Clock()
    with clock.stage("start"):
        start = _start(sample, input_views, config, models).to(device)
        close = around_subject(views).to(device)
        seen = shares_px(start, close.cameras) > 0
        if not bool(seen.any()):
            raise InputError(
                f"sample {sample.sample_id}: expected Gaussians in the pictures to start from, found none of "
                f"{len(start)} there with --init {config.init}"
            )
    objective = Objective(
        absolute=True,
        opacity_weight=config.opacity_weight,
        scale_weight=config.scale_weight,
        prune_every=config.prune_every,
    )
    with clock.stage("refine"):
        weights = torch.ones(len(input_views), device=device)
        scene = refine(start.select(seen), close, weights, config.steps, objective=objective, progress=progress)
    return Reconstruction(
        gaussians=scene.to("cpu").pruned(MIN_OPACITY, BOX),
        context=views,
        num_inputs=len(input_views),
        timings_s=clock.seconds,
        settings={
            "sample": sample.sample_id,
            "input_views": input_views,
            "init": str(config.init),
            "refine_steps": config.steps,
            "opacity_weight": config.opacity_weight,
            "scale_weight": config.scale_weight,
            "prune_every": config.prune_every,
            "num_start_gaussians": len(start),
            "device": device,
        },
        scene_from_world=sample.scene_from_world,
    )


def compare_left_out(sample: Sample, input_views: list[int], scenes: Mapping[str, Gaussians]) -> LeftOut | None:
    """Scenes in the views of a sample that they were not made from, beside the hull and the nearest given view.

    Args:
        sample: Whose views.
        input_views: What the scenes were made from.
        scenes: Way -> Gaussians in the sample's scene frame, on the CPU.

    Returns:
        None where no view is left that shows the animal.
    """
    others = [i for i in range(len(sample.views.cameras)) if i not in input_views]
    others = [i for i in others if float(sample.views.masks[i].max()) >= 0.5]
    if not others:
        return None
    given, truth = calibrated_views(sample, input_views), calibrated_views(sample, others)
    truth = truth.over(torch.tensor(WHITE))
    made = {}
    for way, scene in {**scenes, "visual_hull": hull_gaussians(given)}.items():
        made[way] = rendered(scene, truth)
    made["nearest_view"] = nearest_view(given, truth)
    return LeftOut(
        truth=truth,
        pictures={way: images for way, (images, _) in made.items()},
        figures={way: figures_of(images, alpha, truth) for way, (images, alpha) in made.items()},
    )


def _start(sample: Sample, input_views: list[int], config: OptimiseConfig, models: Models | None) -> Gaussians:
    if config.init == "hull":
        views = calibrated_views(sample, input_views)
        size = max(1, views.cameras.width // HULL_SHRINK)
        return hull_gaussians(views.resized(size, size), HULL_FOOTPRINT)
    if config.init == "gslrm":
        feed_forward = ReconstructConfig(refine_steps=0, device=config.device)
        return reconstruct_sample(sample, input_views, config=feed_forward, models=models).gaussians
    path = Path(config.init)
    if not path.exists():
        raise InputError(f"expected --init {', '.join(STARTS)} or a file of Gaussians, found no {path}")
    placed = read_placed(path)
    scene = placed.gaussians
    return scene.transformed(sample.scene_from_world) if placed.units == "mm" else scene
