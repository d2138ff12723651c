"""Body pose from one framed picture: a distribution over poses, so that what a picture leaves open stays open.

A small convolutional network reads the picture; a transformer over its features and over the parts of the body turns
noise into a pose code (`mouselift.body.code`) by flow matching, predicting the clean code as the multi-view generator
does. One step gives the mean of what is likely, more steps give samples.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mouselift.body.code import CODE_DIM, PARTS, UP_ENTRIES
from mouselift.geometry import Views
from mouselift.models.generator import TIME_FREQUENCIES, encode_pixels, grid_places, sinusoidal
from mouselift.models.transformer import Block, init_weights, low_precision

GROUPS = 8  # of the group norms
CODE_ORDER = [int(i) for i in torch.tensor([i for at in PARTS.values() for i in at]).argsort()]  # parts -> code
REDUCTION = 16  # pixels of the picture per feature


@dataclass(frozen=True, kw_only=True)
class PoseEstimatorConfig:
    """Sizes of the estimator, which reads square views of `size_px`."""

    size_px: int = 128
    width: int = 192
    head_dim: int = 64
    image_layers: int = 3
    pose_layers: int = 4

    def __post_init__(self) -> None:
        if self.size_px % REDUCTION or self.width % self.head_dim or self.width % 24:
            raise ValueError(f"sizes of a pose estimator do not divide: {self}")
        if min(self.size_px, self.width, self.image_layers, self.pose_layers) < 1:
            raise ValueError(f"sizes of a pose estimator must be positive: {self}")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, pre-activated and group-normalised (He et al. 2016; Wu & He 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add what the layers find."""
        return features + self.layers(features)


class CrossAttention(nn.Module):
    """Pre-norm attention of some tokens to others, no bias, added to its input."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = width // head_dim
        self.norm = nn.LayerNorm(width, bias=False)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.fc = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Float[Tensor, "b l d"], others: Float[Tensor, "b m d"]) -> Float[Tensor, "b l d"]:
        """Attend to `others`, which come normalised."""
        q = rearrange(self.to_q(self.norm(tokens)), "b l (h d) -> b h l d", h=self.num_heads)
        k, v = rearrange(self.to_kv(others), "b m (two h d) -> two b h m d", two=2, h=self.num_heads)
        return tokens + self.fc(rearrange(F.scaled_dot_product_attention(q, k, v), "b h l d -> b l (h d)"))


class PoseLayer(nn.Module):
    """The parts of a body look at the picture, then at each other."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.look = CrossAttention(width, head_dim)
        self.block = Block(width, head_dim)

    def forward(self, parts: Float[Tensor, "b k p d"], features: Float[Tensor, "b l d"]) -> Float[Tensor, "b k p d"]:
        """K poses of each picture: all look at the same features, none at another pose."""
        count = parts.shape[1]
        looked = self.look(parts.flatten(1, 2), features)
        return rearrange(
            self.block(rearrange(looked, "b (k p) d -> (b k) p d", k=count)), "(b k) p d -> b k p d", k=count
        )


