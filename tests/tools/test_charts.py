"""Charts are well-formed SVG that has what the data say, where the data say it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tools.charts import Bars, Lines, bar_chart, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def test_a_line_chart_has_a_line_for_every_series():
    series = {"a & b": [(16.0, 2.0), (128.0, 9.0)], "c": [(16.0, 20.0), (384.0, 500.0)]}
    chart = ElementTree.fromstring(line_chart(Lines("t", "x", "y", series)))
    lines = [line.get("points").split() for line in chart.iter(f"{SVG}polyline")]
    heights = [float(point.split(",")[1]) for line in lines for point in line]
    assert heights == sorted(heights, reverse=True)  # larger values are higher up
    assert "a & b" in {text.text for text in chart.iter(f"{SVG}text")}


def test_a_bar_below_its_floor_has_another_color():
    rows = [("met", 2.0, 4.0, 3.0), ("missed", 2.0, None, 1.0)]
    chart = ElementTree.fromstring(bar_chart(Bars("t", "times", rows)))
    met, missed = list(chart.iter(f"{SVG}rect"))[1:]
    assert float(met.get("width")) == pytest.approx(3 * float(missed.get("width")), rel=0.01)
    assert met.get("fill") != missed.get("fill")
    assert len(list(chart.iter(f"{SVG}circle"))) == 1
