"""The output folder of an overfit test."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mouselift
from mouselift.atomic import atomic_folder
from mouselift.config import to_dict
from mouselift.export.charts import Curve, curves
from mouselift.export.evaluation import finite
from mouselift.export.panels import ERROR_SCALE, alpha_picture, error_picture
from mouselift.export.picture import contact_sheet, to_uint8
from mouselift.export.report_html import Cell, Html, bullets, grid, heading, page, picture, section, table, verdict
from mouselift.models.checkpoint_io import save_weights
from mouselift.overfit import Overfit

SHEET_SAMPLES = 4
MIN_PICTURE_PX = 160
CURVES = "Means: what was given and what is asked of it; what was left out and its best baseline."
Titled = tuple[str, Tensor]


def write_overfit(done: Overfit, names: Sequence[str], out: Path, source: str) -> dict[str, Any]:
    """Write verdict.json, report.html, curve.csv, pictures.png and the weights.

    Args:
        done: What came out.
        names: Of the samples.
        out: The folder; an existing one is replaced.
        source: The dataset, for the report.

    Returns:
        What verdict.json holds.
    """
    summary = finite(_summary(done, names, source))
    with atomic_folder(out) as folder:
        (folder / "verdict.json").write_text(json.dumps(summary, indent=1))
        (folder / "report.html").write_text(_page(done, names, summary), encoding="utf-8")
        with (folder / "curve.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "seconds", "loss", "given_psnr_fg", "left_out_psnr_fg"])
            writer.writerows(
                [p.step, f"{p.seconds:.1f}", f"{p.loss:.6f}", f"{p.given_db:.3f}", f"{p.left_out_db:.3f}"]
                for p in done.curve
            )
        shown = torch.linspace(0, len(names) - 1, min(SHEET_SAMPLES, len(names))).round().long().tolist()
        contact_sheet([row for k in shown for row in _rows(done, names, k)], folder / "pictures.png")
        record = {"kind": "gslrm", "mouselift": mouselift.__version__, "model": to_dict(done.config.model)}
        save_weights(done.model, folder / "gslrm.safetensors", {**record, "overfit": to_dict(done.config)})
    return summary


def _summary(done: Overfit, names: Sequence[str], source: str) -> dict[str, Any]:
    return {
        "verdict": "PASS" if done.verdict.passed else "FAIL",
        "reasons": list(done.verdict.reasons),
        "dataset": source,
        "samples": list(names),
        "given_views": list(done.given_names),
        "left_out_view": done.left_out_name,
        "given": {metric: float(values.nanmean()) for metric, values in done.given_figures.items()},
        "given_by_sample_psnr_fg": done.given_figures["psnr_fg"].nanmean(1).tolist(),
        "left_out": {
            method: {metric: float(values.nanmean()) for metric, values in figures.items()}
            for method, figures in done.left_out_figures.items()
        },
        "left_out_by_sample_psnr_fg": {
            method: figures["psnr_fg"].tolist() for method, figures in done.left_out_figures.items()
        },
        "steps": done.curve[-1].step,
        "seconds": round(done.seconds, 1),
        "cpu_seconds": round(done.cpu_seconds, 1),
        "curve": [asdict(point) for point in done.curve],
        "config": to_dict(done.config),
        "mouselift": mouselift.__version__,
    }


def _page(done: Overfit, names: Sequence[str], summary: dict[str, Any]) -> str:
    metrics = tuple(summary["given"])
    figures = [("given views: gslrm", *(f"{summary['given'][m]:.3f}" for m in metrics))]
    figures += [
        (f"left-out view: {method}", *(f"{values[m]:.3f}" for m in metrics))
        for method, values in summary["left_out"].items()
    ]
    passed = done.verdict.passed
    minutes, cpu = summary["seconds"] / 60, summary["cpu_seconds"] / 60
    title = "MouseLift: overfit test"
    return page(
        title,
        heading(title, f"{summary['dataset']}: {len(names)} samples at {done.config.size_px} px"),
        verdict("good" if passed else "bad", f"{summary['verdict']}: {done.verdict.reasons[0]}."),
        bullets(done.verdict.reasons, "plain" if passed else "bad"),
        section("Curves", grid(_curves(done)), intro=CURVES),
        section(
            "Figures",
            table(("", *metrics), [tuple(Cell(text) for text in row) for row in figures]),
            intro=f"{summary['steps']:,} steps in {minutes:.1f} min ({cpu:.1f} min of CPU time), over white.",
        ),
        section(
            "Pictures",
            *(_strip(done, names, k) for k in range(len(names))),
            intro=(
                "Above the truth, below what the model makes of it; the last columns are the camera that was left out, "
                f"its alpha and its error (brightest where a channel is off by {ERROR_SCALE:g} or more)."
            ),
        ),
    )


def _curves(done: Overfit) -> list[Html]:
    def line(name: str, values: Sequence[float]) -> Curve:
        return Curve(name=name, points=tuple((p.step, v) for p, v in zip(done.curve, values, strict=True)))

    baselines = {m: float(f["psnr_fg"].nanmean()) for m, f in done.left_out_figures.items() if m != "gslrm"}
    best = max(baselines, key=lambda method: baselines[method])
    lines = [
        line("given", [p.given_db for p in done.curve]),
        line("left out", [p.left_out_db for p in done.curve]),
        line(best, [baselines[best]] * len(done.curve)),
        line("asked for", [done.config.enough_db] * len(done.curve)),
    ]
    losses = [Curve(name="loss", points=tuple((p.step, float(np.log10(p.loss))) for p in done.curve if p.loss > 0))]
    charts = [curves(lines, "Foreground PSNR", x_label="steps", y_label="dB")]
    if losses[0].points:
        charts.append(curves(losses, "Loss", x_label="steps", y_label="log10 of the loss"))
    return charts


def _rows(done: Overfit, names: Sequence[str], k: int) -> list[list[Titled]]:
    """Truth above, prediction below; the left-out view last, with its alpha and error."""
    made = done.left_out_made["gslrm"][0][k]
    hull = done.left_out_made["visual_hull"][0][k]
    given_db, db = done.given_figures["psnr_fg"][k], done.left_out_figures
    true = [
        (f"{names[k]}, view {view}", image) for view, image in zip(done.given_names, done.given.images[k], strict=True)
    ]
    predicted = [(f"given: {float(v):.1f} dB", i) for v, i in zip(given_db, done.given_made[k], strict=True)]
    ours, theirs = float(db["gslrm"]["psnr_fg"][k]), float(db["visual_hull"]["psnr_fg"][k])
    truth = done.left_out.images[k]
    return [
        [*true, (f"view {done.left_out_name}, left out", truth), (f"visual hull: {theirs:.1f} dB", hull)],
        [*predicted, (f"left out: {ours:.1f} dB", made), ("its error", error_picture(made, truth))],
    ]


def _strip(done: Overfit, names: Sequence[str], k: int) -> Html:
    """Two rows of pictures of one sample, large enough to be seen."""
    made, alpha = (layer[k] for layer in done.left_out_made["gslrm"])
    truth = done.left_out.images[k]
    above = torch.cat([*done.given.images[k], truth, alpha_picture(alpha)], dim=2)
    below = torch.cat([*done.given_made[k], made, error_picture(made, truth)], dim=2)
    pixels = to_uint8(torch.cat([above, below], dim=1))
    times = max(1, -(-MIN_PICTURE_PX // done.config.size_px))
    given_db, left_out_db = done.given_figures["psnr_fg"][k], done.left_out_figures["gslrm"]["psnr_fg"][k]
    caption = f"{names[k]}: given {float(given_db.nanmean()):.1f} dB, left out {float(left_out_db):.1f} dB"
    return picture(pixels.repeat(times, axis=0).repeat(times, axis=1), caption)
