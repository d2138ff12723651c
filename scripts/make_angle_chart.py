"""Quality over the angle from the given view, of several evaluations in one chart.

    python scripts/make_angle_chart.py --runs body=runs/evaluation generator=runs/evaluation_generator \
        --out docs/results/by_angle.svg

Each run is an output folder of `mouselift evaluate`; its lines are those of the method `polished`, and the baselines
are those of the first run. Intervals are 95 % bootstrap intervals over samples.
"""

import json
from pathlib import Path

import tyro

from mouselift.errors import InputError
from mouselift.export.charts import curves, write_charts
from mouselift.export.evaluation_html import by_angle

BASELINES = ("nearest_view", "mean_image")


def make_angle_chart(runs: tuple[str, ...], out: Path, method: str = "polished") -> None:
    """Draw.

    Args:
        runs: NAME=FOLDER each.
        out: The SVG file.
        method: Of every run.
    """
    lines: dict[str, dict] = {}
    for run in runs:
        name, _, folder = run.partition("=")
        if not folder:
            raise InputError(f"expected NAME=FOLDER, found {run!r}")
        summary = json.loads((Path(folder) / "metrics.json").read_text())
        lines[name] = summary["methods"][method]
        for baseline in BASELINES:
            lines.setdefault(baseline.replace("_", " "), summary["methods"][baseline])
        metrics = [metric for metric in summary["metrics"] if all(metric in entry for entry in lines.values())]
    ordered = sorted(lines, key=lambda name: name.replace(" ", "_") in BASELINES)
    charts = [
        curves(
            [by_angle(lines[name], name, metric) for name in ordered],
            metric,
            x_label="degrees from the given view",
            y_label="dB" if metric.startswith("psnr") else "",
            x_ticks=tuple(range(0, 181, 30)),
        )
        for metric in metrics
    ]
    write_charts(charts, out)


if __name__ == "__main__":
    tyro.cli(make_angle_chart)
