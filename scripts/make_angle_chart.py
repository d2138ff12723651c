"""Quality over the angle from the given view, of several evaluations in one chart.

    python scripts/make_angle_chart.py --runs body=runs/evaluation generator=runs/evaluation_generator \
        --out docs/results/by_angle.svg

Each run is an output folder of `mouselift evaluate`; its lines are those of the method `polished`, and the baselines
are those of the first run. Intervals are 95 % bootstrap intervals over samples.
"""

import json
import sys
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
        file = Path(folder) / "metrics.json"
        if not file.is_file():
            raise InputError(f"expected an evaluation with {file.name}, found none at {folder}")
        summary = json.loads(file.read_text())
        found = summary["methods"].get(method)
        if found is None or not isinstance(found["by_angle"][0]["psnr_fg"], dict):
            raise InputError(
                f"{file}: expected {method} by angle with intervals, found another evaluation; run it again"
            )
        lines[name] = found
        for baseline in BASELINES:
            lines.setdefault(baseline.replace("_", " "), summary["methods"][baseline])
    if not lines:
        raise InputError("expected at least one run as NAME=FOLDER, found none")
    metrics = [metric for metric in next(iter(lines.values())) if all(metric in entry for entry in lines.values())]
    metrics.remove("by_angle")
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
    try:
        tyro.cli(make_angle_chart)
    except InputError as error:
        sys.exit(f"make_angle_chart: error: {error}")
