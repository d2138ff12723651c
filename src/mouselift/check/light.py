"""How much of each picture the animal fills, and whether its light can be used."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mouselift.check.report import Findings, Table
from mouselift.export.report_html import Cell

FOREGROUND = 127
BRIGHT, DARK = 250, 5  # grey values that a sensor could not tell apart
MAX_LOST_SHARE = 0.25  # of the animal's pixels
MAX_GAIN = 1.6  # between the brightest and the darkest camera
WEIGHTS = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True)
class Light:
    """One view of one moment; NaN where there is nothing to measure.

    Attributes:
        share: Of the picture that the animal covers.
        length_px: The longer side of the box around it.
        animal: Its mean grey value, 0 to 255.
        around: The mean grey value of the rest.
        blown: Share of the animal's pixels that are as good as white.
        lost: Share of the animal's pixels that are as good as black.
    """

    share: float
    length_px: float
    animal: float
    around: float
    blown: float
    lost: float


def measure_light(
    picture: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"] | None, *, has_surroundings: bool = True
) -> Light:
    """Measure one picture.

    Args:
        picture: sRGB.
        mask: Foreground, 255 inside; without one, only the whole picture is measured, as `around`.
        has_surroundings: The picture shows more than the animal.
    """
    grey = picture @ WEIGHTS
    if mask is None:
        return Light(
            share=np.nan, length_px=np.nan, animal=np.nan, around=float(grey.mean()), blown=np.nan, lost=np.nan
        )
    inside = mask > FOREGROUND
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    animal, around = grey[inside], grey[~inside] if has_surroundings else grey[:0, 0]
    length = max(np.ptp(rows), np.ptp(columns)) + 1.0 if len(rows) else np.nan
    return Light(
        share=float(inside.mean()),
        length_px=float(length),
        animal=_mean(animal),
        around=_mean(around),
        blown=_mean(animal >= BRIGHT),
        lost=_mean(animal <= DARK),
    )


def add_light(findings: Findings, names: Sequence[str], moments: Sequence[Sequence[Light]]) -> None:
    """Medians of every view as a table and figures, and notes where light is lost or cameras differ.

    Args:
        findings: Added to.
        names: Of the views.
        moments: Of every moment, every view.
    """
    keys = ("share", "length_px", "animal", "around", "blown", "lost")
    values = np.array([[[getattr(light, key) for key in keys] for light in moment] for moment in moments], np.float64)
    medians = np.array([[_median(values[:, v, k]) for k in range(len(keys))] for v in range(len(names))])
    findings.figures["light"] = {
        name: dict(zip(keys, row.tolist(), strict=True)) for name, row in zip(names, medians, strict=True)
    }
    findings.tables.append(
        Table(
            title="Size and exposure",
            intro=(
                "Medians. Brightness is a mean grey value, 0 to 255; overexposed and black are the shares of the "
                f"animal's pixels from {BRIGHT} up and to {DARK}: there is no fur to be seen in them."
            ),
            header=(
                "camera",
                "animal's share",
                "its length (px)",
                "its brightness",
                "around it",
                "overexposed",
                "black",
            ),
            rows=tuple((name, *_cells(row)) for name, row in zip(names, medians, strict=True)),
        )
    )
    for name, row in zip(names, medians, strict=True):
        for share, what in ((row[4], "overexposed"), (row[5], "black")):
            if share > MAX_LOST_SHARE:
                findings.notes.append(f"camera {name}: {100 * share:.0f} % of the animal is {what}")
    bright = medians[:, 2]
    if np.isfinite(bright).all() and len(names) > 1 and bright.max() > MAX_GAIN * max(bright.min(), 1.0):
        low, high = names[int(bright.argmin())], names[int(bright.argmax())]
        findings.notes.append(
            f"cameras differ in brightness: the animal is {bright.max():.0f} in {high} and {bright.min():.0f} in {low} "
            "of 255; colours that differ between views blur what is trained on them"
        )


def _cells(row: np.ndarray) -> tuple[Cell, ...]:
    def cell(value: float, style: str, factor: float = 1.0, bad: bool = False) -> Cell:
        if not np.isfinite(value):
            return Cell("none", "quiet")
        return Cell(format(factor * value, style) + (" %" if factor == 100 else ""), "warn" if bad else "plain")

    share, length, animal, around, blown, lost = row.tolist()
    return (
        cell(share, ".2f", 100),
        cell(length, ".0f"),
        cell(animal, ".0f"),
        cell(around, ".0f"),
        cell(blown, ".1f", 100, blown > MAX_LOST_SHARE),
        cell(lost, ".1f", 100, lost > MAX_LOST_SHARE),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan
