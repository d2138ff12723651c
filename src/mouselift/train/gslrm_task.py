"""The task of GS-LRM: posed context views to Gaussians, judged by their renders from other views."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.colour import matched_colours
from mouselift.data.augment import random_background, random_crops, square
from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, random_subset, split_rig_and_free
from mouselift.errors import InputError
from mouselift.geometry import Gaussians, Views
from mouselift.losses import dssim, l2, mean_opacity, mean_scale
from mouselift.metrics import iou_alpha, lpips_fg, psnr_fg
from mouselift.models.checkpoint_io import load_generator
from mouselift.models.gslrm import GSLRM, GSLRMConfig, as_context
from mouselift.perceptual import Perceptual, load_perceptual
from mouselift.render import RenderOutput, render
from mouselift.train.panels import all_around, below_each_other, comparison

logger = logging.getLogger(__name__)
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class GSLRMTaskConfig:
    """What GS-LRM learns from."""

    rig_context_share: float = 0.5
    """Share of the batches whose context is one free view and the six rig views around it, as in reconstruction;
    the others get a random subset. Samples without free views always get a subset."""
    min_context: int = 2
    max_context: int = 7
    num_targets: int = 3
    size_px: int | None = None
    """Make every view a square of this size first, so that samples of several sizes can share a batch."""
    crop_share: float = 0.0
    """Share of the batches whose views, context and targets, are random crops with their exact cameras."""
    smallest_crop: float = 0.5
    """Side of the smallest crop, as a share of the picture's."""
    alpha_weight: float = 0.5
    dssim_weight: float = 0.2
    """0 leaves it out, which halves the time of a small model's step on a CPU."""
    perceptual_weight: float = 0.0
    """Of LPIPS, ST-LPIPS or VGG19 features, whichever `perceptual_weights` holds; logs say which."""
    perceptual_weights: str | None = None
    """File of a perceptual distance (docs/weights.md); ST-LPIPS from the extra `perceptual` when not given."""
    perceptual_network: Literal["alex", "vgg"] = "alex"
    """Backbone of the ST-LPIPS that is used without a file."""
    perceptual_warmup_steps: int = 500
    """Steps in which its weight rises from 0, so that the pixels settle first."""
    opacity_weight: float = 0.0
    """Of the mean opacity: makes what no view needs fade."""
    scale_weight: float = 0.0
    """Of the mean standard deviation, scene units: keeps Gaussians small."""
    match_colours: Literal["off", "detached", "through"] = "off"
    """Before comparing, bring the colours of each rendered view as near to the true ones as an affine map can: for
    recordings whose cameras differ in exposure or haze. With gradients through the map, or not. Figures of the
    validation are never matched, except where they say so."""
    white_share: float = 0.5
    """Share of the batches on white; the others get a random background."""
    generator_weights: str | None = None
    """Weights of a finished generator: the rig views around a photograph are then made by it, so that GS-LRM learns to
    live with what it makes. Targets stay true."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_context <= self.max_context or self.num_targets < 1:
            raise InputError(
                f"expected 1 <= min_context <= max_context and num_targets >= 1, found {self.min_context}, "
                f"{self.max_context} and {self.num_targets}"
            )
        if not 0 < self.smallest_crop <= 1:
            raise InputError(f"expected smallest_crop above 0 and up to 1, found {self.smallest_crop}")


class GSLRMTask:
    """Posed context views to Gaussians, judged by their renders from other views."""

    better = "psnr_fg"

    def __init__(self, model: GSLRMConfig, task: GSLRMTaskConfig, *, bf16: bool) -> None:
        self.model = GSLRM(model)
        self.config = task
        self.bf16 = bf16
        self.step = 0
        """Of the run; the loop sets it, and weights that warm up follow it."""
        self.generator = None if task.generator_weights is None else load_generator(task.generator_weights)
        self.perceptual: Perceptual | None = None
        if task.perceptual_weight > 0:
            _, self.perceptual = load_perceptual(task.perceptual_weights, task.perceptual_network)
            logger.info("perceptual loss: %s", self.perceptual.title)

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Weighted sum of what the configuration names, on a random background."""
        context, target, like_reconstruction = self._draw(samples, generator)
        device = next(self.model.parameters()).device
        context, target = context.to(device), target.to(device)
        if like_reconstruction and self.generator is not None:
            context = self._with_generated_rig(context, generator)
        on_white = bool(torch.rand((), generator=generator) < self.config.white_share)
        background = (torch.ones(3) if on_white else random_background(generator)).to(device)
        gaussians = self.model(as_context(context, self.model, background), bf16=self.bf16)
        out = render(gaussians, target.cameras, background)
        terms = self._terms(gaussians, out, target, background)
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return loss, {name: float(value.detach()) for name, (_, value) in terms.items()}

    def _terms(
        self, gaussians: Gaussians, out: RenderOutput, target: Views, background: Float[Tensor, "3"]
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of every loss that is on, by the name that logs show."""
        config = self.config
        truth, image = target.over(background).images, out.image
        if config.match_colours != "off":
            image = self._matched(out, target, background)
        terms = {"l2": (1.0, l2(image, truth)), "alpha": (config.alpha_weight, l2(out.alpha, target.masks))}
        if config.dssim_weight > 0:
            terms["dssim"] = (config.dssim_weight, dssim(image, truth))
        if self.perceptual is not None:
            distance = self.perceptual.to(image.device)(image, truth).mean()
            terms[self.perceptual.name] = (config.perceptual_weight * self._warmth(), distance)
        if config.opacity_weight > 0:
            terms["mean_opacity"] = (config.opacity_weight, mean_opacity(gaussians))
        if config.scale_weight > 0:
            terms["mean_scale"] = (config.scale_weight, mean_scale(gaussians))
        return terms

    def _warmth(self) -> float:
        steps = self.config.perceptual_warmup_steps
        return 1.0 if steps == 0 else min(1.0, self.step / steps)

    def _matched(self, out: RenderOutput, target: Views, background: Float[Tensor, "3"]) -> Float[Tensor, "b v 3 h w"]:
        """The render with its colours matched to the target's, view by view; the background stays."""
        behind = (1 - out.alpha) * background[:, None, None]
        through = self.config.match_colours == "through"
        seen = target.images * target.masks
        return matched_colours(out.image - behind, out.alpha, seen, target.masks, through=through) + behind

    def _draw(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Views, Views, bool]:
        """Context and target views of a batch, and whether the context is a photograph and its rig views.

        Where samples have fewer views than others, all get as many as the poorest.
        """
        config = self.config
        count = int(torch.randint(config.min_context, config.max_context + 1, (), generator=generator))
        like_reconstruction = bool(torch.rand((), generator=generator) < config.rig_context_share)
        like_reconstruction &= all(bool(split_rig_and_free(sample.views)[1]) for sample in samples)
        cropped = config.crop_share > 0 and bool(torch.rand((), generator=generator) < config.crop_share)
        contexts, targets = [], []
        for sample in samples:
            views = sample.views if config.size_px is None else square(sample.views, config.size_px)
            chosen, others = self._choose(views, like_reconstruction, count, generator)
            pair = views[chosen], views[random_subset(others, config.num_targets, generator)]
            context, target = (random_crops(v, config.smallest_crop, generator) for v in pair) if cropped else pair
            contexts.append(context)
            targets.append(target)
        return _stacked(contexts), _stacked(targets), like_reconstruction

    def _with_generated_rig(self, context: Views, generator: torch.Generator) -> Views:
        """The photographs, and the rig views around them as the generator makes them in one step."""
        assert self.generator is not None
        rig = context[:, 1:].cameras
        made = self.generator.to(context.images.device).generate(
            context[:, :1], rig, steps=1, generator=generator, bf16=self.bf16
        )
        return Views.cat([context[:, :1], made], dim=1)

    def _choose(
        self, views: Views, like_reconstruction: bool, count: int, generator: torch.Generator
    ) -> tuple[list[int], list[int]]:
        """Context views and the views to draw targets from: the rest, and when too few remain also the context."""
        on_rig, free = split_rig_and_free(views)
        everything = on_rig + free
        if like_reconstruction:
            photograph = random_subset(free, 1, generator)
            context = photograph + facelift_subset(views.cameras, on_rig, photograph[0])
        else:
            context = random_subset(everything, max(1, min(count, len(everything) - 1)), generator)
        others = [i for i in everything if i not in context]
        return context, others if len(others) >= self.config.num_targets else everything

    def validate(self, model: GSLRM, samples: Sequence[Sample]) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Held-out views of held-out mice, on white, from one photograph and its six rig views (true or generated).

        Samples without photographs: from the views that stand as those six do, at least one left out.
        """
        scores: dict[str, list[Tensor]] = {}
        rows, around = [], []
        for sample in samples:
            views = sample.views if self.config.size_px is None else square(sample.views, self.config.size_px)
            context, others = validation_split(views, sample.sample_id)
            held_out = views[others].over(torch.ones(3))
            shown = views[context].reshape(1, len(context))
            if self.generator is not None and split_rig_and_free(views)[1]:
                shown = self._with_generated_rig(shown, torch.Generator().manual_seed(0))
            gaussians = model(as_context(shown, model, torch.ones(3)), bf16=self.bf16)[0]
            out = render(gaussians, held_out.cameras, WHITE)
            for name, values in self._figures(out, held_out).items():
                scores.setdefault(name, []).append(values)
            rows.append(comparison(held_out.images, out))
            around.append(all_around(gaussians, held_out.cameras))
        figures = {name: float(torch.cat(values).nanmean()) for name, values in scores.items()}
        return figures, {"": below_each_other(rows), "turntable": below_each_other(around)}

    def _figures(self, out: RenderOutput, held_out: Views) -> dict[str, Tensor]:
        """Of each view (V,); `blank_` is what a white picture would get."""
        figures = {
            "psnr_fg": psnr_fg(out.image, held_out.images, held_out.masks),
            "iou_alpha": iou_alpha(out.alpha, held_out.masks),
            "blank_psnr_fg": psnr_fg(torch.ones_like(out.image), held_out.images, held_out.masks),
            "mean_alpha": out.alpha.mean((1, 2, 3)),
            "mean_mask": held_out.masks.mean((1, 2, 3)),
        }
        if self.perceptual is not None:
            name = f"{self.perceptual.name}_fg"
            figures[name] = lpips_fg(out.image, held_out.images, held_out.masks, self.perceptual)
        return figures


def validation_split(views: Views, name: str) -> tuple[list[int], list[int]]:
    """Context and held-out views of a sample (V,), always the same.

    Raises:
        InputError: It has a single view.
    """
    on_rig, free = split_rig_and_free(views)
    if len(on_rig) + len(free) < 2:
        raise InputError(f"sample {name}: expected at least two views, one of them to be held out, found one")
    context = free[:1] + facelift_subset(views.cameras, on_rig, (free or on_rig)[0])
    others = [i for i in on_rig + free if i not in context]
    return (context, others) if others else (context[:-1], context[-1:])


def _stacked(views: Sequence[Views]) -> Views:
    count = min(v.batch_shape[0] for v in views)
    sizes = {(v.cameras.width, v.cameras.height) for v in views}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise InputError(f"expected samples of one size in a batch, found {found} px; set gslrm.task.size_px")
    return Views.stack([v[:count] for v in views])
