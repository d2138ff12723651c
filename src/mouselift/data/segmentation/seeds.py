"""First masks of an animal that nobody has pointed at: the saliency network on a few frames, made to agree."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from mouselift.data.components import Window
from mouselift.data.foreground import clean_mask, segment_foreground
from mouselift.data.saliency import Network, u2netp
from mouselift.data.segmentation.consensus import ball_box, find_consensus
from mouselift.data.segmentation.parts import whole
from mouselift.errors import InputError
from mouselift.geometry import Cameras

MIN_SEEDS = 3  # frames of a camera, or all of fewer
LIKELY_AREA = (0.4, 2.5)  # of the camera's median seed: elsewise it is the cage, or an ear

Picture = UInt8[np.ndarray, "_ _ 3"]  # cameras may differ in size
Mask = Bool[np.ndarray, "_ _"]
Points = Float[np.ndarray, "_ 2"]


def find_seeds(
    samples: Sequence[Sequence[Picture]],
    names: Sequence[str],
    cameras: Sequence[Cameras] | None = None,
    points: Sequence[Sequence[Points]] | None = None,
    network: Network | None = None,
) -> list[list[Mask | None]]:
    """Rough masks of the animal in a few frames of every camera.

    Args:
        samples: Frames of all cameras at a few instants spread over the recording, RGB.
        names: Of the cameras, for messages.
        cameras: Calibrated, (1,) each; then a mask that disagrees with the other cameras' is looked for again
            where they see the animal.
        points: Tracked 2D points (pixels, NaN where missing) of all cameras at the same instants.
        network: What finds the foreground; U2-Net-p when not given.

    Returns:
        A mask for each instant and camera, None where none was found.

    Raises:
        InputError: A camera with too few masks to learn from.
    """
    network = network or u2netp()
    boxes = (
        None
        if points is None
        else [[_box(p, f) for p, f in zip(*row, strict=True)] for row in zip(points, samples, strict=True)]
    )
    seeds = [
        [_seed(frame, None if boxes is None else boxes[t][v], network) for v, frame in enumerate(frames)]
        for t, frames in enumerate(samples)
    ]
    seeds = _without_outliers(seeds)
    if cameras is not None:
        seeds = [_agreeing(frames, row, cameras, network) for frames, row in zip(samples, seeds, strict=True)]
        seeds = _without_outliers(seeds)
    for name, column in zip(names, zip(*seeds, strict=True), strict=True):
        found = sum(mask is not None for mask in column)
        if found < min(MIN_SEEDS, len(seeds)):
            raise InputError(
                f"camera {name}: the animal stands out in {found} of {len(seeds)} sampled frames, expected at least "
                f"{min(MIN_SEEDS, len(seeds))}; give 2D tracks, or masks"
            )
    return seeds


def _seed(frame: Picture, box: Window | None, network: Network) -> Mask | None:
    image = torch.from_numpy(frame.copy()).permute(2, 0, 1).float() / 255
    try:  # a guess of one frame's tail or shadow would be learnt as the truth of all
        return (clean_mask(segment_foreground(image, box, network, refined=False))[0] > 0.5).numpy()
    except InputError:  # nothing stands out in this frame; `find_seeds` counts them
        return None


def _box(points: Points, frame: Picture) -> Window | None:
    """Bounds of the tracked points in the picture; None where fewer than two are known."""
    height, width = frame.shape[:2]
    known = points[np.isfinite(points).all(1)]
    if len(known) < 2:
        return None
    (left, top), (right, bottom) = known.min(0).clip(0), known.max(0)
    box = int(left), int(top), min(int(right) + 1, width), min(int(bottom) + 1, height)
    return box if box[0] < box[2] and box[1] < box[3] else None


def _without_outliers(seeds: list[list[Mask | None]]) -> list[list[Mask | None]]:
    """Drop masks whose area is unlike that of the same camera's others."""
    areas = np.array([[0 if mask is None else np.count_nonzero(mask) for mask in row] for row in seeds], np.float64)
    areas[areas == 0] = np.nan
    typical = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in areas.T]
    low, high = (share * np.array(typical) for share in LIKELY_AREA)
    likely = (areas >= low) & (areas <= high)
    return [
        [mask if keep else None for mask, keep in zip(*pair, strict=True)] for pair in zip(seeds, likely, strict=True)
    ]


def _agreeing(
    frames: Sequence[Picture], seeds: list[Mask | None], cameras: Sequence[Cameras], network: Network
) -> list[Mask | None]:
    """Seeds of one instant that show the same thing; where a camera's do not, what it shows at that place."""
    parts = [[] if mask is None else [whole(mask)] for mask in seeds]
    consensus = find_consensus(parts, cameras)
    if consensus is None:
        return [None] * len(seeds)
    radius = max(
        part.size_px * float(camera.to_camera(consensus.centre[None])[0, 0, 2] / camera.K[0, 0, 0])
        for found, camera, number in zip(parts, cameras, consensus.chosen, strict=True)
        for part in found
        if number is not None
    )
    result: list[Mask | None] = []
    for frame, mask, camera, number in zip(frames, seeds, cameras, consensus.chosen, strict=True):
        box = ball_box(camera, consensus.centre, radius)
        result.append(mask if number is not None else None if box is None else _seed(frame, box, network))
    return result
