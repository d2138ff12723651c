"""GS-LRM on a few samples, again and again, until it reproduces them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from mouselift.errors import InputError
from mouselift.evaluate import WHITE, rendered
from mouselift.geometry import Gaussians, Views
from mouselift.metrics import psnr_fg
from mouselift.models.checkpoint_io import load_into
from mouselift.models.gslrm import GSLRM, GSLRMConfig
from mouselift.models.raw_gaussians import PixelPrior
from mouselift.render import render

SPREAD_FLOOR = 1e-3  # of the mean variance: directions in which the patches hardly differ are not blown up further
LAYER_GAIN = 3.0  # of the usual initial weights: the layers begin curved, which telling samples apart needs
HEAD_GAIN = 0.3  # and the Gaussians begin near what they start from


@dataclass(frozen=True, kw_only=True)
class OverfitConfig:
    """What is trained, and when it is good enough (docs/evaluation.md says how the values were found)."""

    model: GSLRMConfig = field(
        default_factory=lambda: GSLRMConfig(
            patch_size_px=4, width=256, num_layers=2, sh_degree=1, skip_empty_patches=True, start_from_hull=True
        )
    )
    size_px: int = 96
    """Of the views that are given, reproduced and compared."""
    left_out: int = -1
    """Index of the view that is left out of every sample; negative ones count from the end."""
    steps: int = 4000
    """Of one sample each."""
    max_minutes: float = 29.0
    """The rate has come down by then, however many steps were done."""
    learning_rate: float = 1e-3
    final_rate_share: float = 0.02
    warmup_steps: int = 100
    alpha_weight: float = 0.5
    clip_norm: float = 1.0
    bf16: bool = True
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    seed: int = 0
    initial_weights: str | None = None
    """Weights of the same sizes to start from; random ones when not given."""
    enough_db: float = 35.0
    """Mean foreground PSNR of the given views that passes."""
    checks: int = 20
    """How often both kinds of views are measured, for the curves."""

    def __post_init__(self) -> None:
        if self.size_px % self.model.patch_size_px:
            raise InputError(
                f"expected size_px a multiple of the patch size {self.model.patch_size_px}, found {self.size_px}"
            )
        if min(self.steps, self.checks) < 1 or not 0 < self.max_minutes < math.inf:
            raise InputError("expected steps, checks and max_minutes above 0")
        if not 0 < self.learning_rate < 1 or not 0 <= self.final_rate_share <= 1:
            raise InputError("expected a learning_rate between 0 and 1 and final_rate_share in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Where training stood.

    Attributes:
        step: After so many.
        seconds: Of wall time since the first step.
        loss: Mean since the point before.
        given_db: Mean foreground PSNR of the given views.
        left_out_db: The same of the left-out ones.
    """

    step: int
    seconds: float
    loss: float
    given_db: float
    left_out_db: float


class _Repeating(GSLRM):
    """A GS-LRM that is given the same views again and again: what its weights do not change is computed once."""

    def __init__(self, config: GSLRMConfig) -> None:
        super().__init__(config)
        self._seen: dict[int, tuple[Views, tuple[Tensor, PixelPrior]]] = {}

    def look(self, views: Views, silhouettes: Views) -> tuple[Float[Tensor, "b k c"], PixelPrior]:
        if not self.config.start_from_hull:  # its views come over another background each time
            return super().look(views, silhouettes)
        if id(views) not in self._seen:  # the views are kept with it, so that no others get their id
            self._seen[id(views)] = (views, super().look(views, silhouettes))
        return self._seen[id(views)][1]