class PoseEstimator(nn.Module):
    """Predicts the clean pose code from a noisy one and a picture."""

    code_mean: Tensor
    code_std: Tensor

    def __init__(self, config: PoseEstimatorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        channels = (width // 6, width // 3, 2 * width // 3, width)
        self.stem = nn.Conv2d(4, channels[0], 4, stride=2, padding=1, bias=False)
        stages: list[nn.Module] = []
        for narrow, wide in pairwise(channels):
            stages += [nn.Conv2d(narrow, wide, 2, stride=2, bias=False), ResidualBlock(wide)]
        stages += [ResidualBlock(width), ResidualBlock(width)]
        self.stages = nn.Sequential(*stages)
        side = config.size_px // REDUCTION
        self.place_embeddings = nn.Parameter(grid_places(side, side, width))
        self.image_layers = nn.ModuleList([Block(width, config.head_dim) for _ in range(config.image_layers)])
        self.part_embedders = nn.ModuleDict({name: nn.Linear(len(at), width) for name, at in PARTS.items()})
        self.part_decoders = nn.ModuleDict({name: nn.Linear(width, len(at)) for name, at in PARTS.items()})
        self.time_embedder = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, width, bias=False), nn.SiLU(), nn.Linear(width, width, bias=False)
        )
        self.feature_norm = nn.LayerNorm(width, bias=False)
        self.pose_layers = nn.ModuleList([PoseLayer(width, config.head_dim) for _ in range(config.pose_layers)])
        self.decoder_norm = nn.LayerNorm(width, bias=False)
        self.register_buffer("code_mean", torch.zeros(CODE_DIM))
        self.register_buffer("code_std", torch.ones(CODE_DIM))
        self.image_layers.apply(init_weights)
        self.pose_layers.apply(init_weights)

    def look(self, views: Views, *, bf16: bool = False) -> Float[Tensor, "b l d"]:
        """Features of framed views (B, 1); their cameras are not looked at."""
        size = self.config.size_px
        small = views if views.cameras.width == size else views.resized(size, size)
        pixels = rearrange(encode_pixels(small), "b 1 c h w -> b c h w").contiguous(memory_format=torch.channels_last)
        with low_precision(pixels, bf16):
            features = self.stages(self.stem(pixels))
            tokens = rearrange(features, "b d y x -> b (y x) d") + self.place_embeddings
            for layer in self.image_layers:
                tokens = layer(tokens)
            return self.feature_norm(tokens.float())

    def forward(
        self, features: Float[Tensor, "b l d"], noisy: Float[Tensor, "b k 99"], time: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b k 99"]:
        """Predict clean normalised codes, K for each picture.

        Args:
            features: Of `look`.
            noisy: time * clean + (1 - time) * noise; enters scaled by the time.
            time: From 0 (noise) to 1 (clean).
        """
        scaled = time[..., None] * noisy
        parts = torch.stack([self.part_embedders[name](scaled[..., list(at)]) for name, at in PARTS.items()], dim=2)
        parts = parts + self.time_embedder(sinusoidal(time.flatten())).unflatten(0, time.shape)[:, :, None]
        for layer in self.pose_layers:
            parts = layer(parts, features)
        decoded = self.decoder_norm(parts).unbind(2)
        values = [decoder(decoded[slot]) for slot, decoder in enumerate(self.part_decoders.values())]
        return torch.cat(values, dim=-1)[..., CODE_ORDER]

    @torch.no_grad()
    def sample(
        self,
        view: Views,
        count: int,
        *,
        steps: int,
        generator: torch.Generator,
        up: Float[Tensor, "3"] | None = None,
    ) -> Float[Tensor, "count 99"]:
        """Draw pose codes for one framed view.

        Args:
            view: (1,), framed on the animal.
            count: How many.
            steps: Euler steps of the flow; one gives `count` times the mean.
            generator: Source of the noise, on the CPU.
            up: Unit vector against gravity in the frame of the picture, where it is known: the flow's own entries for
                it are then replaced at every step, as in inpainting (Lugmayr et al. 2022), and the rest follows.
        """
        features = self.look(view.reshape(1, 1))
        noise = torch.randn(1, count, CODE_DIM, generator=generator).to(features)
        known = None if up is None else (up.to(features) - self.code_mean[UP_ENTRIES]) / self.code_std[UP_ENTRIES]
        state = noise
        for i in range(steps):
            now, later = i / steps, (i + 1) / steps
            clean = self(features, state, state.new_full((1, count), now))
            state = clean if i == steps - 1 else state + (clean - state) * ((later - now) / (1 - now))
            if known is not None:
                state[..., UP_ENTRIES] = later * known + (1 - later) * noise[..., UP_ENTRIES]
        return state[0] * self.code_std + self.code_mean


def camera_elevation_deg(up: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Elevation of a camera above the horizontal plane, from the direction of up in its frame."""
    return -torch.asin(up[..., 2].clamp(-1, 1)) * (180 / math.pi)
