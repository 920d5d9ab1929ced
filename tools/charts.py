"""Plain charts as SVG text: lines on two logarithmic axes, labeled points, bars with goals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple
from xml.sax.saxutils import escape

COLORS = ("#1b6ca8", "#0a9396", "#bb3e03", "#ee9b00", "#9b2226", "#5e548e", "#6c757d", "#3a5a40")
_WIDTH = 860
_STYLE = "font-family:sans-serif;font-size:12px"


@dataclass(frozen=True)
class Lines:
    """Series of positive (x, y) points; both axes are logarithmic."""

    title: str
    x_label: str
    y_label: str
    series: Dict[str, List[Tuple[float, float]]]


@dataclass(frozen=True)
class Bars:
    """A bar for each row: label, floor, aim (or ``None``) and value, the last three in ``unit``."""

    title: str
    unit: str
    rows: Sequence[Tuple[str, float, Optional[float], float]]


@dataclass(frozen=True)
class Points:
    """Series of labeled (x, y) points; x is positive and logarithmic, y linear."""

    title: str
    x_label: str
    y_label: str
    series: Dict[str, List[Tuple[float, float, str]]]


class _Axis:
    """A logarithmic scale from values to pixels."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        self._low, high = math.log(min(values)), math.log(max(values))
        self._start = start
        self._per_unit = (stop - start) / (high - self._low) if high > self._low else 0.0

    def __call__(self, value: float) -> float:
        return self._start + (math.log(value) - self._low) * self._per_unit


def line_chart(lines: Lines) -> str:
    """The SVG of a line chart; ticks at every x of a point, and at 1, 2 and 5 times powers of ten of y."""
    points = [point for series in lines.series.values() for point in series]
    left, top, right, bottom = 60, 50, 500, 400
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    across, up = _Axis(xs, left, right), _Axis(ys, bottom, top)
    parts = [_text(left, 24, lines.title, size=15)]
    for x in xs:
        parts.append(_line(across(x), top, across(x), bottom, "#e5e5e5"))
        parts.append(_text(across(x), bottom + 18, f"{x:g}", anchor="middle"))
    for y in _ticks(min(ys), max(ys)):
        parts.append(_line(left, up(y), right, up(y), "#e5e5e5"))
        parts.append(_text(left - 8, up(y) + 4, f"{y:g}", anchor="end"))
    parts.append(_text((left + right) / 2, bottom + 38, lines.x_label, anchor="middle"))
    parts.append(_text(left - 8, top - 10, lines.y_label, anchor="end"))
    for index, (name, series) in enumerate(lines.series.items()):
        color = COLORS[index % len(COLORS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in series)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{color}"/>' for x, y in series]
        parts.append(_line(right + 20, top + 20 * index, right + 44, top + 20 * index, color, 2))
        parts.append(_text(right + 50, top + 20 * index + 4, name))
    return _svg(_WIDTH, bottom + 55, parts)


def point_chart(points: Points) -> str:
    """The SVG of a chart of labeled points; ticks at 1, 2 and 5 times powers of ten of x, and at whole y."""
    every = [point for series in points.series.values() for point in series]
    left, top, right, bottom = 60, 50, 660, 460
    xs, ys = [x for x, _, _ in every], [y for _, y, _ in every]
    across = _Axis(xs, left + 20, right - 90)
    low, high = math.floor(min(ys)) - 1, math.ceil(max(ys)) + 1
    step = max(1, round((high - low) / 8))

    def up(y: float) -> float:
        return bottom - (y - low) * (bottom - top) / (high - low)

    parts = [_text(left, 24, points.title, size=15)]
    for x in _ticks(min(xs), max(xs)):
        parts.append(_line(across(x), top, across(x), bottom, "#e5e5e5"))
        parts.append(_text(across(x), bottom + 18, f"{x:g}", anchor="middle"))
    for y in range(low, high + 1, step):
        parts.append(_line(left, up(y), right, up(y), "#e5e5e5"))
        parts.append(_text(left - 8, up(y) + 4, f"{y}", anchor="end"))
    parts.append(_text((left + right) / 2, bottom + 38, points.x_label, anchor="middle"))
    parts.append(_text(left - 8, top - 10, points.y_label, anchor="end"))
    for index, (name, series) in enumerate(points.series.items()):
        color = COLORS[index % len(COLORS)]
        for x, y, label in series:
            parts.append(f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4" fill="{color}"/>')
            parts.append(_text(across(x) + 7, up(y) + 4, label, size=11))
        parts.append(f'<circle cx="{right + 20}" cy="{top + 20 * index}" r="4" fill="{color}"/>')
        parts.append(_text(right + 30, top + 20 * index + 4, name))
    return _svg(_WIDTH, bottom + 55, parts)


def bar_chart(bars: Bars) -> str:
    """The SVG of a bar chart: a bar per row, a line at its floor, a ring at its aim; red below the floor."""
    left, top, right, step = 430, 50, 790, 24
    most = max(max(value, floor, aim or 0.0) for _, floor, aim, value in bars.rows)
    scale = (right - left) / most
    parts = [_text(10, 24, bars.title, size=15)]
    for index, (label, floor, aim, value) in enumerate(bars.rows):
        y = top + step * index
        color = COLORS[0] if value >= floor else COLORS[4]
        parts.append(_text(left - 8, y + 13, label, anchor="end"))
        parts.append(f'<rect x="{left}" y="{y}" width="{value * scale:.1f}" height="16" fill="{color}"/>')
        parts.append(_line(left + floor * scale, y - 3, left + floor * scale, y + 19, "#000000", 2))
        if aim is not None:
            x = left + aim * scale
            parts.append(f'<circle cx="{x:.1f}" cy="{y + 8}" r="5" fill="none" stroke="#000000"/>')
        beyond = left + max(value, floor, aim or 0.0) * scale
        parts.append(_text(beyond + 10, y + 13, f"{value:.1f}"))
    parts.append(_text(left, top + step * len(bars.rows) + 16, bars.unit))
    return _svg(_WIDTH, top + step * len(bars.rows) + 30, parts)


def _ticks(low: float, high: float) -> List[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [mantissa * 10.0**decade for decade in decades for mantissa in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="font-size:{size}px"'
    return f"<text {place}>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width}"/>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" style="{_STYLE}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>"]) + "\n"
