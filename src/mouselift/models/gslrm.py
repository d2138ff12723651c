"""GS-LRM: any number of posed views to one 3D Gaussian per pixel, in one pass (Zhang et al., ECCV 2024).

Re-implemented from the specification of FaceLift's published weights, with their parameter names.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mouselift.geometry import Gaussians, Views, camera_rays, nearest_point_rays
from mouselift.geometry.sh import dc_from_rgb
from mouselift.models.transformer import INIT_STD, Block, init_weights, low_precision, patch_embedder

RAY_CHANNELS = 9  # RGB, ray direction, nearest point to the origin
DEPTH_HALF_RANGE = 1.8  # scene units along the ray, about the point nearest to the origin
LOG_SCALE_BIAS = -2.3
LOG_SCALE_MAX = -1.2  # a standard deviation of 0.30 scene units
OPACITY_BIAS = -2.0
MIN_OCCUPANCY = 0.02  # a patch counts as empty when no pixel of its mask reaches this


@dataclass(frozen=True, kw_only=True)
class GSLRMConfig:
    """Sizes of a GS-LRM; the defaults are FaceLift's published weights."""

    patch_size_px: int = 8
    width: int = 1024
    head_dim: int = 64
    num_layers: int = 24
    num_free_gaussians: int = 2
    sh_degree: int = 0
    skip_empty_patches: bool = False
    """Leave out patches that no mask touches. Never for published weights, which have only seen all patches."""
    start_from_pixels: bool = False
    """Predict colours and sizes relative to the pixel's own colour and footprint. Never for published weights."""
    context_size_px: int | None = None
    """Size of the context views that the weights were trained on; the caller resizes to it. None stands for any."""

    def __post_init__(self) -> None:
        if self.width % self.head_dim:
            raise ValueError(f"{self.width=} is not a multiple of {self.head_dim=}")
        if not 0 <= self.sh_degree <= 3:
            raise ValueError(f"{self.sh_degree=} is not one of 0, 1, 2, 3")
        if min(self.patch_size_px, self.num_layers) < 1 or self.num_free_gaussians < 0:
            raise ValueError(f"sizes of a GS-LRM must be positive: {self}")

    @property
    def gaussian_channels(self) -> int:
        """Numbers per Gaussian: xyz 3, SH, log-scale 3, quaternion 4, opacity 1."""
        return 11 + 3 * (self.sh_degree + 1) ** 2


@dataclass(frozen=True, kw_only=True)
class RawGaussians:
    """GS-LRM's stored form, before activation (what upstream writes and what the golden vectors hold).

    Attributes:
        means: Scene frame.
        sh: K bases.
        log_scales: At most -1.2.
        quats: (w, x, y, z), not normalised.
        opacity_logits: Before the sigmoid.
    """

    means: Float[Tensor, "b n 3"]
    sh: Float[Tensor, "b n k 3"]
    log_scales: Float[Tensor, "b n 3"]
    quats: Float[Tensor, "b n 4"]
    opacity_logits: Float[Tensor, "b n"]

    def activated(self) -> Gaussians:
        """The Gaussians they stand for."""
        return Gaussians(
            means=self.means,
            quats=F.normalize(self.quats, dim=-1),
            scales=self.log_scales.exp(),
            opacities=self.opacity_logits.sigmoid(),
            sh=self.sh,
        )


