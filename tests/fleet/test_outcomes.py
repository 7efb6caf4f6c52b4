"""Which cases were planned and measured where: what failed on one node alone is named, what none can do is not."""

from collections import Counter
from pathlib import Path

import pytest

from bench_core.fleet.outcomes import Usual, failed, not_planned, nothing_measured, unlike
from bench_core.fleet.verification import Outcome, Verified

GOOD = {"a": "ok", "b": "ok", "c": "skipped"}


def run(number=0, **cases):
    ends = {case: Outcome(status, "" if status == "ok" else f"why {case}") for case, status in cases.items()}
    return Verified(Path(str(number)), (), "", ends)


def runs(*each):
    return [run(number, **cases) for number, cases in enumerate(each)]


@pytest.mark.parametrize("status", ["error", "crashed", "timeout", "invalid", "oom"])
def test_a_part_without_a_single_value_is_named_with_the_most_frequent_end(status):
    text = nothing_measured(runs({"a": "skipped", "b": "interrupted", "d": status, "c": status}))
    assert text == f"none of its 4 cases was measured: 2 {status}, 1 interrupted, such as c: why c"


def test_one_value_in_one_run_is_enough():
    assert nothing_measured(runs({"a": "error"}, {"a": "ok"})) == ""


def test_what_was_never_tried_did_not_fail():
    assert nothing_measured(runs({"a": "skipped", "b": "unsupported"})) == ""
    assert nothing_measured([]) == ""


def test_cases_that_fail_on_one_node_alone_are_named():
    bad = runs(GOOD, GOOD | {"a": "error", "c": "error"})
    usual = Usual.of([runs(GOOD), runs(GOOD), bad])
    assert failed(bad, usual) == "1 of 3 cases has no value here and one on most nodes: 1 error, such as a: why a"
    assert failed(runs(GOOD), usual) == ""


def test_cases_that_a_node_did_not_even_try_are_named_if_most_have_measured_them():
    bad = runs({"a": "skipped", "b": "skipped", "c": "skipped"})
    text = failed(bad, Usual.of([runs(GOOD), runs(GOOD), bad]))
    assert text == "2 of 3 cases have no value here and one on most nodes: 2 skipped, such as a: why a"


def test_cases_that_half_of_the_nodes_cannot_do_are_not_named():
    bad = runs(GOOD | {"a": "oom"})
    assert failed(bad, Usual.of([runs(GOOD), bad])) == ""


def test_nodes_that_gave_nothing_are_not_counted():
    usual = Usual.of([[], [], runs(GOOD), runs({"a": "ok"})])
    assert usual == Usual(frozenset("a"), frozenset("a"))
    assert not_planned([], usual) == ""
    assert not_planned(runs({"b": "ok"}), usual) == "has not planned 1 of the 1 cases that most have, such as a"


def test_runs_of_one_part_with_other_cases_than_most_of_its_runs_are_named():
    mine = runs(GOOD, {"a": "ok"}, GOOD)
    assert unlike(mine, Counter()) == {
        Path("1"): "has planned 1 case, and the other runs of this node 3: lacks 2 of those, such as b"
    }
    assert unlike(mine, Counter({frozenset("a"): 9})).keys() == {Path("1")}  # whatever other nodes can do
    assert unlike(runs(GOOD, GOOD | {"a": "error"}), Counter()) == {}  # the outcome may be another


def test_of_as_many_runs_those_are_taken_that_are_like_the_runs_of_other_nodes():
    mine = runs({"a": "ok"}, GOOD)
    everywhere = Counter({frozenset(GOOD): 5, frozenset("a"): 1})
    assert unlike(mine, everywhere).keys() == {Path("0")}
    assert unlike(mine, Counter()).keys() == {Path("1")}
