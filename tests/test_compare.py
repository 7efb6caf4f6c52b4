"""Comparing tables: what pairs, what is claimed, what is said instead."""

import math
from dataclasses import replace

import pytest

from bench_core.compare import BEST_CPU, Method, Options, Reading, Verdict, compare
from bench_core.compare.comparison import change, interval
from bench_core.compare.gates import is_regression
from bench_core.compare.options import share
from bench_core.errors import IncompatibleError, NothingToCompare, TableError, UsageError
from bench_core.model import Fact, Scope, Status
from tests.tables import absent, measured, processes, reading, work

FIVE = (1.00, 1.01, 0.99, 1.02, 0.98)


def only(readings, **options):
    """The one comparison of these tables."""
    (comparison,) = compare(readings, Options(**options)).comparisons
    return comparison


def two(a, b, **known):
    """Machine a and machine b, each with these medians of its processes."""
    return [reading(processes(a, **known), "a"), reading(processes(b, **known), "b")]


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("ratio", "unit", "said"),
    [
        (2.0, "s", "2.00x faster"),
        (0.5, "s", "2.00x slower"),
        (2.0, "FLOP/s", "2.00x faster"),
        (0.5, "B", "2.00x worse"),
        (1.001, "s", "1.00x"),
        (1 / 1.001, "s", "1.00x"),
        (None, "s", ""),
        (1234.0, "s", "1,234x faster"),
    ],
)
def test_a_ratio_reads_the_same_both_ways(ratio, unit, said):
    assert change(ratio, unit) == said


def test_an_interval_reads_in_the_words_of_its_ratio():
    assert interval(2.0, 1.9, 2.1, "s") == "1.90x to 2.10x"
    assert interval(0.5, 0.4, 0.625, "s") == "1.60x to 2.50x"
    assert interval(1.1, 0.8, 1.3, "s") == "1.25x slower to 1.30x faster"
    assert interval(None, None, None, "s") == ""


# ---------------------------------------------------------------- direction and verdicts


def test_less_time_and_a_higher_rate_are_both_faster():
    tables = two([2 * t for t in FIVE], FIVE)
    for metric in ("time", "flop_rate"):
        c = only(tables, metrics=(metric,))
        assert (c.verdict, c.change, c.method) == (Verdict.FASTER, "2.00x faster", Method.WELCH)
        assert c.ci_low < 2.0 < c.ci_high


def test_runs_that_agree_within_the_smallest_effect_are_the_same():
    c = only(two([1.0, 1.001, 0.999, 1.002, 0.998], [1.001, 1.002, 1.0, 1.003, 0.999]))
    assert c.verdict is Verdict.SAME
    assert "within 5 % of 1.00x" in c.reason


def test_runs_that_scatter_support_no_claim():
    c = only(two([1.0, 1.4, 0.8, 1.2, 0.9], [0.9, 1.3, 0.7, 1.2, 1.0]))
    assert c.verdict is Verdict.UNCLEAR
    assert "the interval includes 1.00x" in c.reason


def test_a_sure_change_smaller_than_the_smallest_effect_is_not_called_one():
    tables = two([1.0, 1.001, 0.999], [1.03, 1.031, 1.029])
    assert only(tables, min_effect=0.02).verdict is Verdict.SLOWER
    assert only(tables, min_effect=0.05).verdict is Verdict.SAME
    wide = only(two([1.0, 1.01, 0.99, 1.0, 1.02], [1.035, 1.05, 1.02, 1.04, 1.05]), min_effect=0.05)
    assert wide.verdict is Verdict.UNCLEAR
    assert "changed, but not shown to be by 5 % or more" in wide.reason


