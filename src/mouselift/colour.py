"""Colours of one picture brought as near as a linear map can to those of another, view by view."""

import torch
from jaxtyping import Float
from torch import Tensor

# Pulls the map towards doing nothing, in units of a pixel's weight per pixel: views that show little or nothing of the
# subject, or all of it in one colour, do not determine it.
RIDGE = 1e-5


def matched_colours(
    colours: Float[Tensor, "*batch 3 h w"],
    alpha: Float[Tensor, "*batch 1 h w"],
    truth: Float[Tensor, "*batch 3 h w"],
    masks: Float[Tensor, "*batch 1 h w"],
    *,
    through: bool = False,
) -> Float[Tensor, "*batch 3 h w"]:
    """Undo what exposure, haze and white balance did to one camera: an affine map of straight colours.

    An affine map of straight colours is a linear one of (premultiplied colour, alpha), so the best one of each view
    has a closed form: least squares over the subject's pixels.

    Args:
        colours: Premultiplied.
        alpha: Of the same picture.
        truth: What they are compared with, premultiplied.
        masks: Weights of the pixels.
        through: Let gradients flow through the solution too; otherwise the map counts as given.

    Returns:
        The mapped colours, premultiplied.
    """
    features = torch.cat([colours, alpha], dim=-3).flatten(-2).mT.double()  # (..., H*W, 4)
    with torch.set_grad_enabled(through and torch.is_grad_enabled()):
        weighted = features * masks.flatten(-2).mT.double()
        identity = torch.eye(4, dtype=torch.float64, device=colours.device)
        ridge = RIDGE * features.shape[-2]
        moments = weighted.mT @ features + ridge * identity
        mixed = weighted.mT @ truth.flatten(-2).mT.double() + ridge * identity[:, :3]
        solution = torch.linalg.solve(moments, mixed)  # (..., 4, 3)
    return (features @ solution).mT.reshape(colours.shape).to(colours.dtype)
