"""Is a dataset fit to train on? Its lists, its cameras, and whether the alpha channels agree with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mouselift.check.epipolar import Outline, add_epipolar_table, missed, outline_of_mask
from mouselift.check.hulls import HullEvidence, add_hull_failure, add_hull_table, check_volume, median_iou, weigh
from mouselift.check.light import add_light, measure_light
from mouselift.check.lists import check_lists
from mouselift.check.pictures import (
    OUTLINES,
    Stage,
    ViewPicture,
    checkerboard,
    close_up,
    epipolar_close_ups,
    whole,
)
from mouselift.check.report import CheckReport, Findings, Gallery, Shown
from mouselift.check.rig import add_rig
from mouselift.check.timeline import add_dataset_timeline
from mouselift.data.consistency import GOOD_IOU
from mouselift.data.layout import Sample, read_sample
from mouselift.errors import InputError
from mouselift.export.overlay import draw_label, sheet
from mouselift.geometry import Cameras
from mouselift.geometry.rigs import RIG_RADIUS

AXIS_LENGTH, FLOOR_STEP = 0.35, 0.2  # scene units
CELL_PX, MAX_COLUMNS = 220, 8
MAX_OFFSET = 0.35  # scene units: how far the subject's middle may be from the origin
SCENE_HALF = 1.0  # the subject lies inside [-1, 1]^3
RADIUS_TOLERANCE = 0.15
MAX_CLIPPED_SHARE, NOTED_CLIPPED_SHARE = 0.2, 0.02
OPAQUE = 0.98  # share of foreground in a picture that has no alpha channel worth the name


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """One sample and what its masks say; no evidence where pictures have no alpha."""

    sample: Sample
    evidence: HullEvidence | None

    @property
    def cameras(self) -> Cameras:
        """Named, in the scene."""
        return self.sample.views.cameras


def check_dataset(root: Path, num_samples: int = 6) -> CheckReport:
    """Check a dataset, MouseLift's or FaceLift's own, at a few samples spread over it.

    Args:
        root: Its folder.
        num_samples: How many are looked at.

    Raises:
        InputError: The folder is no dataset.
    """
    findings = Findings()
    listed = check_lists(findings, root)
    examined = _examine(findings, listed.folders, num_samples)
    if examined:
        _describe_views(findings, examined)
        _check_places(findings, root, examined)
        _check_masks(findings, root, examined)
        _add_light(findings, examined)
        _add_pictures(findings, examined)
    add_dataset_timeline(findings, listed.instants, listed.record, [one.sample.frame_index for one in examined])
    return findings.report("Check of a dataset", str(root))


def _examine(findings: Findings, folders: Sequence[Path], number: int) -> list[Examined]:
    """Read samples spread over the set; one that cannot be read is a failure."""
    places = ((np.arange(number) + 0.5) * len(folders) / number).astype(int)
    examined: list[Examined] = []
    for k in np.unique(places[places < len(folders)]):
        try:
            sample = read_sample(folders[k])
        except InputError as error:
            findings.failures.append(str(error))
            continue
        masks, cameras = sample.views.masks, sample.views.cameras
        opaque = bool((masks.mean((1, 2, 3)) > OPAQUE).any())
        evidence = None if opaque or len(cameras) < 2 else weigh(sample.sample_id, masks, cameras)
        examined.append(Examined(sample=sample, evidence=evidence))
    return examined


def _describe_views(findings: Findings, examined: Sequence[Examined]) -> None:
    """Names, size, field of view, distance, and the rig of the first sample."""
    first = examined[0].cameras
    sizes = sorted({f"{one.cameras.width}x{one.cameras.height}" for one in examined})
    names = {one.cameras.names for one in examined}
    fov = torch.cat([one.cameras.fov_deg[:, 0] for one in examined])
    distances = torch.cat([one.cameras.centres.norm(dim=-1) for one in examined])
    findings.lines.append(f"views        {len(first)} of {', '.join(sizes)} px: {', '.join(first.names)}")
    findings.lines.append(
        f"cameras      field of view {_spread(fov, '.1f')}°, {_spread(distances, '.2f')} scene units from the origin"
    )
    findings.figures |= {
        "views": list(first.names),
        "sizes": sizes,
        "fov_deg": [float(fov.min()), float(fov.max())],
        "distance": {"mean": float(distances.mean()), "min": float(distances.min()), "max": float(distances.max())},
        "det_R_min": float(min(torch.linalg.det(one.cameras.w2c[:, :3, :3].double()).min() for one in examined)),
    }
    if len(names) > 1:
        findings.notes.append("samples differ in the names or the order of their views")
    if abs(float(distances.mean()) - RIG_RADIUS) > RADIUS_TOLERANCE:
        findings.notes.append(
            f"the cameras are {float(distances.mean()):.2f} scene units from the origin in the mean, where MouseLift "
            f"puts them {RIG_RADIUS} away; published weights expect that"
        )
    singles = [first[[v]] for v in range(len(first))]
    add_rig(findings, singles, torch.zeros(3), about="the origin of the scene", unit="scene units")


def _check_places(findings: Findings, root: Path, examined: Sequence[Examined]) -> None:
    """The subject at the origin, inside the scene's cube, and of a mouse's size where the scale is known."""
    known = [(one, one.evidence.subject) for one in examined if one.evidence and one.evidence.subject]
    if not known:
        return
    offsets = torch.stack([subject.centre for _, subject in known]).norm(dim=-1)
    reach = torch.stack([torch.maximum(-subject.low, subject.high).max() for _, subject in known])
    findings.lines.append(
        f"subject      {_spread(offsets, '.2f')} from the origin, reaches {_spread(reach, '.2f')}; "
        f"it should stay within {SCENE_HALF:g}"
    )
    findings.figures["subject"] = {"offset_max": float(offsets.max()), "reach_max": float(reach.max())}
    if float(offsets.median()) > MAX_OFFSET:
        findings.failures.append(
            f"{root}: expected the subject at the origin, found it {float(offsets.median()):.2f} scene units away "
            "(median); likely cause: the scene was centred on the rig, not on the animal"
        )
    if float(reach.median()) > SCENE_HALF:
        findings.failures.append(
            f"{root}: expected the subject inside [-1, 1]^3, found it to reach {float(reach.median()):.2f} (median); "
            "likely cause: another scale than the cameras'"
        )
    scales = torch.stack([one.sample.scene_from_world.scale.double() for one, _ in known])
    if bool((scales != 1).all()):  # 1 is what sets without a world have
        volumes = torch.tensor([subject.volume_ml for _, subject in known]).double() / scales**3
        medians = median_iou([one.evidence for one, _ in known if one.evidence])
        if medians is not None and float(medians.min()) >= GOOD_IOU:  # else a hull has no meaning
            check_volume(findings, float(volumes.median()), str(root))
        findings.figures["hull_volume_ml"] = float(volumes.median())
        findings.lines.append(f"hull volume  {float(volumes.median()):.1f} ml (median)")


def _check_masks(findings: Findings, root: Path, examined: Sequence[Examined]) -> None:
    """Foreground, clipping, and the overlap with the hull."""
    evidence = [one.evidence for one in examined if one.evidence is not None]
    if not evidence:
        findings.unproven.append("masks against cameras: the pictures have no alpha channel that shows the animal")
        return
    if len(evidence) < len(examined):
        findings.notes.append(f"{len(examined) - len(evidence)} of {len(examined)} samples have pictures without alpha")
    shares = torch.stack([one.masks.mean((1, 2, 3)) for one in evidence])
    clipped = torch.tensor([one.clipped for one in evidence]).double()
    findings.figures["foreground_share"] = float(shares.mean())
    findings.figures["clipped_share"] = float(clipped.mean())
    findings.lines.append(f"foreground   {_spread(100 * shares, '.1f')} % of a picture")
    if float(clipped.mean()) > MAX_CLIPPED_SHARE:
        findings.failures.append(
            f"{root}: expected whole animals, found {100 * float(clipped.mean()):.0f} % of the views cut off by the "
            "picture's border; likely cause: too small a field of view, or pictures that were enlarged"
        )
    elif float(clipped.mean()) > NOTED_CLIPPED_SHARE:
        findings.notes.append(f"the picture's border cuts the animal in {100 * float(clipped.mean()):.0f} % of views")
    first = examined[0].cameras
    if any(len(one.cameras) != len(first) for one in examined):
        findings.unproven.append("masks against cameras: samples have different numbers of views")
        return
    # Cameras differ between samples, so a cause is looked for in one alone.
    usable = [
        (float(one.evidence.iou.mean()), k)
        for k, one in enumerate(examined)
        if one.evidence and not one.evidence.is_empty
    ]
    if not usable:
        findings.failures.append(f"{root}: expected an animal in every view, found a view without in every sample")
        return
    worst = examined[min(usable)[1]]
    telling = [one for one in (worst.evidence,) if one is not None]
    add_hull_failure(findings, str(root), evidence, worst.cameras, telling)
    add_hull_table(findings, first.names, evidence, "sample")
    moments = [missed(_outlines(one)) for one in examined if one.evidence]
    add_epipolar_table(findings, first.names, moments, first.width, "the outline that they should touch")
    findings.figures["moments"] = [
        {"sample": one.label, "hull_iou": dict(zip(first.names, one.iou.tolist(), strict=True)), "problem": one.problem}
        for one in evidence
    ]


def _add_pictures(findings: Findings, examined: Sequence[Examined]) -> None:
    rows, titles = [], []
    for one in examined:
        stage, row = _stage(one), []
        for v in _columns(len(one.cameras)):
            picture = whole(_view(one, v), stage, CELL_PX)
            iou = "" if one.evidence is None else f"   IoU {one.evidence.iou[v]:.2f}"
            draw_label(picture, f"{one.cameras.names[v]}{iou}", size_px=13)
            row.append(picture)
        rows.append(row)
        titles.append(f"{one.sample.sample_id}   frame {one.sample.frame_index}")
    axes = f"Axes of the scene: x red, y green, z blue, {AXIS_LENGTH} long."
    caption = f"{OUTLINES} {axes} A grid of {FLOOR_STEP} lies at the lowest point of the hull."
    findings.overview = Shown(pixels=sheet(rows, titles), caption=caption)
    one = examined[len(examined) // 2]
    columns, stage = _columns(len(one.cameras)), _stage(one)
    views, names = [_view(one, v) for v in columns], [one.cameras.names[v] for v in columns]
    close_ups = tuple(
        Shown(pixels=close_up(view, stage), caption=f"View {name} of {one.sample.sample_id}.")
        for view, name in zip(views, names, strict=True)
    )
    findings.galleries.append(Gallery(title="Close up", intro="", shown=close_ups))
    if one.evidence is not None:
        outlines = _outlines(one)
        gallery = epipolar_close_ups(views, [outlines[v] for v in columns], names, stage, one.sample.sample_id)
        findings.galleries += [gallery] if gallery else []


def _outlines(one: Examined) -> list[Outline]:
    masks = one.sample.views.masks[:, 0].mul(255).byte().numpy()
    return [outline_of_mask(mask, one.cameras[[v]]) for v, mask in enumerate(masks)]


def _add_light(findings: Findings, examined: Sequence[Examined]) -> None:
    """Of samples whose pictures show the animal alone, as many views in each."""
    rows, first = [], examined[0].cameras
    for one in examined:
        if one.evidence is None or len(one.cameras) != len(first):
            continue
        pictures = one.sample.views.images.mul(255).byte().permute(0, 2, 3, 1).numpy()
        masks = one.sample.views.masks[:, 0].mul(255).byte().numpy()
        rows.append([measure_light(p, m, has_surroundings=False) for p, m in zip(pictures, masks, strict=True)])
    if rows:
        add_light(findings, first.names, rows)


def _columns(count: int) -> list[int]:
    """Views to show: all, or as many as fit, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_COLUMNS)).round().astype(int)).tolist()


def _stage(one: Examined) -> Stage:
    subject = one.evidence.subject if one.evidence else None
    return Stage(
        origin=torch.zeros(3, dtype=torch.float64),
        axis_length=AXIS_LENGTH,
        floor_z=None if subject is None else float(subject.low[2]),
        floor_step=FLOOR_STEP,
    )


def _view(one: Examined, v: int) -> ViewPicture:
    views, evidence = one.sample.views, one.evidence
    return ViewPicture(
        frame=checkerboard(views.images[v], views.masks[v]),
        camera=one.cameras[[v]],
        mask=None if evidence is None else evidence.masks[v, 0].numpy(),
        hull=None if evidence is None else evidence.hull[v, 0].numpy(),
        points={},
    )


def _spread(values: torch.Tensor, style: str) -> str:
    """One number, or the smallest and the largest where they differ."""
    low, high = (format(float(value), style) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
