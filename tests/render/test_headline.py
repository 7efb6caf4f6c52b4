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
    assert first.startswith("Unclear whether b is faster or slower than a: 1.00x (")
    assert first.endswith("x faster), in the only case, time; 5 against 5 runs")


def test_claims_are_named_before_a_mean_that_one_noisy_case_makes_unclear():
    """Otherwise "unclear" would be the answer to a change that slows nearly everything."""
    noisy = [1.0, 30.0, 0.1, 20.0, 0.2]
    quiet = [work(str(n)) for n in (32, 64, 128)]

    def tables(factor):
        mine = [m for i, of in enumerate(quiet) for m in processes([factor[i] * t for t in FIVE], of)]
        return [*mine, *processes(noisy if factor[0] == 1 else noisy[::-1], work("256"))]

    first, *_ = answer([reading(tables(f), name) for name, f in (("a", [1, 1, 1]), ("b", [1.5, 1.4, 1.6]))])
    assert first.startswith(
        "b is claimed to be slower than a in 3 of 4 cases (1.40x to 1.60x); in the mean it is unclear: "
    )
    both, *_ = answer([reading(tables(f), name) for name, f in (("a", [1, 1, 1]), ("b", [1.5, 0.5, 1.6]))])
    assert both.startswith(
        "b is claimed to be faster than a in 1 of 4 cases (2.00x) and slower in 2 (1.50x to 1.60x); in the mean"
    )


def test_the_same_rows_are_called_so():
    first, *_ = answer([reading(processes(FIVE), "m", label=label) for label in "ab"])
    assert first == "b and a are the same rows"


def test_a_mean_of_cpus_alone_says_so_and_comes_after_the_best_gpu():
    """It is not what a buyer of a GPU asks."""
    a = [*processes(FIVE), *processes([t / 50 for t in FIVE], backend="torch", device="cuda:0")]
    best, mean, *_ = answer([reading(a, "a"), reading(processes([3 * t for t in FIVE]), "b")])
    assert best.startswith("The best GPU against the best CPU, time: ahead in 1")
    assert "b is 3.00x slower than a" in mean
    assert ", all on CPUs, time" in mean


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


BEST = "The best GPU against the best CPU, time: "


def test_the_best_gpu_is_set_against_the_best_cpu():
    said = f"{BEST}ahead in 1, behind in 0, unclear in 0 of 1 piece of work that both have; 2.50x faster (claimed)"
    assert said in answer(mixed(), baseline="a")


def test_the_best_gpu_is_ahead_only_where_its_verdict_says_so():
    """Of four works one is claimed to be ahead, one indicated to be behind, one the same, and one too noisy to tell."""
    noisy = [1.0, 1.5, 0.7, 1.3, 0.8]
    of_both = {
        "32": (FIVE, [t / 4 for t in FIVE]),
        "64": (FIVE[:3], [2 * t for t in FIVE[:3]]),
        "128": (FIVE, FIVE),
        "256": (noisy, [0.99 * t for t in noisy[::-1]]),
    }
    rows = []
    for size, (cpu, gpu) in of_both.items():
        rows += [*processes(cpu, work(size)), *processes(gpu, work(size), backend="torch", device="cuda:0")]
    (line,) = [line for line in answer([reading(rows, "a")], columns=("backend",)) if line.startswith(BEST)]
    assert line == (
        f"{BEST}ahead in 1, behind in 1, the same in 1, unclear in 1 of 4 pieces of work that both have; "
        "where ahead or behind 2.00x slower to 4.00x faster (1 only indicated)"
    )
    unclear = [r for r in rows if r.case.work.size == "256"]
    (line,) = [line for line in answer([reading(unclear, "a")], columns=("backend",)) if line.startswith(BEST)]
    assert line == f"{BEST}ahead in 0, behind in 0, unclear in 1 of 1 piece of work that both have"


@pytest.mark.parametrize(
    ("factor", "said"),
    [(2.0, ["FAILED regression: 1 case slower by 10 % or more: matmul 64 float32", "PASSED missing on 1 case"]),
     (1.0, ["PASSED missing on 1 case", "PASSED regression on 1 case"])],
)  # fmt: skip
def test_the_gates_are_the_first_lines_those_that_failed_first(factor, said):
    lines = answer(two(FIVE, [factor * t for t in FIVE]), fail_on=("missing", "regression"))
    assert lines[: len(said)] == said
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


def test_without_a_case_common_to_all_each_side_is_compared_over_its_own_cases():
    """The third side has no case in common with the baseline. What claims need is said once."""
    sizes = {"a": ("32", "64", "128"), "b": ("32",), "c": ("64", "128"), "d": ("256",)}
    factors = {"a": 1, "b": 2, "c": 3, "d": 1}
    tables = [
        reading([p for n in of for p in processes([factors[m] * t for t in FIVE[:3]], work(n))], m)
        for m, of in sizes.items()
    ]
    b, c, apart, needed, counts = answer(tables)
    assert b.startswith("b is 2.00x slower than a (")
    assert "in 1 of 3 cases, time: indicated" in b
    assert c.startswith("c is 3.00x slower than a (")
    assert "geometric mean over 2 of 3 cases, time: indicated" in c
    assert needed.startswith("A claim needs 5 runs a side")
    assert apart == (
        "No case has a value on every side, so that the sides are not ranked by time; d has none in common with a"
    )
    assert counts == "3 compared: 0 faster, 0 slower, 0 same, 3 indicated, 0 unclear; 7 missing"
    result = compare(tables)
    assert list(headline.rankings(result)) == []
    shown = render.text(result, 80)
    assert "Without a case in common with the baseline: d." in shown
    assert shown.count("A claim needs") + shown.count("a claim needs") == 1
    assert "2 missing (b and d: not measured): matmul 64 float32 numpy cpu, " in shown


def test_a_mean_of_one_case_is_not_explained():
    """Neither is its interval that of a geometric mean."""
    for cases, times in ((1, 0), (2, 1)):
        rows = [m for n in ("32", "64")[:cases] for m in processes(FIVE, work(n))]
        shown = render.text(compare([reading(rows, "a"), reading(rows, "b", run_id="r")]), 80)
        assert shown.count("geometric mean is the widest") == times
        assert ("10 rows" in shown, "5 rows" in shown, "1 rows" in shown) == (False, False, False)
