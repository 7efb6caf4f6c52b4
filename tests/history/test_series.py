"""Series break where the environment of their runs changes, say what changed, and have steps between breaks alone."""

import json
import math
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from bench_core.compare import Reading, read
from bench_core.history import series as module
from bench_core.history.changes import ALPHA, FEWEST, NEW_ALPHA, change_points, is_possible, p_of_step
from bench_core.history.query import POINT, SERIES
from bench_core.history.series import (
    Difference,
    Environment,
    Event,
    Point,
    Series,
    Subject,
    differences,
    examined,
    expected_by_chance,
    is_by_wall,
    new_regressions,
    series_of_readings,
    shown_change,
)
from bench_core.records import UNCHECKED, Fact, Run, Status, to_json
from bench_core.results.rows import rows_of_case
from bench_core.results.run_files import RunFiles
from bench_core.results.writer import write_run
from tests.support.any_rows import any_rows
from tests.support.planted_history import DECODE, PRODUCT, write_history
from tests.support.planted_steps import folder_of, looks_at_folders, points_of, subject
from tests.support.properties import given, settings, st
from tests.support.tables import absent, grouped, measured, processes, reading

HOST = {"cpu.cores": "8"}
STEADY = Environment(HOST, {"gpu.driver": "580", "torch": "2.12"})


def environment(**facts):
    """Return an environment whose worker has these facts; two underscores in a name stand for a dot."""
    return Environment(HOST, {name.replace("__", "."): text for name, text in facts.items()})


def of_host(**facts):
    """Return an environment whose host has these facts, and of whose worker nothing is known."""
    return Environment(environment(**facts).worker, {})


def wobbling(*levels):
    """Return values around each level, given as (number of runs, level)."""
    values = np.concatenate([np.full(n, float(level)) for n, level in levels])
    return values * (1 + 0.01 * np.sin(7 * np.arange(len(values))))


def looked_at(values, env_ids=None, environments=None, **columns):
    """Return the series of some values. environments: by env_id, STEADY where there is none."""
    env_ids = env_ids or ["e"] * len(values)
    points = points_of(values, env_id=env_ids, **columns)
    return examined(subject(), points, lambda _, point: (environments or {}).get(point.env_id, STEADY))


def changed(before, after, n=20):
    """Return the series of runs in one environment and then in another."""
    return looked_at(wobbling((2 * n, 1)), ["e1"] * n + ["e2"] * n, {"e1": before, "e2": after})


def events(series):
    return [(event.kind, event.index) for event in series.events]


def texts(series):
    return [(d.name, d.before, d.after) for event in series.events for d in event.differences]


# ---------------------------------------------------------------- breaks


def test_a_series_breaks_where_a_known_fact_changes_and_says_which():
    series = changed(environment(gpu__driver="580", torch="2.12"), environment(gpu__driver="590", torch="2.12"))
    assert events(series) == [("break", 20)]
    assert series.events[0].differences == (Difference("gpu.driver", "580", "590"),)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (STEADY, STEADY),
        (environment(torch="2.12"), environment(torch="2.12", gpu__ecc="on")),
        (environment(torch="2.12", gpu__ecc="on"), environment(torch="2.12")),
        (environment(load__average="[1.0]", gpu__power="80"), environment(load__average="[9.0]", gpu__power="90")),
        (Environment({}, {}), STEADY),
        (STEADY, Environment({}, {})),
        (of_host(env__A="of the host"), environment(env__A="its own", env__B="1", package__b="2")),
        (environment(env__A="its own", env__B="1", package__b="2"), of_host(env__A="of the host")),
        (Environment({"package.b": "2"} | HOST, STEADY.worker), Environment({}, STEADY.worker)),
        (environment(torch=""), environment(torch="2.12")),
    ],
    ids=[
        *("env_id alone", "a fact that was noted later", "a fact that is noted no more", "volatile facts"),
        *("unknown before", "unknown after", "worker unknown before", "worker unknown after", "host unknown after"),
        "an empty text",
    ],
)
def test_a_series_goes_on_where_no_fact_that_both_know_differs(before, after):
    assert events(changed(before, after)) == []


