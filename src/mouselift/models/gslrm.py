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
from mouselift.geometry.hull import enter_hull
from mouselift.geometry.sh import dc_from_rgb
from mouselift.models.transformer import INIT_STD, Block, init_weights, low_precision, patch_embedder

RAY_CHANNELS = 9  # RGB, ray direction, nearest point to the origin
HULL_CHANNELS = 5  # point where the ray enters the hull, occupancy of the hull, mask
DEPTH_HALF_RANGE = 1.8  # scene units along the ray, about the point nearest to the origin
LOG_SCALE_BIAS = -2.3
LOG_SCALE_MAX = -1.2  # a standard deviation of 0.30 scene units
OPACITY_BIAS = -2.0
HULL_HALF_RANGE = 1.0  # about the nearest point, scene units: where a ray looks for the hull
DEPTH_HALF_RANGE_FROM_HULL = 0.5
FOOTPRINT_FACTOR = 0.5  # standard deviation of a Gaussian that stands for one pixel, in widths of that pixel
OPACITY_LOGIT_OF_HULL = (-4.0, 3.0)  # for an occupancy of 0 and of 1
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
    start_from_hull: bool = False
    """Predict relative to the visual hull of the context's masks: each pixel's Gaussian starts where its ray enters the
    hull, in the pixel's colour and size, and the network sees that point. Never for published weights."""
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


