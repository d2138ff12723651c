"""The tasks of the two models that make views and Gaussians: GS-LRM and the multi-view generator."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mouselift.data.augment import photometric_jitter, random_background
from mouselift.data.layout import Sample
from mouselift.data.selection import facelift_subset, random_subset, split_rig_and_free
from mouselift.geometry import Views
from mouselift.losses import dssim, l2
from mouselift.metrics import iou_alpha, psnr_fg
from mouselift.models.checkpoint_io import load_generator
from mouselift.models.generator import Generator, GeneratorConfig, encode_pixels, flow_matching_loss
from mouselift.models.gslrm import GSLRM, GSLRMConfig, as_context
from mouselift.render import render

PANEL_SAMPLES = 4
WHITE = (1.0, 1.0, 1.0)


# ---- GS-LRM


@dataclass(frozen=True, kw_only=True)
class GSLRMTaskConfig:
    """What GS-LRM learns from."""

    rig_context_share: float = 0.5
    """Share of the batches whose context is one free view and the six rig views around it, as in reconstruction;
    the others get a random subset."""
    min_context: int = 2
    max_context: int = 7
    num_targets: int = 3
    alpha_weight: float = 0.5
    dssim_weight: float = 0.2
    """0 leaves it out, which halves the time of a small model's step on a CPU."""
    white_share: float = 0.5
    """Share of the batches on white; the others get a random background."""
    generator_weights: str | None = None
    """Weights of a finished generator: the rig views around a photograph are then made by it, so that GS-LRM learns to
    live with what it makes. Targets stay true."""


