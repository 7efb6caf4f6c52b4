"""A gate is breached by a significant slowdown or a lost case, and reports if it can detect little or nothing."""

import pytest

from bench_core.compare import CompareOptions, compare
from bench_core.compare.gates import is_regression
from bench_core.errors import NothingToCompare
from tests.support.comparisons import FIVE, mixed, only, two
from tests.support.tables import processes, reading, work


@pytest.mark.parametrize(
    ("factor", "runs", "breached"), [(1.2, 5, True), (1.05, 5, False), (0.5, 5, False), (2.0, 1, True), (1.2, 1, False)]
)
def test_a_regression_is_a_sure_slowdown_beyond_the_threshold(factor, runs, breached):
    """With one run per side, the whole widened interval must lie beyond the threshold."""
    c = only(two(FIVE[:runs], [factor * t for t in FIVE[:runs]], backend="torch"))
    assert is_regression(c, 0.10) is breached


def test_a_regression_gate_over_single_runs_notes_that_it_sees_little():
    notes = compare(two([1.0], [1.0], backend="torch"), CompareOptions(fail_on=("regression",))).notes
    assert notes[-1].startswith("the regression gate is insensitive: 1 cases have one run on a side")


def test_a_regression_gate_with_nothing_to_look_at_is_an_error():
    with pytest.raises(NothingToCompare, match="nothing was checked"):
        compare([mixed()[0]], CompareOptions(fail_on=("regression",)))


def test_lost_cases_breach_the_missing_gate_and_new_ones_do_not():
    more, less = [*processes(FIVE), *processes(FIVE, of=work("32"))], processes(FIVE)
    gate = CompareOptions(fail_on=("missing",))
    assert compare([reading(less, "a"), reading(more, "b")], gate).breaches == ()
    (line,) = compare([reading(more, "a"), reading(less, "b")], gate).breaches
    assert line == "missing: 1 case no comparable value any more: matmul 32 float32 b"