@pytest.mark.parametrize(
    ("between", "env_ids", "place"),
    [
        (Environment({}, {}), ["e1"] * 20 + ["x"] + ["e2"] * 20, 21),
        (environment(torch="2.12"), ["e1"] * 20 + ["x"] + ["e2"] * 20, 21),
        (of_host(), ["e1"] * 20 + ["x"] * 3 + ["e1"] * 2 + ["x"] + ["e2"] * 20, 26),
    ],
    ids=["of a table without run.json", "that lacks a fact", "whose worker is unknown, more than once"],
)
def test_a_run_of_which_less_is_known_does_not_hide_a_change(between, env_ids, place):
    """Else what the driver did would be a step of the code."""
    known = {"e1": STEADY, "x": between, "e2": environment(gpu__driver="590", torch="2.12")}
    series = looked_at(wobbling((place, 1), (20, 1.2)), env_ids, known)
    assert events(series) == [("break", place)]
    assert texts(series) == [("gpu.driver", "580", "590")]


def test_what_a_host_repeats_of_another_worker_is_no_difference_to_the_worker_of_a_series():
    """Without its worker a run has the facts of all others, such as a package that they alone have."""
    mixed = Environment({"package.of_another": "1"} | HOST, {})
    series = looked_at([1.0] * 9, ["e1"] * 3 + ["x"] * 3 + ["e2"] * 3, {"x": mixed})
    assert not series.events
    assert not looked_at([1.0] * 6, ["x"] * 3 + ["e2"] * 3, {"x": mixed}).events


def test_an_environment_begins_with_the_first_run_that_has_its_env_id_though_its_facts_are_unknown():
    points = points_of(wobbling((20, 1), (20, 1.2)), env_id=["e1"] * 20 + ["e2"] * 20)
    new = environment(gpu__driver="590", torch="2.12")

    def environment_of(_, point):
        if point is points[20]:
            return Environment({}, {})
        return STEADY if point.env_id == "e1" else new

    assert events(examined(subject(), points, environment_of)) == [("break", 20)]


def test_facts_are_asked_for_once_for_each_env_id_that_is_known():
    asked = []

    def environment_of(_, point):
        asked.append(point.env_id)
        return STEADY

    examined(subject(), points_of([1.0] * 30, env_id=["e1", "e2"] * 15), environment_of)
    assert asked == ["e1", "e2"]


def test_facts_are_not_asked_for_where_env_id_stays():
    """They are of run.json, and a run that has the same env_id has the same."""

    def environment_of(of, point):
        raise AssertionError

    assert len(examined(subject(), points_of([1.0] * 30), environment_of).points) == 30


def test_a_package_that_appears_was_not_installed_and_a_variable_that_goes_is_unset():
    old, new = environment(package__triton="3.1", env__A="1"), environment(package__cupy="14.0", env__B="2")
    assert texts(changed(old, new)) == [
        ("env.A", "1", "unset"),
        ("env.B", "unset", "2"),
        ("package.cupy", "not installed", "14.0"),
        ("package.triton", "3.1", "not installed"),
    ]


def test_what_changed_is_known_where_a_worker_is_not_and_the_host_is():
    old, new = of_host(package__torch="2.12"), Environment({"package.torch": "2.13"}, {"env.A": "1"})
    assert texts(changed(old, new)) == [("package.torch", "2.12", "2.13")]
    assert texts(changed(old, of_host(package__torch="2.13"))) == [("package.torch", "2.12", "2.13")]


def test_differences_are_shown_in_units_in_order_and_harmless():
    old = environment(memory__total="8000000000", cpu__model="A\x1b[31m", threadpools=json.dumps([]))
    new = environment(memory__total="16000000000", cpu__model="B", threadpools=json.dumps(["x", "a"]))
    found = [(d.name, d.before, d.after) for d in differences(old, new)]
    assert found == [
        ("cpu.model", "A\\x1b[31m", "B"),
        ("memory.total", "8.00 GB", "16.0 GB"),
        ("threadpools", "none", "a, x"),
    ]


def test_the_order_of_thread_pools_is_no_difference():
    """Tables of earlier versions have them in the order in which they lie in memory."""
    pools = [{"prefix": "libopenblas", "num_threads": 2}, {"prefix": "libgomp", "num_threads": 2}]
    assert differences(*(environment(threadpools=json.dumps(order)) for order in (pools, pools[::-1]))) == ()


def test_an_environment_is_that_of_the_worker_that_measured_and_of_its_host():
    known = {"cpu.model": "A", "package.torch": "2", "torch": "2.12", "env.A": "host"}
    workers = {"e1": {"torch": "2.12", "env.A": "worker"}, "e2": {"jax": "0.9"}}
    host = {"cpu.model": "A", "package.torch": "2"}
    for env_id in ("e1", "e2", "e3"):
        assert Environment.of(known, workers, env_id) == Environment(host, workers.get(env_id, {}))


