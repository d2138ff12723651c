"""Is a recording fit to be used? Its files, its cameras, and whether masks and keypoints agree with them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.check.epipolar import add_epipolar_table, missed
from mouselift.check.hulls import add_hull_failure, add_hull_table, check_volume, median_iou, weigh
from mouselift.check.keypoints import Keypoints, add_keypoints, read_keypoints
from mouselift.check.light import add_light, measure_light
from mouselift.check.looks import Look, add_pictures, find_stages, outlines_of
from mouselift.check.report import CheckReport, Findings
from mouselift.check.rig import add_rig
from mouselift.check.timeline import add_recording_timeline
from mouselift.data.calibration import suspicious_pairs
from mouselift.data.consistency import GOOD_IOU
from mouselift.data.plan import Rig, neighbouring_masks, rig_of
from mouselift.data.recording import Recording, read_instants
from mouselift.data.recording import check_recording as find_problems
from mouselift.data.subject import rig_focus
from mouselift.data.survey import Surveyor
from mouselift.errors import InputError

DIAGNOSED = 2  # instants that a cause is looked for in


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
    stages = find_stages(looks, rig, keypoints)
    if rig is not None:
        if keypoints is not None:
            add_keypoints(findings, keypoints, rig)
        _add_rig(rig, looks, findings)
        _add_epipolar(rig, looks, keypoints, findings)
    if looks:
        names = [recording.names[v] for v in (range(len(recording.views)) if rig is None else rig.order)]
        lights = [
            [measure_light(f, None if look.masks is None else look.masks[v]) for v, f in enumerate(look.frames)]
            for look in looks
        ]
        add_light(findings, names, lights)
        add_pictures(recording, rig, looks, stages, keypoints, findings)
    add_recording_timeline(findings, recording, [look.instant for look in looks], keypoints)
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
            masks = None if instant.masks is None else tuple(instant.masks[v] for v in order)
            evidence = None
            if surveyor is not None and masks is not None:
                evidence = weigh(f"instant {instant.index}", surveyor.shrink(masks), surveyor.cameras)
            frames = tuple(instant.frames[v] for v in order)
            looks.append(Look(instant=instant.index, frames=frames, masks=masks, evidence=evidence))
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


def _add_epipolar(rig: Rig, looks: Sequence[Look], keypoints: Keypoints | None, findings: Findings) -> None:
    outlines = [found for look in looks if (found := outlines_of(look, rig, keypoints))]
    names = [name for camera in rig.cameras for name in camera.names]
    is_mask = any(look.masks is not None for look in looks)
    what = "the outline that they should touch" if is_mask else "the keypoint that they should meet"
    width = min(camera.width for camera in rig.cameras)
    add_epipolar_table(findings, names, [missed(found) for found in outlines], width, what)


def _add_rig(rig: Rig, looks: Sequence[Look], findings: Findings) -> None:
    centres = [look.evidence.subject.centre for look in looks if look.evidence and look.evidence.subject]
    if centres:
        track = torch.stack(centres)
        add_rig(findings, rig.cameras, track.median(0).values, about="the animal", track=track)
    else:
        focus = rig_focus(Surveyor(rig.cameras).cameras)
        add_rig(findings, rig.cameras, focus, about="the point that the cameras look at")
