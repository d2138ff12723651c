"""Masks against cameras: do they agree on one body in space?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mouselift.check.report import Findings, Table
from mouselift.data.consistency import GOOD_IOU, diagnose, hull_silhouettes
from mouselift.data.subject import FOREGROUND, Subject, locate, measure_silhouettes
from mouselift.export.report_html import Cell
from mouselift.geometry import Cameras

FINE_IOU = 0.9
MAX_UNUSABLE_SHARE = 0.2  # as `prepare` allows
MOUSE_ML, PLAUSIBLE_ML = (15.0, 60.0), (5.0, 200.0)  # of the visual hull, which is larger than the animal
TYPICAL_ML = 35.0
UNITS_MM = {"metres": 1000.0, "inches": 25.4, "centimetres": 10.0, "tenths of a millimetre": 0.1, "micrometres": 0.001}


@dataclass(frozen=True, kw_only=True, eq=False)
class HullEvidence:
    """What the masks of one moment say.

    Attributes:
        label: Which moment.
        masks: Of all views, [0, 1].
        hull: The visual hull's silhouettes.
        iou: Overlap of mask and hull, each view.
        is_empty: Some view's mask is.
        clipped: Views whose mask touches the picture's border.
        subject: The hull's place and extent; None where there is none.
        problem: Why the masks cannot be used; empty when they can.
    """

    label: str
    masks: Float[Tensor, "v 1 h w"]
    hull: Float[Tensor, "v 1 h w"]
    iou: Float[Tensor, "v"]
    is_empty: bool
    clipped: tuple[bool, ...]
    subject: Subject | None
    problem: str


def weigh(label: str, masks: Float[Tensor, "v 1 h w"], cameras: Cameras) -> HullEvidence:
    """Look at the masks of one moment; the cameras' size must be theirs."""
    found = measure_silhouettes(masks)
    empty = [name for name, area in zip(cameras.names, found.areas.tolist(), strict=True) if area == 0]
    hull = torch.zeros(masks.shape) if empty else hull_silhouettes(masks, cameras)
    inside = masks > FOREGROUND
    overlap = ((hull > FOREGROUND) & inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp_min(1)
    subject = None if empty else locate(masks, cameras, found)
    border = torch.cat([inside[..., 0, :], inside[..., -1, :], inside[..., :, 0], inside[..., :, -1]], dim=-1)
    problem = f"the mask of {', '.join(empty)} is empty" if empty else ""
    if not empty and subject is None:
        problem = "the silhouettes have no volume in common"
    return HullEvidence(
        label=label,
        masks=masks,
        hull=hull,
        iou=overlap,
        is_empty=bool(empty),
        clipped=tuple(border.flatten(1).any(1).tolist()),
        subject=subject,
        problem=problem,
    )


def median_iou(evidence: Sequence[HullEvidence]) -> Float[Tensor, "v"] | None:
    """Of every view, over the moments whose masks are not empty; None when there are none."""
    usable = [one.iou for one in evidence if not one.is_empty]
    return torch.stack(usable).median(0).values if usable else None


def failing_views(medians: Float[Tensor, "v"], names: Sequence[str]) -> str:
    """The views below the threshold, with their figures."""
    found = zip(names, medians.tolist(), strict=True)
    return ", ".join(f"{value:.2f} in camera {name}" for name, value in found if value < GOOD_IOU)


def add_hull_failure(
    findings: Findings,
    where: str,
    evidence: Sequence[HullEvidence],
    cameras: Cameras,
    telling: Sequence[HullEvidence],
    sequence: Sequence[Float[Tensor, "v 1 h w"]] = (),
) -> None:
    """Fail, with the figures and the likely cause, when a view's masks do not overlap their hull.

    Args:
        findings: Added to.
        where: What was looked at.
        evidence: Of all moments.
        cameras: That saw `telling`, named.
        telling: Those moments among them, without empty masks, that a cause is looked for in.
        sequence: Masks of consecutive instants, to look for a shift in time.
    """
    medians = median_iou(evidence)
    unusable = [one for one in evidence if one.is_empty]
    findings.notes += [f"{one.label}: {one.problem}" for one in unusable]
    if len(unusable) > MAX_UNUSABLE_SHARE * len(evidence):
        findings.failures.append(
            f"{where}: expected masks of every camera, found {len(unusable)} of {len(evidence)} moments with empty ones"
        )
    if medians is None or float(medians.min()) >= GOOD_IOU:
        return
    suspicion = diagnose([one.masks for one in telling], cameras, sequence)
    cause = (
        f"{suspicion.cause} (mended, the IoU is {suspicion.iou:.2f})" if suspicion else "no simple change explains it"
    )
    findings.failures.append(
        f"{where}: expected masks and hull to agree (IoU of {GOOD_IOU:.2f} or more in every camera), found "
        f"{failing_views(medians, cameras.names)}; likely cause: {cause}"
    )


def add_hull_table(findings: Findings, names: Sequence[str], evidence: Sequence[HullEvidence], moment: str) -> None:
    """The overlap of every view at every moment, with its median."""
    medians = median_iou(evidence)
    rows: list[tuple[Cell | str, ...]] = [(one.label, *map(_iou_cell, one.iou.tolist())) for one in evidence]
    if medians is not None:
        rows.append(("median", *map(_iou_cell, medians.tolist())))
        findings.figures["hull_iou_median"] = dict(zip(names, medians.tolist(), strict=True))
        found = "  ".join(f"{name} {value:.2f}" for name, value in zip(names, medians.tolist(), strict=True))
        findings.lines.append(f"hull IoU     {found}")
    findings.tables.append(
        Table(
            title="Masks against their hull",
            intro=(
                "Share of each mask that the visual hull of all masks explains. Exact cameras and masks give nearly 1; "
                f"below {GOOD_IOU:.2f} something is wrong with cameras, masks, or the order or timing of the videos."
            ),
            header=(moment, *names),
            rows=tuple(rows),
        )
    )


def check_volume(findings: Findings, volume_ml: float, where: str) -> None:
    """Fail or remark on a hull that is no mouse's; a wrong unit of length is the usual cause."""
    low, high = PLAUSIBLE_ML
    if low <= volume_ml <= high:
        if not MOUSE_ML[0] <= volume_ml <= MOUSE_ML[1]:
            findings.notes.append(
                f"the hull has {volume_ml:.0f} ml; that of a mouse has {MOUSE_ML[0]:.0f} to {MOUSE_ML[1]:.0f} ml, and "
                "more where no camera looks from low down or from behind"
            )
        return
    factor = (TYPICAL_ML / volume_ml) ** (1 / 3)
    unit = min(UNITS_MM, key=lambda name: abs(torch.tensor(UNITS_MM[name] / factor).log().item()))
    plausible = low <= volume_ml * UNITS_MM[unit] ** 3 <= high
    cause = f"the calibration is in {unit}, not mm (mm_per_unit: {UNITS_MM[unit]:g})" if plausible else "wrong units"
    findings.failures.append(
        f"{where}: expected a mouse's hull of {MOUSE_ML[0]:.0f} to {MOUSE_ML[1]:.0f} ml, found {volume_ml:.3g} ml; "
        f"likely cause: {cause}"
    )


def _iou_cell(value: float) -> Cell:
    return Cell(f"{value:.3f}", "good" if value >= FINE_IOU else "warn" if value >= GOOD_IOU else "bad")