class FreeGaussianHead(nn.Module):
    """Norm and linear layer from a free token to its Gaussian."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(width, bias=False)
        self.linear = nn.Linear(width, channels, bias=False)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n c"]:
        """Raw channels of each free Gaussian."""
        return self.linear(self.layernorm(tokens))


class GSLRM(nn.Module):
    """Posed context views to Gaussians; blind to the order of the views, any number of them, any size."""

    def __init__(self, config: GSLRMConfig) -> None:
        super().__init__()
        self.config = config
        width, channels, patch = config.width, config.gaussian_channels, config.patch_size_px
        self.gaussian_position_embeddings = nn.Parameter(torch.zeros(config.num_free_gaussians, width))
        self.patch_embedder = patch_embedder(RAY_CHANNELS, patch, width)
        self.input_layer_norm = nn.LayerNorm(width, bias=False)
        self.transformer_layers = nn.ModuleList([Block(width, config.head_dim) for _ in range(config.num_layers)])
        self.gaussian_upsampler = FreeGaussianHead(width, channels)
        self.pixel_gaussian_decoder = nn.Sequential(
            nn.LayerNorm(width, bias=False), nn.Linear(width, channels * patch**2, bias=False)
        )
        self.apply(init_weights)
        nn.init.trunc_normal_(self.gaussian_position_embeddings, std=INIT_STD)

    def forward(self, context: Views, *, bf16: bool = False) -> Gaussians:
        """Reconstruct the scene.

        Args:
            context: (B, V) pinhole views; height and width multiples of the patch size. Colours are used as they
                are: composite them on the background that the model was trained with.
            bf16: Run the transformer in bfloat16; tokens stay float32 between the layers, and so does the head.

        Returns:
            (B,) scenes of `num_free_gaussians` + V*H*W Gaussians: free ones first, then by view, patch and pixel.
            With `skip_empty_patches` only the occupied patches have Gaussians.
        """
        return self.raw(context, bf16=bf16).activated()

    def raw(self, context: Views, *, bf16: bool = False) -> RawGaussians:
        """The same before activation."""
        rays = nearest_point_rays(context.cameras)  # (B, V, 6, H, W)
        pixels = torch.cat([2 * context.images - 1, rays], dim=2)
        with low_precision(pixels, bf16):
            patches = rearrange(self.patch_embedder(pixels), "b v l d -> b (v l) d")
            kept = self._kept_patches(context)
            patches = take_along_tokens(patches, kept)
            free = self.gaussian_position_embeddings.expand(len(patches), -1, -1)
            tokens = self.input_layer_norm(torch.cat([free.to(patches.dtype), patches], dim=1).float())
            for layer in self.transformer_layers:
                tokens = layer(tokens)
        return self._decode(tokens.float(), context, kept)

    def _kept_patches(self, context: Views) -> Int[Tensor, "b k"] | None:
        """Patches to use, in their order, as many for every scene as the fullest one has; None stands for all."""
        if not self.config.skip_empty_patches:
            return None
        p = self.config.patch_size_px
        occupancy = reduce(context.masks, "b v 1 (y i) (x j) -> b (v y x)", "max", i=p, j=p)
        occupied = occupancy >= MIN_OCCUPANCY
        count = max(int(occupied.sum(1).max()), 1)
        return occupied.byte().sort(dim=1, descending=True, stable=True).indices[:, :count].sort(dim=1).values

    def _decode(self, tokens: Float[Tensor, "b l d"], context: Views, kept: Int[Tensor, "b k"] | None) -> RawGaussians:
        free_tokens, patch_tokens = tokens.split(
            [self.config.num_free_gaussians, tokens.shape[1] - self.config.num_free_gaussians], dim=1
        )
        p = self.config.patch_size_px
        channels = self.pixel_gaussian_decoder(patch_tokens)
        channels = rearrange(channels, "b l (pixel c) -> b (l pixel) c", pixel=p * p)
        pixels = torch.cat([*camera_rays(context.cameras), *self._pixel_priors(context)], dim=-1)
        pixels = rearrange(pixels, "b v (y i) (x j) c -> b (v y x) (i j c)", i=p, j=p)
        pixels = rearrange(take_along_tokens(pixels, kept), "b l (pixel c) -> b (l pixel) c", pixel=p * p)
        origins, directions, colours, sizes = pixels.split([3, 3, 3, 1], dim=-1)
        means = means_on_rays(channels[..., :3], origins, directions)
        free = self.gaussian_upsampler(free_tokens)
        channels = torch.cat([free, channels], dim=1)
        sh, log_scales, quats, opacities = channels[..., 3:].split(
            [3 * (self.config.sh_degree + 1) ** 2, 3, 4, 1], dim=-1
        )
        num_free = self.config.num_free_gaussians
        colours, sizes = F.pad(colours, (0, 0, num_free, 0)), F.pad(sizes, (0, 0, num_free, 0), value=LOG_SCALE_BIAS)
        sh = rearrange(sh, "b n (k c) -> b n k c", c=3)
        return RawGaussians(
            means=torch.cat([free[..., :3], means], dim=1),
            sh=torch.cat([sh[..., :1, :] + colours[..., None, :], sh[..., 1:, :]], dim=-2),
            log_scales=(log_scales + sizes).clamp_max(LOG_SCALE_MAX),
            quats=quats,
            opacity_logits=opacities.squeeze(-1) + OPACITY_BIAS,
        )

    def _pixel_priors(self, context: Views) -> tuple[Float[Tensor, "b v h w 3"], Float[Tensor, "b v h w 1"]]:
        """What a raw output of 0 stands for at every pixel: degree-0 coefficients and log-scale."""
        colours = context.images.movedim(2, -1)
        if not self.config.start_from_pixels:
            return torch.zeros_like(colours), torch.full_like(colours[..., :1], LOG_SCALE_BIAS)
        footprints = context.cameras.centres.norm(dim=-1) / context.cameras.K[..., 0, 0]  # at the subject
        return dc_from_rgb(colours), footprints.log()[..., None, None, None].expand_as(colours[..., :1])


def at_context_size(views: Views, model: GSLRM) -> Views:
    """Views as large as the model's context views shall be; before they are composited on a background."""
    size = model.config.context_size_px
    return views if size is None or views.cameras.width == size else views.resized(size, size)


def take_along_tokens(tokens: Float[Tensor, "b l d"], kept: Int[Tensor, "b k"] | None) -> Float[Tensor, "b k d"]:
    """The tokens with the given indices, or all of them."""
    if kept is None:
        return tokens
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))


def means_on_rays(
    raw: Float[Tensor, "b n 3"], origins: Float[Tensor, "b n 3"], directions: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b n 3"]:
    """Place each pixel's Gaussian on its ray, within +-1.8 of the ray's point nearest to the scene origin."""
    nearest = -(origins * directions).sum(-1, keepdim=True)
    offset = (2 * raw.mean(-1, keepdim=True).sigmoid() - 1) * DEPTH_HALF_RANGE
    return origins + (nearest + offset) * directions
