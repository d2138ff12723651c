"""What the UNet learns: velocity (or noise) of latents, weighted by the signal in them."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Prediction = Literal["v_prediction", "epsilon"]
Weighting = Literal["matched", "upstream"]


def noised(
    clean: Float[Tensor, "b v c h w"], noise: Float[Tensor, "b v c h w"], alpha: Float[Tensor, "b"]
) -> Float[Tensor, "b v c h w"]:
    """Latents with noise: sqrt(a) clean + sqrt(1 - a) noise, `alpha` the cumulative product of 1 - beta."""
    at = alpha.view(-1, 1, 1, 1, 1)
    return at.sqrt() * clean + (1 - at).sqrt() * noise


def target(
    clean: Float[Tensor, "b v c h w"],
    noise: Float[Tensor, "b v c h w"],
    alpha: Float[Tensor, "b"],
    prediction: Prediction,
) -> Float[Tensor, "b v c h w"]:
    """What the network shall say: the noise, or the velocity sqrt(a) noise - sqrt(1 - a) clean."""
    if prediction == "epsilon":
        return noise
    at = alpha.view(-1, 1, 1, 1, 1)
    return at.sqrt() * noise - (1 - at).sqrt() * clean


def min_snr_weights(
    alpha: Float[Tensor, "b"], gamma: float, prediction: Prediction, weighting: Weighting
) -> Float[Tensor, "b"]:
    """Weights of the squared error (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy").

    In terms of the clean latent the weight is min(SNR, gamma), SNR = a / (1 - a). An error of the noise is SNR times
    smaller and one of the velocity SNR + 1 times, so these are divided by SNR and by SNR + 1. Upstream divides by SNR
    though its network predicts the velocity, which over-weights noisy steps.

    Args:
        alpha: Cumulative products of 1 - beta at each object's step.
        gamma: 5 in the paper and upstream.
        prediction: What the network says.
        weighting: "upstream" for upstream's form whatever the network says.
    """
    snr = alpha / (1 - alpha)
    divisor = snr if prediction == "epsilon" or weighting == "upstream" else snr + 1
    return snr.clamp_max(gamma) / divisor


def draw_steps(count: int, num_steps: int, generator: torch.Generator) -> Int[Tensor, "count"]:
    """A diffusion step for each object, all equally likely."""
    return torch.randint(num_steps, (count,), generator=generator)