def new_model(config: OverfitConfig, contexts: Sequence[Views]) -> GSLRM:
    """A model with the configured weights, or with weights drawn for these contexts (1, V)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = _Repeating(config.model)
        if config.initial_weights is not None:
            load_into(model, config.initial_weights)
        else:
            _start_apart(model, contexts)
    return model


@torch.no_grad()
def _start_apart(model: GSLRM, contexts: Sequence[Views]) -> None:
    """Initial weights from the data: patches of a few instants differ little, and their mean would outweigh it.

    The embedding is a random one of whitened patches, so that each token differs from all others from the start.
    """
    patches = torch.cat([model.look(context, context)[0].flatten(0, 1) for context in contexts])
    spread, directions = torch.linalg.eigh((patches.mT @ patches / len(patches)).double())
    whitening = directions * (spread.clamp_min(0) + SPREAD_FLOOR * spread.mean()).rsqrt() @ directions.mT
    embedding = model.patch_embedder[1]
    assert isinstance(embedding, nn.Linear)
    random = torch.randn(embedding.weight.shape, dtype=torch.float64) / len(spread) ** 0.5
    embedding.weight.copy_(random @ whitening)
    for weight in model.transformer_layers.parameters():
        if weight.ndim == 2:
            weight.mul_(LAYER_GAIN)
    head = model.pixel_gaussian_decoder[1]
    assert isinstance(head, nn.Linear)
    head.weight.mul_(HEAD_GAIN)


def train_on(
    model: GSLRM, config: OverfitConfig, contexts: Sequence[Views], left_out: Views, progress: bool
) -> tuple[CurvePoint, ...]:
    """One sample a step, all its given views as targets, on random backgrounds.

    Args:
        model: Changed in place.
        config: How.
        contexts: (1, V) the given views of each sample.
        left_out: (S,) the left-out view of each, for the curve alone.
        progress: Show a bar.

    Returns:
        From before the first step to the end.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )
    dice = torch.Generator().manual_seed(config.seed)
    started, losses, order, trained = time.perf_counter(), [], [], 0
    curve = [_measured(model, config, contexts, left_out, 0, 0.0, math.nan)]
    with tqdm(total=config.steps, unit="step", disable=None if progress else True) as bar:
        for step in range(1, config.steps + 1):
            seconds = time.perf_counter() - started
            done = max((step - 1) / config.steps, seconds / (60 * config.max_minutes))
            if done >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = _rate(config, step, done)
            if not order:
                order = torch.randperm(len(contexts), generator=dice).tolist()
            loss = _loss(model, contexts[order.pop()], torch.rand(3, generator=dice), config)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            trained = step
            losses.append(float(loss.detach()))
            bar.update()
            if done >= len(curve) / config.checks:
                curve.append(_measured(model, config, contexts, left_out, step, seconds, _mean(losses)))
                losses.clear()
                bar.set_postfix(given=f"{curve[-1].given_db:.2f} dB", left_out=f"{curve[-1].left_out_db:.2f} dB")
        seconds = time.perf_counter() - started
        curve.append(_measured(model, config, contexts, left_out, trained, seconds, _mean(losses)))
    return tuple(curve)


def _rate(config: OverfitConfig, step: int, done: float) -> float:
    """Linear warm-up, and a cosine over the share of the work that is done."""
    low = config.final_rate_share
    cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * min(1.0, step / max(1, config.warmup_steps)) * cosine


def _loss(model: GSLRM, context: Views, background: Float[Tensor, "3"], config: OverfitConfig) -> Float[Tensor, ""]:
    """Squared errors of colour and alpha of all given views (1, V), per pixel of the subject."""
    out = render(model(_shown(model, context, background), bf16=config.bf16), context.cameras, background)
    colour = (out.image - context.over(background).images).square().sum(-3).mean()
    alpha = (out.alpha - context.masks).square().mean()
    return (colour + config.alpha_weight * alpha) / context.masks.mean()


def _shown(model: GSLRM, context: Views, background: Float[Tensor, "3"]) -> Views:
    """A model that starts from the hull gets straight colours, any other one the background."""
    return context if model.config.start_from_hull else context.over(background)


@torch.no_grad()
def scene_of(model: GSLRM, context: Views, config: OverfitConfig) -> Gaussians:
    """What the model makes of given views (1, V), without a batch."""
    return model(_shown(model, context, torch.tensor(WHITE)), bf16=config.bf16)[0]


def _measured(
    model: GSLRM,
    config: OverfitConfig,
    contexts: Sequence[Views],
    left_out: Views,
    step: int,
    seconds: float,
    loss: float,
) -> CurvePoint:
    given_db, left_out_db = [], []
    white = torch.tensor(WHITE)
    for context, other in zip(contexts, (left_out[[k]] for k in range(len(contexts))), strict=True):
        scene = scene_of(model, context, config)
        for values, truth in ((given_db, context[0]), (left_out_db, other)):
            over = truth.over(white)
            values.append(psnr_fg(rendered(scene, over)[0], over.images, over.masks))
    return CurvePoint(
        step=step,
        seconds=seconds,
        loss=loss,
        given_db=float(torch.cat(given_db).nanmean()),
        left_out_db=float(torch.cat(left_out_db).nanmean()),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
