"""The report of an evaluation: one page that holds its tables, charts and pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from mouselift.evaluate.run import OWN_METHODS, Evaluation, Shown
from mouselift.export.charts import Curve, curves
from mouselift.export.panels import ERROR_SCALE, alpha_picture, error_picture
from mouselift.export.picture import to_uint8
from mouselift.export.report_html import Cell, Html, bullets, grid, heading, page, picture, section, table, verdict

MAX_SHOWN = 64
GAP_PX = 4
MIN_PICTURE_PX = 128
EXPLAINED = {
    "feed_forward": "MouseLift's networks alone.",
    "polished": "The same, then polished on the given views (and, from one photograph, on the made ones).",
    "refine": "Per-scene fit: Gaussians optimised on the given views from their visual hull, without a network.",
    "visual_hull": "What the given silhouettes allow, in the colours of the pixels.",
    "nearest_view": "The given picture that was taken from the most similar side, at the wanted scale.",
    "mean_image": "The mean training picture.",
    "blank": "Nothing.",
}


def evaluation_page(evaluation: Evaluation, summary: dict[str, Any], source: str) -> str:
    """The whole document.

    Args:
        evaluation: What came out.
        summary: What metrics.json holds.
        source: What was evaluated.
    """
    main = summary["groups"][0]
    best = next(method for method in OWN_METHODS if method in main["methods"])
    parts = [
        heading("MouseLift: evaluation", f"{source}; compared at {summary['compared_at_px']} px, over white"),
        verdict("plain", _verdict(main, best)),
        *(_group(group, summary["metrics"]) for group in summary["groups"]),
        section("Charts", grid(_charts(summary)), intro="Means over samples; bars are 95 % bootstrap intervals."),
    ]
    labelled = [group for group in summary["groups"] if "keypoints" in group]
    if labelled:
        parts.append(_keypoints(labelled[0]))
    parts.append(_pictures(evaluation))
    parts.append(section("Methods", bullets([f"{m}: {EXPLAINED[m]}" for m in main["methods"]])))
    return page("MouseLift: evaluation", *parts)


def _verdict(group: dict[str, Any], best: str) -> str:
    figures = group["methods"][best]["psnr_fg"]
    count = group["num_views"]
    return (
        f"{figures['mean']:.2f} dB foreground PSNR [{figures['low']:.2f}, {figures['high']:.2f}] by `{best}` from "
        f"{count} view{'s' if count > 1 else ''}, on views that were not given, of {group['num_samples']} samples."
    )


def _group(group: dict[str, Any], metrics: Sequence[str]) -> Html:
    from mouselift.export.evaluation import interval_text, title_of

    rows = [(method, *(interval_text(entry[m]) for m in metrics)) for method, entry in group["methods"].items()]
    return section(
        title_of(group),
        table(("method", *metrics), rows),
        intro="Means over samples of the means over their compared views, with 95 % bootstrap intervals.",
    )


def _charts(summary: dict[str, Any]) -> list[Html]:
    """Quality against the number of views, where there are several, and against the angle from the nearest one."""
    charts = []
    for split in dict.fromkeys(group["split"] for group in summary["groups"]):
        groups = sorted((g for g in summary["groups"] if g["split"] == split), key=lambda g: g["num_views"])
        methods = dict.fromkeys(method for group in groups for method in group["methods"])
        for metric in ("psnr_fg", "iou_alpha"):
            if len(groups) > 1:
                lines = [_by_count(groups, method, metric) for method in methods]
                name = f"{metric} by number of given views ({split})"
                charts.append(curves(lines, name, x_label="given views", y_label=_unit(metric)))
        for metric in ("psnr_fg", "iou_alpha"):
            lines = [by_angle(groups[-1]["methods"][m], m, metric) for m in groups[-1]["methods"]]
            name = f"{metric} by angle, {groups[-1]['num_views']} given ({split})"
            if any(np.isfinite(y) for line in lines for _, y in line.points):
                charts.append(curves(lines, name, x_label="degrees from the nearest given view", y_label=_unit(metric)))
    return charts


def _by_count(groups: Sequence[dict[str, Any]], method: str, metric: str) -> Curve:
    there = [group for group in groups if method in group["methods"]]
    known = [(g["num_views"], g["methods"][method][metric]) for g in there]
    known = [(count, value) for count, value in known if value["mean"] is not None]
    return Curve(
        name=method,
        points=tuple((count, value["mean"]) for count, value in known),
        low=tuple(value["low"] for _, value in known),
        high=tuple(value["high"] for _, value in known),
    )


def by_angle(entry: dict[str, Any], method: str, metric: str) -> Curve:
    """A metric over the angle from the nearest given view: what metrics.json holds of one method, as a line."""
    bins = [bin_ for bin_ in entry["by_angle"] if bin_[metric]["mean"] is not None]
    return Curve(
        name=method,
        points=tuple(((b["from_deg"] + b["to_deg"]) / 2, b[metric]["mean"]) for b in bins),
        low=tuple(b[metric]["low"] for b in bins),
        high=tuple(b[metric]["high"] for b in bins),
    )


def _unit(metric: str) -> str:
    return f"{metric}, dB" if metric.startswith("psnr") else metric


def _keypoints(group: dict[str, Any]) -> Html:
    methods = group["keypoints"]
    names = next(iter(methods.values()))["by_keypoint_mm"]
    rows = [
        (name, *("-" if (v := entry["by_keypoint_mm"][name]) is None else f"{v:.1f}" for entry in methods.values()))
        for name in names
    ]
    overall = [Cell("-" if (v := e["distance_mm"]["mean"]) is None else f"{v:.2f}") for e in methods.values()]
    return section(
        "Labelled keypoints: distance to the surface, mm",
        table(("keypoint", *methods), [("all", *overall), *rows]),
        intro=(
            "From each 3D label to the nearest centre of a Gaussian that is at least half opaque. Joints lie inside "
            "the body, so that even a perfect surface has a distance; those on the skin (nose, ears, tail) have "
            "about none."
        ),
    )


def _pictures(evaluation: Evaluation) -> Html:
    group = evaluation.index.groups[0]
    mine = [one for one in evaluation.shown if (one.case.split, len(one.case.given)) == group]
    mine.sort(key=lambda one: np.nan_to_num(one.figures["psnr_fg"], nan=np.inf))
    left_out = f" The {MAX_SHOWN} worst of {len(mine)}." if len(mine) > MAX_SHOWN else ""
    return section(
        "Pictures, worst first",
        grid([picture(_strip(one), _caption(one)) for one in mine[:MAX_SHOWN]]),
        intro=(
            "Of each sample the compared view with the lowest foreground PSNR: truth, prediction, alpha, and the "
            f"error, brightest where a channel is off by {ERROR_SCALE:g} of the range or more.{left_out}"
        ),
    )


def _caption(one: Shown) -> str:
    return (
        f"{one.case.sample}, view {one.view}, {one.method} from {len(one.case.given)}: "
        f"{one.figures['psnr_fg']:.1f} dB, IoU {one.figures['iou_alpha']:.2f}"
    )


def _strip(one: Shown) -> UInt8[np.ndarray, "h w 3"]:
    """Truth | prediction | alpha | error, large enough to be seen."""
    pictures = [one.truth, one.made, alpha_picture(one.alpha), error_picture(one.made, one.truth)]
    gap = torch.ones(3, pictures[0].shape[1], GAP_PX)
    joined = to_uint8(torch.cat([part for shown in pictures for part in (shown, gap)][:-1], dim=2))
    times = max(1, -(-MIN_PICTURE_PX // pictures[0].shape[1]))
    return joined.repeat(times, axis=0).repeat(times, axis=1)