def test_many_tests_raise_the_bar_for_each():
    """A p of 0.03 alone is a change; among fifty cases that did not change, two such are to be expected."""
    steady, moved = [1.0, 1.06, 0.95, 1.03, 0.97], [1.09, 1.15, 1.03, 1.12, 1.05]
    alone = only(two(steady, moved))
    assert alone.verdict is Verdict.SLOWER
    others = [m for n in range(50) for m in processes(steady, of=work(str(n + 100)))]
    crowd = compare([reading([*processes(steady), *others], "a"), reading([*processes(moved), *others], "b")])
    among = next(c for c in crowd.comparisons if c.key.size == "64")
    assert among.p == pytest.approx(alone.p)
    assert among.verdict is Verdict.UNCLEAR
    assert "over 51 tests" in among.reason


# ---------------------------------------------------------------- runs are the unit of replication


def test_one_run_a_side_is_never_called_significant():
    """Even a hundredfold difference with a thousand quiet rounds is one run against one run."""
    a = reading([measured([1.0 + 1e-6 * i for i in range(1000)])], "a")
    b = reading([measured([0.01 + 1e-8 * i for i in range(1000)])], "b")
    c = only([a, b])
    assert (c.verdict, c.label, c.method, c.p) == (Verdict.UNCLEAR, "single-run", Method.SINGLE, None)
    assert c.change == "100x faster"
    assert c.reason.startswith("beyond the spread assumed between processes, but one run")


@pytest.mark.parametrize(("backend", "spread"), [("numpy", 0.09), ("torch", 0.09)])
def test_the_interval_of_single_runs_has_the_spread_assumed_between_processes(backend, spread):
    c = only(two([1.0], [1.0], backend=backend))
    assert math.log(c.ci_high) >= 1.96 * math.sqrt(2) * spread
    assert math.log(c.ci_high) == pytest.approx(1.96 * math.hypot(spread, spread, 0.0184), rel=0.05)


def test_rounds_are_no_replicates():
    """Twice the rounds in one process narrow nothing; processes do."""
    few, many = (only([reading([measured([t] * n)], m) for m, t in (("a", 1.0), ("b", 1.1))]) for n in (10, 1000))
    assert few.ci_high == pytest.approx(many.ci_high)
    assert only(two(FIVE, [1.1 * t for t in FIVE])).ci_high < few.ci_high * 1.2


def test_several_run_folders_of_one_machine_are_several_runs():
    a = [reading([measured([t, t, t])], "a", run_id=f"a{i}") for i, t in enumerate(FIVE)]
    b = [reading([measured([2 * t] * 3)], "b", run_id=f"b{i}") for i, t in enumerate(FIVE)]
    c = only([*a, *b])
    assert (c.verdict, c.baseline.processes, c.contender.processes) == (Verdict.SLOWER, 5, 5)


DRIFT = (1.0, 1.3, 0.8, 1.6, 1.1)


def two_backends(hour):
    """Five runs of NumPy on machine m, and five of a slower PyTorch half a minute and `hour` hours later."""
    times = (("numpy", 1.0, "00:0{}:00"), ("torch", 1.2, f"{hour:02}:0{{}}:30"))
    return [
        reading([measured([t * d] * 3, backend=b)], "m", run_id=f"{b}{i}", started_at=f"2001-01-01T{at.format(i)}")
        for i, d in enumerate(DRIFT)
        for b, t, at in times
    ]


def test_runs_of_one_machine_that_took_turns_are_paired():
    """Drift that both share cancels; without turns it does not."""
    in_turn, blocks = (only(two_backends(hour), columns=("backend",)) for hour in (0, 1))
    assert (in_turn.method, in_turn.verdict, in_turn.change) == (Method.PAIRED, Verdict.SLOWER, "1.20x slower")
    assert (blocks.method, blocks.verdict) == (Method.WELCH, Verdict.UNCLEAR)
    assert "5 against 5 runs); the runs are not in pairs: a drift of the machine can pass for a change" in blocks.reason


