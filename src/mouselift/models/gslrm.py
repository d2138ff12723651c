"""GS-LRM: any number of posed views to one 3D Gaussian per pixel, in one pass (Zhang et al., ECCV 2024).

Re-implemented from the specification of FaceLift's published weights, with their parameter names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mouselift.geometry import Gaussians, Views, camera_rays, nearest_point_rays
from mouselift.geometry.hull import enter_hull
from mouselift.geometry.sh import dc_from_rgb
from mouselift.models.raw_gaussians import PixelPrior, RawGaussians
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
SHARES_OF_SCALE_RANGE = (0.02, 0.98)  # where a bounded scale may start: a sigmoid has no gradient at its ends
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
    qk_norm: bool = False
    """Normalise queries and keys in every head of attention. For new trainings: published weights are without."""
    scale_range: tuple[float, float] | None = None
    """Smallest and largest standard deviation of a Gaussian, scene units, with a sigmoid between them (GRM, ECCV 2024)
    instead of an exponential below 0.30. For new trainings only."""

    def __post_init__(self) -> None:
        if self.width % self.head_dim:
            raise ValueError(f"{self.width=} is not a multiple of {self.head_dim=}")
        if not 0 <= self.sh_degree <= 3:
            raise ValueError(f"{self.sh_degree=} is not one of 0, 1, 2, 3")
        if min(self.patch_size_px, self.num_layers) < 1 or self.num_free_gaussians < 0:
            raise ValueError(f"sizes of a GS-LRM must be positive: {self}")
        if self.scale_range is not None and not 0 < self.scale_range[0] < self.scale_range[1]:
            raise ValueError(f"expected 0 < smallest < largest scale, found {self.scale_range=}")

    @property
    def gaussian_channels(self) -> int:
        """Numbers per Gaussian: xyz 3, SH, log-scale 3, quaternion 4, opacity 1."""
        return 11 + 3 * (self.sh_degree + 1) ** 2


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
        self.transformer_layers = nn.ModuleList(
            [Block(width, config.head_dim, qk_norm=config.qk_norm) for _ in range(config.num_layers)]
        )
        self.gaussian_upsampler = FreeGaussianHead(width, channels)
        self.pixel_gaussian_decoder = nn.Sequential(
            nn.LayerNorm(width, bias=False), nn.Linear(width, channels * patch**2, bias=False)
        )
        self.apply(init_weights)
        nn.init.trunc_normal_(self.gaussian_position_embeddings, std=INIT_STD)

    def forward(self, context: Views | Sequence[Views], *, bf16: bool = False) -> Gaussians:
        """Reconstruct the scene.

        Args:
            context: (B, V) pinhole views; height and width multiples of the patch size. Views of several sizes come
                as several groups of the same B, each of one size. Colours are used as they are: see `as_context`.
            bf16: Run the transformer in bfloat16; tokens stay float32 between the layers, and so does the head.

        Returns:
            (B,) scenes of `num_free_gaussians` + V*H*W Gaussians: free ones first, then by group, view, patch and
            pixel. With `skip_empty_patches` only the occupied patches have Gaussians.

        Raises:
            ValueError: A view cannot be cut into whole patches.
        """
        return self.raw(context, bf16=bf16).activated()

    def visual_hull(self, context: Views | Sequence[Views]) -> Gaussians:
        """What the model starts from: one Gaussian for each pixel, on the visual hull, in the pixel's colour.

        A baseline, and only for models that start from the hull.
        """
        if not self.config.start_from_hull:
            raise ValueError("this model does not start from the visual hull")
        groups = _groups(context)
        silhouettes = _of_one_size(groups)
        return PixelPrior.cat([self._prior(g, self._kept_patches(g), silhouettes) for g in groups]).gaussians()

    def raw(self, context: Views | Sequence[Views], *, bf16: bool = False) -> RawGaussians:
        """The same before activation."""
        groups = _groups(context)
        silhouettes = _of_one_size(groups)
        seen = [self.look(group, silhouettes) for group in groups]
        patches, prior = torch.cat([patches for patches, _ in seen], dim=1), PixelPrior.cat([p for _, p in seen])
        _, embed = self.patch_embedder
        with low_precision(patches, bf16):
            patches = embed(patches)
            free = self.gaussian_position_embeddings.expand(len(patches), -1, -1)
            tokens = self.input_layer_norm(torch.cat([free.to(patches.dtype), patches], dim=1).float())
            for layer in self.transformer_layers:
                tokens = layer(tokens)
        return self._decode(tokens.float(), prior)

    def look(self, views: Views, silhouettes: Views) -> tuple[Float[Tensor, "b k c"], PixelPrior]:
        """The used patches of views of one size, as the network sees them, and what their pixels start from."""
        p = self.config.patch_size_px
        if views.cameras.height % p or views.cameras.width % p:
            raise ValueError(
                f"expected views whose width and height are multiples of the patch size {p}, found "
                f"{views.cameras.width}x{views.cameras.height}"
            )
        kept = self._kept_patches(views)
        prior = self._prior(views, kept, silhouettes)
        patchify, _ = self.patch_embedder
        colours = views.images * views.masks if self.config.start_from_hull else views.images
        patches = patchify(torch.cat([2 * colours - 1, nearest_point_rays(views.cameras)], dim=2))
        patches = take_along_tokens(rearrange(patches, "b v l k -> b (v l) k"), kept)
        if prior.features is not None:
            patches = rearrange(patches, "b l (pixel c) -> b l pixel c", pixel=p * p)
            hull = rearrange(prior.features, "b (l pixel) c -> b l pixel c", pixel=p * p)
            patches = torch.cat([patches, hull], dim=-1).flatten(2)
        return patches, prior

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
        sizes = F.pad(prior.log_scales, (num_free, 0), value=self._usual_log_scale())[..., None]
        return RawGaussians(
            means=torch.cat([free[..., :3], means], dim=1),
            sh=torch.cat([dc, sh[..., 1:, :]], dim=-2),
            log_scales=self._log_scales(log_scales, sizes),
            quats=quats + prior.quat,
            opacity_logits=opacities.squeeze(-1) + F.pad(prior.opacity_logits, (num_free, 0), value=OPACITY_BIAS),
        )

    def _usual_log_scale(self) -> float:
        """Of a Gaussian that no hull says the size of."""
        return LOG_SCALE_BIAS if self.config.scale_range is None else math.log(sum(self.config.scale_range) / 2)

    def _log_scales(self, raw: Float[Tensor, "b n 3"], sizes: Float[Tensor, "b n 1"]) -> Float[Tensor, "b n 3"]:
        """Logarithms of scales, `sizes` where the raw output is 0."""
        if self.config.scale_range is None:
            return (raw + sizes).clamp_max(LOG_SCALE_MAX)
        low, high = self.config.scale_range
        share = ((sizes.exp() - low) / (high - low)).clamp(*SHARES_OF_SCALE_RANGE)
        return (low + (high - low) * (raw + share.logit()).sigmoid()).log()

    def _prior(self, context: Views, kept: Int[Tensor, "b k"] | None, silhouettes: Views) -> PixelPrior:
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
                log_scales=torch.full_like(nearest, self._usual_log_scale()),
                quat=nearest.new_zeros(4),
                opacity_logits=torch.full_like(nearest, OPACITY_BIAS),
            )
        colours, masks = chosen(context.images.movedim(2, -1)), chosen(context.masks.movedim(2, -1)).squeeze(-1)
        near, far = nearest - HULL_HALF_RANGE, nearest + HULL_HALF_RANGE
        with torch.no_grad():
            entry, occupancy = enter_hull(origins, directions, near, far, silhouettes.masks, silhouettes.cameras)
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


def _groups(context: Views | Sequence[Views]) -> list[Views]:
    groups = [context] if isinstance(context, Views) else list(context)
    if not groups or any(group.batch_shape[0] != groups[0].batch_shape[0] for group in groups):
        shapes = ", ".join(str(tuple(group.batch_shape)) for group in groups) or "none"
        raise ValueError(f"expected groups of views (B, V) with the same B, found {shapes}")
    return groups


def _of_one_size(groups: Sequence[Views]) -> Views:
    """All views at the size of the smallest ones, for their silhouettes."""
    small = min((group.cameras for group in groups), key=lambda cameras: cameras.width * cameras.height)
    size = (small.width, small.height)
    same = [g if (g.cameras.width, g.cameras.height) == size else g.resized(*size) for g in groups]
    return same[0] if len(same) == 1 else Views.cat(same, dim=1)


def take_along_tokens(tokens: Float[Tensor, "b l d"], kept: Int[Tensor, "b k"] | None) -> Float[Tensor, "b k d"]:
    """The tokens with the given indices, or all of them."""
    if kept is None:
        return tokens
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
