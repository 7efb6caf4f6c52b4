"""The parts of a run add up to its time, and are told in run.json and in one line."""

from dataclasses import replace

import pytest

from bench_core.records import Part
from bench_core.run.account import RunAccount, merged
from tests.support.tables import measured, work

ONE = replace(measured([1.0]), spent={Part.STARTING: 2.0, Part.BUILD: 1.0, Part.WARM_UP: 3.0, Part.TIMED: 10.0})
OTHER = replace(measured([1.0], work("32")), spent={Part.CHECKS: 0.5, Part.TIMED: 0.5, Part.SECOND_LOOK: 1.0})
RUN = RunAccount.of([ONE, OTHER, measured([1.0], work("64"))], starting=4.0, total=30.0)


def test_the_parts_of_all_cases_the_start_and_the_rest_add_up_to_the_total():
    assert RUN.parts == {
        Part.STARTING: 6.0,
        Part.CHECKS: 0.5,
        Part.BUILD: 1.0,
        Part.WARM_UP: 3.0,
        Part.TIMED: 10.5,
        Part.SECOND_LOOK: 1.0,
        Part.OTHER: 8.0,
    }
    assert sum(RUN.parts.values()) == RUN.total
    assert RUN.measuring_share == 13.5 / 30
    assert list(RUN.parts) == [part for part in Part if part in RUN.parts]


def test_more_than_the_total_is_never_accounted_for():
    account = RunAccount.of([ONE], starting=0.0, total=1.0)
    assert (account.total, account.parts[Part.OTHER]) == (16.0, 0.0)


def test_a_run_without_a_case_is_all_start():
    assert RunAccount.of([], starting=1.0, total=1.0).measuring_share == 0.0
    assert RunAccount.of([], starting=0.0, total=0.0).measuring_share == 0.0


def test_the_line_leaves_out_what_took_no_time_and_shows_tenths_of_short_runs_only():
    assert RUN.line == (
        "time: 30 s, 45% measuring: starting 6 s, build 1 s, warm-up 3 s, timed 10 s, second look 1 s, other 8 s"
    )
    short = RunAccount.of([OTHER], starting=0.25, total=2.25)
    assert short.line == "time: 2.2 s, 22% measuring: starting 0.2 s, checks 0.5 s, timed 0.5 s, second look 1.0 s"


def test_a_run_of_minutes_names_the_cases_that_took_longest():
    several = [
        replace(measured([1.0], work(str(n))), spent={Part.BUILD: 1.0, Part.TIMED: float(n)}) for n in range(8, 13)
    ]
    names = [f"{m.case.work.workload} {m.case.label}" for m in several]
    account = RunAccount.of(several, starting=4.0, total=60.0)
    assert account.longest == f"longest: {names[4]} 13 s, {names[3]} 12 s, {names[2]} 11 s"
    assert RunAccount.of(several, starting=4.0, total=59.9).longest == ""
    assert RunAccount.of([], starting=4.0, total=60.0).longest == ""


def test_run_json_has_the_seconds_of_each_case_by_its_name():
    plain = RUN.to_json()
    assert (plain["total_s"], plain["measuring_share"]) == (30.0, 0.45)
    assert plain["parts_s"]["timed"] == 10.5
    assert plain["cases_s"] == {
        f"{m.case.work.workload} {m.case.label}": {part.value: s for part, s in m.spent.items()} for m in (ONE, OTHER)
    }


def test_the_accounts_of_several_processes_are_added():
    one, other = RUN.to_json(), RunAccount.of([OTHER], starting=1.0, total=5.0).to_json()
    both = merged([one, other])
    assert both["total_s"] == 35.0
    assert both["parts_s"] == {
        name: one["parts_s"].get(name, 0) + other["parts_s"].get(name, 0) for name in one["parts_s"]
    }
    assert [parts["timed"] for parts in both["cases_s"].values()] == [10.0, 1.0]
    assert both["measuring_share"] == pytest.approx(14.0 / 35.0, abs=1e-4)


def test_a_process_of_an_earlier_release_has_no_account_and_so_the_sum_has_none():
    assert merged([RUN.to_json(), None]) == merged([]) == {}
