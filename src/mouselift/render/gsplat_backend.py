"""The CUDA backend: gsplat, set to the same definition of a render."""

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mouselift.errors import InputError
from mouselift.render.constants import DILATION_PX2, NEAR_PLANE
from mouselift.render.contract import RenderOutput, SplatBatch

MAX_SKEW_PX = 1e-3  # gsplat ignores K[0, 1]
# Pairs of a Gaussian and a camera from which on gsplat's packed mode is used. It keeps only the pairs that are seen, in
# place of all (about 100 bytes each with gradients), and is a little slower by gsplat's own documentation.
PACKED_FROM = 1 << 25
_log = logging.getLogger(__name__)


def is_available() -> bool:
    """Whether gsplat is installed."""
    return find_spec("gsplat") is not None


@cache
def _gsplat() -> Any:
    """The package, with its CUDA code built: at first use for minutes, then from torch's folder of extensions."""
    # Both names exist since 1.0: `_C` is None where gsplat found neither its built code nor a CUDA toolkit to build it.
    if find_spec("gsplat.csrc") is None:
        _log.info("gsplat builds its CUDA code at first use, which takes minutes; later runs find it built")
    if import_module("gsplat.cuda._backend")._C is None:
        raise InputError(
            "backend 'gsplat': its CUDA code is not built and there is no CUDA toolkit (nvcc) to build it with; "
            "install the toolkit that torch.version.cuda names, or a gsplat wheel that is built for this torch"
        )
    return import_module("gsplat")


def rasterize(batch: SplatBatch) -> RenderOutput:
    """Render on a CUDA device, all views of all scenes in one call.

    Raises:
        InputError: When gsplat is missing or cannot be built, the tensors are not float32 on a CUDA device, or a camera
            has skew.
    """
    if not is_available():
        raise InputError("backend 'gsplat': not installed; pip install 'mouselift[gpu]', or choose backend 'reference'")
    if batch.means.device.type != "cuda":
        raise InputError(f"backend 'gsplat': expected tensors on a CUDA device, found {batch.means.device}")
    if batch.means.dtype != torch.float32:
        raise InputError(f"backend 'gsplat': expected float32, found {batch.means.dtype}; choose backend 'reference'")
    skew = float(batch.K[..., 0, 1].abs().max()) if batch.K.numel() else 0.0
    if skew > MAX_SKEW_PX:
        raise InputError(f"backend 'gsplat': expected no skew, found {skew:g} px; choose backend 'reference'")
    views, channels = batch.w2c.shape[1], batch.features.shape[-1]
    layers: Tensor
    alpha: Tensor
    layers, alpha, _ = _gsplat().rasterization(
        means=batch.means,
        quats=batch.quats,
        scales=batch.scales,
        opacities=batch.opacities,
        colors=_channels(batch),
        viewmats=batch.w2c,
        Ks=batch.K,
        width=batch.width,
        height=batch.height,
        near_plane=NEAR_PLANE,
        eps2d=DILATION_PX2,
        backgrounds=torch.cat([batch.background, batch.background.new_zeros(*batch.K.shape[:2], channels)], dim=-1),
        render_mode="RGB+ED",
        rasterize_mode="classic",
        packed=batch.opacities.numel() * views >= PACKED_FROM,
    )
    layers, alpha = layers.movedim(-1, -3), alpha.movedim(-1, -3)
    return RenderOutput(
        image=layers[..., :3, :, :],
        alpha=alpha,
        depth=layers[..., -1:, :, :].where(alpha > 0, 0),
        features=layers[..., 3:-1, :, :],
    )


def _channels(batch: SplatBatch) -> Tensor:
    """Colours and features as gsplat takes them: (S, N, D), or (S, V, N, D) where they differ between cameras."""
    shared = batch.colours.shape[1] == batch.features.shape[1] == 1
    if shared:
        return torch.cat([batch.colours[:, 0], batch.features[:, 0]], dim=-1)
    parts = [t.expand(-1, batch.w2c.shape[1], -1, -1) for t in (batch.colours, batch.features)]
    return torch.cat(parts, dim=-1)
