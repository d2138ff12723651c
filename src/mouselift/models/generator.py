"""Pose-conditioned multi-view generator: one posed view to any number of wanted views, with alpha.

A transformer over patches of the input view and of the wanted views together. Every token carries its Pluecker rays
relative to the input camera, so any input view and any set of wanted cameras is well posed: the scene is turned about
the vertical, which pictures of animals on the ground share, until the input camera stands at azimuth 0, and keeps its
origin in the subject. Every token also knows its place in its own picture, and the tokens of a wanted view see what the
input picture and its mirror image show there: what an animal shows from behind has the outline of its front, mirrored.
The network blends both and paints the rest. Pixel-space flow matching;
the network predicts the clean picture (Li & He 2025, "Back to Basics: Let Denoising Generative Models Denoise"), so
one step gives the conditional mean and more steps a sample.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mouselift.geometry import Cameras, Views, pixel_centres, plucker_rays
from mouselift.geometry.rigs import facing_azimuth_deg, turned_to
from mouselift.models.transformer import Block, init_weights, low_precision, patch_embedder

PIXEL_CHANNELS = 4
INPUT_CHANNELS = PIXEL_CHANNELS + 6  # pixels with alpha, rays
TARGET_CHANNELS = 3 * PIXEL_CHANNELS + 6  # noisy pixels, the input picture and its mirror image, rays
OUTPUT_CHANNELS = PIXEL_CHANNELS + 2  # paint, and the logits of how much of the two pictures is taken over
MIN_NOISE = 0.05  # 1 - t is clamped here where it divides (same source, section 4)
TIME_FREQUENCIES = 64
MAX_STEPS = 50
PLACE_AMPLITUDE = 1.0
BACKGROUND = torch.tensor([0.0, 0.0, 0.0, -1.0]).view(4, 1, 1)  # encoded


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of the generator."""

    patch_size_px: int = 16
    width: int = 256
    head_dim: int = 64
    num_layers: int = 8
    relative_rays: bool = True
    """Turn all cameras about the vertical until the input's stands at azimuth 0. Off is an ablation: rays stay in the
    frame of the scene."""
    attention: Literal["dense", "sparse"] = "dense"
    """"dense": every token sees all views. "sparse": it sees the input view and its own, as FaceLift's published
    diffusion does."""
    condition_dropout: float = 0.0
    """Share of the training examples that were shown no picture. Without any there is no guidance."""

    def __post_init__(self) -> None:
        if self.width % self.head_dim:
            raise ValueError(f"{self.width=} is not a multiple of {self.head_dim=}")
        if min(self.patch_size_px, self.num_layers) < 1:
            raise ValueError(f"sizes of a generator must be positive: {self}")
        if self.attention not in ("dense", "sparse"):
            raise ValueError(f"expected the attention dense or sparse, found {self.attention!r}")
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"expected condition_dropout in [0, 1), found {self.condition_dropout}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioned:
    """All that the input view and the wanted cameras say, which no step of sampling changes.

    Attributes:
        given: Tokens of the input view.
        asked: Tokens of the wanted views, without their noisy pixels and the time.
        shown: The input picture as every wanted camera sees it on a flat card.
        mirrored: The back of that card.
        visible: What each token may see; None for everything.
        grid: Rows and columns of a wanted view's patches.
    """

    given: Float[Tensor, "b l d"]
    asked: Float[Tensor, "b v l2 d"]
    shown: Float[Tensor, "b v 4 h w"]
    mirrored: Float[Tensor, "b v 4 h w"]
    visible: Bool[Tensor, "l3 l3"] | None
    grid: tuple[int, int]


