"""What the UNet is told: the picture's embedding and latent, the word of each view, its rays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mouselift.errors import InputError
from mouselift.geometry import Cameras, plucker_rays
from mouselift.geometry.rigs import FACELIFT_AZIMUTHS_DEG, facing_azimuth_deg, turned_to
from mouselift.models.mvunet import stock
from mouselift.models.mvunet.folder import Parts
from mouselift.models.mvunet.unet import is_posed, predict

BICUBIC = 3  # PIL's number, the one that CLIP's feature extractor has


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the UNet is told about every view; the same at all steps.

    Attributes:
        latent: Of the input picture.
        image: Class vectors.
        text: The fixed embeddings of the views' words.
        rays: Relative rays, or no channels where the UNet reads none.
    """

    latent: Float[Tensor, "b v 4 h w"]
    image: Float[Tensor, "b v i"]
    text: Float[Tensor, "b v k e"]
    rays: Float[Tensor, "b v r h w"]

    def dropped(self, *, image: Bool[Tensor, "b"], latent: Bool[Tensor, "b"]) -> "Conditioning":
        """The null condition for some objects: zeros for the class vector or the latent; words and rays always stay."""
        return Conditioning(
            latent=self.latent * ~latent.view(-1, 1, 1, 1, 1),
            image=self.image * ~image.view(-1, 1, 1),
            text=self.text,
            rays=self.rays,
        )

    def guided(self) -> "Conditioning":
        """Twice the batch: first without the picture, then with it."""
        everything = torch.ones(len(self.latent), dtype=torch.bool, device=self.latent.device)
        null = self.dropped(image=everything, latent=everything)
        names = ("latent", "image", "text", "rays")
        return Conditioning(**{name: torch.cat([getattr(null, name), getattr(self, name)]) for name in names})

    def predict(
        self, unet: nn.Module, noisy: Float[Tensor, "b v 4 h w"], time: Float[Tensor, "b"]
    ) -> Float[Tensor, "b v 4 h w"]:
        """What the UNet says about noisy latents, in float32; its inputs get its own precision."""
        dtype = _dtype(unet)
        seen = torch.cat([noisy, self.latent, self.rays], dim=2)
        return predict(unet, seen.to(dtype), time, self.text.to(dtype), self.image.to(dtype)).float()


def condition(
    parts: Parts,
    latent: Float[Tensor, "b 4 h w"],
    embedding: Float[Tensor, "b i"],
    noise: Float[Tensor, "b v i"],
    wanted: Cameras,
    given: Cameras,
) -> Conditioning:
    """Tell the UNet about one picture, for every wanted view.

    Args:
        parts: The networks and what belongs to them.
        latent: Of the input pictures, from `encode_pictures`.
        embedding: Likewise, from `embed_pictures`.
        noise: Standard normal, for the embeddings.
        wanted: (B, V); view 0 is the one that all views look at.
        given: (B, 1) cameras of the input pictures.
    """
    spread = latent[:, None].expand(-1, noise.shape[1], -1, -1, -1)
    rays = relative_rays(wanted, given, parts.latent_reduction) if is_posed(parts.unet) else spread[:, :, :0]
    return Conditioning(
        latent=spread,
        image=image_conditioning(parts, embedding, noise),
        text=parts.view_text[view_words(wanted, given)],
        rays=rays,
    )


