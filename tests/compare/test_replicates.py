"""Each process is one replicate; rounds, tables and labels do not change their number."""

import math
from dataclasses import replace

import pytest

from bench_core.compare import Method, Verdict
from bench_core.compare.replicates import collect_replicates
from bench_core.records import SEQUENTIAL
from bench_core.results.formula import FLOPS, GPU_CLOCK, TIME
from bench_core.results.metrics import METRICS, Metric
from tests.support.comparisons import DRIFT, FIVE, only, two
from tests.support.tables import measured, processes, reading


def test_more_rounds_in_one_process_narrow_no_interval():
    """More rounds in one process do not narrow the interval; more processes do."""
    few, many = (only([reading([measured([t] * n)], m) for m, t in (("a", 1.0), ("b", 1.1))]) for n in (10, 1000))
    assert few.ci_high == pytest.approx(many.ci_high)
    assert only(two(FIVE, [1.1 * t for t in FIVE])).ci_high < few.ci_high * 1.2


def test_several_run_folders_of_one_machine_are_several_runs():
    a = [reading([measured([t, t, t])], "a", run_id=f"a{i}") for i, t in enumerate(FIVE)]
    b = [reading([measured([2 * t] * 3)], "b", run_id=f"b{i}") for i, t in enumerate(FIVE)]
    c = only([*a, *b])
    assert (c.verdict, c.baseline.processes, c.contender.processes) == (Verdict.SLOWER, 5, 5)


@pytest.mark.parametrize("slower", [1.2, 9.0])
def test_labelled_runs_of_one_model_may_be_of_two_machines_and_are_never_paired_by_time(slower):
    """The machine name only describes the hardware: two cloud H200s, running at the same time, did not alternate.

    Two names (--bench-machine) would make them two machines.
    """
    c = only(
        [
            reading([measured([t * d] * 3)], "h200", run_id=f"{label}{i}", label=label, started_at=f"2001-01-0{i}{at}")
            for i, d in enumerate(DRIFT, start=1)
            for label, t, at in (("a", 1.0, "T00:00:00"), ("b", slower, "T00:00:30"))
        ]
    )
    assert (c.method, c.verdict) == (Method.WELCH, Verdict.UNCLEAR)
    assert "if these are two machines, name them: --bench-machine" in c.reason


def test_pairs_named_in_run_json_are_paired_whatever_their_start():
    sides = [
        reading(processes([d * t for d in DRIFT]), "m", run_id=label, label=label, about={"series": "s1"})
        for label, t in (("old", 1.0), ("new", 1.2))
    ]
    assert only(sides).method is Method.PAIRED


def test_a_lone_table_works_from_its_interval():
    """Mean and variance of the log medians are recovered exactly from Student's interval."""
    full, lone = (
        two(FIVE, [1.2 * t for t in FIVE]),
        [reading(processes(t), name, samples=False) for name, t in (("a", FIVE), ("b", [1.2 * t for t in FIVE]))],
    )
    with_samples, without = only(full), only(lone)
    assert (with_samples.basis, without.basis) == (
        "p10 of each process",
        "median of each process, from the table's interval",
    )
    assert without.p == pytest.approx(with_samples.p, rel=1e-6)
    assert without.ratio == pytest.approx(with_samples.ratio, rel=1e-9)


def test_samples_that_do_not_belong_to_the_row_are_not_used():
    right = reading(processes(FIVE), "a")
    key = next(iter(right.files.samples))
    wrong = replace(right, files=replace(right.files, samples={key: {0: (1.0, 2.0)}}))
    c = only([wrong, reading(processes([2 * t for t in FIVE]), "b")])
    assert c.basis.startswith("median")


@pytest.mark.parametrize(
    ("formula", "unit", "basis"),
    [
        (TIME / FLOPS, "s/FLOP", "p10 of each process"),
        (FLOPS / TIME, "FLOP/s", "p10 of each process"),
        (GPU_CLOCK * TIME, "1", "median of each process, from the table's interval"),
    ],
)
def test_samples_of_the_time_stand_for_what_is_derived_from_the_time_alone(monkeypatch, formula, unit, basis):
    monkeypatch.setitem(METRICS, "mine", Metric("mine", unit, "lower", "of the time", formula))
    sides = [
        reading([replace(m, values={"gpu_clock": 1e9 * t}) for m, t in zip(processes(FIVE), ticks, strict=True)], name)
        for name, ticks in (("a", FIVE), ("b", FIVE[::-1]))
    ]
    assert only(sides, metrics=("mine",)).basis == basis


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize(
    ("formula", "unit", "of"),
    [(TIME / FLOPS, "s/FLOP", lambda t: t / 1e6), (FLOPS / TIME, "FLOP/s", lambda t: 1e6 / t)],
)
def test_each_process_has_the_derived_value_of_its_own_time_whichever_way_is_better(
    monkeypatch, formula, unit, of, better
):
    monkeypatch.setitem(METRICS, "mine", Metric("mine", unit, better, "of the time", formula))
    table = reading(processes(DRIFT), "a")
    row = next(row for row in table.rows if row.metric == "mine")
    found = [math.exp(replicate.middle) for replicate in collect_replicates("a", [(table, row)]).replicates]
    assert found == pytest.approx([of(t) for t in DRIFT])


@pytest.mark.parametrize(("times", "used"), [(1 + 1e-9, True), (1.001, False)])
def test_as_many_samples_as_the_row_has_are_not_used_where_their_median_is_not_its_value(times, used):
    """A table whose samples are those of another run of the same plan."""
    right = reading(processes(FIVE), "a")
    others = {key: {p: tuple(times * t for t in s) for p, s in of.items()} for key, of in right.files.samples.items()}
    a = replace(right, files=replace(right.files, samples=others))
    c = only([a, reading(processes([2 * t for t in FIVE]), "b")])
    assert c.basis.startswith("p10") is used


@pytest.mark.parametrize(("slow", "value"), [(20, 1.0), (30, 2.0)])
def test_the_interval_of_many_runs_holds_their_median(slow, value):
    """Of 50 runs at two speeds the interval of the mean logarithm lies between the two; the median is one of them."""
    found = []
    for i in range(50):
        one = reading([measured([2.0 if i < slow else 1.0] * 3)], "a", run_id=f"r{i:02}")
        found += [(one, row) for row in one.rows if row.metric == "time"]
    entry = collect_replicates("a", found).entry
    assert entry.value == pytest.approx(value)
    assert entry.ci_low <= entry.value <= entry.ci_high
    assert entry.value in {entry.ci_low, entry.ci_high}
    assert entry.ci_low < entry.ci_high


def test_a_sequence_that_is_pooled_with_another_has_the_interval_of_both():
    found = []
    for run, n in (("r1", 3), ("r2", 7)):
        one = reading(
            [replace(m, flags=(SEQUENTIAL,)) for m in processes([1.0 + 0.01 * i for i in range(n)])], "a", run_id=run
        )
        found += [(one, row) for row in one.rows if row.metric == "time"]
    entry = collect_replicates("a", found).entry
    assert entry.processes == 10
    assert (entry.ci_low, entry.ci_high) == pytest.approx((1.0, 1.05))
    alone = collect_replicates("a", found[:1]).entry
    assert (alone.ci_low, alone.ci_high) == (None, None)