@pytest.mark.parametrize(("slower", "verdict"), [(1.2, Verdict.UNCLEAR), (9.0, Verdict.SLOWER)])
def test_labelled_runs_of_one_model_may_be_of_two_machines_and_are_never_paired_by_time(slower, verdict):
    """A machine's own name is its hardware: two H200s in a cloud that ran at the same time took no turns."""
    c = only(
        [
            reading([measured([t * d] * 3)], "h200", run_id=f"{label}{i}", label=label, started_at=f"2001-01-0{i}{at}")
            for i, d in enumerate(DRIFT, start=1)
            for label, t, at in (("a", 1.0, "T00:00:00"), ("b", slower, "T00:00:30"))
        ]
    )
    assert (c.method, c.verdict) == (Method.WELCH, verdict)
    claims = verdict is Verdict.SLOWER
    assert c.reason.endswith("; one machine, or two of one model: the tables cannot tell") is claims


def test_pairs_named_in_run_json_are_paired_whatever_their_start():
    sides = [
        reading(processes([d * t for d in DRIFT]), "m", run_id=label, label=label, about={"series": "s1"})
        for label, t in (("old", 1.0), ("new", 1.2))
    ]
    assert only(sides).method is Method.PAIRED


def test_two_backends_in_the_same_runs_are_paired():
    both = [*processes(DRIFT), *processes([1.5 * d for d in DRIFT], backend="torch")]
    c = only([reading(both, "m")], columns=("backend",))
    assert (c.method, c.against, c.side, c.change) == (Method.PAIRED, "numpy", "torch", "1.50x slower")


def test_a_lone_table_works_from_its_interval():
    """Mean and variance of the log medians come back out of Student's interval, exactly."""
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
    key = next(iter(right.sidecar.samples))
    wrong = replace(right, sidecar=replace(right.sidecar, samples={key: {0: (1.0, 2.0)}}))
    c = only([wrong, reading(processes([2 * t for t in FIVE]), "b")])
    assert c.basis.startswith("median")


def test_timings_equal_to_the_last_digit_are_one_run_copied():
    c = only(two([1.0] * 5, [2.0] * 5))
    assert c.label == "single-run"


def test_what_every_run_repeats_exactly_needs_no_test():
    """Peak memory has no noise: two values are two values."""
    a = [replace(m, values={"peak_memory": 1000.0}) for m in processes(FIVE)]
    b = [replace(m, values={"peak_memory": 2000.0}) for m in processes(FIVE)]
    c = only([reading(a, "a"), reading(b, "b")], metrics=("peak_memory",))
    assert (c.verdict, c.method, c.change) == (Verdict.SLOWER, Method.EXACT, "2.00x worse")
    assert "machines" not in c.reason


def test_two_machines_of_one_model_are_not_two_models():
    c = only(two(FIVE, [1.5 * t for t in FIVE]))
    assert c.verdict is Verdict.SLOWER
    assert "these two machines differ, which says nothing of the model" in c.reason


# ---------------------------------------------------------------- what pairs


@pytest.mark.parametrize(
    "other",
    [
        {"version": 2},
        {"precision": "tf32"},
        {"scope": Scope.END_TO_END},
        {"dtype": "float64"},
        {"size": "65"},
    ],
)
def test_work_that_differs_never_pairs(other):
    shared = processes(FIVE, of=work("32"))
    a = reading([*shared, *processes(FIVE)], "a")
    b = reading([*shared, *processes(FIVE, of=work(**{"size": "64", **other}))], "b")
    result = compare([a, b])
    assert [c.key.size for c in result.compared] == ["32"]
    field = {"version": "workload_version"}.get(next(iter(other)), next(iter(other)))
    if field == "size":
        assert {c.verdict for c in result.unmatched} == {Verdict.MISSING}
    else:
        (c,) = result.unmatched
        assert c.verdict is Verdict.INCOMPARABLE
        assert c.reason.startswith(f"not the same work: {field} ")


def test_a_forged_case_id_does_not_pair_different_work():
    a = reading(processes(FIVE), "a")
    b = reading(processes(FIVE), "b")
    forged = replace(b, rows=tuple(replace(row, params="k=1") for row in b.rows))
    with pytest.raises(NothingToCompare):
        compare([a, forged])


