"""Pictures of validation results."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mouselift.export.panels import alpha_picture, error_picture
from mouselift.geometry import Cameras, Gaussians
from mouselift.geometry.rigs import turntable
from mouselift.render import RenderOutput, render

PANEL_SAMPLES = 4
PANEL_VIEWS = 4
TURNTABLE_VIEWS = 8
TURNTABLE_ELEVATION_DEG = 20.0


def strip(truth: Float[Tensor, "v 3 h w"], made: Float[Tensor, "v 3 h w"]) -> Float[Tensor, "3 h2 w2"]:
    """Truth above what was made, views side by side."""
    return _rows([truth, made.clamp(0, 1)])


def comparison(truth: Float[Tensor, "v 3 h w"], out: RenderOutput) -> Float[Tensor, "3 h2 w2"]:
    """Truth, prediction, alpha and error below each other, the first few views side by side."""
    layers = (truth, out.image.clamp(0, 1), alpha_picture(out.alpha), error_picture(out.image, truth))
    return _rows([layer[:PANEL_VIEWS] for layer in layers])


def all_around(gaussians: Gaussians, like: Cameras) -> Float[Tensor, "3 h w"]:
    """A turntable in one row, on white, at the distance, field of view and size of given cameras (V,)."""
    cameras = turntable(
        TURNTABLE_VIEWS,
        elevation_deg=TURNTABLE_ELEVATION_DEG,
        radius=float(like.centres.norm(dim=-1).mean()),
        fov_deg=float(like.fov_deg.mean()),
        size_px=like.width,
    ).to(gaussians.means)
    return _rows([render(gaussians, cameras).image.clamp(0, 1)])


def below_each_other(pictures: list[Float[Tensor, "3 _ _"]]) -> Float[Tensor, "3 h w"]:
    """The first few pictures in a column, narrower ones on white."""
    shown = pictures[:PANEL_SAMPLES]
    width = max(picture.shape[-1] for picture in shown)
    return torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[-1]), value=1.0) for p in shown], dim=1)


def _rows(layers: list[Float[Tensor, "v 3 h w"]]) -> Float[Tensor, "3 h2 w2"]:
    return rearrange(layers, "rows v c h w -> c (rows h) (v w)")
