"""Fit Gaussians by gradient to posed views: a few steps of polishing, or a whole scene (`mouselift.optimise`)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mouselift.geometry import Cameras, Gaussians, Views
from mouselift.geometry.sh import rgb_from_dc
from mouselift.render import render

RATES = {"means": 2e-3, "quats": 1e-2, "log_scales": 2e-2, "opacity_logits": 5e-2, "sh": 2e-2}  # of Adam
GREY = 0.5  # background: neither a black nor a white animal hides on it
MAX_LOG_SCALE = -2.3  # a fitted Gaussian is at most 0.1 scene units wide
MIN_SCALE = 1e-6  # of a Gaussian to start from; files hold flat ones


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is minimised besides the error of alpha; the defaults are those of a few steps of polishing."""

    absolute: bool = False
    """Absolute instead of squared error of colour: slower at first, and better for cameras that are left out."""
    opacity_weight: float = 0.0
    """Of the mean opacity: what is not needed fades."""
    scale_weight: float = 0.0
    """Of the mean standard deviation, scene units."""
    prune_every: int = 0
    """Steps between two rounds of pruning; 0 keeps all Gaussians."""
    min_share_px: float = 0.05
    """Pruning drops what covers less than this many pixels of all views together."""


def refine(
    gaussians: Gaussians,
    views: Views,
    weights: Float[Tensor, "v"],
    steps: int,
    *,
    taking_turns: int = 0,
    objective: Objective | None = None,
    progress: bool = False,
) -> Gaussians:
    """Fit one scene to posed views with Adam. The same input gives the same bits.

    Args:
        gaussians: No batch; where to start.
        views: (V,) what they shall show, masks included.
        weights: How much each view counts; only their ratios matter.
        steps: Iterations; 0 changes nothing.
        taking_turns: So many of the last views take turns, one in each step; the others are in every step.
        objective: What is minimised.
        progress: Show a bar.

    Returns:
        The fitted Gaussians, as many as before unless the objective prunes.
    """
    objective = objective or Objective()
    if steps == 0 or not len(gaussians):
        return gaussians
    raw = {
        "means": gaussians.means,
        "quats": gaussians.quats,
        "log_scales": gaussians.scales.clamp_min(MIN_SCALE).log().clamp_max(MAX_LOG_SCALE),
        "opacity_logits": torch.logit(gaussians.opacities, eps=1e-4),
        "sh": gaussians.sh,
    }
    raw = {name: value.detach().clone().requires_grad_() for name, value in raw.items()}
    optimizer = torch.optim.Adam([{"params": [raw[name]], "lr": rate, "name": name} for name, rate in RATES.items()])
    truth = replace(views, images=views.over(views.images.new_full((3,), GREY)).images)
    turns = _turns(len(weights), taking_turns)
    for step in tqdm(range(1, steps + 1), desc="refine", unit="step", disable=not progress):
        shown = next(turns)
        with torch.enable_grad():
            loss = _loss(_activated(raw), truth[shown], weights[shown], objective)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if objective.prune_every and step % objective.prune_every == 0:
            fitted = _activated({name: value.detach() for name, value in raw.items()})
            raw = _kept(optimizer, shares_px(fitted, views.cameras) >= objective.min_share_px)
    return _activated({name: value.detach() for name, value in raw.items()})


def shares_px(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "n"]:
    """How much of the pictures each Gaussian makes up: its blending weight, summed over all pixels of all views (V,).

    0 for what no view sees. It is the gradient of the pictures with respect to the Gaussian's colour.
    """
    colours = torch.zeros_like(gaussians.sh[:, :1]).requires_grad_()  # degree 0: grey, which is not clamped
    with torch.enable_grad():
        render(replace(gaussians.detach(), sh=colours), cameras).image.sum().backward()
    assert colours.grad is not None
    per_weight = rgb_from_dc(torch.ones(3)) - rgb_from_dc(torch.zeros(3))
    return colours.grad.sum((1, 2)) / float(per_weight.sum())


def around_subject(views: Views, margin_px: int = 8) -> Views:
    """Views (V,) cut to one size that holds every mask with a margin: the rest says nothing and costs time.

    A view may reach beyond its picture, where it is transparent. Empty masks are cut about the middle.
    """
    inside = views.masks[:, 0] > 0
    left, right = _bounds(inside.any(1))
    top, bottom = _bounds(inside.any(2))
    width, height = int((right - left).max()) + 2 * margin_px, int((bottom - top).max()) + 2 * margin_px
    corners = torch.stack([left + right - width, top + bottom - height], dim=1) // 2
    cut = [views[[k]].cropped(x, y, width, height) for k, (x, y) in enumerate(corners.tolist())]
    return Views.cat(cut)


def _bounds(shown: Bool[Tensor, "v n"]) -> tuple[Tensor, Tensor]:
    """First index and last index + 1 that hold; both the middle where none does."""
    count = shown.shape[1]
    index = torch.arange(count, device=shown.device)
    low, high = torch.where(shown, index, count).amin(1), torch.where(shown, index + 1, 0).amax(1)
    some = shown.any(1)
    return torch.where(some, low, count // 2), torch.where(some, high, count // 2)


def _turns(count: int, taking_turns: int) -> Iterator[list[int]]:
    """Indices of the views of each step."""
    always = list(range(count - taking_turns))
    step = 0
    while True:
        yield [*always, len(always) + step % taking_turns] if taking_turns else always
        step += 1


def _loss(scene: Gaussians, truth: Views, weights: Float[Tensor, "v"], objective: Objective) -> Float[Tensor, ""]:
    """Errors of colour and alpha, and the regularisers, which count as much as the subject fills of the pictures."""
    share = (weights / weights.sum() * len(weights)).view(-1, 1, 1, 1)
    out = render(scene, truth.cameras, (GREY, GREY, GREY))
    difference = out.image - truth.images
    colour = difference.abs() if objective.absolute else difference.square()
    loss = (share * colour).mean() + (share * (out.alpha - truth.masks).square()).mean()
    if objective.opacity_weight or objective.scale_weight:
        penalty = objective.opacity_weight * scene.opacities.mean() + objective.scale_weight * scene.scales.mean()
        loss = loss + truth.masks.mean() * penalty
    return loss


def _kept(optimizer: torch.optim.Adam, keep: Bool[Tensor, "n"]) -> dict[str, Tensor]:
    """Drop Gaussians from the optimizer, its memory included; returns the parameters that stay."""
    raw = {}
    for group in optimizer.param_groups:
        (before,) = group["params"]
        after = before.detach()[keep].requires_grad_()
        memory = optimizer.state.pop(before)
        optimizer.state[after] = {key: value[keep] if value.ndim else value for key, value in memory.items()}
        group["params"] = [after]
        raw[group["name"]] = after
    return raw


def _activated(raw: dict[str, Tensor]) -> Gaussians:
    return Gaussians(
        means=raw["means"],
        quats=F.normalize(raw["quats"], dim=-1),
        scales=raw["log_scales"].clamp_max(MAX_LOG_SCALE).exp(),
        opacities=raw["opacity_logits"].sigmoid(),
        sh=raw["sh"],
    )
