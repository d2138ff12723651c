"""Small charts for reports, as SVG inside the page: sharp at any size, in the page's own colours, no scripts."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from mouselift.export.report_html import Html

Hue = Literal["main", "second", "quiet", "bad"]
WIDTH, NAME_WIDTH, LANE_HEIGHT, BAR_HEIGHT = 1000, 150, 30, 16
MIN_SPAN_PX = 2.0
PLOT_WIDTH, PLOT_HEIGHT = 300, 130
MAX_TICKS = 6


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