def test_rates_by_different_formulas_are_not_compared():
    a, b = reading(processes(FIVE, flops=1e6), "a"), reading(processes(FIVE, flops=2e6), "b")
    shared = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    (c,) = compare([a, b, *shared]).unmatched
    assert (c.verdict, c.reason) == (Verdict.INCOMPARABLE, "not the same work: flops 1000000.0 against 2000000.0")


def test_backends_and_devices_are_never_mixed_up():
    a = reading([*processes(FIVE), *processes([9 * t for t in FIVE], backend="torch")], "a")
    b = reading([*processes(FIVE, backend="torch"), *processes([9 * t for t in FIVE])], "b")
    said = {c.key.get("backend"): c.change for c in compare([a, b]).comparisons}
    assert said == {"numpy": "9.00x slower", "torch": "9.00x faster"}


def test_all_threads_meet_all_threads_and_equal_counts_meet_each_other():
    a = reading([*processes(FIVE, threads=64), *processes([4 * t for t in FIVE], threads=1)], "a")
    b = reading([*processes([2 * t for t in FIVE], threads=2), *processes([3 * t for t in FIVE], threads=1)], "b")
    said = {c.key.get("threads"): (c.change, [str(d) for d in c.conditions]) for c in compare([a, b]).comparisons}
    assert said == {"": ("2.00x slower", ["threads: 64 against 2"]), "1": ("1.33x faster", [])}


def test_conditions_that_differ_are_said():
    b = processes(FIVE, library="OtherBLAS 2", backend_version="2.0")
    c = only([reading(processes(FIVE), "a"), reading(b, "b")])
    assert [str(d) for d in c.conditions] == [
        "library: SomeBLAS 1 against OtherBLAS 2",
        "backend_version: 1.0 against 2.0",
    ]


def test_runs_of_one_side_under_different_conditions_are_said():
    """They are counted as runs of one thing; whoever reads the result must know that they were not quite."""
    a = [reading(processes(FIVE[i:], backend_version=v), "a", run_id=v) for i, v in enumerate(("1.0", "2.0"))]
    b = [reading(processes(FIVE[i:], backend_version=v), "b", run_id=v) for i, v in enumerate(("1.0", "2.0"))]
    c = only([*a, *b])
    assert [str(d) for d in c.conditions] == ["backend_version: 1.0 / 2.0 against 1.0 / 2.0"]


def test_runs_of_different_software_under_one_name_are_remarked():
    """Two versions that took turns in `run --against` become one side where the labels are left out."""
    this, against = (
        reading(processes(FIVE, backend="torch", backend_version=v), "a", run_id=v, about={"series": "s"})
        for v in ("2.12.0", "2.13.0")
    )
    commits = tuple(replace(row, git_commit="0123456789abcdef") for row in against.rows)
    tables = [this, replace(against, rows=commits), reading(processes(FIVE, backend="torch"), "b")]
    (note,) = compare(tables).notes
    assert note == (
        "torch of a: 10 runs of different software are pooled; labels (old=A new=B) keep them apart: "
        "backend_version 2.12.0, 2.13.0; git_commit unknown, 012345678"
    )
    labelled = [Reading.of(r.path, r.rows, label, r.sidecar) for label, r in zip("xy", tables, strict=False)]
    assert compare(labelled).notes == ()


# ---------------------------------------------------------------- missing


def test_a_backend_of_which_nothing_could_be_tried_is_left_out_with_its_reason():
    here = [*processes(FIVE), *processes([2 * t for t in FIVE], backend="torch")]
    gone = [absent(backend="cupy", device="cuda", status=Status.SKIPPED, reason="cupy is not installed")]
    found = compare([reading([*here, *gone])], Options(columns=("backend",)))
    assert found.sides == ("numpy", "torch")
    assert [mean.side for mean in found.means] == ["torch"]
    assert "cupy: left out, nothing could be tried: cupy is not installed" in found.notes


def test_a_backend_that_failed_stays_a_side():
    here = [*processes(FIVE), *processes(FIVE, backend="torch"), absent(backend="cupy", status=Status.CRASHED)]
    assert compare([reading(here)], Options(columns=("backend",))).sides == ("numpy", "cupy", "torch")


def test_sides_of_one_machine_stand_in_an_order_that_no_shuffle_changes():
    """The CPU's first, then by backend: the baseline must not be whatever a run happened to meet first."""
    gpu = [*processes(FIVE, backend="torch", device="cuda:0"), *processes(FIVE, backend="cupy", device="cuda:0")]
    cpu = [*processes(FIVE, backend="torch"), *processes(FIVE, implementation="tuned"), *processes(FIVE)]
    columns = ("backend", "device")
    for order in (gpu + cpu, cpu[::-1] + gpu[::-1]):
        sides = compare([reading(order)], Options(columns=columns, rows=("implementation",))).sides
        assert sides == ("numpy cpu", "torch cpu", "cupy cuda:0", "torch cuda:0")


def test_a_machine_on_which_nothing_could_be_tried_stays_a_side_for_the_gate_to_see():
    gone = [absent(status=Status.SKIPPED, reason="no device")]
    tables = [reading(processes(FIVE), "a"), reading(processes(FIVE), "b"), reading(gone, "c")]
    assert compare(tables, Options()).sides == ("a", "b", "c")


def test_a_row_without_a_value_is_missing_with_its_reason():
    a = reading([*processes(FIVE), *processes(FIVE, of=work("32"))], "a")
    b = reading([absent(), *processes(FIVE, of=work("32"))], "b")
    (c,) = compare([a, b]).unmatched
    assert (c.verdict, c.ratio, c.reason) == (Verdict.MISSING, None, "b: oom: out of memory: 3 GiB asked for")
    assert c.baseline.ok
    assert not c.contender.ok


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
def test_a_value_under_any_other_status_is_never_a_number(status):
    """A forged or half-written row may hold a value; only ok rows count."""
    a, b = two(FIVE, FIVE)
    rows = tuple(replace(row, status=status.value) for row in b.rows)
    more = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    result = compare([a, replace(b, rows=rows), *more], Options(metrics=("time", "flop_rate")))
    assert {c.verdict for c in result.comparisons if c.key.size == "64"} == {Verdict.MISSING}


def test_a_failure_is_named_whatever_metric_is_compared():
    """A case without a value has one row, under `time`; the rate it would have had is missing for the same reason."""
    a = reading([*processes(FIVE), *processes(FIVE, of=work("32"))], "a")
    b = reading([absent(), *processes(FIVE, of=work("32"))], "b")
    (c,) = compare([a, b], Options(metrics=("flop_rate",))).unmatched
    assert (c.key.metric, c.reason) == ("flop_rate", "b: oom: out of memory: 3 GiB asked for")


def test_a_machine_without_a_gpu_says_so_for_every_gpu():
    gpu = processes(FIVE, backend="torch", device="cuda:0")
    none = absent(backend="torch", device="cuda", status=Status.SKIPPED, reason="no CUDA device")
    result = compare([reading([*processes(FIVE), *gpu], "a"), reading([*processes(FIVE), none], "b")])
    (c,) = result.unmatched
    assert (c.key.get("device"), c.reason) == ("cuda:0", "b: skipped: no CUDA device")


def test_a_value_that_is_not_positive_is_no_number():
    a, b = two(FIVE, FIVE)
    zero = replace(b, rows=tuple(replace(row, value=0.0) for row in b.rows))
    more = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    (c,) = compare([a, zero, *more]).unmatched
    assert c.reason == "b: the value 0 is not positive"


# ---------------------------------------------------------------- nothing, and contradictions