def test_steps_are_searched_between_breaks_alone():
    values = wobbling((20, 1), (20, 2), (20, 3))
    old, new = environment(torch="1"), environment(torch="2")
    broken = looked_at(values, ["e1"] * 20 + ["e2"] * 40, {"e1": old, "e2": new})
    assert events(broken) == [("break", 20), ("step", 40)]
    assert events(looked_at(values)) == [("step", 20), ("step", 40)]


def test_steps_before_a_break_are_found_too_and_events_are_in_the_order_of_time():
    values = wobbling((20, 1), (20, 2), (20, 2), (20, 1))
    old, new = environment(torch="1"), environment(torch="2")
    broken = looked_at(values, ["e1"] * 40 + ["e2"] * 40, {"e1": old, "e2": new})
    assert events(broken) == [("step", 20), ("break", 40), ("step", 60)]


def test_every_change_of_the_environment_is_a_break_even_from_run_to_run_and_back():
    known = {"e1": environment(torch="1"), "e2": environment(torch="2")}
    series = looked_at([1.0, 1.0, 2.0, 1.0], ["e1", "e1", "e2", "e1"], known)
    assert events(series) == [("break", 2), ("break", 3)]
    assert texts(series) == [("torch", "1", "2"), ("torch", "2", "1")]


# ---------------------------------------------------------------- levels and commits


def test_the_levels_of_events_and_of_parts_are_medians_as_far_as_the_next_event():
    values = wobbling((20, 1), (20, 2), (21, 3))
    series = looked_at(values, ["e1"] * 20 + ["e2"] * 41, {"e2": environment(torch="2.13")})
    low, middle, high = (float(np.median(part)) for part in (values[:20], values[20:40], values[40:]))
    assert series.levels == ((0, 20, low), (20, 40, middle), (40, 61, high))
    assert [(event.before, event.after) for event in series.events] == [(low, middle), (middle, high)]
    assert series.events[0].relative == middle / low - 1
    assert series.values == tuple(values)
    assert series.current == tuple(values[20:])


def test_a_series_without_events_is_one_level_and_all_of_it_is_current():
    series = looked_at([1.0, 5.0, 3.0])
    assert (series.events, series.levels, series.current) == ((), ((0, 3, 3.0),), (1.0, 5.0, 3.0))


def test_the_p_value_of_a_break_is_of_the_runs_as_far_as_the_events_beside_it():
    values = wobbling((20, 1), (20, 2), (20, 3))
    series = looked_at(values, ["e1"] * 20 + ["e2"] * 40, {"e2": environment(torch="2.13")})
    assert series.events[0].p_value == p_of_step(values[:40], 20)
    two = looked_at([1.0, 9.0], ["e1", "e2"], {"e2": environment(torch="2.13")})
    assert [(event.kind, event.p_value) for event in two.events] == [("break", 1.0)]


def test_a_step_lies_between_the_last_run_that_is_before_it_for_certain_and_the_first_after_it():
    """The three runs in the middle may belong to either level."""
    values = np.concatenate([np.resize([0.8, 1.2, 1.0], 18), [1.4, 1.55, 1.6], np.resize([1.8, 2.2, 2.0], 20)])
    (change,) = change_points(values)
    (step,) = looked_at(values, git_commit=[f"{i:09}ff" for i in range(len(values))]).events
    assert change.earliest < change.index < change.latest
    assert (step.earliest.run_id, step.latest.run_id) == (f"r{change.earliest - 1:02}", f"r{change.latest:02}")
    assert (step.index, step.p_value) == (change.index, change.p_value)
    assert step.commits == f"{change.earliest - 1}".zfill(9) + ".." + f"{change.latest}".zfill(9)