@dataclass(frozen=True, kw_only=True)
class PixelPrior:
    """What a pixel's Gaussian is before the network says anything, for the N pixels of the patches that are used.

    Attributes:
        origins: Camera centres.
        directions: Unit directions of the pixels' rays.
        distances: Along the rays.
        dc: Coefficients of degree 0.
        log_scales: One for all three axes.
        quat: (w, x, y, z), the same for all, also for free Gaussians.
        opacity_logits: Before the sigmoid.
        features: What the network is told about it besides colour and ray, or None.
    """

    origins: Float[Tensor, "b n 3"]
    directions: Float[Tensor, "b n 3"]
    distances: Float[Tensor, "b n"]
    dc: Float[Tensor, "b n 3"]
    log_scales: Float[Tensor, "b n"]
    quat: Float[Tensor, "4"]
    opacity_logits: Float[Tensor, "b n"]
    features: Float[Tensor, "b n f"] | None = None

    def gaussians(self) -> Gaussians:
        """The Gaussians that a silent network stands for."""
        return RawGaussians(
            means=self.along_rays(torch.zeros_like(self.distances)),
            sh=self.dc[..., None, :],
            log_scales=self.log_scales[..., None].expand_as(self.dc),
            quats=self.quat.expand(*self.dc.shape[:-1], 4),
            opacity_logits=self.opacity_logits,
        ).activated()

    def along_rays(self, offsets: Float[Tensor, "b n"]) -> Float[Tensor, "b n 3"]:
        """Points on the rays, farther than the prior's own by the offsets."""
        return self.origins + (self.distances + offsets)[..., None] * self.directions


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
        inputs = RAY_CHANNELS + (HULL_CHANNELS if config.start_from_hull else 0)
        self.patch_embedder = patch_embedder(inputs, patch, width)
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
                are: see `as_context`.
            bf16: Run the transformer in bfloat16; tokens stay float32 between the layers, and so does the head.

        Returns:
            (B,) scenes of `num_free_gaussians` + V*H*W Gaussians: free ones first, then by view, patch and pixel.
            With `skip_empty_patches` only the occupied patches have Gaussians.
        """
        return self.raw(context, bf16=bf16).activated()

    def visual_hull(self, context: Views) -> Gaussians:
        """What the model starts from: one Gaussian for each pixel, on the visual hull, in the pixel's colour.

        A baseline, and only for models that start from the hull.
        """
        if not self.config.start_from_hull:
            raise ValueError("this model does not start from the visual hull")
        return self._prior(context, self._kept_patches(context)).gaussians()

    def raw(self, context: Views, *, bf16: bool = False) -> RawGaussians:
        """The same before activation."""
        kept = self._kept_patches(context)
        prior = self._prior(context, kept)
        rays = nearest_point_rays(context.cameras)  # (B, V, 6, H, W)
        patchify, embed = self.patch_embedder
        seen = context.images * context.masks if self.config.start_from_hull else context.images
        patches = patchify(torch.cat([2 * seen - 1, rays], dim=2))
        patches = take_along_tokens(rearrange(patches, "b v l k -> b (v l) k"), kept)
        if prior.features is not None:
            p2 = self.config.patch_size_px**2
            patches = rearrange(patches, "b l (pixel c) -> b l pixel c", pixel=p2)
            hull = rearrange(prior.features, "b (l pixel) c -> b l pixel c", pixel=p2)
            patches = torch.cat([patches, hull], dim=-1).flatten(2)
        with low_precision(patches, bf16):
            patches = embed(patches)
            free = self.gaussian_position_embeddings.expand(len(patches), -1, -1)
            tokens = self.input_layer_norm(torch.cat([free.to(patches.dtype), patches], dim=1).float())
            for layer in self.transformer_layers:
                tokens = layer(tokens)
        return self._decode(tokens.float(), prior)

    def _kept_patches(self, context: Views) -> Int[Tensor, "b k"] | None:
        """Patches to use, in their order, as many for every scene as the fullest one has; None stands for all."""
        if not self.config.skip_empty_patches:
            return None
        p = self.config.patch_size_px
        occupancy = reduce(context.masks, "b v 1 (y i) (x j) -> b (v y x)", "max", i=p, j=p)
        occupied = occupancy >= MIN_OCCUPANCY
        count = max(int(occupied.sum(1).max()), 1)
        return occupied.byte().sort(dim=1, descending=True, stable=True).indices[:, :count].sort(dim=1).values

    def _decode(self, tokens: Float[Tensor, "b l d"], prior: PixelPrior) -> RawGaussians:
        num_free = self.config.num_free_gaussians
        free_tokens, patch_tokens = tokens.split([num_free, tokens.shape[1] - num_free], dim=1)
        channels = self.pixel_gaussian_decoder(patch_tokens)
        channels = rearrange(channels, "b l (pixel c) -> b (l pixel) c", pixel=self.config.patch_size_px**2)
        half_range = DEPTH_HALF_RANGE_FROM_HULL if self.config.start_from_hull else DEPTH_HALF_RANGE
        means = prior.along_rays((2 * channels[..., :3].mean(-1).sigmoid() - 1) * half_range)
        free = self.gaussian_upsampler(free_tokens)
        channels = torch.cat([free, channels], dim=1)
        sh, log_scales, quats, opacities = channels[..., 3:].split(
            [3 * (self.config.sh_degree + 1) ** 2, 3, 4, 1], dim=-1
        )
        sh = rearrange(sh, "b n (k c) -> b n k c", c=3)
        dc = sh[..., :1, :] + F.pad(prior.dc, (0, 0, num_free, 0))[..., None, :]
        sizes = F.pad(prior.log_scales, (num_free, 0), value=LOG_SCALE_BIAS)[..., None]
        return RawGaussians(
            means=torch.cat([free[..., :3], means], dim=1),
            sh=torch.cat([dc, sh[..., 1:, :]], dim=-2),
            log_scales=(log_scales + sizes).clamp_max(LOG_SCALE_MAX),
            quats=quats + prior.quat,
            opacity_logits=opacities.squeeze(-1) + F.pad(prior.opacity_logits, (num_free, 0), value=OPACITY_BIAS),
        )

    def _prior(self, context: Views, kept: Int[Tensor, "b k"] | None) -> PixelPrior:
        """What a raw output of 0 stands for at every pixel of the kept patches."""
        origins, directions = camera_rays(context.cameras)

        def chosen(pixels: Float[Tensor, "b v h w c"]) -> Float[Tensor, "b n c"]:
            p = self.config.patch_size_px
            patches = rearrange(pixels, "b v (y i) (x j) c -> b (v y x) (i j c)", i=p, j=p)
            return rearrange(take_along_tokens(patches, kept), "b l (pixel c) -> b (l pixel) c", pixel=p * p)

        origins, directions = chosen(origins), chosen(directions)
        nearest = -(origins * directions).sum(-1)
        if not self.config.start_from_hull:
            return PixelPrior(
                origins=origins,
                directions=directions,
                distances=nearest,
                dc=torch.zeros_like(origins),
                log_scales=torch.full_like(nearest, LOG_SCALE_BIAS),
                quat=nearest.new_zeros(4),
                opacity_logits=torch.full_like(nearest, OPACITY_BIAS),
            )
        colours, masks = chosen(context.images.movedim(2, -1)), chosen(context.masks.movedim(2, -1)).squeeze(-1)
        near, far = nearest - HULL_HALF_RANGE, nearest + HULL_HALF_RANGE
        with torch.no_grad():
            entry, occupancy = enter_hull(origins, directions, near, far, context.masks, context.cameras)
        distances = torch.where(occupancy > MIN_OCCUPANCY, entry, nearest)
        footprints = context.cameras.centres.norm(dim=-1) / context.cameras.K[..., 0, 0]  # at the subject
        footprints = chosen(footprints[..., None, None, None].expand(*context.masks.movedim(2, -1).shape))
        low, high = OPACITY_LOGIT_OF_HULL
        points = origins + distances[..., None] * directions
        return PixelPrior(
            origins=origins,
            directions=directions,
            distances=distances,
            dc=dc_from_rgb(colours),
            log_scales=(FOOTPRINT_FACTOR * footprints.squeeze(-1)).log(),
            quat=nearest.new_tensor([1.0, 0.0, 0.0, 0.0]),
            opacity_logits=low + (high - low) * occupancy,  # at most the pixel's own mask
            features=torch.cat([points, occupancy[..., None], masks[..., None]], dim=-1),
        )


def as_context(views: Views, model: GSLRM, background: Float[Tensor, "3"], *, finer: int = 1) -> Views:
    """Views as the model wants its context: at the size it was trained with, and over the background.

    A model that starts from the hull gets straight colours and masks instead, and needs no background.

    Args:
        views: Square.
        model: Whose habits count.
        background: For models that do not start from the hull.
        finer: How many times larger than in training a hull model's context may be: what it starts from is exact at
            any size, and only finer.
    """
    size = model.config.context_size_px
    if size is not None and model.config.start_from_hull:
        size *= max(1, min(finer, views.cameras.width // (2 * size)))
    views = views if size is None or views.cameras.width == size else views.resized(size, size)
    return views if model.config.start_from_hull else views.over(background)


def take_along_tokens(tokens: Float[Tensor, "b l d"], kept: Int[Tensor, "b k"] | None) -> Float[Tensor, "b k d"]:
    """The tokens with the given indices, or all of them."""
    if kept is None:
        return tokens
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