class Generator(nn.Module):
    """Predicts the clean wanted views from noisy ones, the input view and the rays of both."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch_size_px
        self.input_embedder = patch_embedder(INPUT_CHANNELS, patch, width)
        self.target_embedder = patch_embedder(TARGET_CHANNELS, patch, width)
        self.time_embedder = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, width, bias=False), nn.SiLU(), nn.Linear(width, width, bias=False)
        )
        self.input_layer_norm = nn.LayerNorm(width, bias=False)
        self.transformer_layers = nn.ModuleList([Block(width, config.head_dim) for _ in range(config.num_layers)])
        self.pixel_decoder = nn.Sequential(
            nn.LayerNorm(width, bias=False), nn.Linear(width, OUTPUT_CHANNELS * patch**2, bias=False)
        )
        self.apply(init_weights)

    def forward(
        self,
        noisy: Float[Tensor, "b v 4 h w"],
        time: Float[Tensor, "b"],
        condition: Views,
        wanted: Cameras,
        *,
        known: Bool[Tensor, "b"] | None = None,
        bf16: bool = False,
    ) -> Float[Tensor, "b v 4 h w"]:
        """Predict the clean pixels of the wanted views.

        Args:
            noisy: time * clean + (1 - time) * noise, in the encoding of `encode_pixels`. It enters scaled by the
                time: pure noise tells nothing, and would only drown the rays.
            time: From 0 (noise) to 1 (clean), one for all views of an object.
            condition: (B, 1) input views.
            wanted: (B, V) pinhole cameras of the wanted views, same image size.
            known: False where the network gets an empty picture instead of the input view; its camera stays.
            bf16: Run the transformer in bfloat16.
        """
        return self.denoise(noisy, time, self.look(condition, wanted, known=known, bf16=bf16), bf16=bf16)

    def look(
        self, condition: Views, wanted: Cameras, *, known: Bool[Tensor, "b"] | None = None, bf16: bool = False
    ) -> Conditioned:
        """What `denoise` needs besides the noisy pixels and the time; arguments as in `forward`."""
        input_rays, target_rays = self._rays(condition.cameras, wanted)
        seen = encode_pixels(condition)
        if known is not None:
            seen = torch.where(known.view(-1, 1, 1, 1, 1), seen, BACKGROUND.to(seen))
        shown, mirrored = (shown_at(seen, condition.cameras, wanted, mirror) for mirror in (False, True))
        with low_precision(seen, bf16):
            given = self.input_embedder(torch.cat([seen, input_rays], dim=2)) + self._places(condition.cameras)
            asked = self._embed_target(torch.cat([shown, mirrored, target_rays], dim=2), PIXEL_CHANNELS)
            asked = asked + self._places(wanted)
        return Conditioned(
            given=rearrange(given, "b v l d -> b (v l) d"),
            asked=asked,
            shown=shown,
            mirrored=mirrored,
            visible=self._visible(wanted.batch_shape[1], given.shape[2], asked.shape[2], asked.device),
            grid=(wanted.height // self.config.patch_size_px, wanted.width // self.config.patch_size_px),
        )

    def denoise(
        self, noisy: Float[Tensor, "b v 4 h w"], time: Float[Tensor, "b"], seen: Conditioned, *, bf16: bool = False
    ) -> Float[Tensor, "b v 4 h w"]:
        """`forward`, for views and cameras that were looked at before."""
        with low_precision(noisy, bf16):
            asked = seen.asked + self._embed_target(time.view(-1, 1, 1, 1, 1) * noisy, 0)
            asked = asked + self.time_embedder(sinusoidal(time))[:, None, None]
            tokens = torch.cat([seen.given, rearrange(asked, "b v l d -> b (v l) d")], dim=1)
            tokens = self.input_layer_norm(tokens.float())
            for layer in self.transformer_layers:
                tokens = layer(tokens, seen.visible)
            patches = self.pixel_decoder(tokens[:, seen.given.shape[1] :])
        p, (rows, columns) = self.config.patch_size_px, seen.grid
        pixels = rearrange(
            patches.float(),
            "b (v y x) (i j c) -> b v c (y i) (x j)",
            i=p,
            j=p,
            c=OUTPUT_CHANNELS,
            y=rows,
            x=columns,
        )
        paint, take = pixels.split([PIXEL_CHANNELS, 2], dim=2)
        take = take.sigmoid()
        return paint + take[:, :, :1] * seen.shown + take[:, :, 1:] * seen.mirrored

    def _embed_target(self, pixels: Float[Tensor, "b v c h w"], first: int) -> Float[Tensor, "b v l d"]:
        """What a part of a wanted view's channels, from `first` on, adds to its tokens: the embedding is linear."""
        patchify, linear = self.target_embedder
        weight = linear.get_parameter("weight").unflatten(1, (-1, TARGET_CHANNELS))
        return F.linear(patchify(pixels), weight[..., first : first + pixels.shape[2]].flatten(1))

    def _rays(self, given: Cameras, wanted: Cameras) -> tuple[Float[Tensor, "b 1 6 h w"], Float[Tensor, "b v 6 h2 w2"]]:
        """Pluecker rays of the input view and of the wanted ones."""
        if not self.config.relative_rays:
            return plucker_rays(given), plucker_rays(wanted)
        azimuth = facing_azimuth_deg(given)  # (B, 1), broadcasts over views
        return plucker_rays(turned_to(given, azimuth)), plucker_rays(turned_to(wanted, azimuth))

    def _visible(
        self, num_wanted: int, num_given: int, num_asked: int, device: torch.device
    ) -> Bool[Tensor, "l l"] | None:
        """What each token may see with sparse attention: the input view and its own view."""
        if self.config.attention == "dense":
            return None
        sizes = torch.tensor([num_given] + [num_asked] * num_wanted, device=device)
        view = torch.repeat_interleave(torch.arange(num_wanted + 1, device=device), sizes)
        return (view[None] == 0) | (view[None] == view[:, None])

    def _places(self, cameras: Cameras) -> Float[Tensor, "l d"]:
        """Fixed embeddings of the patches' places in a picture of this size."""
        rows, columns = (side // self.config.patch_size_px for side in (cameras.height, cameras.width))
        return grid_places(rows, columns, self.config.width).to(cameras.K)

    @torch.no_grad()
    def generate(
        self,
        view: Views,
        rig: Cameras,
        *,
        steps: int,
        generator: torch.Generator,
        guidance: float = 1.0,
        bf16: bool = False,
    ) -> Views:
        """Make the views of a rig from one input view.

        Args:
            view: (B, 1) input.
            rig: (B, V) wanted cameras in the frame of `view.cameras`; the result carries exactly these.
            steps: Euler steps of the flow, 1 to 50. One gives the mean of what is likely, more give a sharper sample.
            generator: Source of the initial noise, on the CPU, so that a seed means the same on every device.
            guidance: Weight of the picture against no picture (Ho & Salimans 2022); 1 is none. Another one takes
                weights that were trained with `condition_dropout`, and twice the time.
            bf16: Run the transformer in bfloat16.
        """
        if not 1 <= steps <= MAX_STEPS:
            raise ValueError(f"expected 1 to {MAX_STEPS} steps, found {steps}")
        shape = (*rig.batch_shape, PIXEL_CHANNELS, rig.height, rig.width)
        noise = torch.randn(shape, generator=generator).to(view.images)
        return decode_pixels(self.flow(noise, view, rig, steps=steps, guidance=guidance, bf16=bf16), rig)

    @torch.no_grad()
    def flow(
        self,
        state: Float[Tensor, "b v 4 h w"],
        view: Views,
        rig: Cameras,
        *,
        steps: int,
        start: float = 0.0,
        end: float = 1.0,
        guidance: float = 1.0,
        bf16: bool = False,
    ) -> Float[Tensor, "b v 4 h w"]:
        """Follow the flow from one time to a later one by Euler's method.

        Args:
            state: At the time `start`; noise at 0.
            view: (B, 1) input.
            rig: (B, V) wanted cameras.
            steps: Of equal length.
            start: Time.
            end: Time; 1 is clean.
            guidance: As in `generate`.
            bf16: As in `generate`.

        Returns:
            The state at the time `end`.
        """
        if guidance != 1 and self.config.condition_dropout == 0:
            raise ValueError(f"expected no guidance, which this generator was not trained for, found {guidance:g}")
        count = len(state)
        if guidance != 1:  # with and without the picture side by side
            view, rig = Views.cat([view, view]), Cameras.cat([rig, rig])
        known = None if guidance == 1 else torch.arange(2 * count, device=state.device) < count
        seen = self.look(view, rig, known=known, bf16=bf16)
        for i in range(steps):
            now, later = (start + (end - start) * k / steps for k in (i, i + 1))
            noisy = state if guidance == 1 else torch.cat([state, state])
            clean = self.denoise(noisy, state.new_full((len(noisy),), now), seen, bf16=bf16)
            if guidance != 1:
                clean = torch.lerp(clean[count:], clean[:count], guidance)
            state = clean if later == 1 else state + (clean - state) * ((later - now) / (1 - now))
        return state


def encode_pixels(views: Views) -> Float[Tensor, "b v 4 h w"]:
    """Views as the network sees them: colour over mid-grey and alpha, in [-1, 1]; the background is (0, 0, 0, -1)."""
    return torch.cat([(2 * views.images - 1) * views.masks, 2 * views.masks - 1], dim=-3)


def decode_pixels(pixels: Float[Tensor, "b v 4 h w"], cameras: Cameras) -> Views:
    """The inverse of `encode_pixels`, to straight colour; colour is grey where alpha is 0."""
    masks = ((pixels[..., 3:, :, :] + 1) / 2).clamp(0, 1)
    straight = pixels[..., :3, :, :] / masks.clamp_min(0.05)
    return Views(images=((straight + 1) / 2).clamp(0, 1), masks=masks, cameras=cameras)


def shown_at(
    seen: Float[Tensor, "b 1 4 h w"], camera: Cameras, wanted: Cameras, mirror: bool
) -> Float[Tensor, "b v 4 h2 w2"]:
    """The input picture as a flat card in the subject that faces every wanted camera, at true scale.

    Args:
        seen: Encoded input view.
        camera: (B, 1) its camera.
        wanted: (B, V) cameras.
        mirror: Show the card's back instead.
    """
    origin = wanted.K.new_zeros(1, 3)
    centre_there, centre_here = (c.project(origin).squeeze(-2) for c in (wanted, camera))  # (B, V, 2), (B, 1, 2)
    offset = pixel_centres(wanted.height, wanted.width, wanted.K) - centre_there[:, :, None, None]
    offset = offset * (_size_of_pixel(wanted) / _size_of_pixel(camera))[:, :, None, None, None]
    if mirror:
        offset = offset * offset.new_tensor([-1.0, 1.0])
    pixels = centre_here[:, :, None, None] + offset  # (B, V, H, W, 2)
    grid = 2 * pixels / pixels.new_tensor([camera.width, camera.height]) - 1
    from_background = seen.expand(-1, len(wanted.K[0]), -1, -1, -1) - BACKGROUND.to(seen)
    sampled = F.grid_sample(from_background.flatten(0, 1), grid.flatten(0, 1), align_corners=False)
    return sampled.unflatten(0, wanted.batch_shape) + BACKGROUND.to(seen)


def _size_of_pixel(cameras: Cameras) -> Float[Tensor, "*batch"]:
    """Width of a pixel at the subject, scene units."""
    return cameras.centres.norm(dim=-1) / cameras.K[..., 0, 0]


def flow_matching_loss(
    predicted: Float[Tensor, "b v 4 h w"], clean: Float[Tensor, "b v 4 h w"], time: Float[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """Velocity loss of a network that predicts the clean picture: |x_hat - x|^2 / (1 - t)^2, mean over pixels."""
    error = (predicted - clean).square().flatten(1).mean(1)
    return error / (1 - time).clamp_min(MIN_NOISE).square()


def grid_places(rows: int, columns: int, width: int) -> Float[Tensor, "l d"]:
    """Sines and cosines of each patch's row and column, row by row, at `width` / 4 frequencies (Vaswani et al. 2017).

    The amplitude is that of a freshly initialised token, so that neither drowns the other.
    """
    frequencies = 100 ** -torch.linspace(0, 1, width // 4)
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    angles = torch.stack([y, x], dim=-1).reshape(-1, 2, 1) * frequencies
    return PLACE_AMPLITUDE * torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def sinusoidal(time: Float[Tensor, "b"]) -> Float[Tensor, "b k"]:
    """Sines and cosines of the time at geometrically spaced frequencies up to 1000."""
    frequencies = torch.logspace(0, 3, TIME_FREQUENCIES, dtype=time.dtype, device=time.device)
    angles = time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
