"""The CUDA backend: gsplat, set to the same definition of a render."""

from importlib import import_module
from importlib.util import find_spec

from torch import Tensor

from mouselift.errors import InputError
from mouselift.render.constants import DILATION_PX2, NEAR_PLANE
from mouselift.render.contract import RenderOutput, SplatBatch

MAX_SKEW_PX = 1e-3  # gsplat ignores K[0, 1]


def is_available() -> bool:
    """Whether gsplat is installed."""
    return find_spec("gsplat") is not None


def rasterize(batch: SplatBatch) -> RenderOutput:
    """Render on a CUDA device.

    Raises:
        InputError: When gsplat is missing, the tensors are not on a CUDA device, or a camera has skew.
    """
    if not is_available():
        raise InputError("backend 'gsplat': not installed; pip install 'mouselift[gpu]', or choose backend 'reference'")
    if batch.means.device.type != "cuda":
        raise InputError(f"backend 'gsplat': expected tensors on a CUDA device, found {batch.means.device}")
    skew = float(batch.K[..., 0, 1].abs().max()) if batch.K.numel() else 0.0
    if skew > MAX_SKEW_PX:
        raise InputError(f"backend 'gsplat': expected no skew, found {skew:g} px; choose backend 'reference'")
    rasterization = import_module("gsplat").rasterization  # heavy, and compiles its kernels at first use
    layers: Tensor
    alpha: Tensor
    layers, alpha, _ = rasterization(
        means=batch.means,
        quats=batch.quats,
        scales=batch.scales,
        opacities=batch.opacities,
        colors=batch.colours[:, 0] if batch.colours.shape[1] == 1 else batch.colours,
        viewmats=batch.w2c,
        Ks=batch.K,
        width=batch.width,
        height=batch.height,
        near_plane=NEAR_PLANE,
        eps2d=DILATION_PX2,
        backgrounds=batch.background,
        render_mode="RGB+ED",
        rasterize_mode="classic",
        packed=False,
    )
    layers, alpha = layers.movedim(-1, -3), alpha.movedim(-1, -3)
    return RenderOutput(image=layers[..., :3, :, :], alpha=alpha, depth=layers[..., 3:, :, :].where(alpha > 0, 0))
