"""What one camera's frames teach about its animal and its background: learned once, then every frame stands alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mouselift.data.segmentation.appearance import Appearance, learn_appearance, to_ycc
from mouselift.data.segmentation.background import Background, estimate_background
from mouselift.data.segmentation.frame import segment_frame, size_of
from mouselift.data.segmentation.parts import coarse_background

HALO, HALO_PX = 0.1, 2  # of the animal's size, and at least: kept out of the background about every mask
RING = (0.03, 1.0)  # of the animal's size: its surroundings begin and end so far from it

Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraModel:
    """All that is needed to segment any frame of one camera.

    Attributes:
        appearance: Colours of the animal and of what is beside it.
        background: What lies behind the animal, where it is known.
        coarse: The same on the grid on which the animal is looked for.
        usual_area: Of the animal, pixels.
    """

    appearance: Appearance
    background: Background
    coarse: Background
    usual_area: float


def learn_camera(frames: Sequence[UInt8[np.ndarray, "h w 3"]], seeds: Sequence[Mask]) -> CameraModel:
    """Learn colours from rough masks, refine the masks by them, and see the background beside those.

    Args:
        frames: RGB, a dozen spread over the recording.
        seeds: Rough masks, none of them empty; they may lack a tail.
    """
    yccs = [to_ycc(frame) for frame in frames]
    appearance = learn_appearance(map(_example, yccs, seeds))
    coloured = [segment_frame(ycc, seed, appearance) for ycc, seed in zip(yccs, seeds, strict=True)]
    covered = [_grown(a | b, HALO * size_of(b) + HALO_PX) for a, b in zip(coloured, seeds, strict=True)]
    background = estimate_background(yccs, covered)
    masks = [segment_frame(ycc, seed, appearance, background) for ycc, seed in zip(yccs, seeds, strict=True)]
    usable = [(ycc, mask) for ycc, mask in zip(yccs, masks, strict=True) if mask.any()]
    return CameraModel(
        appearance=learn_appearance(_example(ycc, mask) for ycc, mask in usable) if usable else appearance,
        background=background,
        coarse=coarse_background(background),
        usual_area=float(np.median([np.count_nonzero(mask) for mask in (masks if usable else seeds)])),
    )


def _example(ycc: UInt8[np.ndarray, "h w 3"], mask: Mask) -> tuple[UInt8[np.ndarray, "h w 3"], Mask, Mask]:
    """A frame with where its animal certainly is, and the ring about it."""
    size = size_of(mask)
    inside = cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    near, far = (_grown(mask, share * size + HALO_PX) for share in RING)
    return ycc, inside, far & ~near


def _grown(mask: Mask, by_px: float) -> Mask:
    """Everything within a distance of the mask."""
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3) <= by_px