class GSLRMTask:
    """Posed context views to Gaussians, judged by their renders from other views."""

    better = "psnr_fg"

    def __init__(self, model: GSLRMConfig, task: GSLRMTaskConfig, *, bf16: bool) -> None:
        self.model = GSLRM(model)
        self.config = task
        self.bf16 = bf16
        self.generator = None if task.generator_weights is None else load_generator(task.generator_weights)

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """L2 + DSSIM on random backgrounds, and L2 of alpha."""
        counts = torch.randint(self.config.min_context, self.config.max_context + 1, (), generator=generator)
        like_reconstruction = bool(torch.rand((), generator=generator) < self.config.rig_context_share)
        contexts, targets = [], []
        for sample in samples:
            context, others = self._choose(sample.views, like_reconstruction, int(counts), generator)
            contexts.append(sample.views[context])
            targets.append(sample.views[random_subset(others, self.config.num_targets, generator)])
        device = next(self.model.parameters()).device
        context, target = Views.stack(contexts).to(device), Views.stack(targets).to(device)
        if like_reconstruction and self.generator is not None:
            context = self._with_generated_rig(context, generator)
        on_white = bool(torch.rand((), generator=generator) < self.config.white_share)
        background = (torch.ones(3) if on_white else random_background(generator)).to(device)
        gaussians = self.model(as_context(context, self.model, background), bf16=self.bf16)
        out = render(gaussians, target.cameras, background)
        truth = target.over(background).images
        colour, alpha = l2(out.image, truth), l2(out.alpha, target.masks)
        loss = colour + self.config.alpha_weight * alpha
        figures = {"l2": float(colour.detach()), "alpha": float(alpha.detach())}
        if self.config.dssim_weight > 0:
            structure = dssim(out.image, truth)
            loss = loss + self.config.dssim_weight * structure
            figures["dssim"] = float(structure.detach())
        return loss, figures

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
        if like_reconstruction and free:
            photograph = random_subset(free, 1, generator)
            context = photograph + facelift_subset(views.cameras, on_rig, photograph[0])
        else:
            context = random_subset(everything, min(count, len(everything) - 1), generator)
        others = [i for i in everything if i not in context]
        return context, others if len(others) >= self.config.num_targets else everything

    def validate(self, model: GSLRM, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        """Held-out views of held-out mice from one photograph and its six rig views (true or generated), on white."""
        scores: dict[str, list[Tensor]] = {"psnr_fg": [], "iou_alpha": []}
        rows = []
        for sample in samples:
            on_rig, free = split_rig_and_free(sample.views)
            context = free[:1] + facelift_subset(sample.views.cameras, on_rig, (free or on_rig)[0])
            held_out = sample.views[[i for i in on_rig + free if i not in context]].over(torch.ones(3))
            shown = sample.views[context].reshape(1, len(context))
            if free and self.generator is not None:
                shown = self._with_generated_rig(shown, torch.Generator().manual_seed(0))
            gaussians = model(as_context(shown, model, torch.ones(3)), bf16=self.bf16)
            out = render(gaussians[0], held_out.cameras, WHITE)
            scores["psnr_fg"].append(psnr_fg(out.image, held_out.images, held_out.masks))
            scores["iou_alpha"].append(iou_alpha(out.alpha, held_out.masks))
            rows.append(_strip(held_out.images[:4], out.image[:4]))
        return {name: float(torch.cat(values).nanmean()) for name, values in scores.items()}, torch.cat(
            rows[:PANEL_SAMPLES], dim=1
        )


# ---- generator


@dataclass(frozen=True, kw_only=True)
class GeneratorTaskConfig:
    """What the generator learns from."""

    num_targets: int = 3
    """Wanted views per training example, of the six; attention makes them consistent."""
    pure_noise_share: float = 0.75
    """Share of the examples at time 0, on which one-step generation depends."""
    time_mean: float = -1.2
    time_std: float = 0.8
    """Of the logit of the time of the other examples (logit-normal)."""
    free_input_share: float = 0.65
    """Share of the inputs that are free photographs, where there are any; the others are rig views."""


class GeneratorTask:
    """One view to the six rig views around it."""

    better = "psnr_fg"

    def __init__(self, model: GeneratorConfig, task: GeneratorTaskConfig, *, bf16: bool) -> None:
        self.model = Generator(model)
        self.config = task
        self.bf16 = bf16

    def loss(self, samples: Sequence[Sample], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Flow-matching loss of a random subset of the wanted views."""
        inputs, targets = [], []
        for sample in samples:
            on_rig, free = split_rig_and_free(sample.views)
            use_free = bool(free) and bool(torch.rand((), generator=generator) < self.config.free_input_share)
            chosen = random_subset(free if use_free else on_rig, 1, generator)
            rig = facelift_subset(sample.views.cameras, on_rig, chosen[0])
            inputs.append(photometric_jitter(sample.views[chosen], generator))
            targets.append(sample.views[random_subset(rig, self.config.num_targets, generator)])
        device = next(self.model.parameters()).device
        condition, target = Views.stack(inputs).to(device), Views.stack(targets).to(device)
        time = torch.sigmoid(
            self.config.time_mean + self.config.time_std * torch.randn(len(samples), generator=generator)
        )
        pure = torch.rand(len(samples), generator=generator) < self.config.pure_noise_share
        time = torch.where(pure, 0.0, time).to(device)
        clean = encode_pixels(target)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        at = time.view(-1, 1, 1, 1, 1)
        predicted = self.model(at * clean + (1 - at) * noise, time, condition, target.cameras, bf16=self.bf16)
        loss = flow_matching_loss(predicted, clean, time).mean()
        return loss, {"l2": float(l2(predicted.detach(), clean))}

    def validate(self, model: Generator, samples: Sequence[Sample]) -> tuple[dict[str, float], Tensor]:
        """The six rig views of held-out mice, made in one step from a free photograph (or a rig view)."""
        scores: dict[str, list[Tensor]] = {"psnr_fg": [], "iou_alpha": []}
        rows = []
        for number, sample in enumerate(samples):
            on_rig, free = split_rig_and_free(sample.views)
            chosen = (free or on_rig)[0]
            truth = sample.views[facelift_subset(sample.views.cameras, on_rig, chosen)]
            condition = sample.views[[chosen]]
            made = model.generate(
                condition.reshape(1, 1),
                truth.cameras.reshape(1, len(truth.cameras)),
                steps=1,
                generator=torch.Generator().manual_seed(number),
                bf16=self.bf16,
            )[0]
            white = torch.ones(3)
            scores["psnr_fg"].append(psnr_fg(made.over(white).images, truth.over(white).images, truth.masks))
            scores["iou_alpha"].append(iou_alpha(made.masks, truth.masks))
            shown = condition.over(white).images
            rows.append(
                _strip(torch.cat([shown, truth.over(white).images]), torch.cat([shown, made.over(white).images]))
            )
        return {name: float(torch.cat(values).nanmean()) for name, values in scores.items()}, torch.cat(
            rows[:PANEL_SAMPLES], dim=1
        )


def _strip(truth: Float[Tensor, "v 3 h w"], made: Float[Tensor, "v 3 h w"]) -> Float[Tensor, "3 h2 w2"]:
    """Truth above what was made, views side by side."""
    return rearrange([truth, made.clamp(0, 1)], "two v c h w -> c (two h) (v w)")
