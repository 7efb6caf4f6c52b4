"""Runs of one machine become one row a result, as `compare` counts them; what contradicts itself is refused."""

from dataclasses import replace

import pytest

from bench_core.analysis.pooling import pooled, safe
from bench_core.analysis.report_data import Contender, ReportData
from bench_core.compare import compare
from bench_core.errors import TableError
from tests.support import synthetic, tables
from tests.support.reports import reading_of, row_of


def test_what_is_made_safe_keeps_its_numbers_and_good_rows_stay_as_they_are():
    reading = synthetic.readings("machine-b")[0]
    assert safe(reading) is reading
    assert safe(reading_of(replace(reading.rows[0], reason="\x1b[1m"))).rows[0].reason == r"\x1b[1m"


FLAGGED = ((1.0, "single_run;drift"), (4.0, "steal;single_run"), (2.0, "single_run;not_steady"))


def test_runs_of_one_machine_are_pooled_into_their_median_with_an_interval_over_runs():
    row = row_of(metric="time", status="ok", clock="wall")
    runs = [replace(row, run_id=f"r{i}", value=value, flags=f) for i, (value, f) in enumerate(FLAGGED)]
    (one,) = pooled([reading_of(*runs)])
    assert one.value == pytest.approx(2.0)
    assert one.ci_low < 2.0 < one.ci_high
    assert (one.processes, one.flags) == (3, "drift;steal;not_steady")
    assert (one.n, one.p10, one.max) == (None, None, None)


def test_a_merged_run_and_a_lone_one_have_the_value_and_interval_that_compare_gives_them():
    """Three processes and one more are four: their median is 1.5, whoever asks."""
    readings = [
        tables.reading(tables.processes((1.0, 1.0, 2.0)), run_id="merged"),
        tables.reading(tables.processes((2.0,)), run_id="alone"),
        tables.reading(tables.processes((3.0,)), "b"),
    ]
    compared = compare(readings).comparisons[0].baseline
    shown = ReportData(readings).best(Contender("a", "cpu", "a CPU", "The cpu of all"), tables.work().case_id)
    assert compared.value == pytest.approx(1.5)
    assert (shown.value, shown.ci_low, shown.ci_high) == (compared.value, compared.ci_low, compared.ci_high)
    assert shown.processes == 4


def test_tables_that_contradict_each_other_are_not_pooled():
    row = row_of(metric="time", status="ok", clock="wall")
    with pytest.raises(TableError, match="two different rows"):
        pooled([reading_of(row), reading_of(replace(row, value=9.0))])


def test_a_run_without_a_value_counts_only_where_no_run_has_one():
    row = row_of(metric="time", status="ok", clock="wall")
    lost = replace(row, run_id="other", value=None, status="oom")
    assert pooled([reading_of(lost, row)]) == [row]
    assert pooled([reading_of(lost)]) == [lost]


def test_runs_without_any_value_are_pooled_into_the_worst_status():
    row = row_of(metric="time", status="ok", clock="wall")
    ends = [replace(row, run_id=status, value=None, status=status) for status in ("skipped", "crashed", "oom")]
    assert [r.status for r in pooled([reading_of(*ends)])] == ["crashed"]


@pytest.mark.parametrize(
    ("value", "why"), [(0.0, "not positive"), (-1.0, "not positive"), (1e101, "beyond any quantity")]
)
def test_a_value_that_can_be_no_quantity_is_none_and_gives_its_reason(value, why):
    row = row_of(metric="time", status="ok", clock="wall")
    (one,) = pooled([reading_of(replace(row, value=value))])
    assert (one.value, one.status, one.reason) == (None, "invalid", f"the value {value:g} is {why}")
    good = replace(row, run_id="other")
    assert pooled([reading_of(replace(row, value=value), good)]) == [good]
    lost = replace(row, run_id="other", value=None, status="oom")
    assert pooled([reading_of(replace(row, value=value), lost)]) == [lost]
    rate = replace(row, metric="flop_rate", value=value)
    assert [(one.metric, one.status) for one in pooled([reading_of(row, rate)])] == [
        ("time", "ok"),
        ("flop_rate", "invalid"),
    ]


def test_pooled_rows_stand_in_the_order_of_the_tables():
    rows = synthetic.readings("machine-a")[0].rows
    known = [(row.case_id, row.backend, row.device) for row in pooled([reading_of(*rows)])]
    assert list(dict.fromkeys(known)) == list(dict.fromkeys((r.case_id, r.backend, r.device) for r in rows))
