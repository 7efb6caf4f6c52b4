"""Drawings of series: a small one for a line of text, and a large one with axes for a page of its own.

They are made without Vega, because a report has hundreds of them. Their colours are classes of `history.css`, which are
shorter than attributes. Runs are drawn in the order of time and equally far apart, so that each can be seen.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench_core.history.series import Event, Point, Series
from bench_core.report.axes import linear_ticks
from bench_core.report.svg import SHAPES, Drawing

_LEAST_SPAN = 0.05  # of an axis, as a share of its middle: noise below it looks like a level
_MOST_DRAWN = 160  # values of a sparkline, marks of a chart; of more, the smallest and the largest of each group
_ACROSS, _HIGH = 160, 32  # of a sparkline, in pixels
_PARTS = 2  # of a pixel, so that coordinates are short integers
_WIDTH, _PLOT, _LEFT, _RIGHT, _BELOW = 736, 220, 76, 40, 26  # of a chart, in pixels
_LANE = 16  # height of a line of numbers above a chart
_APART = 17  # between two numbers in one line
_MOST_DATES = 7
MARKS = {"worse": "diamond", "better": "circle", "step": "square"}  # the shape of a step by what it means


@dataclass(frozen=True, slots=True)
class _Scale:
    """The places of points in a drawing. low, high: the values at the bottom and at the top."""

    low: float
    high: float
    left: float
    across: float  # between two runs
    top: float
    tall: float

    @classmethod
    def of(cls, series: Series, values: Sequence[float], left: float, right: float, top: float, tall: float) -> _Scale:
        low, high = min(values), max(values)
        middle = (low + high) / 2
        half = max(high - low, _LEAST_SPAN * middle) / 2
        across = (right - left) / max(1, len(series.points) - 1)
        return cls(middle - half, middle + half, left, across, top, tall)

    def x(self, index: float) -> float:
        return self.left + self.across * index

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.top + self.tall * (1 - min(1.0, max(0.0, share)))

    def levels(self, series: Series) -> str:
        return "".join(
            f"M{self.x(start):.0f} {self.y(level):.0f}H{self.x(end - 1):.0f}"
            for start, end, level in series.levels
            if end > start + 1
        )

    def middle(self, event: Event) -> tuple[float, float]:
        """Return where a step is: between its levels, and between the runs on both sides."""
        return self.x(event.index - 0.5), (self.y(event.before) + self.y(event.after)) / 2


def _add(to: ET.Element, tag: str, **attributes: Any) -> ET.Element:
    named = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    return ET.SubElement(to, tag, named)


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Return the path along these points, in steps of whole numbers."""
    whole = [(round(x), round(y)) for x, y in points]
    steps = (f"{x - a} {y - b}" for (a, b), (x, y) in pairwise(whole))
    return f"M{whole[0][0]} {whole[0][1]}l{' '.join(steps)}"


def _mark(to: ET.Element, word: str, x: float, y: float, scale: float) -> None:
    _add(to, "path", class_=word, d=SHAPES[MARKS[word]], transform=f"translate({x:.0f} {y:.0f})scale({scale:g})")


def sparkline(series: Series, about: str) -> ET.Element:
    """Return the series as a small drawing, its levels, its steps as marks and its breaks as lines."""
    width, height, edge = _ACROSS * _PARTS, _HIGH * _PARTS, 5 * _PARTS
    root = ET.Element("svg", {"class": "spark", "viewBox": f"0 0 {width} {height}", "role": "img"})
    _add(root, "title").text = about
    place = _Scale.of(series, series.values, edge, width - edge, edge, height - 2 * edge)
    breaks = [event for event in series.events if event.kind == "break"]
    if breaks:
        _add(root, "path", class_="break", d="".join(f"M{place.x(e.index - 0.5):.0f} 0V{height}" for e in breaks))
    _add(root, "path", class_="level", d=place.levels(series))
    _add(root, "path", d=_path([(place.x(i), place.y(series.values[i])) for i in _drawn(series.values)]))
    for event in series.events:
        if event.kind == "step":
            _mark(root, series.meaning(event) or "step", *place.middle(event), _PARTS)
    return root


