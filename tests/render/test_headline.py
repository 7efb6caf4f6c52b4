"""The first lines of a comparison say which side is better, by how much over what, and how sure that is."""

import pytest

from bench_core import render
from bench_core.compare import CompareOptions, compare
from bench_core.render import headline
from tests.support.comparisons import DRIFT, FIVE, mixed, two
from tests.support.imaginary_machines import five
from tests.support.tables import processes, reading, work


def answer(readings, **options):
    return list(headline.answer(compare(readings, CompareOptions(**options))))


def test_a_claim_is_the_first_line():
    assert answer(two(FIVE, [2 * t for t in FIVE])) == [
        "b is 2.00x slower than a (1.95x to 2.05x), in the only case, time: claimed (5 against 5 runs)",
        "1 compared: 0 faster, 1 slower, 0 same, 0 indicated, 0 unclear",
    ]


def test_an_indication_says_what_a_claim_needs():
    first, second, _ = answer(two(FIVE[:3], [2 * t for t in FIVE[:3]], backend="torch"))
    assert first == "b is 2.00x slower than a (1.96x to 2.05x), in the only case, time: indicated (3 against 3 runs)"
    assert second == "A claim needs 5 runs a side: bench-core run --runs 5 on each machine"


def test_what_is_unclear_is_not_said_to_be_faster():
    first, *_ = answer(two(DRIFT, DRIFT[::-1]))
    assert first.startswith("Unclear whether b is faster than a: 1.00x (")
    assert first.endswith("x faster), in the only case, time; 5 against 5 runs")


def test_a_mean_says_over_how_many_cases_it_is():
    a = [*processes(FIVE), *processes(FIVE, work("32")), *processes(FIVE, work("128"))]
    first, *_ = answer([reading(a, "a"), reading(a[:10], "b")])
    assert "geometric mean over 2 of 3 cases" in first


def test_of_several_sides_the_first_is_named_and_a_table_ranks_all():
    first, second, *_ = headline.answer(five())
    assert first.startswith("First of 5: box-e is 3.00x faster than box-a (")
    assert second == "A claim needs 5 runs a side: bench-core run --runs 5 on each machine"
    ((title, table),) = headline.rankings(five())
    assert title == "Ranking by time"
    assert [row[:3] for row in table.rows] == [
        ("1", "box-e", "3.00x faster"),
        ("2", "box-d", "2.50x faster"),
        ("3", "box-c", "2.00x faster"),
        ("4", "box-b", "1.50x faster"),
        ("5", "box-a", "baseline"),
    ]
    assert list(headline.rankings(compare(two(FIVE, FIVE)))) == []


def test_a_baseline_that_is_first_is_named():
    slower = [reading(processes([k * t for t in FIVE]), m) for k, m in ((1, "a"), (2, "b"), (3, "c"))]
    assert answer(slower)[0].startswith("First of 3: a, the baseline. Next: b is 2.00x slower than a (")


def test_the_best_gpu_is_set_against_the_best_cpu():
    lines = answer(mixed(), baseline="a")
    assert any(
        line == "The best GPU is ahead of the best CPU in 1 of 1 pieces of work that both have: 2.50x faster, time"
        for line in lines
    )


@pytest.mark.parametrize(
    ("factor", "said"),
    [(2.0, ["FAILED regression: 1 case slower by 10 % or more: matmul 64 float32 b", "PASSED missing"]),
     (1.0, ["PASSED regression, missing"])],
)  # fmt: skip
def test_the_gates_are_in_the_first_lines(factor, said):
    lines = answer(two(FIVE, [factor * t for t in FIVE]), fail_on=("regression", "missing"))
    assert lines[-len(said) :] == said
    assert not any("PASSED" in line for line in answer(two(FIVE, FIVE)))


def test_the_answer_is_at_the_top_in_every_format_for_people():
    result = compare(two(FIVE, [2 * t for t in FIVE]))
    assert render.text(result, 200).startswith("Verdict\n  b is 2.00x slower than a (")
    assert render.markdown(result).startswith("### Verdict\n\n- b is 2.00x slower than a (")
    assert render.github(result).startswith("**b is 2.00x slower than a (")


def test_without_a_common_case_there_is_no_mean():
    """The GPU side has no CPU row, and the best pair remains."""
    a = [*processes(FIVE), *processes(FIVE, backend="torch", device="cuda:0", of=work("32"))]
    b = [*processes(FIVE, of=work("32")), *processes(FIVE, backend="torch", device="cuda:0", of=work("128"))]
    assert answer([reading(a, "a"), reading(b, "b")])[0] == (
        "No case has a value on every side, so there is no mean over cases."
    )
