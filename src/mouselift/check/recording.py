"""Is a recording fit to be used? Its files, its cameras, and whether masks and keypoints agree with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mouselift.check.hulls import (
    HullEvidence,
    add_hull_failure,
    add_hull_table,
    check_volume,
    median_iou,
    weigh,
)
from mouselift.check.keypoints import Keypoints, add_keypoints, read_keypoints
from mouselift.check.pictures import OUTLINES, Stage, ViewPicture, close_up, whole
from mouselift.check.report import CheckReport, Findings, Shown
from mouselift.check.rig import add_rig
from mouselift.data.calibration import suspicious_pairs
from mouselift.data.consistency import GOOD_IOU
from mouselift.data.plan import Rig, neighbouring_masks, rig_of
from mouselift.data.recording import Recording, read_instants
from mouselift.data.recording import check_recording as find_problems
from mouselift.data.subject import rig_focus
from mouselift.data.survey import Surveyor
from mouselift.errors import InputError
from mouselift.export.overlay import draw_label, sheet

AXIS_MM, FLOOR_STEP_MM = 20.0, 20.0
SHEET_PX, MAX_CELL_PX = 1800, 440
DIAGNOSED = 2  # instants that a cause is looked for in


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One instant, views in the rig's order.

    Attributes:
        instant: Of the recording.
        frames: As taken.
        evidence: What its masks say; None without masks or calibration.
    """

    instant: int
    frames: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    evidence: HullEvidence | None


def check_recording(recording: Recording, num_instants: int = 6) -> CheckReport:
    """Check a recording at a few instants, spread over it.

    Args:
        recording: From `open_recording`.
        num_instants: How many are looked at.
    """
    findings = Findings(lines=recording.describe(), failures=find_problems(recording))
    findings.figures |= {
        "layout": recording.layout,
        "cameras": list(recording.names),
        "instants": recording.num_instants,
        "fps": recording.fps,
        "has_masks": recording.has_masks,
    }
    rig = _rig(recording, findings)
    surveyor = None if rig is None else Surveyor(rig.cameras)
    keypoints = None if rig is None else _keypoints(recording, rig, findings, num_instants)
    looks = _looks(recording, rig, surveyor, _instants(recording, num_instants, keypoints), findings)
    if surveyor is not None and recording.has_masks and looks:
        _weigh_masks(recording, surveyor, looks, findings)
    if not recording.has_masks:
        findings.unproven.append(
            "masks against cameras: there are no masks of all cameras; `mouselift segment` makes them"
        )
    stages = _stages(looks, rig, keypoints)
    if rig is not None:
        if keypoints is not None:
            add_keypoints(findings, keypoints, rig)
        _add_rig(rig, looks, findings)
    if looks:
        _add_pictures(recording, rig, looks, stages, keypoints, findings)
    return findings.report("Check of a recording", str(recording.root))


def _rig(recording: Recording, findings: Findings) -> Rig | None:
    """The cameras, upright; None, and a failure, when there are none that fit the pictures."""
    if recording.calibration is None:
        findings.failures.append(f"{recording.root}: expected a calibration, found none; name one with --calibration")
        return None
    findings.failures += suspicious_pairs(recording.calibration)
    try:
        rig = rig_of(recording)
    except InputError as error:
        if not findings.failures:  # a size that does not fit is among the problems already
            findings.failures.append(str(error))
        return None
    x, y, z = rig.up_world.tolist()
    if z == 1:
        findings.lines.append("up           +z, as the calibration has it")
    else:
        findings.lines.append(f"up           ({x:+.3f}, {y:+.3f}, {z:+.3f}) in the calibration's world, turned to +z")
    findings.figures["up_in_the_calibrations_world"] = [x, y, z]
    return rig


def _instants(recording: Recording, number: int, keypoints: Keypoints | None) -> list[int]:
    """Spread evenly, away from both ends; labelled ones where there are labels and no masks."""
    candidates = np.arange(recording.num_instants)
    if keypoints is not None and keypoints.given and not recording.has_masks:
        labelled = np.unique(keypoints.instants[np.isin(keypoints.instants, candidates)])
        candidates = labelled if len(labelled) else candidates
    places = (np.arange(number) + 0.5) * len(candidates) / number
    return [int(i) for i in np.unique(candidates[places.astype(int)])]


