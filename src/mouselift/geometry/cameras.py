"""`Cameras`: a batch of calibrated pinhole cameras, optionally with lens distortion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.geometry.distortion import distort, undistort
from mouselift.geometry.indexing import index_batch
from mouselift.geometry.transforms import Similarity, apply_rigid, check_rotation, invert_rigid, look_at, rigid


@dataclass(frozen=True, kw_only=True, eq=False)
class Cameras:
    """OpenCV cameras (+X right, +Y down, +Z forward) of one image size, any batch shape.

    Attributes:
        K: Intrinsics in pixels, skew kept; the centre of the first pixel is (0.5, 0.5).
        w2c: World (or scene) to camera, rigid.
        width: Image width in pixels.
        height: Image height in pixels.
        distortion: Brown-Conrady (k1, k2, p1, p2, k3), or None for a pinhole.
        names: One name for each camera of a one-dimensional batch, or empty.
    """

    K: Float[Tensor, "*batch 3 3"]
    w2c: Float[Tensor, "*batch 4 4"]
    width: int
    height: int
    distortion: Float[Tensor, "*batch 5"] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_shapes()
        tensors = (self.K, self.w2c) if self.distortion is None else (self.K, self.w2c, self.distortion)
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise ValueError("camera: K, w2c or the distortion has values that are not finite")
        check_rotation(self.w2c[..., :3, :3], "camera")
        _check_rows(self.w2c[..., 3, :], (0, 0, 0, 1), "the last row of w2c")
        _check_rows(self.K[..., 2, :], (0, 0, 1), "the last row of K")
        _check_rows(self.K[..., 1, :1], (0,), "K below its diagonal")
        if bool((self.K.diagonal(dim1=-2, dim2=-1) <= 0).any()):
            raise ValueError("camera: K needs a positive diagonal (fx, fy, 1)")

    def _check_shapes(self) -> None:
        batch = tuple(self.batch_shape)
        found: list[tuple[str, Tensor, tuple[int, ...]]] = [
            ("K", self.K, (*batch, 3, 3)),
            ("w2c", self.w2c, (*batch, 4, 4)),
        ]
        if self.distortion is not None:
            found.append(("distortion", self.distortion, (*batch, 5)))
        for name, tensor, shape in found:
            if tensor.shape != shape:
                raise ValueError(f"cameras: {name} has the shape {tuple(tensor.shape)}, expected {shape}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a camera needs at least one pixel, found {self.width}x{self.height}")
        if self.names and (len(self.names),) != batch:
            raise ValueError(f"{len(self.names)} names for cameras of batch shape {batch}")

    # ---- shape and storage

    @property
    def batch_shape(self) -> torch.Size:
        """The dimensions before (3, 3)."""
        return self.K.shape[:-2]

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("one camera without a batch dimension has no length")
        return self.batch_shape[0]

    def __getitem__(self, index: Any) -> "Cameras":
        """Index the batch dimensions as a tensor would be."""
        names: tuple[str, ...] = ()
        if self.names:
            chosen = torch.arange(len(self.names), device=self.K.device)[index]
            names = tuple(self.names[int(i)] for i in chosen) if chosen.dim() == 1 else ()
        return replace(
            self,
            K=index_batch(self.K, index, 2),
            w2c=index_batch(self.w2c, index, 2),
            distortion=None if self.distortion is None else index_batch(self.distortion, index, 1),
            names=names,
        )

    def to(self, *args: Any, **kwargs: Any) -> "Cameras":
        """Move or cast every tensor, as `torch.Tensor.to` does."""
        return replace(
            self,
            K=self.K.to(*args, **kwargs),
            w2c=self.w2c.to(*args, **kwargs),
            distortion=None if self.distortion is None else self.distortion.to(*args, **kwargs),
        )

    def reshape(self, *shape: int) -> "Cameras":
        """Reshape the batch dimensions; names are kept only when they still fit."""
        K = self.K.reshape(*shape, 3, 3)
        return replace(
            self,
            K=K,
            w2c=self.w2c.reshape(*shape, 4, 4),
            distortion=None if self.distortion is None else self.distortion.reshape(*shape, 5),
            names=self.names if K.shape[:-2] == self.batch_shape else (),
        )

    # ---- what they are

    @property
    def c2w(self) -> Float[Tensor, "*batch 4 4"]:
        """Camera to world, rigid."""
        return invert_rigid(self.w2c)

    @property
    def centres(self) -> Float[Tensor, "*batch 3"]:
        """Centres of projection, world."""
        return self.c2w[..., :3, 3]

    @property
    def fov_deg(self) -> Float[Tensor, "*batch 2"]:
        """Horizontal and vertical field of view in degrees, for a central principal point."""
        size = self.K.new_tensor([self.width, self.height])
        focal = self.K.diagonal(dim1=-2, dim2=-1)[..., :2]
        return torch.rad2deg(2 * torch.atan(size / (2 * focal)))

    # ---- points to pixels and back

    def to_camera(self, points: Float[Tensor, "*#batch n 3"]) -> Float[Tensor, "*out n 3"]:
        """World points in camera coordinates; the last one is the depth along the optical axis."""
        return apply_rigid(self.w2c, points)

    def project(self, points: Float[Tensor, "*#batch n 3"]) -> Float[Tensor, "*out n 2"]:
        """Project world points to pixels.

        Args:
            points: World coordinates; batch dimensions broadcast against the cameras', so (n, 3) goes to all.

        Returns:
            Pixel coordinates, the centre of the first pixel at (0.5, 0.5). Points behind a camera, or so far
            outside its view that its lens model folds over, give NaN.
        """
        in_camera = self.to_camera(points)
        depth = in_camera[..., 2:]
        in_front = depth > 0
        # Dividing by zero would spoil gradients even where the result is not selected.
        safe_depth = torch.where(in_front, depth, 1)
        normalised = torch.where(in_front, in_camera[..., :2] / safe_depth, torch.nan)
        if self.distortion is not None:
            normalised = distort(normalised, self.distortion)
        return normalised @ self.K[..., :2, :2].mT + self.K[..., None, :2, 2]

    def unproject(
        self, pixels: Float[Tensor, "*#batch n 2"], depth: Float[Tensor, "*#batch n"]
    ) -> Float[Tensor, "*out n 3"]:
        """World points seen at `pixels` at `depth` along the optical axis; the inverse of `project`.

        Pixels that the lens model maps nothing to give NaN.
        """
        normalised = (pixels - self.K[..., None, :2, 2]) @ torch.inverse(self.K[..., :2, :2]).mT
        if self.distortion is not None:
            normalised = undistort(normalised, self.distortion)
        in_camera = torch.cat([normalised, torch.ones_like(normalised[..., :1])], dim=-1) * depth[..., None]
        return apply_rigid(self.c2w, in_camera)

    # ---- new cameras for moved pixels (images move in `Views`, together with these)

    def cropped(self, left_px: int, top_px: int, width: int, height: int) -> "Cameras":
        """Cameras of a pixel box; it may reach beyond the image (padding)."""
        K = self.K.clone()
        K[..., 0, 2] -= left_px
        K[..., 1, 2] -= top_px
        return replace(self, K=K, width=width, height=height)

    def resized(self, width: int, height: int) -> "Cameras":
        """Cameras of the image resampled to another size."""
        scale = self.K.new_tensor([width / self.width, height / self.height, 1.0])
        return replace(self, K=scale[:, None] * self.K, width=width, height=height)

    def looking_at(
        self, target: Float[Tensor, "*#batch 3"], K: Float[Tensor, "*#batch 3 3"], size_px: int
    ) -> "Cameras":
        """Virtual pinhole cameras at the same centres that look at `target`, world +Z up in the image.

        Between the old and the new image lies the homography `K' R' R^T K^-1`, exact at every depth.

        Args:
            target: The world point that falls on the optical axis.
            K: Intrinsics of the new, square image.
            size_px: Its width and height.
        """
        centres = self.centres
        return Cameras(
            K=K.expand(*self.batch_shape, 3, 3),
            w2c=look_at(centres, target.expand_as(centres)),
            width=size_px,
            height=size_px,
            names=self.names,
        )

    # ---- the world moves

    def transformed(self, new_from_world: Similarity) -> "Cameras":
        """The same cameras in another world frame: pixels stay, depths scale with it."""
        scale, turn, shift = (
            t.to(self.w2c) for t in (new_from_world.scale, new_from_world.rotation, new_from_world.translation)
        )
        rotation = self.w2c[..., :3, :3] @ turn.mT
        return replace(self, w2c=rigid(rotation, scale * self.w2c[..., :3, 3] - rotation @ shift))

    def relative_to(self, reference: "Cameras") -> "Cameras":
        """The same cameras in the frame of a reference camera, whose own w2c becomes the identity.

        Args:
            reference: Batch shape that broadcasts against this one's.
        """
        return replace(self, w2c=self.w2c @ reference.c2w)

    @staticmethod
    def cat(cameras: Sequence["Cameras"], dim: int = 0) -> "Cameras":
        """Join cameras of one image size along a (non-negative) batch dimension."""
        first = cameras[0]
        if not 0 <= dim < len(first.batch_shape):
            raise ValueError(f"cameras of batch shape {tuple(first.batch_shape)} have no batch dimension {dim}")
        if any((c.width, c.height) != (first.width, first.height) for c in cameras):
            sizes = ", ".join(f"{c.width}x{c.height}" for c in cameras)
            raise ValueError(f"cameras of different image sizes cannot be joined: {sizes}")
        distortions = [c.distortion for c in cameras if c.distortion is not None]
        if len(distortions) not in (0, len(cameras)):
            raise ValueError("cameras with and without distortion cannot be joined")
        names = tuple(n for c in cameras for n in c.names) if all(c.names for c in cameras) else ()
        return Cameras(
            K=torch.cat([c.K for c in cameras], dim=dim),
            w2c=torch.cat([c.w2c for c in cameras], dim=dim),
            width=first.width,
            height=first.height,
            distortion=torch.cat(distortions, dim=dim) if distortions else None,
            names=names,
        )


def _check_rows(values: Tensor, expected: tuple[int, ...], what: str) -> None:
    """A transposed K or w2c carries its centre or translation here."""
    values = values.detach()
    deviation = (values - values.new_tensor(expected)).abs().amax(-1).flatten()
    if bool((deviation > 1e-6).any()):
        worst = int(deviation.argmax())
        found = tuple(float(value) for value in values.reshape(-1, len(expected))[worst])
        raise ValueError(f"camera {worst}: {what} is {found}, expected {expected}; is it transposed?")
