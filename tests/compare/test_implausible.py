"""Inconsistent numbers are reported, and a comparison that contains one is marked."""

from dataclasses import replace

import pytest

from bench_core.compare import CompareOptions, compare
from tests.support.comparisons import FIVE, two
from tests.support.tables import processes, reading, work


def test_a_rate_that_is_not_its_work_over_its_time_is_implausible():
    a, b = two(FIVE, FIVE)
    cut = dict.fromkeys(("ci_low", "ci_high", "min", "max", "p10", "p25", "p75", "p90"))
    rows = tuple(replace(r, value=r.value * 10, **cut) if r.metric == "flop_rate" else r for r in b.rows)
    result = compare([a, replace(b, rows=rows)], CompareOptions(metrics=("flop_rate",), fail_on=("invalid",)))
    (line,) = result.implausible
    assert line.startswith("b ")
    assert "is not flops = 1e+06" in line
    assert result.breaches == (f"invalid: 1 of 4 rows wrong or implausible: {line}",)
    assert [c.side for c in result.comparisons if c.implausible] == ["b"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"p10": 5.0}, "out of order"), ({"ci_low": 5.0}, "outside its own interval"), ({"value": -1.0}, "not positive")],
)
def test_rows_that_contradict_themselves_are_implausible(wrong, said):
    a, b = two(FIVE, FIVE)
    rows = tuple(replace(row, **wrong) if row.metric == "time" else row for row in b.rows)
    more = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    assert any(said in line for line in compare([a, replace(b, rows=rows), *more]).implausible)
