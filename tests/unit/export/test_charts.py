"""Charts are well-formed and count right."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mouselift.export.charts import Lane, histogram, spans_of, timeline


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