def test_a_clear_step_and_a_break_lie_between_two_runs():
    values = wobbling((20, 1), (20, 2), (20, 3))
    series = looked_at(values, ["e1"] * 20 + ["e2"] * 40, {"e2": environment(torch="2.13")})
    between = [(event.earliest.run_id, event.latest.run_id) for event in series.events]
    assert between == [("r19", "r20"), ("r39", "r40")]


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        (("a" * 40, False), ("b" * 40, False), "aaaaaaaaa..bbbbbbbbb"),
        (("a" * 40, True), ("b" * 40, None), "aaaaaaaaa+..bbbbbbbbb"),
        (("a" * 40, False), ("a" * 40, False), "aaaaaaaaa, the same"),
        (("a" * 40, False), ("a" * 40, True), "aaaaaaaaa..aaaaaaaaa+"),
        (("", None), ("b" * 40, False), "unknown..bbbbbbbbb"),
        (("a" * 40, False), ("", None), "aaaaaaaaa..unknown"),
        (("", True), ("", False), ""),
        (("\x1b[31m", False), ("b", False), "\\x1b[31m..b"),
    ],
)
def test_the_range_of_commits_in_words(first, last, told):
    ends = [Point("r", datetime(2001, 1, 1), 1.0, git_commit=of, git_dirty=dirty) for of, dirty in (first, last)]
    assert Event("step", 1, 1.0, 2.0, 0.01, *ends).commits == told


@pytest.mark.parametrize(
    ("before", "after", "relative", "size"),
    [(1, 2, 1.0, math.log(2)), (2, 1, -0.5, math.log(2)), (3, 3, 0.0, 0.0)],
)
def test_twice_and_half_are_changes_of_one_size(before, after, relative, size):
    point = Point("r", datetime(2001, 1, 1), 1.0)
    event = Event("step", 1, before, after, 0.01, point, point)
    assert event.relative == relative
    assert event.size == pytest.approx(size)


@pytest.mark.parametrize(
    ("relative", "told"),
    [(0.05, "+5.0 %"), (-0.0723, "-7.2 %"), (8.99, "+899.0 %"), (9.0, "10.0x"), (11.53, "12.5x"), (-0.92, "0.0800x")],
)
def test_a_change_in_words(relative, told):
    assert shown_change(relative) == told


# ---------------------------------------------------------------- which points


def test_several_rows_of_one_run_count_once_by_the_median_one():
    points = points_of([1.0, 2.0])
    more = [replace(points[0], value=value) for value in (9.0, 5.0)]
    series = examined(subject(), [*more, *points], lambda *_: STEADY)
    assert [(point.run_id, point.value) for point in series.points] == [("r00", 5.0), ("r01", 2.0)]
    assert examined(subject(), [more[0], points[0]], lambda *_: STEADY).values == (1.0,)  # the lower one of two


def test_points_are_in_the_order_of_time_and_then_of_their_runs():
    day = datetime(2001, 1, 1)
    points = [Point(run, day + timedelta(days=n), 1.0) for run, n in (("d", 1), ("c", 1), ("b", 0), ("a", 2))]
    series = examined(subject(), points, lambda *_: STEADY)
    assert [point.run_id for point in series.points] == ["b", "c", "d", "a"]


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [1.0] * 30, [1e-100] * 15 + [1e100] * 15])
@pytest.mark.parametrize("breaks", [False, True])
def test_few_runs_equal_ones_and_extreme_ones_are_no_trouble(values, breaks):
    env_ids = [f"e{i * breaks}" for i in range(len(values))]
    series = looked_at(values, env_ids, {f"e{i}": environment(torch=str(i)) for i in range(len(values))})
    assert len(series.levels) == 1 + len(series.events)
    assert all(event.size >= 0 for event in series.events)
    assert new_regressions([series], alpha=0.5).looked <= 1
    assert isinstance(expected_by_chance([series]), tuple)


def test_rows_without_a_usable_value_are_no_points():
    usable = reading(processes([1.0, 1.0]), run_id="r1")
    failed = reading([absent(status=Status.ERROR)], run_id="r2", started_at="2001-02-01T00:00:00+00:00")
    odd = [replace(row, value=value, run_id=f"odd{i}") for row in usable.rows for i, value in enumerate((0.0, -1.0))]
    undated = [replace(row, run_id="undated", started_at="once") for row in usable.rows]
    odd += [replace(row, status=Status.INVALID, run_id="invalid") for row in usable.rows]
    readings = [usable, failed, Reading.of("odd/results.csv", odd), Reading.of("undated/results.csv", undated)]
    found = series_of_readings(readings)
    assert {point.run_id for series in found for point in series.points} == {"r1"}
    assert "time" in {series.subject.metric for series in found}


def test_values_by_the_clock_of_a_device_are_left_out_unless_asked_for():
    (row,) = [row for row in reading(processes([1.0, 1.0])).rows if row.metric == "time"]
    both = Reading.of("a/r/results.csv", [row, replace(row, clock="device", value=0.5)])
    assert [series.subject.clock for series in series_of_readings([both])] == ["wall"]
    everything = series_of_readings([both], lambda _: True)
    assert [(series.subject.clock, series.values) for series in everything] == [("device", (0.5,)), ("wall", (1.0,))]
    assert is_by_wall(subject(clock=""))


def test_one_series_is_of_one_value_of_each_column_of_a_subject():
    (row,) = [row for row in reading(processes([1.0, 1.0])).rows if row.metric == "time"]
    other = {"threads": 7, "workload_version": 9} | {n: "wall" if n == "clock" else "other" for n in SERIES}
    other |= {"threads": 7, "workload_version": 9}
    rows = [row, *(replace(row, **{name: value}) for name, value in other.items() if getattr(row, name) != value)]
    found = series_of_readings([Reading.of("a/r/results.csv", rows)])
    assert len(found) == len(rows) == len(SERIES)  # all columns but the clock, which is wall, and as it is


def test_the_newest_run_tells_whether_a_series_is_unchecked():
    flags = [UNCHECKED, "throttled"]
    assert not looked_at([1.0, 1.0], flags=flags).is_unchecked
    assert looked_at([1.0, 1.0], flags=flags[::-1]).is_unchecked


def test_the_fields_of_subjects_and_points_are_the_columns_that_a_store_gives():
    assert Subject.__match_args__ == SERIES
    assert Point.__match_args__ == tuple({"ci_low": "low", "ci_high": "high"}.get(name, name) for name in POINT)


def test_a_subject_has_the_name_of_a_row_and_knows_only_two_directions():
    assert subject().name == "a numpy cpu 2 threads matmul 64 float32 time"
    known = [subject(better=better).better_is for better in ("lower", "higher", "", "up")]
    assert known == ["lower", "higher", None, None]


@settings(max_examples=15, deadline=None)
@given(any_rows())
def test_any_rows_give_series_of_those_that_are_ok(rows):
    for series in series_of_readings([Reading.of("a/r/results.csv", rows)], lambda _: True):
        assert series.points
        assert all(point.value > 0 for point in series.points)
        assert series.subject.name


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1.0, 1.01, 2.0, 0.0, -3.0]), st.sampled_from("aaaaaaab")), min_size=1))
def test_any_series_has_ordered_events_inside_and_levels_that_cover_it(runs):
    values, env_ids = zip(*runs, strict=True)
    series = looked_at(values, list(env_ids), {"b": environment(torch="2.13")})
    places = [event.index for event in series.events]
    assert places == sorted(set(places))
    assert all(0 < place < len(values) for place in places)
    assert [a for a, *_ in series.levels] == [0, *places]
    assert [b for _, b, _ in series.levels] == [*places, len(values)]
    order = {point.run_id: i for i, point in enumerate(series.points)}
    for event in series.events:
        assert order[event.earliest.run_id] < event.index <= order[event.latest.run_id]
    breaks = [i for i, (a, b) in enumerate(pairwise(env_ids), 1) if a != b]
    assert [event.index for event in series.events if event.kind == "break"] == breaks


# ---------------------------------------------------------------- of tables and of a store


def of_run(name, month, workers, host, *, commit="", dirty=None, seconds=1.0, machine="a"):
    """Return run, measurements and run.json of a run. workers: facts by backend; host: facts."""

    def facts(values):
        return {name: {"value": value} for name, value in values.items()}

    run = Run(name, f"2001-{month:02}-01T06:00:00+02:00", machine, commit, dirty)
    done = [
        replace(m, env_id=f"{backend}{month}")
        for backend in workers
        for m in (measured([seconds] * 3, backend=backend, process=process) for process in range(2))
    ]
    known = {f"{backend}{month}": facts(values) for backend, values in workers.items() if values is not None}
    about = {"run": to_json(run), "environment": {"host": facts(host), "workers": known}}
    return run, done, about


def write(folder, runs):
    for run, done, about in runs:
        path = folder / run.machine / run.run_id
        path.mkdir(parents=True)
        write_run(path, [row for group in grouped(done) for row in rows_of_case(run, group)], done, about)


def planted(folder):
    """Write runs in which facts of the host, of the worker and of another one change, or are not known."""
    host = {"cpu.model": "A", "package.torch": "2.12", "env.A": "host"}
    same = {"env.A": "host"}  # workers repeat it
    numpy, old, new = same | {"numpy": "2"}, same | {"torch": "2.12"}, same | {"torch": "2.13"}
    write(
        folder,
        [
            of_run("one", 1, {"numpy": numpy, "torch": old}, host, commit="a" * 40, dirty=False),
            of_run("two", 2, {"numpy": numpy, "torch": new}, host, commit="b" * 40, dirty=True, seconds=1.5),
            of_run("three", 3, {"numpy": {"env.A": "own"}, "torch": new}, host | {"package.b": "1"}),
            of_run("four", 4, {"numpy": None, "torch": new | {"cpu.model": "B"}}, host),
            of_run("five", 5, {"numpy": {"numpy": "3"}}, host | {"package.torch": "3", "cpu.caches": {"L2": 1}}),
            of_run("one", 6, {"numpy": {"numpy": "3"}}, {"cpu.model": "B"}, machine="b"),
        ],
    )


def test_series_of_tables_are_those_of_the_store_in_the_same_order(tmp_path):
    pytest.importorskip("duckdb", reason="needs the extra `history`")
    pytest.importorskip("pyarrow", reason="needs the extra `history`")
    from bench_core.history.query import History
    from bench_core.history.store import Store

    write_history(tmp_path, (2, 3, 4))
    planted(tmp_path)
    store = Store(tmp_path)
    assert store.add().refused == ()
    with History(store) as opened:
        of_store = module.series_of_history(opened)
        times = module.series_of_history(opened, lambda of: of.backend == "torch", metric="time")
    of_tables = series_of_readings(read([str(tmp_path)]))
    assert of_tables == of_store
    assert of_tables == series_of_readings(reversed(read([str(tmp_path)])))
    assert times == [one for one in of_store if (one.subject.metric, one.subject.backend) == ("time", "torch")]
    assert {"break"} == {event.kind for series in of_store for event in series.events}
    assert any(point.low is not None for series in of_store for point in series.points)


def of(found, machine, backend, device="cpu", workload="matmul"):
    """Return the series of times."""
    wanted = (machine, backend, device, workload, "time")
    (series,) = [
        one for one in found if (s := one.subject) and (s.machine, s.backend, s.device, s.workload, s.metric) == wanted
    ]
    return series


def test_a_series_of_tables_breaks_where_its_own_worker_or_its_host_changed(tmp_path):
    planted(tmp_path)
    found = series_of_readings(read([str(tmp_path / "a")]))
    numpy = of(found, "a", "numpy")
    assert [point.run_id for point in numpy.points] == ["one", "two", "three", "four", "five"]
    assert numpy.points[0].started_at == datetime(2001, 1, 1, 4)
    assert [(event.index, texts(replace(numpy, events=(event,)))) for event in numpy.events] == [
        (2, [("env.A", "host", "own"), ("package.b", "not installed", "1")]),
        (4, [("env.A", "own", "host"), ("package.b", "1", "not installed"), ("package.torch", "2.12", "3")]),
    ]
    assert numpy.events[0].commits == "bbbbbbbbb+..unknown"
    torch = of(found, "a", "torch")
    assert [(event.index, texts(replace(torch, events=(event,)))) for event in torch.events] == [
        (1, [("torch", "2.12", "2.13")]),
        (2, [("package.b", "not installed", "1")]),
        (3, [("cpu.model", "A", "B"), ("package.b", "1", "not installed")]),
    ]


def test_the_planted_changes_are_found_and_those_of_other_workers_are_none(tmp_path):
    write_history(tmp_path)
    found = series_of_readings(read([str(tmp_path)]))
    torch, driver = ("torch", "2.12.1", "2.13.0"), ("gpu.driver", "580.95", "590.48")
    assert texts(of(found, "desk", "torch", "cuda:0", DECODE.workload)) == [torch, driver]
    assert texts(of(found, "desk", "torch", "cpu", DECODE.workload)) == [torch]
    assert texts(of(found, "desk", "numpy", "cpu", PRODUCT.workload)) == []


def described(run_id, machine="a", worker="2"):
    about = {"run": {"run_id": run_id, "machine": machine}}
    return RunFiles(facts={}, worker_facts={"e": {"numpy": Fact(worker)}, "f": {"numpy": Fact("3")}}, about=about)


