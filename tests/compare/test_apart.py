"""What compare does not compare has no case_id and metric in common: no chart, card or cost sets it side by side."""

from dataclasses import replace

import pytest

from bench_core.analysis import figures
from bench_core.analysis.report_data import ReportData
from bench_core.compare import compare
from bench_core.compare.apart import kept_apart
from bench_core.compare.price import price_work
from bench_core.compare.result import COSTS, QUANTITY, WORK
from bench_core.compare.tariff import Tariff
from bench_core.errors import NothingToCompare, TableError
from tests.support.tables import processes, reading, tokens, work

OTHER = {
    "suite": "others",
    "workload": "other",
    "workload_version": 2,
    "size": "{}000",
    "dtype": "float64",
    "precision": "tf32",
    "params": "x={}",
    "scope": "end_to_end",
    "cache": "cold",
    "metric": "other_{}",
    "unit": "ms",
    "better": "neither",
    "clock": "",
    "flops": 2.0,
    "bytes": 2.0,
}
SIZES = ("64", "128", "256")


def table(machine, seconds, **changed):
    """A reading with a value of three sizes, its rows changed; "{}" in a change is what the row has there."""
    found = reading([m for size in SIZES for m in processes([seconds], work(size))], machine, samples=False)
    rows = [replace(row, bytes=8.0) for row in found.rows]
    for name, new in changed.items():
        rows = [replace(r, **{name: new.format(getattr(r, name)) if isinstance(new, str) else new}) for r in rows]
    return replace(found, rows=tuple(rows))


def test_the_same_work_stands_side_by_side():
    a, b = table("a", 1.0), table("b", 2.0)
    assert kept_apart([a, b]).readings == (a, b)
    data = ReportData([a, b])
    assert [s.ratio for s in figures.speedups(data)] == pytest.approx([0.5])
    assert {cell.share for cell in figures.heat(data)} == {1.0, 0.5}
    assert {p.contender.machine for p in figures.sweeps(data)[0].points} == {"a", "b"}
    assert data.apart == ()


@pytest.mark.parametrize("name", [*WORK, *QUANTITY, *COSTS])
def test_what_compare_refuses_is_set_side_by_side_by_no_figure(name):
    changed = table("b", 2.0, **{name: OTHER[name]})
    for tables in ([table("a", 1.0), changed], [changed, table("a", 1.0)]):
        with pytest.raises(NothingToCompare):
            compare(tables)
        data = ReportData(tables)
        assert data.sides == []
        assert figures.speedups(data) == []
        assert {cell.share for cell in figures.heat(data)} <= {1.0, None}
        cases = {case_id for sizes in data.families.values() for case_id in sizes.values()}
        assert cases == {row.case_id for row in data.rows}, "some work has no place in any figure"
        places = [(sweep.family, p.x) for sweep in figures.sweeps(data) for p in sweep.points]
        assert len(set(places)) == len(places) > 0
        assert bool(data.apart) == (name != "metric")  # another metric is no metric of another kind


def test_costs_that_two_works_of_one_case_id_have_are_two():
    a, b = (reading(tokens([seconds]), name, samples=False) for name, seconds in (("a", 1.0), ("b", 2.0)))
    tariff = Tariff.parse(["a=1", "b=1"], None)
    (both,) = price_work([a, b], tariff).compared
    assert both.cheapest.ratio == pytest.approx(2.0)
    other = replace(b, rows=tuple(replace(row, params="x=1") for row in b.rows))
    prices = price_work([a, other], tariff)
    assert [list(work.by_machine) for work in prices.works] == [["a"], ["b"]]
    assert prices.compared == ()
    assert prices.apart[0].startswith("Shown as other work, because compare keeps it apart, ")


def test_a_cost_that_one_of_two_rows_lacks_is_no_difference_and_is_learnt_from_the_other():
    a, b, c = table("a", 1.0, flops=None), table("b", 1.0, flops=1.0), table("c", 1.0, flops=2.0)
    ids = [{row.case_id for row in found.rows} for found in kept_apart([a, b, c]).readings]
    assert ids[0] == ids[1]
    assert ids[2].isdisjoint(ids[0])


def test_costs_and_intervals_that_no_chart_can_show_are_left_out():
    kept = {"flops": 1.0, "bytes": None, "ci_low": 0.5, "ci_high": 2.0}
    row = replace(table("a", 1.0).rows[0], value=1.0, **kept)
    changes = [{"flops": -1.0}, {"bytes": 1e308}, *({"ci_low": low} for low in (-1.0, 1.5, None)), {"ci_high": 0.9}]
    for i, change in enumerate(changes):
        (found,) = kept_apart([replace(table("a", 1.0), rows=(replace(row, case_id=f"c{i}", **change),))]).readings
        gone = {"ci_low", "ci_high"} if change.keys() & {"ci_low", "ci_high"} else change.keys()
        assert {name: getattr(found.rows[0], name) for name in kept} == kept | dict.fromkeys(gone)


def test_two_rows_of_one_result_that_are_of_different_work_contradict_each_other():
    changed = table("a", 1.0, params="x=1")
    with pytest.raises(TableError, match="two different rows"):
        ReportData([table("a", 1.0), replace(changed, path="changed.csv")])


def test_a_table_in_which_nothing_differs_is_kept_as_it_was_read():
    """So what is asked of its columns needs no row, and its rows are still known to be distinct."""
    good, doubtful = table("a", 1.0), table("b", 1.0, unit="ms")
    kept = kept_apart([good, doubtful]).readings
    assert kept[0] is good
    assert kept[1] is not doubtful
