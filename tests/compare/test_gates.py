"""A gate is breached by a significant slowdown or a lost case, and reports if it can detect little or nothing."""

import re
from dataclasses import replace

import pytest

from bench_core.compare import CompareOptions, Outcome, Reading, Verdict, compare
from bench_core.compare.gates import is_regression
from bench_core.errors import NothingToCompare
from tests.support.comparisons import FIVE, mixed, only, two
from tests.support.tables import processes, reading, work

GATE = CompareOptions(fail_on=("regression",))


@pytest.mark.parametrize(
    ("factor", "runs", "breached"),
    [(1.2, 5, True), (1.05, 5, False), (0.5, 5, False), (20.0, 4, False), (20.0, 1, False)],
)
def test_a_regression_is_a_claimed_slowdown_beyond_the_threshold(factor, runs, breached):
    """Fewer than five runs a side indicate at most, which breaches nothing."""
    c = only(two(FIVE[:runs], [factor * t for t in FIVE[:runs]], backend="torch"))
    assert is_regression(c, 0.10) is breached


@pytest.mark.parametrize("factor", [1.0, 20.0])
def test_a_regression_gate_over_too_few_runs_neither_passes_nor_fails(factor):
    """It says what to run, whether a slowdown is indicated or not."""
    result = compare(two([1.0], [factor], backend="torch"), GATE)
    assert result.breaches == ()
    assert re.fullmatch(r"regression: no case supports a claim: .* bench-core run --runs 5.*", result.undecided)


def test_a_regression_gate_notes_the_cases_on_which_it_could_not_decide():
    done = [*processes([1.0], work("32")), *processes(FIVE, work("64"))]
    result = compare([reading(done, "a"), reading(done, "b")], GATE)
    assert (result.breaches, result.undecided) == ((), "")
    (gate,) = result.gates
    assert (gate.name, gate.outcome, gate.checked, gate.decided) == ("regression", Outcome.PASSED, 2, 1)
    assert gate.undecided == ("matmul 32 float32",)
    assert gate.reason.startswith("the interval includes 1.00x")
    assert gate.line == "regression on 1 of 2 cases; undecided on 1: matmul 32 float32"
    assert compare([reading(done, "a"), reading(done, "b")]).gates == (), "without the gate"


def test_a_case_whose_interval_excludes_the_threshold_is_decided():
    """It need not be claimed to be the same."""
    noisy = [1.0, 1.06, 0.94, 1.05, 0.97]
    tables = two(noisy, noisy[::-1])
    wide, narrow = (compare(tables, replace(GATE, threshold=share)) for share in (0.15, 0.05))
    assert {c.verdict for c in wide.comparisons} == {Verdict.UNCLEAR}
    assert (wide.undecided, wide.breaches, bool(narrow.undecided)) == ("", (), True)


def test_a_regression_gate_with_nothing_to_look_at_is_an_error():
    with pytest.raises(NothingToCompare, match="nothing was checked"):
        compare([mixed()[0]], GATE)


def test_lost_cases_breach_the_missing_gate_and_new_ones_do_not():
    more, less = [*processes(FIVE), *processes(FIVE, of=work("32"))], processes(FIVE)
    gate = CompareOptions(fail_on=("missing",))
    assert compare([reading(less, "a"), reading(more, "b")], gate).breaches == ()
    (line,) = compare([reading(more, "a"), reading(less, "b")], gate).breaches
    assert line == "missing: 1 of 2 cases without a comparable value any more: matmul 32 float32"


def test_the_name_of_a_case_that_fails_is_of_one_row():
    """It has the backend, implementation, device, threads, metric and side where these tell the cases apart."""
    forms = ({"backend": "torch"}, {"backend": "torch", "implementation": "tuned"}, {"threads": 4}, {"threads": 2})

    def table(name, factor):
        return reading([m for known in forms for m in processes([factor * t for t in FIVE], **known)], name)

    (gate,) = compare([table("a", 1), table("b", 2)], GATE).gates
    assert gate.failed == (
        "matmul 64 float32 numpy",  # each side with most of its threads
        "matmul 64 float32 numpy 2 threads",
        "matmul 64 float32 torch",
        "matmul 64 float32 torch tuned",
    )
    several = replace(GATE, metrics=("time", "flop_rate"))
    (gate,) = compare([table("a", 1), table("b", 2), table("c", 3)], several).gates
    assert len(set(gate.failed)) == len(gate.failed) == gate.checked == 16
    assert all(name.endswith((" on b", " on c")) for name in gate.failed)
    assert gate.line.startswith("regression: all 16 cases slower by 10 % or more: ")
    assert gate.line.endswith(" and 13 more")


def test_a_gate_over_cases_that_are_all_unclear_decides_nothing():
    """Five runs a side are enough in number, but too noisy for any claim."""
    noisy = [1.0, 1.5, 0.7, 1.3, 0.8]
    found = compare(two(noisy, noisy[::-1]), GATE)
    assert found.undecided.startswith("regression: no case supports a claim: the interval includes 1.00x")
    assert compare(two(noisy, noisy[::-1])).undecided == "", "without the gate"


def test_a_run_compared_with_itself_decides_nothing():
    one = reading(processes(FIVE), "a")
    copies = [Reading.of(label, one.rows, label, one.files) for label in ("x", "y")]
    said = "regression: no case supports a claim: both sides are the same rows"
    assert compare(copies, GATE).undecided == said
