"""Small charts for reports, as SVG inside the page: sharp at any size, in the page's own colours, no scripts."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from mouselift.atomic import atomic_path
from mouselift.export.report_html import Html

Hue = Literal["main", "second", "quiet", "bad"]
WIDTH, NAME_WIDTH, LANE_HEIGHT, BAR_HEIGHT = 1000, 150, 30, 16
MIN_SPAN_PX = 2.0
PLOT_WIDTH, PLOT_HEIGHT = 300, 130
MAX_TICKS = 6
CURVES_WIDTH, CURVES_HEIGHT = 460, 260
MAX_MARKED = 12  # points of a line that each get a mark
NAME_STEP = 15  # between the names of lines
CURVE_COLOURS = ("#2f74c8", "#1a9c86", "#b0568f", "#d08a1d", "#7a7f8c", "#8a63c9", "#d2453b")  # on light and dark paper


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One row of a timeline.

    Attributes:
        name: Written beside it.
        spans: First and last instant of every stretch, both included.
        hue: Of its bars.
    """

    name: str
    spans: tuple[tuple[int, int], ...]
    hue: Hue = "main"


def timeline(lanes: Sequence[Lane], num_instants: int) -> Html:
    """Stretches of time in rows over a common axis of instants.

    Args:
        lanes: From the top.
        num_instants: The axis runs from 0 to this.
    """
    scale = (WIDTH - NAME_WIDTH - 10) / max(num_instants, 1)
    parts = []
    for k, lane in enumerate(lanes):
        y = k * LANE_HEIGHT + (LANE_HEIGHT - BAR_HEIGHT) / 2
        parts.append(_text(NAME_WIDTH - 12, y + BAR_HEIGHT - 4, lane.name, "end"))
        parts.append(_rect(NAME_WIDTH, y, num_instants * scale, BAR_HEIGHT, "ground"))
        for first, last in lane.spans:
            width = max((last + 1 - first) * scale, MIN_SPAN_PX)
            label = f"{lane.name}: {first}" if first == last else f"{lane.name}: {first} to {last}"
            parts.append(_rect(NAME_WIDTH + first * scale, y, width, BAR_HEIGHT, lane.hue, label))
    bottom = len(lanes) * LANE_HEIGHT + 14
    for tick in _ticks(0, num_instants):
        x = NAME_WIDTH + tick * scale
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom - 14}"/>')
        anchor = "end" if x > WIDTH - 30 else "middle"  # a number at the edge would be cut
        parts.append(_text(x, bottom, f"{tick:g}", anchor, "quiet"))
    parts.append(_text(NAME_WIDTH - 12, bottom, "instant", "end", "quiet"))
    label = ", ".join(lane.name for lane in lanes)
    return _svg(WIDTH, bottom + 6, f"Timeline of {num_instants} instants: {label}", parts, "wide")


def histogram(values: Float[np.ndarray, "n"], title: str, *, top: float, bins: int = 30, unit: str = "px") -> Html:
    """How often values between 0 and `top` occur; larger ones are counted in the last bar, which then is red.

    Args:
        values: NaN are left out.
        title: Written above.
        top: Where the axis ends.
        bins: Bars.
        unit: Of the values.
    """
    known = values[np.isfinite(values)]
    counts, _ = np.histogram(np.minimum(known, top * (1 - 1e-9)), bins, (0.0, top))
    left, bottom, height = 8, PLOT_HEIGHT - 20, PLOT_HEIGHT - 44
    step = (PLOT_WIDTH - 2 * left) / bins
    parts = [_text(left, 15, title), _text(PLOT_WIDTH - left, 15, f"n = {len(known)}", "end", "quiet")]
    beyond = bool((known > top).any())
    for k, count in enumerate(counts):
        if not count:
            continue
        tall = max(height * count / counts.max(), 1.0)
        hue = "bad" if beyond and k == bins - 1 else "main"
        label = f"{k * top / bins:.3g} to {(k + 1) * top / bins:.3g} {unit}: {count}"
        parts.append(_rect(left + k * step, bottom - tall, step - 1, tall, hue, label))
    parts.append(f'<line class="axis" x1="{left}" x2="{PLOT_WIDTH - left}" y1="{bottom}" y2="{bottom}"/>')
    for tick in _ticks(0, top):
        place = left + tick / top * (PLOT_WIDTH - 2 * left)
        last = tick == top
        text = f"{tick:g} {unit}" if last else f"{tick:g}"
        parts.append(_text(place, bottom + 15, text, "end" if last else "start" if tick == 0 else "middle", "quiet"))
    return _svg(PLOT_WIDTH, PLOT_HEIGHT, f"Histogram: {title}", parts)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of a chart.

    Attributes:
        name: Written at its end.
        points: (x, y), by x; y that is not finite is left out.
        low: Lower ends of intervals about the points, or none.
        high: Upper ends.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