def test_an_empty_intersection_is_an_error():
    with pytest.raises(NothingToCompare, match="no work has a value on two of the sides a, b"):
        compare([reading(processes(FIVE), "a"), reading(processes(FIVE, of=work("32")), "b")])


def test_runs_of_one_machine_need_labels_to_be_sides():
    runs = [reading(processes(FIVE), "a", run_id=name) for name in ("one", "two")]
    with pytest.raises(NothingToCompare, match="give them labels: before=A after=B"):
        compare(runs)


def test_a_filter_that_leaves_nothing_says_so():
    with pytest.raises(NothingToCompare, match="the filter and --metric leave none"):
        compare(two(FIVE, FIVE), Options(where="workload == 'nothing'"))


def test_two_different_rows_for_one_result_are_refused():
    a, b = two(FIVE, FIVE)
    twice = replace(a, path="copy.csv", rows=tuple(replace(row, value=row.value * 2) for row in a.rows))
    with pytest.raises(
        TableError, match=r"copy\.csv: two different rows for matmul 64 numpy cpu of run run-a, see a/run-a"
    ):
        compare([a, twice, b])


def test_the_same_run_on_both_sides_is_the_same():
    rows = reading([measured([1.0, 1.1, 1.2])], "a").rows
    c = only([Reading.of("x", rows, "x"), Reading.of("y", rows, "y")])
    assert (c.verdict, c.ratio, c.reason) == (Verdict.SAME, 1.0, "the same run on both sides")


# ---------------------------------------------------------------- best, means, baselines, gates


def mixed():
    """A machine with two CPU rows and two GPU rows, and one with a CPU row."""
    a = [
        *processes([4 * t for t in FIVE]),
        *processes([3 * t for t in FIVE], backend="torch"),
        *processes([1 * t for t in FIVE], backend="torch", device="cuda:0"),
        *processes([2 * t for t in FIVE], backend="cupy", device="cuda:0"),
    ]
    return [reading(a, "a"), reading(processes([2.5 * t for t in FIVE]), "b")]


def test_the_best_gpu_meets_the_best_cpu_of_all_machines_and_both_are_named():
    (best,) = compare(mixed()).best
    c = best.comparison
    assert (c.contender.name, c.baseline.name, c.change) == ("a torch cuda:0", "b numpy cpu 2t", "2.50x faster")
    assert (best.gpu_runner_up.name, best.cpu_runner_up.name) == ("a cupy cuda:0", "a torch cpu 2t")


def test_the_best_cpu_can_be_the_baseline():
    result = compare(mixed(), Options(baseline=BEST_CPU))
    said = {(c.side, c.key.get("backend"), c.key.get("device")): c.change for c in result.compared}
    assert said[("a", "torch", "cuda:0")] == "2.50x faster"
    assert said[("a", "numpy", "cpu")] == "1.60x slower"
    assert said[("b", "numpy", "cpu")] == "1.00x"


def test_the_mean_is_over_the_cases_that_every_side_has():
    def table(name, factors):
        return reading(
            [m for size, f in factors.items() for m in processes([f * t for t in FIVE], of=work(size))], name
        )

    tables = [
        table("a", {"1": 1, "2": 1, "3": 1}),
        table("b", {"1": 2, "2": 8, "3": 100}),
        table("c", {"1": 1, "2": 1}),
    ]
    means = {mean.side: mean for mean in compare(tables).means}
    assert means["b"].change == "4.00x slower"
    assert (means["b"].cases, means["b"].of) == (2, 3)
    assert means["c"].change == "1.00x"
    assert means["b"].ci_low < 0.25 < means["b"].ci_high


def test_an_unknown_baseline_names_the_sides():
    with pytest.raises(UsageError, match="no side 'z'; there are: a, b"):
        compare(two(FIVE, FIVE), Options(baseline="z"))