def test_of_a_table_of_several_runs_run_json_is_known_of_the_one_that_it_describes():
    rows = [
        replace(row, run_id=run, env_id=env_id, started_at=f"2001-0{month}-01")
        for row in reading(processes([1.0, 1.0])).rows
        for month, (run, env_id) in enumerate([("r1", "e"), ("r2", "f"), ("r3", "f")], 1)
    ]
    both = Reading.of("a/r/results.csv", rows, files=described("r1"))
    assert {len(series.events) for series in series_of_readings([both])} == {0}
    alone = [replace(row, run_id="r1") for row in rows if row.run_id != "r3"]
    single = Reading.of("a/r/results.csv", alone, files=described("r1"))
    assert [len(series.points) for series in series_of_readings([single])] == [1] * len(series_of_readings([single]))


def test_the_described_run_of_a_table_of_several_runs_is_known():
    (row,) = [row for row in reading(processes([1.0, 1.0])).rows if row.metric == "time"]

    def run(name, month, env_id):
        return replace(row, run_id=name, env_id=env_id, started_at=f"2001-0{month}-01")

    first = Reading.of("a/1/results.csv", [run("r1", 1, "e"), run("x", 3, "e")], files=described("r1"))
    second = Reading.of("a/2/results.csv", [run("r2", 2, "f"), run("y", 4, "f")], files=described("r2"))
    (series,) = series_of_readings([first, second])
    assert [point.run_id for point in series.points] == ["r1", "r2", "x", "y"]
    assert events(series) == [("break", 1)]


def test_a_computer_that_got_another_name_keeps_its_environment():
    """`read` numbers two computers that have one name, and a label replaces a name."""
    (row,) = [row for row in reading(processes([1.0, 1.0])).rows if row.metric == "time"]
    readings = [
        Reading.of(
            f"{run}/results.csv",
            [replace(row, run_id=run, env_id=env_id, started_at=f"2001-0{month}-01")],
            "label",
            described(run, "before it was numbered"),
        )
        for month, (run, env_id) in enumerate([("r1", "e"), ("r2", "f")], 1)
    ]
    (series,) = series_of_readings(readings)
    assert (series.subject.machine, texts(series)) == ("label", [("numpy", "2", "3")])


# ---------------------------------------------------------------- new regressions

AFTER_4 = wobbling((16, 1), (4, 2))  # at best p = 0.006


def steady(n, count=1, better="lower"):
    return folder_of([wobbling((n, 1))] * count, better)


def regressed(by=2.0, n=50, after=5, **known):
    """Return a series that is `by` times as large since some runs."""
    (series,) = folder_of([wobbling((n - after, 1), (after, by))])
    return replace(series, subject=subject(**known))


def names(look):
    return [new.series.subject.case_id for new in look.regressions]


def test_alpha_is_of_all_series_together_so_each_has_a_share_of_it(monkeypatch):
    alphas = []

    def record(values, *, alpha, **_):
        alphas.append(alpha)

    monkeypatch.setattr(module, "new_regression", record)
    look = new_regressions([*steady(60, 29), regressed(), *steady(5, 7)], alpha=0.015)
    assert (alphas, look) == ([0.015 / 30] * 30, module.Look((), 30, 0.015, 7))


def test_a_step_that_is_clear_enough_alone_is_not_among_thirty_series():
    mine = folder_of([AFTER_4])
    assert len(new_regressions(mine).regressions) == 1
    crowd = new_regressions([*mine, *steady(60, 29)])
    assert (crowd.regressions, crowd.looked) == ((), 30)


@pytest.mark.parametrize("n", [5, 11, 12])
def test_series_that_cannot_have_a_step_take_no_share_of_alpha(n):
    """Of 12 runs one could alone, and none of thirty can."""
    look = new_regressions([*folder_of([AFTER_4]), *steady(n, 29)])
    assert (len(look.regressions), look.looked) == (1, 1)


def test_the_series_that_are_looked_at_are_as_many_as_the_shares_allow():
    """13 runs are enough for one of two series, 12 for one alone."""
    assert new_regressions(steady(12)).looked == 1
    assert new_regressions([*steady(13, 2), *steady(12, 5)]).looked == 2
    assert new_regressions(steady(13, 3)).looked == 0
    assert new_regressions([]).looked == 0