def clip_pixels(images: Float[Tensor, "b 3 h w"], extractor: Mapping[str, Any]) -> Float[Tensor, "b 3 s s"]:
    """What CLIP's feature extractor makes of pictures in [0, 1]: shorter side to its size, centre crop, normalised.

    Args:
        images: sRGB in [0, 1].
        extractor: Its `preprocessor_config.json`.
    """
    if extractor.get("resample", BICUBIC) != BICUBIC:
        raise InputError(f"feature_extractor: expected bicubic resampling (3), found {extractor['resample']}")
    short, crop = _side(extractor["size"], "shortest_edge"), _side(extractor["crop_size"], "height")
    height, width = images.shape[-2:]
    scale = short / min(height, width)
    size = (round(height * scale), round(width * scale))
    resized = F.interpolate(images, size=size, mode="bicubic", antialias=True)
    resized = (resized.clamp(0, 1) * 255).round() / 255  # upstream resizes 8-bit pictures
    top, left = (size[0] - crop) // 2, (size[1] - crop) // 2
    window = resized[..., top : top + crop, left : left + crop]
    mean, std = (images.new_tensor(extractor[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    return (window - mean) / std


def embed_pictures(parts: Parts, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b i"]:
    """CLIP's embeddings of pictures in [0, 1]."""
    pixels = clip_pixels(images, parts.configs["feature_extractor"])
    encoded = parts.image_encoder(pixel_values=pixels.to(_dtype(parts.image_encoder)))
    return encoded.image_embeds.float()


def image_conditioning(
    parts: Parts, embedding: Float[Tensor, "b i"], noise: Float[Tensor, "b v i"]
) -> Float[Tensor, "b v i2"]:
    """Embeddings with noise of level 0, which is not quite none, and the embedding of that level.

    Args:
        parts: Mean, deviation and noise schedule.
        embedding: One for each picture.
        noise: Standard normal; upstream draws it for each view.

    Returns:
        The class vectors of the UNet, twice as wide.
    """
    clean = alpha_cumprod_of_embeddings(parts)
    mean, std = parts.embedding_mean, parts.embedding_std
    scaled = ((embedding - mean) / std)[:, None]
    noised = (clean**0.5 * scaled + (1 - clean) ** 0.5 * noise) * std + mean
    half = noised.shape[-1] // 2
    level = torch.cat([torch.ones_like(noised[..., :half]), torch.zeros_like(noised[..., half:])], dim=-1)
    return torch.cat([noised, level], dim=-1)  # the sinusoidal embedding of 0: cosines, then sines


def alpha_cumprod_of_embeddings(parts: Parts) -> float:
    """The share of an embedding's variance that noise of level 0 leaves."""
    return float(stock.alphas_cumprod(parts.configs["image_noising_scheduler"])[0])


def encode_pictures(parts: Parts, images: Float[Tensor, "n 3 h w"], batch: int = 4) -> Float[Tensor, "n 4 h2 w2"]:
    """Scaled latents of pictures in [0, 1], the mode of the encoder's distribution."""
    dtype = _dtype(parts.vae)
    latents = [
        parts.vae.encode((2 * chunk - 1).to(dtype)).latent_dist.mode()  # pyright: ignore[reportCallIssue]
        for chunk in images.split(batch)
    ]
    return torch.cat(latents).float() * scaling_factor(parts)


def decode_latents(parts: Parts, latents: Float[Tensor, "n 4 h w"], batch: int = 4) -> Float[Tensor, "n 3 h2 w2"]:
    """Pictures in [0, 1] of scaled latents, a few at a time."""
    dtype = _dtype(parts.vae)
    pictures = [
        parts.vae.decode(chunk.to(dtype), return_dict=False)[0].float()  # pyright: ignore[reportCallIssue]
        for chunk in (latents / scaling_factor(parts)).split(batch)
    ]
    return ((torch.cat(pictures) + 1) / 2).clamp(0, 1)


def scaling_factor(parts: Parts) -> float:
    """What latents are multiplied with, so that their deviation is about 1."""
    return float(parts.configs["vae"].get("scaling_factor", 0.18215))


def view_words(wanted: Cameras, given: Cameras) -> Int[Tensor, "b v"]:
    """Which of FaceLift's six view words is nearest to each camera: front, front_right, right, back, left, front_left.

    Args:
        wanted: (B, V) cameras.
        given: (B, 1) the input view's, which stands in front.
    """
    azimuth = facing_azimuth_deg(wanted) - facing_azimuth_deg(given)
    words = azimuth.new_tensor(list(FACELIFT_AZIMUTHS_DEG.values()))
    return ((azimuth[..., None] - words + 180) % 360 - 180).abs().argmin(-1)


def relative_rays(wanted: Cameras, given: Cameras, reduction: int) -> Float[Tensor, "b v 6 h w"]:
    """Pluecker rays of the latent pixels, relative to the input camera.

    The scene is turned about the vertical until the input camera is at azimuth 0: the frame of the small
    generator (docs/adr/0004), in which any input view and any wanted views are well posed.

    Args:
        wanted: (B, V) cameras of pictures.
        given: (B, 1) the input view's.
        reduction: Pixels of a picture to one latent pixel, along a side.
    """
    small = wanted.resized(wanted.width // reduction, wanted.height // reduction)
    return plucker_rays(turned_to(small, facing_azimuth_deg(given)))


def _side(size: Any, key: str) -> int:
    return int(size[key] if isinstance(size, Mapping) else size)


def _dtype(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype
