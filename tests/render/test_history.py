"""Series for people and programs: what changed, when, in which commits, by how much, and whether that is worse."""

import csv
import io
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest

from bench_core.history.series import Environment, Look, Point, Subject, examined, new_regressions
from bench_core.render.history import (
    gate_lines,
    history_csv,
    history_json,
    history_markdown,
    history_text,
    trend,
    undecided_line,
)
from tests.support.hostile import CELL_TEXTS
from tests.support.properties import given, st

SUBJECT = Subject(
    *("desk", "matmul", "matmul", 1, "64", "float32", "ieee", "", "c_1", "numpy", "default", "cpu", 2),
    *("time", "s", "lower", "wall", "resident", "hot"),
)
START = datetime(2001, 1, 1)
FACTS = {"e_1": {"gpu.driver": "580", "cpu.model": "X"}, "e_2": {"gpu.driver": "590", "cpu.model": "X"}}


def environment_of(facts, subject, point):
    return Environment({}, facts[point.env_id])


def series(values, env_ids=(), subject=SUBJECT):
    """Return a series of a run a day; each of its levels is not quite level."""
    points = [
        Point(f"run{i}", START + timedelta(days=i), value * (1 + 0.001 * (i % 3)), env_id=env, git_commit=f"{i:09x}ff")
        for i, (value, env) in enumerate(zip(values, env_ids or ["e_1"] * len(values), strict=True))
    ]
    return examined(subject, points, partial(environment_of, FACTS))


STEP = series([1.0] * 20 + [1.5] * 6)
OTHER = replace(SUBJECT, workload="axpy", case_id="c_2")
BREAK = series([2.0] * 8 + [1.0] * 8, ["e_1"] * 8 + ["e_2"] * 8, OTHER)
STEADY = series([1.0] * 12, subject=replace(SUBJECT, machine="laptop"))
EVERY = [STEADY, BREAK, STEP]


def section(text, title):
    """Return the lines of one section."""
    return re.split(r"\n\n(?=\S)", f"{text}\n\n".partition(f"\n{title}\n")[2])[0].strip().splitlines()


def words(line):
    return re.split(r"  +", line.strip())


def test_a_step_is_told_with_its_size_its_day_and_its_commits():
    text = history_text(EVERY, None, 140)
    assert "1 step, +50.0 % worse: desk matmul" in text
    header, _, line, *notes = section(text, "Steps")
    assert words(header) == ["change", "from", "to", "since", "commits", "p", "series"]
    assert words(line)[:5] == ["+50.0 % worse", "1.00 s", "1.50 s", "2001-01-21", "000000013..000000014"]
    assert float(words(line)[5].lstrip("<")) <= 1e-3
    assert "at most 0.06 are expected here, in 2 parts" in " ".join(
        notes
    )  # of 26 and 12 runs; those of 8 are too short for a step


def test_what_becomes_many_times_as_large_is_told_as_a_ratio():
    for by, told in (
        (9.9, "+890.0 % worse"),
        (12.1, "12.1x worse"),
        (1210.0, "1,210x worse"),
        (0.01, "0.0100x better"),
    ):
        text = history_text([series([1.0] * 20 + [by] * 6)], None, 140)
        assert f"1 step, {told}: " in text
    broken = [
        series([1.0] * 8 + [by] * 8, ["e_1"] * 8 + ["e_2"] * 8, replace(SUBJECT, size=f"{by}"))
        for by in (1.5, 2.5, 12.1)
    ]
    for some, told in (
        (broken[2:], "12.1x"),
        (broken[:2], "+100.0 % (+50.0 to +150.0 %)"),
        (broken, "+150.0 % (+50.0 % to 12.1x)"),
    ):
        table = section(history_text(some, None, 140), "Changes of the environment, at which series begin anew")
        assert words(table[2])[-1] == told


def test_the_same_change_at_another_time_is_another_line():
    again = series([1.0] * 12, ["e_1"] * 3 + ["e_2"] * 3 + ["e_1"] * 3 + ["e_2"] * 3)
    table = section(history_text([again], None, 140), "Changes of the environment, at which series begin anew")
    days = [line.split()[0] for line in table if line.startswith("2001")]
    assert sorted(days) == ["2001-01-04", "2001-01-07", "2001-01-10"]


def test_json_has_no_infinite_end_of_an_interval():
    first, *others = STEADY.points
    endless = replace(STEADY, points=(replace(first, low=0.5, high=float("inf")), *others))
    point = json.loads(history_json([endless]))["series"][0]["points"][0]
    assert (point["ci_low"], point["ci_high"]) == (0.5, None)


def test_a_change_of_the_environment_is_one_line_for_all_series_that_it_breaks():
    also = series([2.0] * 8 + [1.2] * 8, ["e_1"] * 8 + ["e_2"] * 8, replace(OTHER, size="128"))
    table = section(history_text([*EVERY, also], None, 140), "Changes of the environment, at which series begin anew")
    assert words(table[2]) == ["2001-01-09", "desk", "gpu.driver: 580 -> 590", "2", "-45.0 % (-50.0 to -40.0 %)"]
    assert "median over these series" in table[3]


def test_series_that_changed_most_come_first_and_a_limit_is_said():
    lines = section(history_text(EVERY, None, 140, most=2), "Series")
    assert [line.split()[1] for line in lines[2:4]] == ["axpy", "matmul"]
    assert lines[4].strip() == "1 more line: --limit 0 shows all"
    assert len(section(history_text(EVERY, None, 140), "Series")) == 5


def test_what_is_better_depends_on_the_metric():
    higher = replace(SUBJECT, metric="flop_rate", unit="FLOP/s", better="higher")
    unknown = replace(SUBJECT, metric="odd", unit="1", better="")
    told = [history_text([series(STEP.values, subject=subject)], None, 140) for subject in (SUBJECT, higher, unknown)]
    assert ["+50.0 % worse" in text for text in told] == [True, False, False]
    assert ["+50.0 % better" in text for text in told] == [False, True, False]
    assert "+50.0 %  " in told[2]


def test_a_gate_says_what_failed_and_by_how_much():
    look = new_regressions(EVERY)
    assert gate_lines(look) == [
        "new-regression: desk matmul 64 float32 numpy cpu: +50.0 % worse since 2001-01-21, commits 000000013..000000014"
    ]
    text = history_text(EVERY, look, 140)
    assert "FAILED new-regression: desk matmul" in text
    assert "at most 2 % of such looks" in text
    assert json.loads(history_json(EVERY, look))["gate"]["regressions"][0]["change"] == pytest.approx(0.5)


def test_a_gate_that_saw_nothing_says_in_how_many_series_and_one_without_enough_runs_is_undecided():
    look = new_regressions([STEADY, BREAK])
    assert (look.looked, gate_lines(look), undecided_line(look)) == (1, [], "")
    text = history_text([STEADY, BREAK], look, 140)
    assert "passed new-regression: none in 1 series\n" in text
    assert "Not looked at: 1 series with too few runs" in text
    assert json.loads(history_json([STEADY, BREAK], look))["gate"]["too_short"] == 1
    assert "Not looked at" not in history_text([STEADY], new_regressions([STEADY]), 140)
    look = new_regressions([BREAK])
    assert undecided_line(look).startswith("new-regression: no series has 12 runs since its environment last changed")
    assert "UNDECIDED new-regression" in history_text([BREAK], look, 140)
    assert "passed" not in history_text([BREAK], look, 140)


def test_what_became_worse_where_its_environment_changed_is_not_judged_but_told():
    slower = series([1.0] * 8 + [2.0] * 8, ["e_1"] * 8 + ["e_2"] * 8, OTHER)
    for of, told in ((slower, True), (BREAK, False), (STEADY, False)):
        look = new_regressions([of, STEP])
        assert ("Not judged: 1 series became worse where their environment" in history_text([of], look, 140)) == told
        assert json.loads(history_json([of], look))["gate"]["at_breaks"] == told
    long_ago = series([1.0] * 8 + [2.0] * 12, ["e_1"] * 8 + ["e_2"] * 12, OTHER)
    assert new_regressions([long_ago]).at_breaks == 0