@pytest.mark.parametrize(
    ("factor", "runs", "breached"), [(1.2, 5, True), (1.05, 5, False), (0.5, 5, False), (2.0, 1, True), (1.2, 1, False)]
)
def test_a_regression_is_a_sure_slowdown_beyond_the_threshold(factor, runs, breached):
    """With one run a side only a slowdown beyond the whole widened interval counts."""
    c = only(two(FIVE[:runs], [factor * t for t in FIVE[:runs]], backend="torch"))
    assert is_regression(c, 0.10) is breached


def test_a_gate_that_sees_little_says_so():
    notes = compare(two([1.0], [1.0], backend="torch"), Options(fail_on=("regression",))).notes
    assert notes[-1].startswith("the regression gate sees little: 1 cases have one run on a side")


def test_a_regression_gate_with_nothing_to_look_at_is_an_error():
    with pytest.raises(NothingToCompare, match="nothing could be seen"):
        compare([mixed()[0]], Options(fail_on=("regression",)))


def test_lost_cases_breach_the_missing_gate_and_new_ones_do_not():
    more, less = [*processes(FIVE), *processes(FIVE, of=work("32"))], processes(FIVE)
    gate = Options(fail_on=("missing",))
    assert compare([reading(less, "a"), reading(more, "b")], gate).breaches == ()
    (line,) = compare([reading(more, "a"), reading(less, "b")], gate).breaches
    assert line == "missing: 1 case no comparable value any more: matmul 32 float32 b"


def test_require_same_refuses_other_conditions_and_unknown_ones():
    a, b = two(FIVE, FIVE)
    drivers = [replace(r, sidecar=replace(r.sidecar, facts={"gpu.driver": Fact(v)})) for r, v in ((a, "1"), (b, "2"))]
    with pytest.raises(IncompatibleError, match=r"gpu\.driver: 1 against 2"):
        compare(drivers, Options(require_same=("driver",)))
    with pytest.raises(IncompatibleError, match="not known for b"):
        compare([drivers[0], b], Options(require_same=("driver",)))
    with pytest.raises(UsageError, match="no condition 'drivers'"):
        compare(drivers, Options(require_same=("drivers",)))
    with pytest.raises(IncompatibleError, match="threads: 2 against 4"):
        compare([a, reading(processes(FIVE, threads=4), "b")], Options(require_same=("threads",)))
    assert compare([a, b], Options(require_same=("threads", "library"))).comparisons


def test_facts_that_differ_are_listed():
    a, b = two(FIVE, FIVE)
    known = [
        replace(
            r,
            sidecar=replace(r.sidecar, facts={"cpu": Fact(v), "python": Fact("3.11"), "load": Fact(None, reason="?")}),
        )
        for r, v in ((a, "x"), (b, "y"))
    ]
    assert [str(d) for d in compare(known).environment] == ["cpu: x against y"]


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), (" 5 %", 0.05), ("0.05", 0.05), ("150%", 1.5), ("0", 0.0)])
def test_a_share_is_a_percentage_or_less_than_one(text, value):
    assert share("--threshold", text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10", "--threshold: '10': write 10% or 0.1"),
        ("1", "--threshold: '1': write 1% or 0.01"),
        ("2.5", "--threshold: '2.5': write 2.5% or 0.025"),
        ("nan", "--threshold: 'nan' is not a share such as 5% or 0.05"),
    ],
)
def test_a_share_that_could_mean_two_things_is_refused(text, said):
    """As 1000 %, a threshold of 10 would switch the gate off without a word."""
    with pytest.raises(UsageError) as caught:
        share("--threshold", text)
    assert str(caught.value) == said


def test_a_threshold_that_no_claim_could_breach_is_refused():
    """Below the smallest effect nothing is called slower, so the gate would let it pass."""
    with pytest.raises(UsageError, match=r"--threshold 2% is below --min-effect 5%: .* lower --min-effect as well"):
        Options(fail_on=("regression",), threshold=0.02)
    assert Options(fail_on=("regression",), threshold=0.02, min_effect=0.02)
    assert Options(fail_on=("missing",), threshold=0.02)
