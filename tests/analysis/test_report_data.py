"""What there is to show: which devices are contenders, what work is of one family, and which row counts."""

from dataclasses import replace

from bench_core.analysis import figures
from bench_core.analysis.report_data import ReportData
from tests.support import synthetic, tables
from tests.support.reports import data_of_all_machines  # noqa: F401 - a fixture


def test_contenders_are_devices_with_a_value_and_the_others_are_told_with_their_reason(everything):
    labels = [c.label for c in everything.contenders]
    assert labels[:3] == ["machine-a CPU", "machine-b CPU", "machine-b GPU"]
    assert "machine-d GPU 1" in labels
    assert everything.silent == ["machine-a cuda has no value in any of 120 cases (120 skipped: no device)."]


def test_contenders_of_a_lone_machine_are_named_without_it():
    assert [c.label for c in ReportData(synthetic.readings("machine-b")).contenders] == ["CPU", "GPU"]


def test_the_device_clock_is_never_compared(everything):
    for family in everything.families:
        for case_id in everything.cases(family).values():
            rows = [everything.best(c, case_id) for c in everything.contenders]
            assert all(row.clock == "wall" for row in rows if row)


def test_what_compare_keeps_apart_by_unit_is_not_set_side_by_side():
    """A table whose times are in milliseconds: 1.67 would be a thousandth of 0.00167."""
    a, b = (tables.reading(tables.processes([1.0]), name) for name in "ab")
    in_ms = [replace(row, unit="ms", value=1000.0) if row.metric == "time" else row for row in a.rows]
    data = ReportData([replace(a, rows=tuple(in_ms)), b])
    assert {row.machine for row in data.rows if row.metric == "time"} == {"b"}
    assert data.apart == ("Left out, because compare keeps it apart, 1 value: time in ms instead of s.",)
    assert {cell.row.unit for cell in figures.heat(data) if cell.row} == {"FLOP/s"}
    assert sorted(data.readings[0].rows, key=data.place)


def test_machines_whose_only_comparison_has_no_ratio_are_no_sides():
    """Counts of FLOPs that agree with that of a slower row, but not with each other, as rounded texts of them may."""
    close = 0.9e-9
    a = tables.reading(
        [*tables.processes([2.0], flops=1.0), *tables.processes([1.0], backend="torch", flops=1.0 - close)], "a"
    )
    data = ReportData([a, tables.reading(tables.processes([1.0], flops=1.0 + close), "b")])
    assert data.apart == ()
    assert data.sides == []
    assert figures.speedups(data) == []


def test_a_value_that_nothing_has_checked_is_not_the_best_where_another_is_checked():
    planted = [
        m
        for device in ("cpu", "cuda:0")
        for m in tables.processes([0.01], backend="other", device=device, flags=("unchecked", "imported"))
    ]
    own = [m for device in ("cpu", "cuda:0") for m in tables.processes([1.0], device=device)]
    data = ReportData([tables.reading([*own, *planted])])
    (case_id,) = {row.case_id for row in data.rows}
    assert data.unchecked == set()
    assert {data.best(c, case_id).backend for c in data.contenders} == {"numpy"}
    assert {found.entry.row.backend for c in data.contenders for found in data.fastest(c, case_id)} == {"numpy"}
    assert {s.row.backend for s in figures.speedups(data)} == {"numpy"}
    alone = ReportData([tables.reading(planted)])
    assert alone.unchecked == {case_id}
    assert {alone.best(c, case_id).backend for c in alone.contenders} == {"other"}


def test_a_stream_that_nothing_has_checked_is_not_the_memory_of_a_device(everything):
    (contender, *_) = everything.gpus
    there = everything.memory(contender)
    marked = [replace(r, rows=tuple(replace(row, flags="unchecked") for row in r.rows)) for r in everything.readings]
    assert there is not None
    unchecked = ReportData(marked)
    assert [unchecked.memory(c) for c in unchecked.gpus] == [None] * len(unchecked.gpus)
    assert figures.roofs(unchecked) == []
    assert figures.roofs(everything)
