"""Charts are well-formed and count right."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mouselift.export.charts import Curve, Lane, curves, histogram, spans_of, timeline, write_charts


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)  # raises where tags do not nest


def test_a_timeline_places_its_spans_to_scale() -> None:
    lanes = [
        Lane(name="<training>", spans=((0, 49), (60, 99))),
        Lane(name="validation", spans=((52, 57),), hue="second"),
    ]
    root = parsed(timeline(lanes, 100))
    bars = [bar for bar in root.iter("rect") if bar.get("class") != "ground"]
    widths = [float(bar.get("width", "0")) for bar in bars]
    assert widths[0] == pytest.approx(widths[1] * 50 / 40, rel=1e-3)
    assert float(bars[1].get("x", "0")) > float(bars[2].get("x", "0")) > float(bars[0].get("x", "0"))
    assert bars[2].findtext("title") == "validation: 52 to 57"
    assert "<training>" in [text.text for text in root.iter("text")]


def test_a_histogram_counts_all_and_marks_what_is_beyond() -> None:
    values = np.array([0.1, 0.2, 0.3, 9.0, np.nan])
    root = parsed(histogram(values, "camera", top=2.0, bins=4))
    labels = [bar.findtext("title") or "" for bar in root.iter("rect")]
    assert sum(int(label.rsplit(" ", 1)[1]) for label in labels) == 4
    assert [bar.get("class") for bar in root.iter("rect")] == ["main", "bad"]
    assert any(re.fullmatch("n = 4", text.text or "") for text in root.iter("text"))
    parsed(histogram(np.array([np.nan]), "nothing", top=1.0))


def test_samples_that_follow_each_other_are_one_span() -> None:
    assert spans_of([0, 5, 10, 30, 35], 5) == ((0, 14), (30, 39))
    assert spans_of([7], 1) == ((7, 7),)
    assert spans_of([], 3) == ()


def test_equal_factors_are_equally_far_apart_on_a_logarithmic_axis() -> None:
    line = Curve(name="a", points=((1, 0.0), (4, 1.0), (16, 0.5)))
    chart = parsed(curves([line], "t", x_label="x", y_label="y", x_ticks=(1, 4, 16), x_log=True))
    marks = [float(mark.get("cx", "0")) for mark in chart.iter("circle")]
    assert marks[1] - marks[0] == pytest.approx(marks[2] - marks[1], abs=0.2)
    assert {"1", "4", "16"} <= {text.text for text in chart.iter("text")}


def test_a_line_with_some_intervals_only_is_refused() -> None:
    line = Curve(name="a", points=((1, 0.0), (4, 1.0)), low=(0.0,), high=(1.0, 2.0))
    with pytest.raises(ValueError, match="zip"):
        curves([line], "t", x_label="x", y_label="y")


def test_charts_become_one_file_that_stands_alone(tmp_path) -> None:
    charts = [curves([Curve(name=n, points=((0, 1), (1, 2)))], n, x_label="x", y_label="y") for n in "abc"]
    write_charts(charts, tmp_path / "charts.svg")
    root = ElementTree.parse(tmp_path / "charts.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    places = [(float(one.get("x", "-1")), float(one.get("y", "-1"))) for one in root.findall("{*}svg")]
    assert places == [(0, 0), (460, 0), (0, 260)]
    assert root.get("viewBox") == "0 0 920 520"