def curves(
    lines: Sequence[Curve],
    title: str,
    *,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[float] = (),
    x_log: bool = False,
) -> Html:
    """Lines over a common axis, each named at its end; intervals are bars.

    Args:
        lines: In the order of their colours; at least one finite point among them.
        title: Written above.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        x_ticks: Where numbers stand below the axis; round ones when not given.
        x_log: The axis has equal factors at equal distances.
    """
    spread = [v for line in lines for v in (*(y for _, y in line.points), *line.low, *line.high) if np.isfinite(v)]
    xs = [*x_ticks, *(x for line in lines for x, _ in line.points)]
    x_span, y_span = (min(xs), max(xs)), (min(spread), max(spread))
    along = np.log if x_log else float
    left, right, top, bottom = 44, CURVES_WIDTH - 110, 46, CURVES_HEIGHT - 34

    def place(x: float, y: float) -> tuple[float, float]:
        across = (along(x) - along(x_span[0])) / max(along(x_span[1]) - along(x_span[0]), 1e-9)
        up = (y - y_span[0]) / max(y_span[1] - y_span[0], 1e-9)
        return left + across * (right - left), bottom - up * (bottom - top)

    parts = [_text(left, 15, title), _text(left - 36, top - 12, y_label, "start", "quiet")]
    for tick in _ticks_between(*y_span):
        y = place(x_span[0], tick)[1]
        parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 6, y + 4, f"{tick:g}", "end", "quiet"))
    for tick in x_ticks or _ticks_between(*x_span):
        parts.append(_text(place(tick, y_span[0])[0], bottom + 16, f"{tick:g}", "middle", "quiet"))
    parts.append(_text((left + right) / 2, bottom + 31, x_label, "middle", "quiet"))
    ends: list[tuple[float, str]] = []
    for k, line in enumerate(lines):
        colour = CURVE_COLOURS[k % len(CURVE_COLOURS)]
        places = [place(x, y) for x, y in line.points if np.isfinite(y)]
        if not places:
            continue
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, _), low, high in zip(line.points if line.low else (), line.low, line.high, strict=True):
            (at, y0), (_, y1) = place(x, low), place(x, high)
            parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y0:.1f}" y2="{y1:.1f}" stroke="{colour}"/>')
        if len(places) <= MAX_MARKED:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        ends.append((places[-1][1], f'fill="{colour}" x="{right + 8}">{html.escape(line.name)}'))
    lowest = -np.inf
    for y, text in sorted(ends):  # names that would lie on each other are moved down
        lowest = max(y, lowest + NAME_STEP)
        parts.append(f'<text y="{lowest + 4:.1f}" {text}</text>')
    return _svg(CURVES_WIDTH, max(CURVES_HEIGHT, lowest + 10), f"{title}: {y_label} over {x_label}", parts)


def write_charts(charts: Sequence[Html], path: Path, columns: int = 2) -> None:
    """Charts (`curves`, `histogram`) as one SVG file that can be read on light and dark paper.

    Args:
        charts: Of one size.
        path: Written atomically.
        columns: Charts beside each other.
    """
    boxes = [re.search(r'viewBox="0 0 (\S+) (\S+)"', chart) for chart in charts]
    sizes = [(float(box[1]), float(box[2])) for box in boxes if box is not None]
    width, height = (max(size[k] for size in sizes) for k in (0, 1))
    parts = []
    for k, (chart, size) in enumerate(zip(charts, sizes, strict=True)):
        inner = chart[chart.index("<svg") + 4 : chart.rindex("</div>")]
        place = f'x="{k % columns * width:g}" y="{k // columns * height:g}" width="{size[0]:g}" height="{size[1]:g}"'
        parts.append(f"<svg {place}{inner}")
    columns = min(columns, len(charts))
    box = f"0 0 {columns * width:g} {-(-len(charts) // columns) * height:g}"
    style = "text{font:13px sans-serif}.ink,.quiet{fill:#888}.axis{stroke:#8885}.main{fill:#2f74c8}.bad{fill:#d2453b}"
    with atomic_path(path) as partial:
        partial.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}"><style>{style}</style>{"".join(parts)}</svg>\n',
            encoding="utf-8",
        )


def spans_of(instants: Sequence[int], step: int) -> tuple[tuple[int, int], ...]:
    """Runs of instants that follow each other by at most `step`, each lasting to the next instant's step."""
    spans: list[tuple[int, int]] = []
    for instant in sorted(instants):
        if spans and instant - spans[-1][1] <= 1:
            spans[-1] = (spans[-1][0], instant + step - 1)
        else:
            spans.append((instant, instant + step - 1))
    return tuple(spans)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`."""
    span = max(high - low, 1e-9)
    power = 10.0 ** np.floor(np.log10(span / MAX_TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= MAX_TICKS)
    return [float(f"{low + k * step:.6g}") for k in range(int(span / step + 1e-6) + 1)]


def _ticks_between(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, which need not begin at 0."""
    step = max(_ticks(0, max(high - low, 1e-9))[1], 1e-9)
    first = int(np.ceil(low / step - 1e-6))
    return [float(f"{k * step:.6g}") for k in range(first, int(np.floor(high / step + 1e-6)) + 1)]


def _rect(x: float, y: float, width: float, height: float, hue: str, label: str = "") -> str:
    said = f"<title>{html.escape(label)}</title>" if label else ""
    return f'<rect class="{hue}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">{said}</rect>'


def _text(x: float, y: float, text: str, anchor: str = "start", hue: str = "ink") -> str:
    return f'<text class="{hue}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: Sequence[str], kind: str = "") -> Html:
    return Html(
        f'<div class="scroll"><svg class="chart {kind}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(parts)}</svg></div>'
    )
