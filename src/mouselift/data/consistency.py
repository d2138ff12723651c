"""Do cameras and masks belong together? Judged by how much of each mask the others can explain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mouselift.data.subject import FOREGROUND, measure_silhouettes, triangulate
from mouselift.geometry import Cameras
from mouselift.geometry.hull import enter_hull
from mouselift.geometry.transforms import rigid

RAY_SAMPLES = 64
MAX_RAYS = 600  # of a mask's pixels; more do not change the second digit
GOOD_IOU = 0.8
CLEARLY_BETTER, NEARLY = 0.1, 0.06
MIN_WITNESSES = 3  # cameras that must agree before another one is called wrong
FEW_RAYS = 300  # where many changes of the cameras are compared


def hull_iou(masks: Float[Tensor, "v 1 h w"], cameras: Cameras, max_rays: int = MAX_RAYS) -> Float[Tensor, "v"]:
    """Overlap of every mask with the silhouette of the visual hull of all masks.

    The hull never leaves a mask, so this is the share of the mask whose rays meet a point that all other cameras also
    see as foreground. 1 for exact cameras and masks; wrong cameras, swapped views and shifted frames lower it.

    Args:
        masks: One animal each; the cameras' size.
        cameras: (V,) in the world, any lens.
        max_rays: At most so many pixels of each mask are looked at.

    Returns:
        [0, 1]; 0 for an empty mask.
    """
    overlaps = torch.zeros(len(masks))
    for v, _, occupancy in _hull_behind_masks(masks, cameras, max_rays):
        overlaps[v] = (occupancy > FOREGROUND).float().mean()
    return overlaps


def hull_silhouettes(masks: Float[Tensor, "v 1 h w"], cameras: Cameras) -> Float[Tensor, "v 1 h w"]:
    """The visual hull of all masks as every camera sees it: soft occupancy, 0 outside the camera's own mask.

    Args:
        masks: One animal each; the cameras' size.
        cameras: (V,) in the world, any lens.
    """
    silhouettes = torch.zeros(masks.shape)
    for v, pixels, occupancy in _hull_behind_masks(masks, cameras, masks[0].numel()):
        silhouettes[v, 0][pixels.unbind(-1)] = occupancy
    return silhouettes


def _hull_behind_masks(
    masks: Float[Tensor, "v 1 h w"], cameras: Cameras, max_rays: int
) -> Iterator[tuple[int, Int64[Tensor, "n 2"], Float[Tensor, "n"]]]:
    """For every view whose mask is not empty: rows and columns of its pixels, and the hull's occupancy behind them."""
    found = measure_silhouettes(masks)
    centre = triangulate(found.centroids, cameras)
    if not bool(centre.isfinite().all()):
        return
    cameras, single = cameras.to(torch.float64), cameras.to(torch.float32)
    distances = (cameras.centres - centre).norm(dim=-1)
    sizes = (found.boxes[:, 2:] - found.boxes[:, :2]).norm(dim=-1) * distances / cameras.K[:, 0, 0]
    reach = float(sizes[sizes.isfinite()].max())
    for v, mask in enumerate(masks[:, 0]):
        pixels = (mask > FOREGROUND).nonzero()
        pixels = pixels[:: 1 + len(pixels) // max_rays]
        if not len(pixels):
            continue
        ends = cameras[v].unproject(pixels.flip(-1) + 0.5, torch.ones(len(pixels), dtype=torch.float64))
        directions = F.normalize(ends - cameras.centres[v], dim=-1).float()
        towards = (directions @ (centre - cameras.centres[v]).float()).clamp_min(0)
        origins = cameras.centres[v].float().expand_as(directions)
        _, occupancy = enter_hull(
            origins,
            directions,
            (towards - reach).clamp_min(0),
            towards + reach,
            masks.float(),
            single,
            samples=RAY_SAMPLES,
        )
        yield v, pixels, occupancy


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A change of the cameras under which the masks agree much better.

    Attributes:
        cause: What is likely wrong, in words.
        iou: Mean overlap with the hull after the change.
    """

    cause: str
    iou: float


def diagnose(
    frames: Sequence[Float[Tensor, "v 1 h w"]],
    cameras: Cameras,
    sequence: Sequence[Float[Tensor, "v 1 h w"]] = (),
) -> Suspicion | None:
    """Why masks and cameras do not agree, where one simple change explains it.

    Args:
        frames: Masks of a few instants.
        cameras: As they were read.
        sequence: Masks of consecutive instants about one with motion, to look for a shift in time.

    Returns:
        The first of these that makes all agree: cameras swapped or matrices turned round, one camera's frames shifted,
        one camera's focal length wrong, one camera wrong in a way that is not known; None when nothing does.
    """
    change = likely_cause(frames, cameras)
    if change is not None and change.iou >= GOOD_IOU:
        return change
    odd = odd_one_out(frames, cameras)
    if odd is None:
        return change
    others = [v for v in range(len(cameras)) if v != odd]
    without = _score([masks[others] for masks in frames], cameras[others])
    if len(sequence) > 1:
        shift = likely_shift(sequence, cameras, max_shift=(len(sequence) - 1) // 2, views=(odd,))
        if shift is not None and shift.iou >= without - NEARLY:
            return shift
    focal = likely_focal(frames, cameras, odd)
    if focal is not None and focal.iou >= without - NEARLY:  # less is what any camera gets that is made to see widely
        return focal
    cause = f"camera {_names(cameras)[odd]} does not fit the others, in its calibration, pictures or masks"
    return Suspicion(cause=cause, iou=without)


def likely_cause(frames: Sequence[Float[Tensor, "v 1 h w"]], cameras: Cameras) -> Suspicion | None:
    """What change of the cameras makes the masks agree: two of them swapped, or all rotations transposed.

    Args:
        frames: Masks of a few instants.
        cameras: As they were read.

    Returns:
        The best change, when it is clearly better than none; otherwise None.
    """
    before = _score(frames, cameras)
    candidates = [Suspicion(cause=cause, iou=_score(frames, changed)) for cause, changed in _changes(cameras)]
    best = max(candidates, key=lambda candidate: candidate.iou)
    return best if best.iou > before + CLEARLY_BETTER else None


def odd_one_out(frames: Sequence[Float[Tensor, "v 1 h w"]], cameras: Cameras) -> int | None:
    """The one camera without which all others agree; None when there is no such camera, or several."""
    if len(cameras) < MIN_WITNESSES + 1:
        return None
    scores = []
    for v in range(len(cameras)):
        others = [u for u in range(len(cameras)) if u != v]
        scores.append(_score([masks[others] for masks in frames], cameras[others]))
    first, second = sorted(range(len(cameras)), key=lambda v: -scores[v])[:2]
    clear = scores[first] >= GOOD_IOU and scores[first] > scores[second] + CLEARLY_BETTER / 2
    return first if clear else None


def likely_focal(frames: Sequence[Float[Tensor, "v 1 h w"]], cameras: Cameras, view: int) -> Suspicion | None:
    """Whether another focal length of one camera makes the masks agree; None when it is right within a tenth."""

    def score(factor: float) -> float:
        K = cameras.K.clone()
        K[view, :2, :2] /= factor
        return _score(frames, replace(cameras, K=K))

    factor = max(torch.logspace(-0.4, 0.4, 17, base=10).tolist(), key=score)
    factor = max((factor * torch.logspace(-0.05, 0.05, 11, base=10)).tolist(), key=score)
    if abs(factor - 1) < CLEARLY_BETTER:
        return None
    wrong = f"{factor:.2f} times too long" if factor > 1 else f"{1 / factor:.2f} times too short"
    return Suspicion(cause=f"the focal length of camera {_names(cameras)[view]} is {wrong}", iou=score(factor))


def likely_shift(
    sequence: Sequence[Float[Tensor, "v 1 h w"]],
    cameras: Cameras,
    max_shift: int = 5,
    views: Sequence[int] | None = None,
) -> Suspicion | None:
    """Whether one camera's frames come too early or too late.

    Args:
        sequence: Masks of consecutive instants, at least 2 * max_shift + 1.
        cameras: As they were read.
        max_shift: Largest shift to try, in frames.
        views: Which cameras to suspect; all when not given.

    Returns:
        The shift that makes the masks agree best, when it is clearly better than none; otherwise None.
    """
    middle = len(sequence) // 2
    before, best = _score([sequence[middle]], cameras), None
    for v in range(len(cameras)) if views is None else views:
        for shift in range(-max_shift, max_shift + 1):
            if shift == 0 or not 0 <= middle + shift < len(sequence):
                continue
            masks = sequence[middle].clone()
            masks[v] = sequence[middle + shift][v]
            score = _score([masks], cameras)
            if score > (best.iou if best else before + CLEARLY_BETTER):
                way = f"is {-shift} frames ahead" if shift < 0 else f"lags by {shift} frames"
                best = Suspicion(cause=f"the video of camera {_names(cameras)[v]} {way}", iou=score)
    return best


def _score(frames: Sequence[Float[Tensor, "v 1 h w"]], cameras: Cameras) -> float:
    return float(torch.stack([hull_iou(masks, cameras, FEW_RAYS).mean() for masks in frames]).mean())


def _names(cameras: Cameras) -> tuple[str, ...]:
    return cameras.names or tuple(map(str, range(len(cameras))))


def _changes(cameras: Cameras) -> Iterator[tuple[str, Cameras]]:
    names = _names(cameras)
    for i, j in combinations(range(len(cameras)), 2):
        order = list(range(len(cameras)))
        order[i], order[j] = j, i
        yield f"the pictures of cameras {names[i]} and {names[j]} are swapped", cameras[order]
    rotations, shifts = cameras.w2c[..., :3, :3], cameras.w2c[..., :3, 3]
    yield "the rotations are transposed", replace(cameras, w2c=rigid(rotations.mT, shifts))
    centres = -(rotations.mT @ shifts[..., None])[..., 0]
    yield "camera-to-world matrices were read as world-to-camera", replace(cameras, w2c=rigid(rotations.mT, centres))
