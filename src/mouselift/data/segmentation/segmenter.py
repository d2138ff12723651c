"""Masks of one animal in all cameras of a recording, and how far each of them can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mouselift.data.saliency import Network
from mouselift.data.segmentation.appearance import to_ycc
from mouselift.data.segmentation.consensus import find_consensus
from mouselift.data.segmentation.frame import Evidence, draw_animal, gather_evidence
from mouselift.data.segmentation.hull_check import fit_hull
from mouselift.data.segmentation.model import CameraModel, learn_camera
from mouselift.data.segmentation.parts import Part, find_parts, whole
from mouselift.data.segmentation.regions import grown, size_of, soft_edge
from mouselift.data.segmentation.seeds import find_seeds
from mouselift.geometry import Cameras

SAMPLES = 8  # instants to learn from, spread over the recording
LIKELY_AREA = (0.25, 4.0)  # of the camera's usual
POINT_RADIUS = 0.1  # of the square root of the usual area: about a tracked point
SLACK = 0.03  # of the size of what the other cameras allow: what they may be wrong by
MIN_AGREEMENT = 0.6  # IoU with the hull's silhouette; sound masks reach 0.85 and more

Picture = UInt8[np.ndarray, "_ _ 3"]  # cameras may differ in size
Mask = Bool[np.ndarray, "_ _"]
Points = Float[np.ndarray, "_ 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentedView:
    """One camera's mask at one instant.

    Attributes:
        mask: 0 to 255, its edge about a pixel wide; all 0 where no animal was found.
        area_ratio: Its area in those of the camera's usual mask.
        agreement: IoU with the silhouette of the visual hull of all cameras; NaN without calibration or hull.
        problem: Why not to trust it, empty if there is no reason.
    """

    mask: UInt8[np.ndarray, "h w"]
    area_ratio: float
    agreement: float
    problem: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmenter:
    """Learned once from a few instants; holds no state, so that instants can be segmented in any order.

    Attributes:
        models: Of each camera.
        cameras: Calibrated, (1,) each; None where there is no calibration.
    """

    models: tuple[CameraModel, ...]
    cameras: tuple[Cameras, ...] | None

    def __call__(self, frames: Sequence[Picture], points: Sequence[Points] | None = None) -> tuple[SegmentedView, ...]:
        """Segment one instant.

        Args:
            frames: RGB, of every camera.
            points: Tracked 2D points of every camera, pixels, NaN where missing: the part that holds most of them
                is the animal. Without them it is what most cameras see in one place, or what stands out most.
        """
        yccs = [to_ycc(frame) for frame in frames]
        parts = [self._parts(v, ycc, None if points is None else points[v]) for v, ycc in enumerate(yccs)]
        consensus = None if self.cameras is None else find_consensus(parts, self.cameras)
        if consensus is None or self.cameras is None:
            drawn = [
                self._draw(v, ycc, found[0].mask if found else None)
                for v, (ycc, found) in enumerate(zip(yccs, parts, strict=True))
            ]
            problem = "" if self.cameras is None else "the cameras do not agree where the animal is"
            return tuple(self._judge(v, mask, np.nan, problem) for v, (mask, _) in enumerate(drawn))
        places = [
            None if number is None else found[number].mask
            for found, number in zip(parts, consensus.chosen, strict=True)
        ]
        drawn = [self._draw(v, ycc, place) for v, (ycc, place) in enumerate(zip(yccs, places, strict=True))]
        fit = fit_hull([mask for mask, _ in drawn], self.cameras, consensus.centre)
        masks = [
            self._draw_confirmed(v, ycc, mask, evidence, allowed)
            for v, (ycc, (mask, evidence), allowed) in enumerate(zip(yccs, drawn, fit.allowed, strict=True))
        ]
        ious = fit_hull(masks, self.cameras, consensus.centre).ious.tolist()
        return tuple(self._judge(v, mask, iou, "") for v, (mask, iou) in enumerate(zip(masks, ious, strict=True)))

    def _parts(self, view: int, ycc: Picture, points: Points | None) -> list[Part]:
        """What may be the animal in one view: with tracked points, what they lie on."""
        model = self.models[view]
        found = find_parts(ycc, model.odds, model.coarse, model.usual_area)
        if points is None or not bool(np.isfinite(points).any()):
            return found
        tracks = track_mask(points, ycc.shape[:2], POINT_RADIUS * np.sqrt(model.usual_area))
        on_tracks = [np.count_nonzero(part.mask & tracks) for part in found]
        if found and max(on_tracks) > 0:
            return [found[int(np.argmax(on_tracks))]]
        return [whole(tracks)] if tracks.any() else []

    def _draw(self, view: int, ycc: Picture, place: Mask | None) -> tuple[Mask, Evidence | None]:
        if place is None:
            return np.zeros(ycc.shape[:2], bool), None
        evidence = gather_evidence(ycc, place, self.models[view].odds, self.models[view].background)
        return draw_animal(evidence, place), evidence

    def _draw_confirmed(self, view: int, ycc: Picture, mask: Mask, evidence: Evidence | None, allowed: Mask) -> Mask:
        """Draw a mask again where the other cameras allow the animal; an empty one for the first time, there."""
        place = mask if mask.any() else allowed
        if not place.any():
            return mask
        if evidence is None or place is allowed:
            evidence = gather_evidence(ycc, place, self.models[view].odds, self.models[view].background)
        return draw_animal(evidence, place, grown(allowed, SLACK * size_of(allowed)))

    def _judge(self, view: int, mask: Mask, agreement: float, problem: str) -> SegmentedView:
        ratio = np.count_nonzero(mask) / self.models[view].usual_area
        if ratio == 0:
            problem = "no animal found"
        elif not LIKELY_AREA[0] <= ratio <= LIKELY_AREA[1]:
            problem = f"its area is {ratio:.2g} times the usual"
        elif agreement < MIN_AGREEMENT:
            problem = f"it overlaps the other cameras' hull by only {agreement:.2f}"
        return SegmentedView(mask=soft_edge(mask), area_ratio=ratio, agreement=agreement, problem=problem)


def learn_segmenter(
    samples: Sequence[Sequence[Picture]],
    *,
    cameras: Sequence[Cameras] | None = None,
    names: Sequence[str] = (),
    points: Sequence[Sequence[Points]] | None = None,
    network: Network | None = None,
) -> Segmenter:
    """Learn what the animal and every camera's background look like.

    Args:
        samples: Frames (RGB) of all cameras at a few instants spread over the recording, `SAMPLES` for instance.
        cameras: Calibrated, (1,) each, float64; they rule out mirror images.
        names: Of the cameras, for messages.
        points: Tracked 2D points of all cameras at the same instants, pixels, NaN where missing.
        network: What finds the animal at first; U2-Net-p when not given.

    Raises:
        InputError: The animal does not stand out in enough frames of some camera, or the packages of the extra
            `foreground` are missing.
    """
    names = names or [f"{view}" for view in range(len(samples[0]))]
    seeds = find_seeds(samples, names, cameras, points, network)
    models: list[CameraModel] = []
    for name, frames, masks in zip(names, zip(*samples, strict=True), zip(*seeds, strict=True), strict=True):
        pairs = [(frame, mask) for frame, mask in zip(frames, masks, strict=True) if mask is not None]
        models.append(learn_camera([frame for frame, _ in pairs], [mask for _, mask in pairs], name))
    return Segmenter(models=tuple(models), cameras=None if cameras is None else tuple(cameras))


def track_mask(points: Points, shape: tuple[int, int], radius_px: float) -> Mask:
    """Discs about the points in sight."""
    mask = np.zeros(shape, np.uint8)
    for x, y in points[np.isfinite(points).all(1)]:
        cv2.circle(mask, (int(x), int(y)), max(round(radius_px), 1), 1, cv2.FILLED)
    return mask.astype(bool)