def test_a_gate_is_undecided_if_nobody_knows_which_values_are_better():
    """More runs would not help."""
    look = new_regressions([replace(STEADY, subject=replace(STEADY.subject, better=""))])
    assert undecided_line(look) == "new-regression: of no series it is known whether higher or lower values are better"


def test_csv_has_a_line_for_each_event_with_every_digit():
    step, broken = sorted(csv.DictReader(io.StringIO(history_csv(EVERY))), key=lambda line: line["kind"], reverse=True)
    assert (step["kind"], step["workload"], step["run_id"], step["started_at"]) == (
        *("step", "matmul", "run20"),
        "2001-01-21T00:00:00+00:00",
    )
    assert float(step["after"]) / float(step["before"]) - 1 == pytest.approx(float(step["change"]))
    assert (step["commit_before"], step["commit_after"], step["differences"]) == ("000000013", "000000014", "")
    assert (broken["kind"], broken["differences"]) == ("break", "gpu.driver: 580 -> 590")


def test_json_has_every_point_and_event_and_no_gate_if_none_was_asked_for():
    found = json.loads(history_json(EVERY))
    assert [len(one["points"]) for one in found["series"]] == [12, 16, 26]
    assert [[event["kind"] for event in one["events"]] for one in found["series"]] == [[], ["break"], ["step"]]
    assert found["series"][1]["events"][0]["differences"] == [{"name": "gpu.driver", "before": "580", "after": "590"}]
    assert found["gate"] is None
    assert found["by_chance"] == {"parts": 2, "steps": pytest.approx(0.06)}


def test_markdown_has_the_tables():
    text = history_markdown(EVERY, None)
    assert "| change | from | to | since | commits | p | series |" in text
    assert "| +50.0 % worse | 1.00 s | 1.50 s | 2001-01-21 |" in text


def test_no_text_of_a_table_does_harm():
    for text in CELL_TEXTS:
        facts = {"e_1": {"gpu.driver": text, text: "1"}, "e_2": {"gpu.driver": "590", text: "2"}}
        points = [
            Point(text, START + timedelta(days=i), 1.0 + i // 8, env_id=f"e_{1 + i // 8}", git_commit=text, flags=text)
            for i in range(16)
        ]
        points = [replace(point, run_id=f"{text}{i}") for i, point in enumerate(points)]
        names = ("machine", "workload", "size", "dtype", "backend", "device", "params", "implementation")
        evil = examined(replace(SUBJECT, **dict.fromkeys(names, text)), points, partial(environment_of, facts))
        look = Look((), 1, 0.02)
        for said in (history_text([evil], look, 100), history_markdown([evil], look), history_csv([evil])):
            assert "break" in said or "590" in said
            assert not {"\x1b", "\x07", "\0", "\u202e", "\ud800", "\r"} & set(said)
        assert json.loads(history_json([evil]))["series"][0]["events"]
        for line in csv.reader(io.StringIO(history_csv([evil]))):
            assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in line)
        assert "<script>" not in re.sub(r"`[^`]*`", "", history_markdown([evil], look))


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60), st.integers(1, 30))
def test_a_trend_has_a_bar_for_each_run_or_as_many_as_fit(values, most):
    bars = trend(values, most)
    assert len(bars) == min(len(values), most)
    assert set(bars) <= set("▁▂▃▄▅▆▇█")
    if len(values) <= most:
        assert bars[values.index(min(values))] == min(bars)
        assert bars[values.index(max(values))] == max(bars)


def test_a_steady_trend_looks_steady():
    assert set(trend([1.0, 1.002, 0.998] * 4)) <= set("▄▅")
    assert trend([0.0, 0.0]) == "▅▅"
