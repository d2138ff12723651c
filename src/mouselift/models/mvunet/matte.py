"""The animal in a generated picture on a plain background: diffusion makes colours only, no alpha."""

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

NOISE = 0.05  # differences from the background that decoding alone makes
SURE = 0.20  # differences that no background has
MIN_ALPHA = 0.05  # below it, straight colour is not worth asking for


def cut_out(
    pictures: Float[Tensor, "n 3 h w"], background: float
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]:
    """Straight colours and alpha of pictures over a known grey level.

    What differs from the background is the animal; what does not, but cannot be reached from the picture's border,
    is too: a white belly on white. An animal as bright as the background at its outline loses its edge.

    Args:
        pictures: sRGB in [0, 1].
        background: The grey level behind the animal.
    """
    difference = (pictures - background).abs().amax(dim=1, keepdim=True)  # (N, 1, H, W)
    alpha = ((difference - NOISE) / (SURE - NOISE)).clamp(0, 1)
    solid = (alpha > 0.5).cpu().numpy()  # (N, 1, H, W)
    filled = np.stack([np.asarray(ndimage.binary_fill_holes(mask[0]))[None] for mask in solid])
    holes = torch.from_numpy(filled & ~solid).to(alpha.device)
    alpha = torch.where(holes, 1.0, alpha)
    straight = (pictures - background * (1 - alpha)) / alpha.clamp_min(MIN_ALPHA)
    return straight.clamp(0, 1), alpha