@pytest.mark.parametrize("recent", [3, 5, 10])
def test_a_series_is_looked_at_if_so_few_recent_runs_can_show_a_step(recent):
    able = [n for n in range(6, 60) if new_regressions(steady(n), recent=recent).looked]
    perfect = [n for n in able if change_points([1.0] * (n - recent) + [2.0] * recent, alpha=NEW_ALPHA)]
    assert able == list(range(able[0], 60))
    assert able[0] == next(n for n in range(6, 60) if is_possible(n, NEW_ALPHA, recent))
    assert able[0] in perfect or recent > FEWEST + 2  # of the fewest, a perfect step is one


def test_no_series_is_looked_at_if_no_run_is_recent_enough():
    assert new_regressions([regressed()], recent=FEWEST - 1).looked == 0


def test_new_regressions_are_sorted_with_the_largest_first():
    every = [regressed(by, case_id=str(by)) for by in (1.5, 3.0, 2.0)]
    assert names(new_regressions(every)) == ["3.0", "2.0", "1.5"]


def test_a_rate_that_falls_and_a_time_that_rises_are_regressions_and_not_the_reverse():
    kinds = [(better, by) for better in ("lower", "higher") for by in (0.5, 3)]
    every = [regressed(by, case_id=f"{better} {by}", better=better) for better, by in kinds]
    assert names(new_regressions(every)) == ["lower 3", "higher 0.5"]


def test_a_series_is_not_looked_at_if_nobody_knows_which_values_are_better():
    every = [regressed(case_id=better or "unknown", better=better) for better in ("lower", "", "up")]
    look = new_regressions(every)
    assert (names(look), look.looked) == (["lower"], 1)


def test_a_step_that_more_runs_have_followed_than_are_recent_is_not_new():
    every = [regressed(3 - after / 10, after=after, case_id=str(after)) for after in (4, 6, 10, 11)]
    assert names(new_regressions(every)) == ["4", "6", "10"]
    assert names(new_regressions(every, recent=6)) == ["4", "6"]
    assert names(new_regressions(every, recent=11)) == ["4", "6", "10", "11"]


def test_only_what_came_since_the_last_break_counts():
    """The level before it is no reference, and a place is counted from the beginning of the series."""
    old, new = environment(torch="1"), environment(torch="2")
    values = wobbling((20, 1), (20, 2), (5, 3))
    series = looked_at(values, ["e1"] * 20 + ["e2"] * 25, {"e1": old, "e2": new})
    (found,) = new_regressions([series]).regressions
    assert found.series is series
    assert (found.step.kind, found.step.index) == ("step", 40)
    assert (found.step.earliest.run_id, found.step.latest.run_id) == ("r39", "r40")
    assert found.step.before == np.median(values[20:40])
    assert found.step.after == np.median(values[40:])
    young = looked_at(wobbling((40, 1), (5, 2)), ["e1"] * 40 + ["e2"] * 5, {"e1": old, "e2": new})
    assert events(young) == [("break", 40)]
    assert (new_regressions([young]).regressions, new_regressions([young]).looked) == ((), 0)


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_looks_at_folders_in_which_nothing_changed_alarm_no_more_often_than_alpha(shared):
    """At an alpha of each series of its own nearly all looks at independent ones would: alpha is large here for that.

    tests/native/changes.py has the rates at NEW_ALPHA.
    """
    from scipy.stats import beta

    known = {"count": 100, "runs": 17, "noise": "Student t, 3 d.f.", "shared": shared}
    looks = looks_at_folders(12, 1, seed=8, alpha=0.3, **known)
    alarmed = int(looks.sum())
    least = beta.ppf(0.001, alarmed, looks.size - alarmed + 1) if alarmed else 0.0
    assert least <= 0.3, alarmed


def test_what_is_expected_by_chance_is_of_parts_that_can_have_a_step():
    old, new = environment(torch="1"), environment(torch="2")
    broken = looked_at(wobbling((40, 1)), ["e1"] * 30 + ["e2"] * 10, {"e1": old, "e2": new})
    stepped = looked_at(wobbling((20, 1), (20, 2)))
    assert Counter(event.kind for one in (broken, stepped) for event in one.events) == {"break": 1, "step": 1}
    assert expected_by_chance([broken, stepped, *steady(10)]) == (2, 2 * ALPHA)
    assert expected_by_chance([broken, *steady(11)], alpha=0.01) == (1, 0.01)
    assert expected_by_chance([]) == (0, 0)


def test_a_look_at_a_series_does_not_change_what_it_says():
    assert isinstance(new_regressions(iter([regressed()])).regressions[0].series, Series)
