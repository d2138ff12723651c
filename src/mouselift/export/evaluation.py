"""The output folder of an evaluation."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mouselift.atomic import atomic_folder
from mouselift.evaluate.figures import KeypointRow, Row, metrics_of
from mouselift.evaluate.index import write_index
from mouselift.evaluate.run import Evaluation, summarise
from mouselift.export.evaluation_html import evaluation_page
from mouselift.export.panels import alpha_picture, error_picture
from mouselift.export.picture import contact_sheet

SHEET_ROWS = 8


def write_evaluation(evaluation: Evaluation, out: Path, source: str) -> str:
    """Write report.html, metrics.json, views.csv, index.json, table.md, views.png; and keypoints.csv if labelled.

    Args:
        evaluation: What came out.
        out: The folder; an existing one is replaced.
        source: What was evaluated, for the report's first line.

    Returns:
        The tables of means, as Markdown.
    """
    summary = finite(summarise(evaluation))
    tables = markdown(summary)
    with atomic_folder(out) as folder:
        _write_rows(evaluation.rows, folder / "views.csv")
        if evaluation.keypoints:
            _write_keypoints(evaluation.keypoints, folder / "keypoints.csv")
        (folder / "metrics.json").write_text(json.dumps(summary, indent=1))
        write_index(evaluation.index, folder / "index.json")
        (folder / "table.md").write_text(tables + "\n")
        (folder / "report.html").write_text(evaluation_page(evaluation, summary, source), encoding="utf-8")
        contact_sheet(_sheet(evaluation), folder / "views.png")
    return tables


def markdown(summary: dict[str, Any]) -> str:
    """A table for each group, the figures as mean [low, high]."""
    metrics, parts = summary["metrics"], []
    for group in summary["groups"]:
        parts.append(title_of(group))
        parts.append("")
        parts += ["| method | " + " | ".join(metrics) + " |", "|---|" + "---|" * len(metrics)]
        for method, entry in group["methods"].items():
            parts.append(f"| {method} | " + " | ".join(interval_text(entry[m]) for m in metrics) + " |")
        if "keypoints" in group:
            parts += ["", "| method | keypoint to surface, mm |", "|---|---|"]
            parts += [f"| {m} | {interval_text(e['distance_mm'], 2)} |" for m, e in group["keypoints"].items()]
        parts.append("")
    return "\n".join(parts).rstrip()


def title_of(group: dict[str, Any]) -> str:
    """What a group of cases is, in words."""
    count = group["num_views"]
    samples = "held-out samples" if group["split"] == "val" else "samples of the training split"
    shown = f"the animal fills {100 * group['coverage']:.1f} % of the compared pictures"
    return f"{count} given view{'s' if count > 1 else ''}, {group['num_samples']} {samples}, {shown}"


def interval_text(value: dict[str, float | None], digits: int = 3) -> str:
    """Mean and interval, or a dash where nothing could be measured."""
    if value["mean"] is None:
        return "-"
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(value["mean"], value["low"], value["high"], d=digits)


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_rows(rows: Sequence[Row], path: Path) -> None:
    """One line per case, view and method."""
    metrics = metrics_of(rows)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "split", "num_views", "view", "method", "angle_deg", "coverage", *metrics])
        for row in rows:
            figures = (f"{row.figures[m]:.4f}" for m in metrics)
            writer.writerow(
                [
                    row.sample,
                    row.split,
                    row.num_views,
                    row.view,
                    row.method,
                    f"{row.angle_deg:.1f}",
                    f"{row.coverage:.4f}",
                    *figures,
                ]
            )


def _write_keypoints(rows: Sequence[KeypointRow], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "split", "num_views", "method", "keypoint", "distance_mm"])
        for row in rows:
            writer.writerow([row.sample, row.split, row.num_views, row.method, row.keypoint, f"{row.distance_mm:.3f}"])


def _sheet(evaluation: Evaluation) -> list[list[tuple[str, Any]]]:
    """The worst view of the first cases of the first group."""
    group = evaluation.index.groups[0]
    shown = [one for one in evaluation.shown if (one.case.split, len(one.case.given)) == group][:SHEET_ROWS]
    return [
        [
            ("first given view", one.given),
            (f"truth: {one.view}", one.truth),
            (f"{one.method}: {one.figures['psnr_fg']:.1f} dB", one.made),
            ("alpha", alpha_picture(one.alpha)),
            ("error", error_picture(one.made, one.truth)),
        ]
        for one in shown
    ]
