"""Is a dataset fit to train on? Its lists, its cameras, and whether the alpha channels agree with them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mouselift.check.hulls import (
    HullEvidence,
    add_hull_failure,
    add_hull_table,
    check_volume,
    median_iou,
    weigh,
)
from mouselift.check.pictures import LEGEND, Stage, ViewPicture, checkerboard, close_up, whole
from mouselift.check.report import CheckReport, Findings, Shown, Table
from mouselift.check.rig import add_rig, camera_figures
from mouselift.data.layout import CAMERA_FILE, DATASET_FILE, SPLIT_FILES, Sample, list_samples, read_sample
from mouselift.errors import InputError
from mouselift.export.overlay import draw_label, sheet
from mouselift.geometry import Cameras
from mouselift.geometry.rigs import RIG_RADIUS

AXIS_LENGTH, FLOOR_STEP = 0.5, 0.2  # scene units
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
    splits = _splits(root)
    record = _record(root)
    findings.lines.append(f"dataset      {root}: {record.get('made_by', f'no {DATASET_FILE}')}")
    folders = _check_splits(findings, root, splits, record)
    examined = _examine(findings, folders, num_samples)
    if examined:
        _describe_views(findings, examined)
        _check_places(findings, root, examined)
        _check_masks(findings, root, examined)
        _add_pictures(findings, examined)
    return findings.report("Check of a dataset", str(root))


def _splits(root: Path) -> dict[str, list[Path]]:
    """The sample folders of each split that has a list with something in it."""
    found, problem = {}, None
    for split in SPLIT_FILES:
        try:
            found[split] = list_samples(root, split)
        except InputError as error:  # one list may be empty or missing, not both
            problem = error
    if not found and problem is not None:
        raise problem
    return found


def _record(root: Path) -> dict[str, Any]:
    """`dataset.json`; empty for sets that other tools made."""
    file = root / DATASET_FILE
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: expected JSON, found: {error}") from None
    return found if isinstance(found, dict) else {}


def _check_splits(
    findings: Findings, root: Path, splits: dict[str, list[Path]], record: dict[str, Any]
) -> list[Path]:
    """Count the samples, find missing and shared ones, and measure the gap between the splits; returns those there."""
    for split in SPLIT_FILES.keys() - splits.keys():
        findings.notes.append(f"the split {split} is empty")
    missing = [folder for folders in splits.values() for folder in folders if not (folder / CAMERA_FILE).is_file()]
    if missing:
        findings.failures.append(
            f"{root}: expected a folder with {CAMERA_FILE} for every sample that is listed, found none for "
            f"{len(missing)}; the first is {missing[0].name}"
        )
    shared = set(splits.get("train", ())) & set(splits.get("val", ()))
    if shared:
        findings.failures.append(
            f"{root}: expected samples in one split each, found {len(shared)} in both, such as {min(shared).name}"
        )
    counts = {split: len(folders) for split, folders in splits.items()}
    counted = ", ".join(f"{count} {split}" for split, count in counts.items())
    gap = _gap(splits) if "recording" in record else None
    said = "" if gap is None else f"; {gap} instants apart"
    findings.lines.append(f"samples      {counted}{said}")
    findings.figures |= {"made_by": record.get("made_by"), "samples": counts, "gap_between_splits_instants": gap}
    if gap is not None and gap <= 1:
        findings.failures.append(
            f"{root}: expected a gap between training and validation samples, found neighbouring instants in both"
        )
    present = [folder for folders in splits.values() for folder in folders if folder not in missing]
    return sorted(set(present))


def _gap(splits: dict[str, list[Path]]) -> int | None:
    """Smallest distance in time between a training and a validation sample of one recording, in its instants."""
    train, val = (np.array([_instant(folder) for folder in splits.get(split, ())]) for split in SPLIT_FILES)
    if not len(train) or not len(val):
        return None
    return int(np.abs(train[:, None] - val[None]).min())


def _instant(folder: Path) -> int:
    try:
        return int(json.loads((folder / CAMERA_FILE).read_text())["frame_index"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError):
        return -(10**9)  # unknown, and reported elsewhere: far from all


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
    # Cameras differ between samples, so a cause is looked for in the worst sample alone.
    worst = min((one for one in examined if one.evidence), key=lambda one: float(one.evidence.iou.mean()))
    ordered = [worst.evidence, *(one for one in evidence if one is not worst.evidence)]
    assert worst.evidence is not None  # by the line above
    add_hull_failure(findings, str(root), [e for e in ordered if e is not None], worst.cameras)
    add_hull_table(findings, first.names, evidence, "sample")
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
    caption = f"{LEGEND} of the scene, {AXIS_LENGTH} long, at its origin. A grid of {FLOOR_STEP} lies under the hull."
    findings.overview = Shown(pixels=sheet(rows, titles), caption=caption)
    one = examined[len(examined) // 2]
    for v in _columns(len(one.cameras)):
        findings.close_ups.append(
            Shown(
                pixels=close_up(_view(one, v), _stage(one)),
                caption=f"View {one.cameras.names[v]} of {one.sample.sample_id}.",
            )
        )


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
    """"2.70", or "2.61 to 2.79" where they differ."""
    low, high = (format(float(value), style) for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"
