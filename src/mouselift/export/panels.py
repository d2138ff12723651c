"""Pictures of what a render holds besides colour: alpha, depth, error; and rows of them for `contact_sheet`."""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.export.film import Layer
from mouselift.geometry import Cameras, Gaussians, Views
from mouselift.metrics import psnr_fg
from mouselift.render import RenderOutput, render

ERROR_SCALE = 0.25  # a difference of a quarter of the range, or more, is the brightest
GREY = 0.5

LayerName = Literal["colour", "alpha", "depth"]
Titled = tuple[str, Float[Tensor, "3 _ _"]]


def alpha_picture(alpha: Float[Tensor, "*batch 1 h w"]) -> Float[Tensor, "*batch 3 h w"]:
    """Alpha in grey: white where the subject is solid."""
    return alpha.expand(*alpha.shape[:-3], 3, -1, -1)


def depth_picture(
    depth: Float[Tensor, "*batch 1 h w"], alpha: Float[Tensor, "*batch 1 h w"], near: float, far: float
) -> Float[Tensor, "*batch 3 h w"]:
    """Depth in colours (Turbo: red is near, blue is far) over white.

    Args:
        depth: Along the optical axis, scene units.
        alpha: How much is there.
        near: Shown as the reddest.
        far: Shown as the bluest.
    """
    nearness = (far - depth) / max(far - near, 1e-9)
    return alpha * _coloured(nearness, cv2.COLORMAP_TURBO) + (1 - alpha)


def error_picture(
    image: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch 3 h w"]:
    """Largest absolute difference of the channels (Inferno: black is none, a quarter of the range is brightest)."""
    difference = (image.clamp(0, 1) - truth.clamp(0, 1)).abs().amax(dim=-3, keepdim=True)
    return _coloured(difference / ERROR_SCALE, cv2.COLORMAP_INFERNO)


def film_layer(name: LayerName) -> Layer:
    """What a film of the unit ball shall show; depth is counted from the middle, so that it does not breathe."""
    layers: dict[LayerName, Layer] = {
        "colour": lambda output, _: output.image,
        "alpha": lambda output, _: alpha_picture(output.alpha),
        "depth": lambda output, cameras: depth_picture(
            output.depth - cameras.w2c[:, 2, 3, None, None, None], output.alpha, near=-1, far=1
        ),
    }
    return layers[name]


def comparison_rows(gaussians: Gaussians, truth: Views) -> list[list[Titled]]:
    """A row for each view: ground truth, prediction with its PSNR over the subject, alpha, depth, error.

    Args:
        gaussians: No batch dimension, in the frame of the cameras.
        truth: (V,) true views, not of the context that the Gaussians were made from, if the figure shall mean anything.
    """
    grey = truth.images.new_full((3,), GREY)
    over = truth.over(grey)
    with torch.no_grad():
        output = render(gaussians, truth.cameras, [GREY] * 3)
    decibels = psnr_fg(output.image, over.images, truth.masks)
    names = truth.cameras.names or tuple(f"view {k}" for k in range(len(truth.cameras)))
    columns = [
        (lambda k: f"{names[k]}: truth", over.images),
        (lambda k: f"prediction, {float(decibels[k]):.1f} dB", output.image),
        (lambda _: "alpha", alpha_picture(output.alpha)),
        (lambda _: "depth", _depths(output)),
        (lambda _: f"error, 0 to {ERROR_SCALE:g}", error_picture(output.image, over.images)),
    ]
    return [[(title(k), pictures[k]) for title, pictures in columns] for k in range(len(names))]


def layer_rows(
    gaussians: Gaussians, cameras: Cameras, background: Sequence[float] = (1.0, 1.0, 1.0)
) -> list[list[Titled]]:
    """Three rows, colour, alpha and depth, of one picture for each camera (V,)."""
    with torch.no_grad():
        output = render(gaussians, cameras, background)
    names = cameras.names or tuple(f"view {k}" for k in range(len(cameras)))
    rows = {"": output.image, "alpha": alpha_picture(output.alpha), "depth": _depths(output)}
    return [
        [(f"{name} {layer}".strip(), picture) for name, picture in zip(names, pictures, strict=True)]
        for layer, pictures in rows.items()
    ]


def _depths(output: RenderOutput) -> Float[Tensor, "v 3 h w"]:
    """Depth of several views in one range, that of what is mostly solid."""
    solid = output.depth[output.alpha >= 0.5]
    near, far = (float(solid.min()), float(solid.max())) if len(solid) else (0.0, 1.0)
    return depth_picture(output.depth, output.alpha, near, far)


def _coloured(values: Float[Tensor, "*batch 1 h w"], colour_map: int) -> Float[Tensor, "*batch 3 h w"]:
    """Values in [0, 1] (clamped) through one of OpenCV's colour maps."""
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], colour_map)[:, 0, ::-1] / 255.0  # BGR
    steps = values.detach().nan_to_num().clamp(0, 1).mul(255).round().long().squeeze(-3)
    return torch.from_numpy(table.copy()).to(values)[steps].movedim(-1, -3)
