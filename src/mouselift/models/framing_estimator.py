"""Guesses from where an uncalibrated picture was taken: the camera's elevation and the width of the framed scene."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mouselift.geometry import Views
from mouselift.models.generator import encode_pixels, grid_places
from mouselift.models.transformer import Block, init_weights, patch_embedder


@dataclass(frozen=True, kw_only=True)
class FramingEstimatorConfig:
    """Sizes of the estimator, which reads square views of `size_px`."""

    size_px: int = 64
    patch_size_px: int = 8
    width: int = 128
    head_dim: int = 64
    num_layers: int = 4

    def __post_init__(self) -> None:
        if self.size_px % self.patch_size_px or self.width % self.head_dim:
            raise ValueError(f"sizes of a framing estimator do not divide: {self}")


class FramingEstimator(nn.Module):
    """A small transformer over the patches of one framed view."""

    def __init__(self, config: FramingEstimatorConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedder = patch_embedder(4, config.patch_size_px, config.width)
        side = config.size_px // config.patch_size_px
        self.position_embeddings = nn.Parameter(grid_places(side, side, config.width))
        self.input_layer_norm = nn.LayerNorm(config.width, bias=False)
        self.transformer_layers = nn.ModuleList(
            [Block(config.width, config.head_dim) for _ in range(config.num_layers)]
        )
        self.decoder = nn.Sequential(nn.LayerNorm(config.width, bias=False), nn.Linear(config.width, 2))
        self.apply(init_weights)

    def forward(self, views: Views) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Estimate.

        Args:
            views: (B, 1), framed on the silhouette; their cameras are not looked at.

        Returns:
            Elevation in degrees above the horizontal plane through the subject, and half the width of the frame at the
            subject's distance, in scene units (distance * tan(fov / 2)).
        """
        size = self.config.size_px
        small = views if views.cameras.width == size else views.resized(size, size)
        tokens = rearrange(self.patch_embedder(encode_pixels(small)), "b 1 l d -> b l d")
        tokens = self.input_layer_norm(tokens + self.position_embeddings)
        for layer in self.transformer_layers:
            tokens = layer(tokens)
        elevation, log_half_width = self.decoder(tokens.mean(1)).unbind(-1)
        return 90 * torch.tanh(elevation), log_half_width.clamp(-3, 1).exp()


def framing_of(views: Views) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The true values of what `FramingEstimator` estimates, from the cameras (scene frame, subject at the origin)."""
    centres = views.cameras.centres
    distance = centres.norm(dim=-1)
    elevation_deg = torch.rad2deg(torch.asin(centres[..., 2] / distance))
    half_width = distance * views.cameras.width / (2 * views.cameras.K[..., 0, 0])
    return elevation_deg, half_width


def fov_from_half_width(half_width: float, distance: float) -> float:
    """Field of view (deg) of a camera at `distance` whose frame is 2 * `half_width` wide there."""
    return math.degrees(2 * math.atan(half_width / distance))
