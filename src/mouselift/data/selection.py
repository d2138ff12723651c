"""Which views of a sample a model gets, and which it must make."""

import torch

from mouselift.geometry import Cameras, Views
from mouselift.geometry.rigs import FACELIFT_AZIMUTHS_DEG, facing_azimuth_deg

RIG_PREFIX = "ring_"  # views that stand on the rig which the generator makes; others are free photographs


def split_rig_and_free(views: Views) -> tuple[list[int], list[int]]:
    """Indices of the views that stand on the generator's rig, and of the others; all are rig views in a recording."""
    on_rig = [i for i, name in enumerate(views.cameras.names) if name.startswith(RIG_PREFIX)]
    if not on_rig:
        return list(range(len(views.cameras))), []
    return on_rig, [i for i in range(len(views.cameras)) if i not in on_rig]


def random_subset(indices: list[int], count: int, generator: torch.Generator) -> list[int]:
    """`count` different ones of `indices`, in random order; all of them when there are fewer."""
    order = torch.randperm(len(indices), generator=generator)[:count]
    return [indices[i] for i in order.tolist()]


def facelift_subset(cameras: Cameras, on_rig: list[int], input_index: int) -> list[int]:
    """Of the cameras on a ring, the six that come nearest to FaceLift's azimuths around the input camera.

    In FaceLift's order: front (nearest to the input), front right, right, back, left, front left. Fewer than six when
    the ring has gaps.
    """
    azimuths = facing_azimuth_deg(cameras)
    ring = azimuths[on_rig]

    def nearest(azimuth: float) -> int:
        return on_rig[int(((ring - azimuth + 180) % 360 - 180).abs().argmin())]

    front = nearest(float(azimuths[input_index]))
    chosen = [nearest(float(azimuths[front]) + offset) for offset in FACELIFT_AZIMUTHS_DEG.values()]
    return list(dict.fromkeys(chosen))
