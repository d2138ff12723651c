"""`render`: Gaussians and cameras in, pictures out, whichever backend does the work."""

import logging
from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.errors import InputError
from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.sh import eval_sh
from mouselift.geometry.transforms import quat_to_rotmat
from mouselift.render import cpu, gsplat_backend, reference
from mouselift.render.contract import RenderOutput, SplatBatch

Backend = Literal["auto", "reference", "cpu", "gsplat"]

_RASTERIZERS = {"reference": reference.rasterize, "cpu": cpu.rasterize, "gsplat": gsplat_backend.rasterize}
_log = logging.getLogger(__name__)


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "*batch 3"] | Sequence[float] = (1.0, 1.0, 1.0),
    backend: Backend = "auto",
    *,
    features: Float[Tensor, "*scenes n c"] | None = None,
    normals: bool = False,
) -> RenderOutput:
    """Draw Gaussians as each camera sees them.

    Differentiable with respect to every field of the Gaussians, their features and the background, not to the cameras.

    Args:
        gaussians: Any batch shape, scene frame.
        cameras: The same batch shape and one more dimension V; pinholes, in the frame of the Gaussians.
        background: RGB; broadcasts against the cameras' batch shape + (3,).
        backend: "auto" takes gsplat for CUDA tensors, the compiled kernel for float32 tensors on the CPU, and the
            reference for everything else.
        features: Any number of further channels for each Gaussian, blended like colours but over nothing; of the
            Gaussians' batch shape.
        normals: Whether to blend normals too: of each Gaussian its shortest axis, turned to face the camera.

    Returns:
        Layers of batch shape `cameras.batch_shape`.

    Raises:
        InputError: For distorted cameras, batch shapes that do not fit, or a backend that is not installed.
    """
    shape = cameras.batch_shape
    if len(shape) < 1 or shape[:-1] != gaussians.batch_shape:
        raise InputError(
            f"render: expected cameras of batch shape {tuple(gaussians.batch_shape)} + (V,), that of the Gaussians and "
            f"one dimension of views, found {tuple(shape)}"
        )
    if cameras.distortion is not None:
        raise InputError("render: expected pinhole cameras, found lens distortion; undistort the views first")
    if features is not None and features.shape[:-1] != gaussians.means.shape[:-1]:
        wanted, found = (*gaussians.means.shape[:-1], "C"), tuple(features.shape)
        raise InputError(f"render: expected features of shape {wanted}, found {found}")
    channels = _channels(gaussians, cameras, features, normals)
    layers = _RASTERIZERS[_choose(gaussians.means, backend)](_flatten(gaussians, cameras, background, channels))
    size = (cameras.height, cameras.width)
    assert layers.features is not None
    extra = layers.features.reshape(*shape, -1 if channels.shape[-1] else 0, *size)
    num_features = 0 if features is None else features.shape[-1]
    return RenderOutput(
        image=layers.image.reshape(*shape, 3, *size),
        alpha=layers.alpha.reshape(*shape, 1, *size),
        depth=layers.depth.reshape(*shape, 1, *size),
        features=None if features is None else extra[..., :num_features, :, :],
        normals=extra[..., num_features:, :, :] if normals else None,
    )


def _choose(like: Tensor, backend: Backend) -> str:
    if backend in _RASTERIZERS:
        return backend
    if backend != "auto":
        raise InputError(f"backend: expected auto, {', '.join(_RASTERIZERS)}, found {backend!r}")
    if like.device.type == "cuda":
        return "gsplat"
    if like.device.type != "cpu" or like.dtype != torch.float32:
        _say_slow(f"{like.dtype} on {like.device.type}")
        return "reference"
    if not cpu.is_available():
        _say_slow("the compiled kernel is not installed")
        return "reference"
    return "cpu"


@cache
def _say_slow(reason: str) -> None:
    """Warn, once for each reason."""
    _log.warning("rendering with the slow reference backend: %s", reason)


def _flatten(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "*batch 3"] | Sequence[float],
    channels: Float[Tensor, "s f n k"] | None = None,
) -> SplatBatch:
    """Bring everything to batch shape (S, V), on the device and in the dtype of the means."""
    means, n = gaussians.means, len(gaussians)
    scenes, views = gaussians.batch_shape.numel(), cameras.batch_shape[-1]
    backdrop = torch.as_tensor(background, dtype=means.dtype, device=means.device)
    try:
        backdrop = backdrop.expand(*cameras.batch_shape, 3)
    except RuntimeError as error:
        wanted = (*cameras.batch_shape, 3)
        raise InputError(
            f"render: expected a background that broadcasts to {wanted}, found {tuple(backdrop.shape)}"
        ) from error
    return SplatBatch(
        means=means.reshape(scenes, n, 3),
        quats=gaussians.quats.reshape(scenes, n, 4),
        scales=gaussians.scales.reshape(scenes, n, 3),
        opacities=gaussians.opacities.reshape(scenes, n),
        colours=_colours(gaussians, cameras),
        w2c=cameras.w2c.to(means).reshape(scenes, views, 4, 4),
        K=cameras.K.to(means).reshape(scenes, views, 3, 3),
        background=backdrop.reshape(scenes, views, 3),
        width=cameras.width,
        height=cameras.height,
        features=means.new_zeros(scenes, 1, n, 0) if channels is None else channels,
    )


def _channels(
    gaussians: Gaussians, cameras: Cameras, features: Float[Tensor, "*scenes n c"] | None, normals: bool
) -> Float[Tensor, "s f n k"]:
    """What is blended besides colours and depth: features, then normals, which differ between cameras."""
    scenes, views, n = gaussians.batch_shape.numel(), cameras.batch_shape[-1], len(gaussians)
    like = gaussians.means
    shared = like.new_zeros(scenes, 1, n, 0) if features is None else features.to(like).reshape(scenes, 1, n, -1)
    if not normals:
        return shared
    facing = normals_facing(gaussians, cameras).reshape(scenes, views, n, 3)
    return torch.cat([shared.expand(-1, views, -1, -1), facing], dim=-1)


def normals_facing(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "*batch n 3"]:
    """The shortest axis of every Gaussian, in the scene frame, for each camera with the sign that faces it.

    Which axis is the shortest has no gradient; how it is turned has.
    """
    axes = quat_to_rotmat(gaussians.quats)  # (*batch, N, 3, 3), one axis in each column
    shortest = gaussians.scales.argmin(-1)[..., None, None].expand(*axes.shape[:-1], 1)
    axis = axes.gather(-1, shortest).squeeze(-1)[..., None, :, :]  # (*batch, 1, N, 3)
    centres = cameras.centres.to(gaussians.means)
    towards = centres[..., None, :] - gaussians.means[..., None, :, :]  # (*batch, V, N, 3)
    away = (axis * towards).sum(-1, keepdim=True) < 0
    return torch.where(away, -axis, axis)


def _colours(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "s c n 3"]:
    """Colour of every Gaussian: one set when it does not depend on the direction, else one for each camera."""
    scenes, views, n = gaussians.batch_shape.numel(), cameras.batch_shape[-1], len(gaussians)
    if gaussians.sh.shape[-2] == 1:
        return gaussians.rgb.clamp_min(0).reshape(scenes, 1, n, 3)
    centres = cameras.centres.to(gaussians.means)
    directions = F.normalize(gaussians.means[..., None, :, :] - centres[..., None, :], dim=-1)  # (*batch, V, N, 3)
    sh = gaussians.sh[..., None, :, :, :].expand(*directions.shape[:-1], -1, -1)
    return eval_sh(sh, directions).reshape(scenes, views, n, 3)
