"""Latents and image embeddings of samples, kept on disk: the frozen networks see each picture once."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mouselift.atomic import atomic_path
from mouselift.data.layout import Sample
from mouselift.errors import InputError
from mouselift.geometry import Views
from mouselift.models.mvunet.conditioning import embed_pictures, encode_pictures
from mouselift.models.mvunet.folder import Parts

KEY_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of some views of a sample: scaled latents, and CLIP's embedding of the first one."""

    latents: Float[Tensor, "v 4 h w"]
    embedding: Float[Tensor, "i"]


class FeatureSource:
    """Computes features, and keeps those of whole samples when it has a folder.

    A file is named after the sample, its pixels and the background, in a folder named after the networks: features
    of other pictures or other weights are never taken for these.

    Args:
        parts: The networks.
        folder: Where to keep features; None computes them every time.
    """

    def __init__(self, parts: Parts, folder: Path | None) -> None:
        self._parts = parts
        self._folder = None if folder is None else folder / _fingerprint(parts)

    @torch.no_grad()
    def __call__(self, sample: Sample, chosen: Sequence[int], background: float, device: torch.device) -> Features:
        """Features of the chosen views of a sample.

        Args:
            sample: With straight colours and masks.
            chosen: Indices into its views; the first one is the input view.
            background: Grey level behind the animal.
            device: Where the networks run and the features go.
        """
        if self._folder is None:
            shown = self._shown(sample.views[list(chosen)], background, device)
            latents, embedding = encode_pictures(self._parts, shown), embed_pictures(self._parts, shown[:1])[0]
            return Features(latents=latents, embedding=embedding)
        path = self._folder / _name(sample, background)
        stored = _read(path) if path.is_file() else self._compute(sample, background, device, path)
        latents, embeddings = (stored[name].to(device) for name in ("latents", "embeddings"))
        return Features(latents=latents[list(chosen)], embedding=embeddings[chosen[0]])

    def _compute(self, sample: Sample, background: float, device: torch.device, path: Path) -> dict[str, Tensor]:
        shown = self._shown(sample.views, background, device)
        features = {
            "latents": encode_pictures(self._parts, shown).cpu().contiguous(),
            "embeddings": embed_pictures(self._parts, shown).cpu().contiguous(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            save_file(features, partial)
        return features

    def _shown(self, views: Views, background: float, device: torch.device) -> Float[Tensor, "v 3 h w"]:
        """The pictures on their background, at the networks' size; the networks come along when first needed."""
        self._parts.vae.to(device)
        self._parts.image_encoder.to(device)
        size = self._parts.size_px
        return views.resized(size, size).over(torch.full((3,), background)).images.to(device)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: expected features that were kept here, found {error}; delete it") from None


def _name(sample: Sample, background: float) -> str:
    """The sample, a digest of its pixels as 8 bits, the background."""
    views = sample.views
    pixels = torch.cat([views.images, views.masks], dim=1).mul(255).round().byte().cpu().contiguous()
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:KEY_DIGITS]
    return f"{sample.sample_id}-{digest}-{round(255 * background):03d}.safetensors"


def _fingerprint(parts: Parts) -> str:
    """A digest of the frozen networks and of how pictures reach them."""
    names = ("vae", "image_encoder", "feature_extractor")
    digest = hashlib.sha256(json.dumps([parts.configs[name] for name in names], sort_keys=True).encode())
    digest.update(str(parts.size_px).encode())
    for network in (parts.vae, parts.image_encoder):
        _digest_weights(digest, network)
    return digest.hexdigest()[:KEY_DIGITS]


def _digest_weights(digest: "hashlib._Hash", network: nn.Module) -> None:
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
