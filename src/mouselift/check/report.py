"""What a check found, and the folder it is written to."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mouselift.atomic import atomic_folder
from mouselift.export import report_html
from mouselift.export.report_html import Cell, Html, Tone

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures for the page.

    Attributes:
        title: Of its section.
        intro: What the figures mean.
        header: Of the columns.
        rows: Of cells.
    """

    title: str
    intro: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A picture for the page, with what can be seen on it."""

    pixels: Picture
    caption: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Pictures that belong together: one for each camera."""

    title: str
    intro: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True, kw_only=True)
class Charts:
    """Drawn figures that belong together, as HTML."""

    title: str
    intro: str
    drawn: tuple[Html, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckReport:
    """What a check found.

    Attributes:
        title: What was checked.
        source: Where it lies.
        lines: For the terminal.
        failures: One line each: expected, found, where, likely cause. Empty when all that could be checked is right.
        notes: What is worth knowing and no failure.
        unproven: What could not be checked and why.
        figures: JSON values; numbers that are not finite are None.
        tables: For the page.
        overview: Rows of instants or samples, a column for each camera.
        rig: The cameras from above and from the side.
        galleries: Close-ups of every camera.
        charts: Timeline and histograms.
    """

    title: str
    source: str
    lines: tuple[str, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    unproven: tuple[str, ...]
    figures: Mapping[str, Any]
    tables: tuple[Table, ...] = ()
    overview: Shown | None = None
    rig: Shown | None = None
    galleries: tuple[Gallery, ...] = ()
    charts: tuple[Charts, ...] = ()

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.failures:
            count = len(self.failures)
            return f"Failed: {count} thing{'s' if count > 1 else ''} must be mended before this can be used."
        if self.unproven:
            return "Nothing wrong was found, but not everything could be checked."
        return "Passed: cameras and pictures fit each other."


@dataclass
class Findings:
    """What a check has found so far."""

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unproven: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    overview: Shown | None = None
    rig: Shown | None = None
    galleries: list[Gallery] = field(default_factory=list)
    charts: list[Charts] = field(default_factory=list)

    def report(self, title: str, source: str) -> CheckReport:
        """All of it, with the notes as the last lines."""
        asides = [f"note         {text}" for text in self.notes] + [f"not checked  {text}" for text in self.unproven]
        figures = {
            "checked": source,
            "passed": not self.failures,
            "failures": self.failures,
            "notes": self.notes,
            "unproven": self.unproven,
            **self.figures,
        }
        return CheckReport(
            title=title,
            source=source,
            lines=(*self.lines, *asides),
            failures=tuple(self.failures),
            notes=tuple(self.notes),
            unproven=tuple(self.unproven),
            figures=plain(figures),
            tables=tuple(self.tables),
            overview=self.overview,
            rig=self.rig,
            galleries=tuple(self.galleries),
            charts=tuple(self.charts),
        )


def plain(value: Any) -> Any:
    """JSON values: floats to six digits, what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def write_report(report: CheckReport, out: Path) -> None:
    """Write `index.html`, `figures.json` and, where there are pictures, `overview.png` and `rig.png`.

    Args:
        report: What was found.
        out: The folder; an earlier one is replaced once all is written.
    """
    with atomic_folder(out) as folder:
        (folder / "index.html").write_text(to_html(report), encoding="utf-8")
        (folder / "figures.json").write_text(json.dumps(report.figures, indent=1, allow_nan=False) + "\n")
        for name, shown in (("overview", report.overview), ("rig", report.rig)):
            if shown is not None:
                Image.fromarray(shown.pixels).save(folder / f"{name}.png", format="PNG")


def to_html(report: CheckReport) -> str:
    """The page."""
    tone: Tone = "bad" if report.failures else "warn" if report.unproven else "good"
    parts = [report_html.heading(report.title, report.source), report_html.verdict(tone, report.verdict)]
    lists: list[tuple[str, tuple[str, ...], Tone]] = [
        ("What is wrong", report.failures, "bad"),
        ("What could not be checked", report.unproven, "warn"),
        ("Worth knowing", report.notes, "plain"),
    ]
    parts += [report_html.section(title, report_html.bullets(items, tone)) for title, items, tone in lists if items]
    if report.overview is not None:
        parts.append(_pictures("Overview", [report.overview]))
    for gallery in report.galleries:
        pictures = report_html.grid([_picture(shown) for shown in gallery.shown])
        parts.append(report_html.section(gallery.title, pictures, intro=gallery.intro))
    if report.rig is not None:
        rig = report_html.picture(report.rig.pixels, report.rig.caption, lossless=True)
        parts.append(report_html.section("Rig", rig))
    for charts in report.charts:
        drawn = charts.drawn if len(charts.drawn) == 1 else (report_html.grid(charts.drawn),)
        parts.append(report_html.section(charts.title, *drawn, intro=charts.intro))
    for table in report.tables:
        parts.append(report_html.section(table.title, report_html.table(table.header, table.rows), intro=table.intro))
    return report_html.page(f"{report.title}: {Path(report.source).name}", *parts)


def _pictures(title: str, shown: Sequence[Shown]) -> Html:
    return report_html.section(title, *(_picture(one) for one in shown))


def _picture(shown: Shown) -> Html:
    return report_html.picture(shown.pixels, shown.caption)
