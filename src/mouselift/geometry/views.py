"""`Views`: pictures, their foreground masks and the cameras that took them, which only ever move together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry.cameras import Cameras
from mouselift.geometry.indexing import index_batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Posed pictures, any batch shape; (B, V, ...) in the models.

    Attributes:
        images: sRGB in [0, 1], straight (not premultiplied) colour.
        masks: Observed foreground in [0, 1].
        cameras: One for each picture.
    """

    images: Float[Tensor, "*batch 3 h w"]
    masks: Float[Tensor, "*batch 1 h w"]
    cameras: Cameras

    def __post_init__(self) -> None:
        size = (self.cameras.height, self.cameras.width)
        if self.images.shape[-2:] != size or self.masks.shape[-2:] != size:
            raise ValueError(
                f"images are {tuple(self.images.shape[-2:])}, masks {tuple(self.masks.shape[-2:])} and the "
                f"cameras {size} (height, width): they must be the same"
            )
        if not self.images.shape[:-3] == self.masks.shape[:-3] == self.cameras.batch_shape:
            raise ValueError(
                f"batch shapes differ: images {tuple(self.images.shape[:-3])}, "
                f"masks {tuple(self.masks.shape[:-3])}, cameras {tuple(self.cameras.batch_shape)}"
            )

    @property
    def batch_shape(self) -> torch.Size:
        """The dimensions before (3, H, W)."""
        return self.cameras.batch_shape

    def __getitem__(self, index: Any) -> "Views":
        """Index the batch dimensions as a tensor would be."""
        return Views(
            images=index_batch(self.images, index, 3),
            masks=index_batch(self.masks, index, 3),
            cameras=self.cameras[index],
        )

    def to(self, *args: Any, **kwargs: Any) -> "Views":
        """Move or cast every tensor, as `torch.Tensor.to` does."""
        return Views(
            images=self.images.to(*args, **kwargs),
            masks=self.masks.to(*args, **kwargs),
            cameras=self.cameras.to(*args, **kwargs),
        )

    def reshape(self, *shape: int) -> "Views":
        """Reshape the batch dimensions."""
        return Views(
            images=self.images.reshape(*shape, *self.images.shape[-3:]),
            masks=self.masks.reshape(*shape, *self.masks.shape[-3:]),
            cameras=self.cameras.reshape(*shape),
        )

    def over(self, background: Float[Tensor, "*#batch 3"]) -> "Views":
        """The same views composited on solid colours; masks are kept.

        Crop and resize before, not after: they expect straight colour.
        """
        colour = background[..., None, None]
        return replace(self, images=self.images * self.masks + colour * (1 - self.masks))

    def cropped(self, left_px: int, top_px: int, width: int, height: int) -> "Views":
        """Cut a pixel box out of every view, and move the principal points with it.

        Where the box reaches beyond the picture, the result is transparent black.
        """
        if not (-width < left_px < self.cameras.width and -height < top_px < self.cameras.height):
            raise ValueError(
                f"the box {width}x{height} at ({left_px}, {top_px}) does not touch the picture of "
                f"{self.cameras.width}x{self.cameras.height}"
            )
        padding = (-left_px, left_px + width - self.cameras.width, -top_px, top_px + height - self.cameras.height)
        return Views(  # F.pad with negative amounts crops
            images=F.pad(self.images, padding),
            masks=F.pad(self.masks, padding),
            cameras=self.cameras.cropped(left_px, top_px, width, height),
        )

    def resized(self, width: int, height: int) -> "Views":
        """Resample every view with an anti-aliased bilinear filter.

        Colour is filtered premultiplied, so that whatever lies outside the mask does not bleed in.
        """
        layers = torch.cat([self.images * self.masks, self.masks, self.images], dim=-3)
        flat = layers.reshape(-1, *layers.shape[-3:])
        small = F.interpolate(flat, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
        small = small.reshape(*self.batch_shape, 7, height, width)
        premultiplied, masks, plain = small[..., :3, :, :], small[..., 3:4, :, :], small[..., 4:, :, :]
        images = torch.where(masks > 1e-3, premultiplied / masks.clamp_min(1e-3), plain)
        return Views(images=images.clamp(0, 1), masks=masks.clamp(0, 1), cameras=self.cameras.resized(width, height))

    @staticmethod
    def cat(views: Sequence["Views"], dim: int = 0) -> "Views":
        """Join views of one image size along a (non-negative) batch dimension."""
        return Views(
            images=torch.cat([v.images for v in views], dim=dim),
            masks=torch.cat([v.masks for v in views], dim=dim),
            cameras=Cameras.cat([v.cameras for v in views], dim=dim),
        )

    @staticmethod
    def stack(views: Sequence["Views"]) -> "Views":
        """Stack views of one shape along a new first batch dimension."""
        return Views.cat([v.reshape(1, *v.batch_shape) for v in views])
