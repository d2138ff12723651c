"""What every calibration reader returns: cameras in our conventions, checked as they are made."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float64
from torch import Tensor

from mouselift.errors import InputError
from mouselift.geometry import Cameras


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedCamera:
    """One camera of a calibration, in our conventions whatever the file's were.

    Attributes:
        name: Its name in the file, or what the file's order gives it.
        K: Intrinsics in pixels, skew kept; the centre of the first pixel is (0.5, 0.5).
        w2c: World to camera, rigid, mm.
        distortion: Brown-Conrady (k1, k2, p1, p2, k3), or None for a pinhole.
        width: Image width in pixels, or None where the file does not say.
        height: Image height in pixels, or None where the file does not say.
    """

    name: str
    K: Float64[Tensor, "3 3"]
    w2c: Float64[Tensor, "4 4"]
    distortion: Float64[Tensor, "5"] | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """The cameras of one rig, as one calibration file or folder gives them.

    Making one checks it: at least one camera, no name twice, values that are finite, rotations that are orthonormal
    and not mirrored, K and w2c that are not transposed.

    Attributes:
        cameras: In the file's order.
        format: The name of the format it was read from.
        source: The file or folder it was read from.

    Raises:
        InputError: One of the checks failed; the message names the source and the camera.
    """

    cameras: tuple[CalibratedCamera, ...]
    format: str
    source: Path

    def __post_init__(self) -> None:
        if not self.cameras:
            raise InputError(f"{self.source}: expected at least one camera, found none")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise InputError(f"{self.source}: expected cameras of different names, found {repeated[0]!r} twice")
        for camera in self.cameras:
            self._check(camera)

    def _check(self, camera: CalibratedCamera) -> None:
        sizes = (camera.width, camera.height)
        if (camera.width is None) != (camera.height is None):
            raise InputError(f"{self.source}: camera {camera.name!r} has only one of width and height: {sizes}")
        try:
            _stack([camera], (1, 1) if camera.width is None or camera.height is None else (camera.width, camera.height))
        except ValueError as error:
            found = re.sub(r"^camera( 0)?: ", "", str(error))  # it knows this one as number 0 of its batch
            raise InputError(f"{self.source}: camera {camera.name!r}: {found}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names."""
        return tuple(camera.name for camera in self.cameras)

    def to_cameras(self, image_size: tuple[int, int] | None = None) -> Cameras:
        """The rig as one batch of cameras.

        Args:
            image_size: Width and height in pixels. Where the file states a size it must be the same.

        Returns:
            Batch shape (V,), float64, mm. `distortion` is None when no camera has any.

        Raises:
            InputError: The size is neither stated nor given, or sizes differ.
        """
        stated = {c.name: (c.width, c.height) for c in self.cameras if c.width is not None and c.height is not None}
        sizes = set(stated.values()) | ({image_size} if image_size else set())
        if not sizes or (image_size is None and len(stated) < len(self.cameras)):
            unknown = next(name for name in self.names if name not in stated)
            raise InputError(f"{self.source}: camera {unknown!r} has no image size; give width and height")
        if len(sizes) > 1:
            found = ", ".join(f"{name} {width}x{height}" for name, (width, height) in stated.items())
            wanted = f" and {image_size[0]}x{image_size[1]} was given" if image_size else ""
            raise InputError(f"{self.source}: expected one image size, found {found}{wanted}")
        return _stack(self.cameras, sizes.pop())

    def each(self, image_sizes: Sequence[tuple[int, int]]) -> tuple[Cameras, ...]:
        """The cameras one by one, each with the size of its own pictures.

        Args:
            image_sizes: Width and height in pixels, one for each camera.

        Returns:
            Batch shape (1,) each, float64, mm, with their names.

        Raises:
            InputError: The file states another size.
        """
        for camera, size in zip(self.cameras, image_sizes, strict=True):
            if camera.width is not None and (camera.width, camera.height) != tuple(size):
                raise InputError(
                    f"{self.source}: camera {camera.name!r}: expected pictures of {camera.width}x{camera.height} px, "
                    f"found {size[0]}x{size[1]}"
                )
        return tuple(_stack([camera], size) for camera, size in zip(self.cameras, image_sizes, strict=True))


def _stack(cameras: Sequence[CalibratedCamera], size: tuple[int, int]) -> Cameras:
    pinhole = all(camera.distortion is None for camera in cameras)
    none = torch.zeros(5, dtype=torch.float64)
    return Cameras(
        K=torch.stack([camera.K for camera in cameras]),
        w2c=torch.stack([camera.w2c for camera in cameras]),
        width=size[0],
        height=size[1],
        distortion=None if pinhole else torch.stack([none if c.distortion is None else c.distortion for c in cameras]),
        names=tuple(camera.name for camera in cameras),
    )
