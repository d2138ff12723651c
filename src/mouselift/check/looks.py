"""The pictures of a recording's report: instants as all cameras saw them, with what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mouselift.check.epipolar import Outline, outline_of, outline_of_mask
from mouselift.check.hulls import HullEvidence
from mouselift.check.keypoints import Keypoints
from mouselift.check.pictures import OUTLINES, Stage, ViewPicture, close_up, epipolar_close_ups, whole
from mouselift.check.report import Findings, Gallery, Shown
from mouselift.data.plan import Rig
from mouselift.data.recording import Recording
from mouselift.data.subject import rig_focus
from mouselift.data.survey import Surveyor
from mouselift.export.overlay import draw_label, sheet

AXIS_MM, FLOOR_STEP_MM = 20.0, 20.0
SHEET_PX, MAX_CELL_PX = 1800, 440


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One instant, views in the rig's order.

    Attributes:
        instant: Of the recording.
        frames: As taken.
        masks: As read, 255 inside; None without masks.
        evidence: What its masks say; None without masks or calibration.
    """

    instant: int
    frames: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    masks: tuple[UInt8[np.ndarray, "_ _"], ...] | None
    evidence: HullEvidence | None


def find_stages(looks: Sequence[Look], rig: Rig | None, keypoints: Keypoints | None) -> list[Stage | None]:
    """Where the subject and the floor are at every instant: by the hull, else by keypoints, else by the cameras."""
    if rig is None:
        return [None] * len(looks)
    lowest = [float(look.evidence.subject.low[2]) for look in looks if look.evidence and look.evidence.subject]
    floor = min(lowest) if lowest else None  # one floor: an animal that rears keeps its feet on it
    focus = rig_focus(Surveyor(rig.cameras).cameras)
    stages: list[Stage | None] = []
    for look in looks:
        origin, height = focus, floor
        row = None if keypoints is None else keypoints.at(look.instant)
        if look.evidence and look.evidence.subject:
            origin = look.evidence.subject.centre
        elif keypoints is not None and row is not None and bool(keypoints.points_mm[row].isfinite().any()):
            points = keypoints.points_mm[row]
            origin = points.nanmean(0)
            height = float(points[points[:, 2].isfinite(), 2].min()) if height is None else height
        stages.append(Stage(origin=origin, axis_length=AXIS_MM, floor_z=height, floor_step=FLOOR_STEP_MM))
    return stages


def add_pictures(
    recording: Recording,
    rig: Rig | None,
    looks: Sequence[Look],
    stages: Sequence[Stage | None],
    keypoints: Keypoints | None,
    findings: Findings,
) -> None:
    """The overview of all instants, and the middle one close up with the other cameras' epipolar lines."""
    names = [recording.names[v] for v in (range(len(recording.views)) if rig is None else rig.order)]
    rows = []
    for look, stage in zip(looks, stages, strict=True):
        row = []
        for v, name in enumerate(names):
            picture = whole(_view(look, v, rig, keypoints), stage, min(SHEET_PX // len(names), MAX_CELL_PX))
            iou = "" if look.evidence is None else f"   IoU {look.evidence.iou[v]:.2f}"
            draw_label(picture, f"{name}{iou}")
            row.append(picture)
        rows.append(row)
    findings.overview = Shown(
        pixels=sheet(rows, [f"instant {look.instant}" for look in looks]), caption=_caption(looks, stages, rig)
    )
    middle = len(looks) // 2
    look, stage = looks[middle], stages[middle]
    views = [_view(look, v, rig, keypoints) for v in range(len(names))]
    dots = " Yellow: keypoints; white rings: where their 3D points project." if views[0].points else ""
    close_ups = [
        Shown(pixels=close_up(view, stage), caption=f"Camera {name} at instant {look.instant}.{dots}")
        for name, view in zip(names, views, strict=True)
        if view.mask is not None or view.points  # else nobody knows where to look
    ]
    if close_ups:
        findings.galleries.append(Gallery(title="Close up", intro="", shown=tuple(close_ups)))
    outlines = [] if rig is None else outlines_of(look, rig, keypoints)
    if outlines and stage is not None:
        gallery = epipolar_close_ups(views, outlines, names, stage, f"instant {look.instant}")
        findings.galleries += [gallery] if gallery else []


def _caption(looks: Sequence[Look], stages: Sequence[Stage | None], rig: Rig | None) -> str:
    if rig is None:
        return "The pictures as they are: without cameras nothing can be drawn on them."
    axes = "Axes: x red, y green, z blue, 20 mm long"
    if not any(look.evidence for look in looks):
        return f"{axes}, at the point that the cameras look at or, where there are keypoints, in their middle."
    floor = " A grid of 20 mm lies at the lowest point of the hull." if any(s and s.floor_z for s in stages) else ""
    return f"{OUTLINES} {axes}, in the middle of the hull.{floor}"


def _view(look: Look, v: int, rig: Rig | None, keypoints: Keypoints | None) -> ViewPicture:
    points = {}
    row = None if keypoints is None else keypoints.at(look.instant)
    if keypoints is not None and row is not None and rig is not None:
        projected = rig.cameras[v][0].project(keypoints.points_mm[row]).numpy()
        points = {"expected": projected, "measured": keypoints.pixels[v, row].numpy()}
    evidence = look.evidence
    return ViewPicture(
        frame=look.frames[v],
        camera=None if rig is None else rig.cameras[v],
        mask=None if evidence is None else evidence.masks[v, 0].numpy(),
        hull=None if evidence is None else evidence.hull[v, 0].numpy(),
        points=points,
    )


def outlines_of(look: Look, rig: Rig, keypoints: Keypoints | None) -> list[Outline]:
    """What epipolar lines are drawn of: the masks' borders, else the keypoint that most cameras see."""
    if look.masks is not None:
        return [outline_of_mask(mask, camera) for mask, camera in zip(look.masks, rig.cameras, strict=True)]
    row = None if keypoints is None else keypoints.at(look.instant)
    if keypoints is None or row is None:
        return []
    seen = keypoints.pixels[:, row].isfinite().all(-1)
    best = int(seen.sum(0).argmax())
    return [outline_of(keypoints.pixels[v, row, best][None], camera) for v, camera in enumerate(rig.cameras)]
