"""Polish Gaussians by gradient, so that they show the views they were made from."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry import Gaussians, Views
from mouselift.losses import l2
from mouselift.render import render

RATES = {"means": 2e-3, "quats": 1e-2, "log_scales": 2e-2, "opacity_logits": 5e-2, "sh": 2e-2}  # of Adam
GREY = 0.5  # background: neither a black nor a white animal hides on it
MAX_LOG_SCALE = -2.3  # a polished Gaussian is at most 0.1 scene units wide


def refine(
    gaussians: Gaussians, views: Views, weights: Float[Tensor, "v"], steps: int, *, taking_turns: int = 0
) -> Gaussians:
    """Fit one scene to posed views for a few steps of Adam.

    Args:
        gaussians: No batch; where to start.
        views: (V,) what they shall show, masks included.
        weights: How much each view counts; only their ratios matter.
        steps: Iterations; 0 changes nothing.
        taking_turns: So many of the last views take turns, one in each step; the others are in every step.

    Returns:
        The polished Gaussians, as many as before.
    """
    raw = {
        "means": gaussians.means,
        "quats": gaussians.quats,
        "log_scales": gaussians.scales.log().clamp_max(MAX_LOG_SCALE),
        "opacity_logits": torch.logit(gaussians.opacities, eps=1e-4),
        "sh": gaussians.sh,
    }
    if steps == 0 or not len(gaussians):
        return gaussians
    raw = {name: value.detach().clone().requires_grad_() for name, value in raw.items()}
    optimizer = torch.optim.Adam([{"params": [raw[name]], "lr": rate} for name, rate in RATES.items()])
    truth = views.over(views.images.new_full((3,), GREY)).images
    always = list(range(len(weights) - taking_turns))
    with torch.enable_grad():
        for step in range(steps):
            shown = [*always, len(always) + step % taking_turns] if taking_turns else always
            share = (weights[shown] / weights[shown].sum() * len(shown)).sqrt().view(-1, 1, 1, 1)
            out = render(_activated(raw), views.cameras[shown], (GREY, GREY, GREY))
            loss = l2(share * out.image, share * truth[shown]) + l2(share * out.alpha, share * views.masks[shown])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return _activated({name: value.detach() for name, value in raw.items()})


def _activated(raw: dict[str, Tensor]) -> Gaussians:
    return Gaussians(
        means=raw["means"],
        quats=F.normalize(raw["quats"], dim=-1),
        scales=raw["log_scales"].clamp_max(MAX_LOG_SCALE).exp(),
        opacities=raw["opacity_logits"].sigmoid(),
        sh=raw["sh"],
    )
