"""`Gaussians`: activated 3D Gaussians in one frame, with gsplat's names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mouselift.geometry.indexing import index_batch
from mouselift.geometry.sh import rgb_from_dc, rotate_sh, sh_degree
from mouselift.geometry.transforms import Similarity, quat_multiply, rotmat_to_quat


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussians:
    """Any batch shape; every batch entry has the same number N of Gaussians.

    Attributes:
        means: Centres, scene frame.
        quats: Unit quaternions (w, x, y, z): scene from Gaussian.
        scales: Standard deviations along the Gaussian's own axes, > 0, scene units.
        opacities: In [0, 1].
        sh: Spherical-harmonics coefficients, K = (degree + 1)^2 bases.
    """

    means: Float[Tensor, "*batch n 3"]
    quats: Float[Tensor, "*batch n 4"]
    scales: Float[Tensor, "*batch n 3"]
    opacities: Float[Tensor, "*batch n"]
    sh: Float[Tensor, "*batch n k 3"]

    def __post_init__(self) -> None:
        sh_degree(self.sh.shape[-2])
        lead = tuple(self.opacities.shape)
        for name, entry in {"means": (3,), "quats": (4,), "scales": (3,), "sh": (self.sh.shape[-2], 3)}.items():
            found = tuple(getattr(self, name).shape)
            if found != lead + entry:
                raise ValueError(f"Gaussians: {name} is {found}, expected {lead + entry}, as opacities is {lead}")

    @property
    def batch_shape(self) -> torch.Size:
        """The dimensions before N."""
        return self.opacities.shape[:-1]

    def __len__(self) -> int:
        """The number N of Gaussians, whatever the batch."""
        return self.opacities.shape[-1]

    def __getitem__(self, index: Any) -> "Gaussians":
        """Index the batch dimensions (not the Gaussians: see `select`)."""
        if not self.batch_shape:
            raise IndexError("these Gaussians have no batch dimension; select(keep) chooses some of them")
        return Gaussians(
            means=index_batch(self.means, index, 2),
            quats=index_batch(self.quats, index, 2),
            scales=index_batch(self.scales, index, 2),
            opacities=index_batch(self.opacities, index, 1),
            sh=index_batch(self.sh, index, 3),
        )

    def to(self, *args: Any, **kwargs: Any) -> "Gaussians":
        """Move or cast every tensor, as `torch.Tensor.to` does."""
        return self._map(lambda t: t.to(*args, **kwargs))

    def detach(self) -> "Gaussians":
        """The same values without gradient."""
        return self._map(lambda t: t.detach())

    @property
    def rgb(self) -> Float[Tensor, "*batch n 3"]:
        """View-independent colour (degree 0), not clamped."""
        return rgb_from_dc(self.sh[..., 0, :])

    def select(self, keep: Bool[Tensor, "n"]) -> "Gaussians":
        """The Gaussians of one scene (no batch) for which `keep` holds."""
        if self.batch_shape:
            raise ValueError(f"select works on one scene, found batch shape {tuple(self.batch_shape)}")
        return self._map(lambda t: t[keep])

    def pruned(self, min_opacity: float, box: float | None = None) -> "Gaussians":
        """Drop Gaussians of opacity below `min_opacity`, or centred outside [-box, box]^3 (scene units)."""
        keep = self.opacities >= min_opacity
        if box is not None:
            keep = keep & (self.means.abs() <= box).all(-1)
        return self.select(keep)

    def transformed(self, new_from_scene: Similarity) -> "Gaussians":
        """The same Gaussians in another frame, appearance included."""
        scale, rotation, translation = (
            t.to(self.means) for t in (new_from_scene.scale, new_from_scene.rotation, new_from_scene.translation)
        )
        return Gaussians(
            means=scale * self.means @ rotation.mT + translation,
            quats=quat_multiply(rotmat_to_quat(rotation), self.quats),
            scales=scale * self.scales,
            opacities=self.opacities,
            sh=rotate_sh(self.sh, rotation),
        )

    @staticmethod
    def cat(scenes: Sequence["Gaussians"]) -> "Gaussians":
        """Put several sets into one scene; they must share batch shape and SH degree."""
        return Gaussians(
            means=torch.cat([g.means for g in scenes], dim=-2),
            quats=torch.cat([g.quats for g in scenes], dim=-2),
            scales=torch.cat([g.scales for g in scenes], dim=-2),
            opacities=torch.cat([g.opacities for g in scenes], dim=-1),
            sh=torch.cat([g.sh for g in scenes], dim=-3),
        )

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Gaussians":
        return Gaussians(
            means=function(self.means),
            quats=function(self.quats),
            scales=function(self.scales),
            opacities=function(self.opacities),
            sh=function(self.sh),
        )
