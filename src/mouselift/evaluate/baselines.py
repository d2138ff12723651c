"""What needs no reconstruction: every figure stands beside these."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mouselift.data.layout import Sample
from mouselift.data.selection import split_rig_and_free
from mouselift.evaluate.figures import WHITE
from mouselift.geometry import Gaussians, Views
from mouselift.geometry.picture_frame import half_widths
from mouselift.render import render

Pictures = tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]


def blank(truth: Views) -> Pictures:
    """Nothing, over white."""
    return torch.ones_like(truth.images), torch.zeros_like(truth.masks)


def nearest_view(given: Views, truth: Views) -> Pictures:
    """For each wanted view the given picture that was taken from the most similar side, at the wanted scale.

    Args:
        given: (N,) straight colour, or over white.
        truth: (V,) whose cameras count.

    Returns:
        Pictures over white, and their masks.
    """
    towards = F.normalize(given.cameras.centres, dim=-1)
    chosen = (F.normalize(truth.cameras.centres, dim=-1) @ towards.mT).argmax(-1).tolist()
    widths = half_widths(truth.cameras).tolist()
    shown = [_shown_at(given[[near]], width) for near, width in zip(chosen, widths, strict=True)]
    return torch.stack([image for image, _ in shown]), torch.stack([mask for _, mask in shown])


def rendered(scene: Gaussians, truth: Views) -> Pictures:
    """A scene (no batch, on the CPU) in the cameras of the wanted views, over white."""
    with torch.no_grad():
        out = render(scene, truth.cameras, WHITE)
    return out.image.clamp(0, 1), out.alpha


def mean_view(samples: Iterable[Sample]) -> Views:
    """The mean (1,) of samples' first rig views over white, with the mean mask; one sample is held at a time."""
    total, count = None, 0
    for sample in samples:
        on_rig, _ = split_rig_and_free(sample.views)
        view = sample.views[on_rig[:1]].over(torch.tensor(WHITE))
        total = (
            view if total is None else replace(view, images=total.images + view.images, masks=total.masks + view.masks)
        )
        count += 1
    if total is None:
        raise ValueError("expected at least one sample for the mean image")
    return replace(total, images=total.images / count, masks=total.masks / count)


def mean_image(mean: Views, truth: Views) -> Pictures:
    """The mean training picture at the scale of each wanted frame.

    It is composited already, so it is zoomed as an opaque picture, and so is its mask.
    """
    size = truth.cameras.width
    mean = mean if mean.cameras.width == size else mean.resized(size, size)
    opaque = torch.ones_like(mean.masks)
    picture = Views(images=mean.images, masks=opaque, cameras=mean.cameras)
    mask = Views(images=mean.masks.expand(-1, 3, -1, -1), masks=opaque, cameras=mean.cameras)
    widths = [float(width) for width in half_widths(truth.cameras)]
    images = torch.stack([_shown_at(picture, width)[0] for width in widths])
    masks = [image[:1] * inside for image, inside in (_shown_at(mask, width) for width in widths)]
    return images, torch.stack(masks)


def _shown_at(view: Views, half_width: float) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1 h w"]]:
    """A view (1,) over white as a frame of another width at the subject would show it: zoomed about its centre."""
    size = view.cameras.width
    zoomed = max(1, round(size * float(half_widths(view.cameras)[0]) / half_width))
    resized = view.resized(zoomed, zoomed)
    margin = (size - zoomed) // 2
    cut = resized.cropped(-margin, -margin, size, size).over(torch.tensor(WHITE))
    return cut.images[0], cut.masks[0]