def _keypoints(recording: Recording, rig: Rig, findings: Findings, number: int) -> Keypoints | None:
    try:
        return read_keypoints(recording, rig, _instants(recording, number, None))
    except InputError as error:
        findings.failures.append(str(error))
        return None


def _looks(
    recording: Recording, rig: Rig | None, surveyor: Surveyor | None, instants: list[int], findings: Findings
) -> list[Look]:
    """Read the instants; a file that cannot be read is a failure, and what was read before is kept."""
    order = range(len(recording.views)) if rig is None else rig.order
    looks: list[Look] = []
    try:
        for instant in read_instants(recording, instants):
            evidence = None
            if surveyor is not None and instant.masks is not None:
                masks = surveyor.shrink([instant.masks[v] for v in order])
                evidence = weigh(f"instant {instant.index}", masks, surveyor.cameras)
            frames = tuple(instant.frames[v] for v in order)
            looks.append(Look(instant=instant.index, frames=frames, evidence=evidence))
    except InputError as error:
        findings.failures.append(str(error))
    return looks


def _weigh_masks(recording: Recording, surveyor: Surveyor, looks: Sequence[Look], findings: Findings) -> None:
    """Hull overlap, its likely cause when it is bad, volume, and masks that the picture's border cuts."""
    weighed = [(look.instant, look.evidence) for look in looks if look.evidence is not None]
    evidence = [one for _, one in weighed]
    medians = median_iou(evidence)
    telling = [one for one in evidence if not one.is_empty][:DIAGNOSED]
    sequence, agree = [], medians is not None and float(medians.min()) >= GOOD_IOU
    if medians is not None and not agree:
        worst = min((float(one.iou.mean()), instant) for instant, one in weighed if not one.is_empty)
        sequence = _neighbours(recording, surveyor, worst[1], findings)
    add_hull_failure(findings, str(recording.root), evidence, surveyor.cameras, telling, sequence)
    add_hull_table(findings, surveyor.names, evidence, "instant")
    volumes = [one.subject.volume_ml for one in evidence if one.subject is not None]
    if volumes:
        findings.lines.append(f"hull volume  {np.median(volumes):.3g} ml (median)")
        if agree:  # a hull of masks that contradict each other has no meaning
            check_volume(findings, float(np.median(volumes)), str(recording.root))
    cut = {name: sum(one.clipped[v] for one in evidence) for v, name in enumerate(surveyor.names)}
    touching = [f"camera {name} in {count} of {len(evidence)} instants" for name, count in cut.items() if count]
    if touching:
        findings.notes.append(f"the picture's border cuts the mask: {', '.join(touching)}")
    findings.figures["moments"] = [
        {
            "instant": instant,
            "hull_iou": dict(zip(surveyor.names, one.iou.tolist(), strict=True)),
            "hull_volume_ml": None if one.subject is None else one.subject.volume_ml,
            "centre_mm": None if one.subject is None else one.subject.centre.tolist(),
            "problem": one.problem,
        }
        for instant, one in weighed
    ]


def _neighbours(
    recording: Recording, surveyor: Surveyor, instant: int, findings: Findings
) -> list[Float[Tensor, "v 1 h w"]]:
    try:
        return neighbouring_masks(recording, rig_of(recording), surveyor, instant)
    except InputError as error:
        findings.failures.append(str(error))
        return []


def _stages(looks: Sequence[Look], rig: Rig | None, keypoints: Keypoints | None) -> list[Stage | None]:
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


def _add_rig(rig: Rig, looks: Sequence[Look], findings: Findings) -> None:
    centres = [look.evidence.subject.centre for look in looks if look.evidence and look.evidence.subject]
    if centres:
        track = torch.stack(centres)
        add_rig(findings, rig.cameras, track.median(0).values, about="the animal", track=track)
    else:
        focus = rig_focus(Surveyor(rig.cameras).cameras)
        add_rig(findings, rig.cameras, focus, about="the point that the cameras look at")


def _add_pictures(
    recording: Recording,
    rig: Rig | None,
    looks: Sequence[Look],
    stages: Sequence[Stage | None],
    keypoints: Keypoints | None,
    findings: Findings,
) -> None:
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
    findings.close_ups += [
        Shown(pixels=close_up(view, stage), caption=f"Camera {name} at instant {look.instant}.{dots}")
        for name, view in zip(names, views, strict=True)
        if view.mask is not None or view.points  # else nobody knows where to look
    ]


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
