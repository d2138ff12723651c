"""What one camera's frames teach about its animal and its background: learned once, then every frame stands alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from mouselift.data.segmentation.appearance import Odds, learn_changes, learn_colours, to_ycc
from mouselift.data.segmentation.background import Background, estimate_background
from mouselift.data.segmentation.frame import draw_animal, gather_evidence
from mouselift.data.segmentation.parts import coarse_background, find_parts
from mouselift.data.segmentation.regions import depth_inside, grown, size_of
from mouselift.errors import InputError

HALO, HALO_PX = 0.1, 2  # of the animal's size, and at least: kept out of the background about every mask
MARGIN = 0.1  # of the animal's size: so far from the edge a first mask shows the animal for certain
MIN_FOUND_AGAIN, FOUND_IOU = 0.5, 0.3  # share of sampled frames; IoU on the coarse grid, a tail missing
RING = (0.03, 1.0)  # of the animal's size: its surroundings begin and end so far from it

Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraModel:
    """All that is needed to segment any frame of one camera.

    Attributes:
        odds: What its pixels look like.
        background: What lies behind the animal, where it is known.
        coarse: The same on the grid on which the animal is looked for.
        usual_area: Of the animal, pixels.
    """

    odds: Odds
    background: Background
    coarse: Background
    usual_area: float


def learn_camera(frames: Sequence[UInt8[np.ndarray, "h w 3"]], seeds: Sequence[Mask], name: str) -> CameraModel:
    """Learn colours from rough masks, refine the masks by them, and see the background beside those.

    Args:
        frames: RGB, several spread over the recording.
        seeds: Rough masks, none of them empty; they may lack a tail.
        name: Of the camera, for messages.

    Raises:
        InputError: What was learned does not find the animal again in these very frames.
    """
    yccs = [to_ycc(frame) for frame in frames]
    examples = [_example(ycc, seed) for ycc, seed in zip(yccs, seeds, strict=True)]
    colours = Odds(colour=learn_colours(examples), change=None)
    masks = [draw_animal(gather_evidence(ycc, seed, colours), seed) for ycc, seed in zip(yccs, seeds, strict=True)]
    covered = [grown(a | b, HALO * size_of(b) + HALO_PX) for a, b in zip(masks, seeds, strict=True)]
    background = estimate_background(yccs, seeds, covered)
    cores = [(ycc, _core(seed), ring) for (ycc, _, ring), seed in zip(examples, seeds, strict=True)]
    odds = Odds(colour=colours.colour, change=learn_changes(cores, background))
    masks = [
        draw_animal(gather_evidence(ycc, seed, odds, background), seed) for ycc, seed in zip(yccs, seeds, strict=True)
    ]
    areas = [np.count_nonzero(mask) or np.count_nonzero(seed) for mask, seed in zip(masks, seeds, strict=True)]
    model = CameraModel(
        odds=odds, background=background, coarse=coarse_background(background), usual_area=float(np.median(areas))
    )
    again = sum(_finds(model, ycc, seed) for ycc, seed in zip(yccs, seeds, strict=True))
    if again < MIN_FOUND_AGAIN * len(seeds):
        raise InputError(
            f"camera {name}: expected an animal that looks unlike its surroundings, could tell it from them in only "
            f"{again} of {len(seeds)} sampled frames; give masks"
        )
    return model


def _finds(model: CameraModel, ycc: UInt8[np.ndarray, "h w 3"], seed: Mask) -> bool:
    """Whether some part that would be found in the whole frame is what the rough mask shows."""
    for part in find_parts(ycc, model.odds, model.coarse, model.usual_area):
        if np.count_nonzero(part.mask & seed) > FOUND_IOU * np.count_nonzero(part.mask | seed):
            return True
    return False


def _example(ycc: UInt8[np.ndarray, "h w 3"], mask: Mask) -> tuple[UInt8[np.ndarray, "h w 3"], Mask, Mask]:
    """A frame with where its animal certainly is, and the ring about it."""
    size = size_of(mask)
    inside = cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    near, far = (grown(mask, share * size + HALO_PX) for share in RING)
    return ycc, inside, far & ~near


def _core(mask: Mask) -> Mask:
    """A mask without its margin, where first masks contain shadows."""
    return depth_inside(mask) > MARGIN * size_of(mask)