def _drawn(values: Sequence[float]) -> list[int]:
    """Return the places of the values that are drawn: all, or of each group the smallest and the largest."""
    if len(values) <= _MOST_DRAWN:
        return list(range(len(values)))
    ends = [round(i * len(values) / (_MOST_DRAWN // 2)) for i in range(_MOST_DRAWN // 2 + 1)]
    groups = [range(a, b) for a, b in pairwise(ends)]
    extremes = {f(group, key=values.__getitem__) for group in groups for f in (min, max)}
    return sorted({0, *extremes, len(values) - 1})


def chart(series: Series, name: str, title: str, about: str, tip: Callable[[Point], str]) -> Drawing:
    """Return the series as a large drawing. name: makes its ids unique. tip: returns the tooltip of a point.

    Where there are too many, only the smallest and the largest of each group of points have a mark and a tooltip. An
    event has the number of its place in `series.events`, from 1.
    """
    lanes = _lanes(series)
    top = _LANE * (1 + max(lanes, default=-1)) + 10
    bottom = top + _PLOT
    height = bottom + _BELOW
    ranges = [
        (point.value if point.low is None else point.low, point.value if point.high is None else point.high)
        for point in series.points
    ]
    values = series.values
    room = max(values) - min(values) or min(values) * _LEAST_SPAN  # an interval that is far wider is cut off
    within = [max(min(values) - room, low) for low, _ in ranges] + [min(max(values) + room, high) for _, high in ranges]
    place = _Scale.of(series, within, _LEFT + 12, _WIDTH - _RIGHT, top + 8, _PLOT - 16)
    size = {"viewBox": f"0 0 {_WIDTH} {height}", "width": str(_WIDTH), "height": str(height)}
    root = ET.Element("svg", {"class": "runs", **size, "role": "img"})
    root.set("aria-labelledby", f"{name}-title {name}-about")
    _add(root, "title", id=f"{name}-title").text = title
    _add(root, "desc", id=f"{name}-about").text = about
    for tick, label in linear_ticks(place.low, place.high, series.subject.unit).items():
        _add(root, "path", class_="grid", d=f"M{_LEFT} {place.y(tick):.1f}H{_WIDTH}")
        _add(root, "text", x=_LEFT - 8, y=f"{place.y(tick) + 4:.1f}", class_="up").text = label
    _add(root, "path", class_="axis", d=f"M{_LEFT} {bottom}H{_WIDTH}")
    _dates(root, series, place, bottom)
    _events(root, series, place, lanes, bottom)
    _add(root, "path", d=_path([(place.x(i), place.y(value)) for i, value in enumerate(values)]), class_="values")
    _add(root, "path", class_="level", d=place.levels(series))
    for i in _drawn(values):
        point, (low, high) = series.points[i], ranges[i]
        group = _add(root, "g")
        _add(group, "title").text = tip(point)
        x = f"{place.x(i):.0f}"
        if high > low:
            _add(group, "path", d=f"M{x} {place.y(low):.0f}V{place.y(high):.0f}")
        _add(group, "circle", cx=x, cy=f"{place.y(point.value):.0f}", r="3")
    for event in series.events:
        if event.kind == "step":
            _mark(root, series.meaning(event) or "step", *place.middle(event), 1.5)
    return Drawing(title, root, _WIDTH, height)


def _lanes(series: Series) -> list[int]:
    """Return for each event in which line above the chart its number stands: the lowest in which there is room."""
    across = (_WIDTH - _RIGHT - _LEFT - 12) / max(1, len(series.points) - 1)
    ends: list[float] = []
    lanes = []
    for event in series.events:
        x = across * event.index
        lane = next((i for i, end in enumerate(ends) if x >= end), len(ends))
        ends[lane : lane + 1] = [x + _APART]
        lanes.append(lane)
    return lanes


def _events(root: ET.Element, series: Series, place: _Scale, lanes: Sequence[int], bottom: float) -> None:
    """Draw a line for each event with its number above, and behind that of a step the runs between which it lies."""
    places = {point.run_id: i for i, point in enumerate(series.points)}
    base = _LANE * (1 + max(lanes, default=-1))
    for number, (event, lane) in enumerate(zip(series.events, lanes, strict=True), 1):
        x, y = place.x(event.index - 0.5), base - _LANE * lane
        first, last = places[event.earliest.run_id], places[event.latest.run_id]
        if event.kind == "step" and last - first > 1:
            left, right = place.x(first), place.x(last)
            box = {"x": f"{left:.0f}", "width": f"{right - left:.0f}", "y": base + 10, "height": bottom - base - 10}
            _add(root, "rect", class_="range", **box)
        _add(root, "path", class_=event.kind if event.kind == "break" else "at", d=f"M{x:.0f} {y + 3}V{bottom}")
        _add(root, "text", x=f"{x:.0f}", y=y, class_="event").text = str(number)


def _dates(root: ET.Element, series: Series, place: _Scale, bottom: float) -> None:
    """Label some runs with their date, or with their time if it is that of the label before."""
    last = len(series.points) - 1
    count = min(last, _MOST_DATES - 1)
    before = None
    for i in dict.fromkeys(round(k * last / max(1, count)) for k in range(count + 1)):
        at = series.points[i].started_at
        _add(root, "path", class_="axis", d=f"M{place.x(i):.0f} {bottom}v4")
        words = f"{at:%H:%M}" if at.date() == before else f"{at:%Y-%m-%d}"
        _add(root, "text", x=f"{place.x(i):.0f}", y=bottom + 18, class_="date").text = words
        before = at.date()
