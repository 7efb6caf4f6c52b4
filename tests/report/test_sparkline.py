"""Drawings of series: everything is where its value and its run are, and inside the drawing."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import accumulate

import pytest

from bench_core.history.series import Environment, Point, Subject, examined

pytest.importorskip("vl_convert", reason="reports need the extra `report`")

from bench_core.report import sparkline, svg

WORK = ("desk", "matmul", "matmul", 1, "64", "float32", "ieee", "", "case", "numpy", "default", "cpu", 2)
BREAK = {"a": Environment({}, {"gpu.driver": "1"}), "b": Environment({}, {"gpu.driver": "2"})}


def series_of(values, *, env_ids=None, better="lower", unit="s", spread=0.01):
    """Return the series of runs that began a day apart, each with an interval, examined for steps and breaks."""
    subject = Subject(*WORK, "time", unit, better, "wall", "resident", "hot")
    at = datetime(2001, 1, 1, 6)
    points = [
        Point(f"r{i:04}", at + timedelta(days=i), v, v * (1 - spread), v * (1 + spread), env, "abcdef0123456789")
        for i, (v, env) in enumerate(zip(values, env_ids or "a" * len(values), strict=True))
    ]
    return examined(subject, points, lambda _, point: BREAK[point.env_id])


def wavy(n, level=1.0):
    return [level * (1 + 0.004 * ((7 * i) % 5 - 2)) for i in range(n)]


STEP = series_of(wavy(20) + wavy(20, 1.25))
BROKEN = series_of(wavy(20) + wavy(20, 0.9), env_ids="a" * 20 + "b" * 20)


def drawn(series):
    return sparkline.chart(series, "c", "title", "about", lambda point: f"run {point.run_id}")


def coordinates(root):
    """Return all places in a drawing, None for a coordinate that stays; those of relative paths are added up."""
    found = [(float(e.get("cx")), float(e.get("cy"))) for e in root.iter("circle")]
    for path in root.iter("path"):
        if not path.get("transform"):
            for letter, rest in re.findall(r"([MlHVv])([^A-Za-z]*)", path.get("d")):
                found += moved(letter, [float(n) for n in rest.split()], found[-1] if found else None)
    return found


def moved(letter, numbers, last):
    if letter == "l":
        steps = zip(accumulate(numbers[::2]), accumulate(numbers[1::2]), strict=True)
        return [(last[0] + dx, last[1] + dy) for dx, dy in steps]
    return {"M": [tuple(numbers)], "H": [(numbers[0], None)], "V": [(None, numbers[0])], "v": []}[letter]


def test_a_step_is_a_mark_between_its_runs_and_its_levels_whose_shape_tells_what_it_means():
    for better, word in (("lower", "worse"), ("higher", "better"), ("", "step")):
        root = sparkline.sparkline(series_of(STEP.values, better=better), "about")
        (mark,) = root.findall(f"path[@class='{word}']")
        assert mark.get("d") == svg.SHAPES[sparkline.MARKS[word]]
        assert mark.get("transform").startswith("translate(160 32)")  # in the middle of 320 x 64
    assert len({svg.SHAPES[shape] for shape in sparkline.MARKS.values()}) == 3


def test_a_break_is_a_line_and_no_mark():
    root = sparkline.sparkline(BROKEN, "about")
    assert root.find("path[@class='break']").get("d") == "M160 0V64"
    assert [root.find(f"path[@class='{word}']") for word in sparkline.MARKS] == [None] * 3
    assert root.find("title").text == "about"


def test_a_steady_series_has_one_level_and_no_sign_of_a_change():
    root = sparkline.sparkline(series_of(wavy(40)), "about")
    assert [e.get("class") for e in root.findall("path")] == ["level", None]
    assert root.find("path[@class='level']").get("d").count("M") == 1


def test_noise_below_the_least_span_looks_flat_and_a_constant_is_a_line_in_the_middle():
    heights = {y for _, y in coordinates(sparkline.sparkline(series_of([2.0] * 12), "")) if y is not None}
    assert heights == {32}
    nearly = {y for _, y in coordinates(sparkline.sparkline(series_of([2.0, 2.001] * 6), "")) if y is not None}
    assert max(nearly) - min(nearly) <= 1


@pytest.mark.parametrize("scale", [1e-100, 1e-9, 1.0, 9e98])
@pytest.mark.parametrize("values", [[1, 1, 1], [1, 2, 3, 10], wavy(400), wavy(20) + wavy(20, 1.25)])
def test_everything_is_inside_the_drawing_whatever_the_values(scale, values):
    series = series_of([max(1e-100, scale * value) for value in values], spread=0.9)
    for root, width, height in ((sparkline.sparkline(series, ""), 320, 64), (drawn(series).root, 736, 300)):
        for x, y in coordinates(root):
            assert x is None or 0 <= x <= width
            assert y is None or 0 <= y <= height
        assert "nan" not in svg.markup(root)
        assert "inf" not in svg.markup(root).replace("info", "")


def test_of_many_values_a_sparkline_draws_the_extremes_of_each_group_and_both_ends():
    values = wavy(1000)
    values[501] = 1.4
    root = sparkline.sparkline(series_of(values), "")
    points = coordinates(root.findall("path")[-1])
    assert 100 < len(points) <= 2 + 160
    assert min(y for _, y in points) == 10  # the value that sticks out is at the top
    assert (points[0][0], points[-1][0]) == (10, 310)
    assert len(svg.markup(root)) < 2000


def test_a_chart_has_a_tooltip_for_each_run_a_name_and_a_description():
    root = drawn(STEP).root
    assert [e.text for e in root.findall("g/title")] == [f"run r{i:04}" for i in range(40)]
    assert root.get("aria-labelledby") == "c-title c-about"
    assert [(e.tag, e.get("id"), e.text) for e in root[:2]] == [
        ("title", "c-title", "title"),
        ("desc", "c-about", "about"),
    ]
    assert root.get("role") == "img"
    ET.fromstring(svg.markup(root))


def test_a_chart_numbers_its_events_and_draws_a_break_dashed():
    both = series_of(wavy(20) + wavy(20, 1.25) + wavy(20, 1.5), env_ids="a" * 40 + "b" * 20)
    root = drawn(both).root
    assert [e.kind for e in both.events] == ["step", "break"]
    assert [e.text for e in root.findall("text[@class='event']")] == ["1", "2"]
    step, broken = (float(e.get("x")) for e in root.findall("text[@class='event']"))
    assert root.find("path[@class='at']").get("d").startswith(f"M{step:.0f} ")
    assert root.find("path[@class='break']").get("d").startswith(f"M{broken:.0f} ")
    runs = [float(e.get("cx")) for e in root.findall("g/circle")]
    assert runs[19] < step < runs[20]
    assert runs[39] < broken < runs[40]


def test_a_chart_shows_the_runs_between_which_a_step_lies_if_there_are_any():
    (step,) = STEP.events
    assert drawn(replace(STEP, events=(replace(step, latest=STEP.points[20]),))).root.find("rect") is None
    root = drawn(replace(STEP, events=(replace(step, latest=STEP.points[21]),))).root
    runs = [float(e.get("cx")) for e in root.findall("g/circle")]
    box = root.find("rect[@class='range']")
    assert (float(box.get("x")), float(box.get("width"))) == pytest.approx((runs[19], runs[21] - runs[19]), abs=1)


def test_numbers_of_events_that_are_near_each_other_stand_above_each_other():
    series = series_of(wavy(200), env_ids="ab" * 100)
    root = drawn(series).root
    places = [(float(e.get("x")), float(e.get("y"))) for e in root.findall("text[@class='event']")]
    assert len(places) == 199
    near = [
        (a, b) for i, a in enumerate(places) for b in places[i + 1 : i + 30] if abs(a[0] - b[0]) < 16 and a[1] == b[1]
    ]
    assert near == []
    assert min(y for _, y in places) > 8


def test_dates_do_not_repeat():
    series = series_of(wavy(5))
    assert [e.text for e in drawn(series).root.findall("text[@class='date']")] == [f"2001-01-0{i}" for i in range(1, 6)]
    texts = [e.text for e in drawn(STEP).root.findall("text[@class='date']")]
    assert len(texts) == len(set(texts)) == 7
    hourly = [Point(f"r{i}", datetime(2001, 1, 1, i), 1.0) for i in range(4)]
    same_day = examined(series.subject, hourly, lambda *_: Environment({}, {}))
    texts = [e.text for e in drawn(same_day).root.findall("text[@class='date']")]
    assert texts == ["2001-01-01", "01:00", "02:00", "03:00"]
