"""Backgrounds and photometric augmentation, from a passed generator."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.geometry import Views


def random_background(generator: torch.Generator) -> Float[Tensor, "3"]:
    """A solid colour: black, white or mid-grey half of the time, any colour otherwise."""
    choice = int(torch.randint(6, (), generator=generator))
    if choice < 3:
        return torch.full((3,), (0.0, 0.5, 1.0)[choice])
    return torch.rand(3, generator=generator)


def photometric_jitter(views: Views, generator: torch.Generator) -> Views:
    """What cameras and segmentation do to a photograph: gain, gamma, noise, a soft or slightly wrong mask edge.

    Geometry is untouched. For input views only: targets stay clean.
    """
    gain, gamma, noise, blur = (torch.rand(4, generator=generator) * torch.tensor([0.3, 0.4, 0.03, 1.0])).tolist()
    images = views.images.clamp(1e-4, 1) ** (0.8 + gamma) * (0.85 + gain)
    images = images + noise * torch.randn(images.shape, generator=generator)
    masks = views.masks
    size = (views.cameras.height, views.cameras.width)
    if blur > 0.6:  # a mask from a network: edges a pixel or two soft
        small = F.interpolate(masks.flatten(0, -4), scale_factor=0.5, mode="bilinear", antialias=True)
        masks = F.interpolate(small, size=size, mode="bilinear").reshape(masks.shape)
    return Views(images=images.clamp(0, 1), masks=masks, cameras=views.cameras)
