"""What GS-LRM's last lines work with: Gaussians before activation, and what they are before the network speaks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry import Gaussians


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

    @staticmethod
    def cat(priors: Sequence["PixelPrior"]) -> "PixelPrior":
        """The pixels of several groups of views, one group after the other."""
        features = [prior.features for prior in priors if prior.features is not None]
        return PixelPrior(
            origins=torch.cat([prior.origins for prior in priors], dim=1),
            directions=torch.cat([prior.directions for prior in priors], dim=1),
            distances=torch.cat([prior.distances for prior in priors], dim=1),
            dc=torch.cat([prior.dc for prior in priors], dim=1),
            log_scales=torch.cat([prior.log_scales for prior in priors], dim=1),
            quat=priors[0].quat,
            opacity_logits=torch.cat([prior.opacity_logits for prior in priors], dim=1),
            features=torch.cat(features, dim=1) if features else None,
        )

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
