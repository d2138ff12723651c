"""Backgrounds, crops and photometric augmentation, from a passed generator."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.data.framing import frame_view
from mouselift.geometry import Views

THIN_PART_OF_PICTURE = 40  # half the thickness of a tail, as a share of a picture that is framed on the animal
BODY_FILL = (0.62, 0.8)  # share of a photograph that the body's longer side takes


def random_background(generator: torch.Generator) -> Float[Tensor, "3"]:
    """A solid colour: black, white or mid-grey half of the time, any colour otherwise."""
    choice = int(torch.randint(6, (), generator=generator))
    if choice < 3:
        return torch.full((3,), (0.0, 0.5, 1.0)[choice])
    return torch.rand(3, generator=generator)


def square(views: Views, size_px: int) -> Views:
    """Views of any size (V,) as squares of one size, nothing cut off: the shorter side is padded on both ends."""
    width, height = views.cameras.width, views.cameras.height
    side = max(width, height)
    if width != height:
        views = views.cropped(-((side - width) // 2), -((side - height) // 2), side, side)
    return views if side == size_px else views.resized(size_px, size_px)


def random_crops(views: Views, smallest: float, generator: torch.Generator) -> Views:
    """Every view (V,) as a random square crop of its own at the size of the whole, with its exact camera.

    The crop's centre lies within the box around the mask, so that it shows a part of the subject; it may reach beyond
    the picture, where there is nothing.

    Args:
        views: Square.
        smallest: Side of the smallest crop, as a share of the picture's; the largest is the whole.
        generator: Draws sides and places.
    """
    size, cut = views.cameras.width, []
    for v in range(len(views.cameras)):
        rows, columns = (views.masks[v, 0] > 0.5).nonzero(as_tuple=True)
        draws = torch.rand(3, generator=generator).tolist()
        side = max(1, round(size * (smallest + (1 - smallest) * draws[0])))
        centre = [
            float(t.min()) + draw * float(t.max() + 1 - t.min()) if len(t) else size / 2
            for t, draw in ((columns, draws[1]), (rows, draws[2]))
        ]
        left, top = (round(c - side / 2) for c in centre)
        cut.append(views[[v]].cropped(left, top, side, side).resized(size, size))
    return Views.cat(cut)


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


def without_thin_parts(masks: Float[Tensor, "*batch 1 h w"]) -> Float[Tensor, "*batch 1 h w"]:
    """Masks without what is thinner than about a twentieth of the picture: tails, which segmentation often misses."""
    reach = max(1, masks.shape[-1] // THIN_PART_OF_PICTURE)
    core = -F.max_pool2d(-masks.flatten(0, -4), 2 * reach + 1, stride=1, padding=reach)
    thick = F.max_pool2d(core, 2 * reach + 3, stride=1, padding=reach + 1).reshape(masks.shape)
    return torch.minimum(masks, thick)


def photographed_without_tail(view: Views, generator: torch.Generator) -> Views:
    """A view as it would be framed when segmentation misses the tail: the body alone, and closer.

    Args:
        view: Batch shape (1,), framed on the whole silhouette.
        generator: Draws how much of the picture the body fills.
    """
    masks = without_thin_parts(view.masks)
    bare = Views(images=view.images, masks=masks, cameras=view.cameras)
    return photographed(bare, generator) if bool((masks > 0.5).any()) else view


def photographed(view: Views, generator: torch.Generator) -> Views:
    """A view framed anew on its silhouette, as a user's photograph is.

    Args:
        view: Batch shape (1,), with something in its mask.
        generator: Draws how much of the picture the silhouette fills.
    """
    low, high = BODY_FILL
    fill = low + (high - low) * float(torch.rand((), generator=generator))
    return frame_view(view, fill=fill, size_px=view.cameras.width, min_px=1)
