"""The verdicts faster, slower and same need enough runs; every other verdict has a reason."""

from dataclasses import replace

import pytest

from bench_core.compare import CompareOptions, Method, Reading, Verdict, compare
from bench_core.records import Status
from tests.support.comparisons import FIVE, only, two
from tests.support.tables import absent, measured, processes, reading, work


def test_runs_that_agree_within_the_smallest_effect_are_the_same():
    c = only(two([1.0, 1.001, 0.999, 1.002, 0.998], [1.001, 1.002, 1.0, 1.003, 0.999]))
    assert c.verdict is Verdict.SAME
    assert "within 5 % of 1.00x" in c.reason


def test_runs_that_scatter_support_no_claim():
    c = only(two([1.0, 1.4, 0.8, 1.2, 0.9], [0.9, 1.3, 0.7, 1.2, 1.0]))
    assert c.verdict is Verdict.UNCLEAR
    assert "the interval includes 1.00x" in c.reason


def test_a_sure_change_below_the_smallest_effect_is_same_or_unclear():
    tables = two([1.0, 1.001, 0.999, 1.001, 0.999], [1.03, 1.031, 1.029, 1.031, 1.029])
    assert only(tables, min_effect=0.02).verdict is Verdict.SLOWER
    assert only(tables, min_effect=0.05).verdict is Verdict.SAME
    wide = only(two([1.0, 1.01, 0.99, 1.0, 1.02], [1.035, 1.05, 1.02, 1.04, 1.05]), min_effect=0.05)
    assert wide.verdict is Verdict.UNCLEAR
    assert wide.reason == "the estimated change is below 5 % (5 against 5 runs)"


def test_a_change_that_is_sure_alone_is_only_indicated_among_fifty_other_cases():
    """A single p of 0.03 is significant; among fifty unchanged cases, one or two such values are expected."""
    steady, moved = [1.0, 1.06, 0.95, 1.03, 0.97], [1.09, 1.15, 1.03, 1.12, 1.05]
    alone = only(two(steady, moved))
    assert alone.verdict is Verdict.SLOWER
    others = [m for n in range(50) for m in processes(steady, of=work(str(n + 100)))]
    crowd = compare([reading([*processes(steady), *others], "a"), reading([*processes(moved), *others], "b")])
    among = next(c for c in crowd.comparisons if c.key.size == "64")
    assert among.p == pytest.approx(alone.p)
    assert among.verdict is Verdict.INDICATED
    assert "over 51 tests is above 0.05" in among.reason


def test_one_run_a_side_indicates_and_claims_nothing():
    """Even with a hundredfold difference and a thousand quiet rounds; what is missing is said."""
    a = reading([measured([1.0 + 1e-6 * i for i in range(1000)])], "a")
    b = reading([measured([0.01 + 1e-8 * i for i in range(1000)])], "b")
    c = only([a, b])
    assert (c.verdict, c.method, c.p) == (Verdict.INDICATED, Method.SINGLE, None)
    assert (c.change, c.word) == ("100x faster", "indicated (one run a side)")
    assert c.reason == (
        "indicated: 100x faster (one run a side); a claim needs 5 runs a side: bench-core run --runs 5 on each machine"
        "; assumed spread of processes: numpy 36 % (results/amd-epyc-2c, three runs)"
    )


def test_one_run_a_side_within_the_assumed_spread_is_unclear():
    c = only(two([1.0], [1.5]))
    assert (c.verdict, c.word) == (Verdict.UNCLEAR, "unclear")
    assert c.reason.startswith("the interval includes 1.00x (one run a side); a claim needs 5 runs a side")


def test_two_single_runs_of_one_device_are_unclear_however_far_apart_they_are():
    """Nothing shows whether the machine or the code changed."""
    before = reading([measured([1.0])], "m", run_id="r1", label="before")
    after = reading([measured([0.01])], "m", run_id="r2", label="after")
    c = only([before, after])
    assert (c.verdict, c.change) == (Verdict.UNCLEAR, "100x faster")
    assert "measure in turns: bench-core run --runs 5 --against PYTHON" in c.reason


@pytest.mark.parametrize("samples", [True, False])
def test_both_sides_of_the_same_runs_cannot_be_paired_without_samples(samples):
    both = [*processes(FIVE), *processes([2 * t for t in FIVE], backend="torch")]
    c = only([reading(both, "m", samples=samples)], columns=("backend",))
    assert c.verdict is (Verdict.SLOWER if samples else Verdict.INDICATED)
    assert ("without which these runs cannot be paired" in c.reason) is not samples


@pytest.mark.parametrize("samples", [True, False])
def test_several_unpaired_runs_of_one_device_are_unclear_without_samples_too(samples):
    tables = [
        reading(processes([f * t for t in FIVE]), "m", run_id=label, label=label, samples=samples)
        for label, f in (("before", 1), ("after", 2))
    ]
    c = only(tables)
    assert (c.verdict, c.evidence, c.p) == (Verdict.UNCLEAR, "5 against 5 runs", None)


def test_two_devices_of_one_machine_may_be_measured_in_different_runs():
    cpu = reading([measured([1.0])], "m", run_id="r1")
    gpu = reading([measured([0.01], device="cuda:0")], "m", run_id="r2")
    c = only([cpu, gpu], columns=("device",))
    assert (c.verdict, c.word) == (Verdict.INDICATED, "indicated (one run a side)")
    assert "a claim needs 5 pairs of runs: bench-core run --runs 5;" in c.reason


def test_a_difference_of_two_machines_is_not_claimed_of_their_models():
    c = only(two(FIVE, [1.5 * t for t in FIVE]))
    assert c.verdict is Verdict.SLOWER
    assert "the difference is between these two machines, not between models" in c.reason


def test_the_same_run_on_both_sides_is_identical():
    rows = reading([measured([1.0, 1.1, 1.2])], "a").rows
    c = only([Reading.of("x", rows, "x"), Reading.of("y", rows, "y")])
    assert (c.verdict, c.ratio, c.reason) == (Verdict.IDENTICAL, 1.0, "both sides are the same rows")
    assert (c.ci_low, c.ci_high, c.p) == (1.0, 1.0, None)


def test_runs_that_are_on_both_sides_hide_nothing():
    """`now=` names the whole folder: the five old runs and five that are twice as slow. No pair is one run."""
    old = reading(processes(FIVE), "m", run_id="old", about={"series": "old"})
    new = reading(processes([2 * t for t in FIVE]), "m", run_id="new", about={"series": "new"})
    before = Reading.of("b", old.rows, "before", old.files)
    now = [Reading.of("n1", old.rows, "now", old.files), Reading.of("n2", new.rows, "now", new.files)]
    c = only([before, *now])
    assert (c.verdict, c.reason) == (Verdict.UNCLEAR, "1 runs are on both sides: each belongs to one")


def test_five_unpaired_runs_of_two_devices_of_one_machine_indicate():
    """One run can hold both, so that they are pairs; two machines cannot."""
    cpu = reading(processes(FIVE), "m", run_id="r1")
    gpu = reading(processes([t / 9 for t in FIVE], device="cuda:0"), "m", run_id="r2")
    assert only([cpu, gpu], columns=("device",)).verdict is Verdict.INDICATED


def test_one_machine_under_two_labels_is_not_said_to_be_two():
    sides = [
        reading(processes([t * f for t in FIVE]), "m", run_id=label, label=label, about={"series": "s"})
        for label, f in (("this", 1), ("against", 2))
    ]
    c = only(sides)
    assert (c.method, c.verdict) == (Method.PAIRED, Verdict.SLOWER)
    assert "machines" not in c.reason


@pytest.mark.parametrize(("runs", "verdict"), [(5, Verdict.SLOWER), (4, Verdict.INDICATED), (2, Verdict.INDICATED)])
def test_values_that_repeat_exactly_need_five_runs_too(runs, verdict):
    sides = [
        reading([replace(m, values={"peak_memory": size}) for m in processes(FIVE[:runs])], name)
        for name, size in (("a", 1000.0), ("b", 2000.0))
    ]
    c = only(sides, metrics=("peak_memory",))
    assert (c.method, c.verdict) == (Method.EXACT, verdict)


def test_equal_values_of_unequal_numbers_of_runs_do_not_differ_by_their_rounding():
    sides = [
        reading([replace(m, values={"peak_memory": 330000.0}) for m in processes([1.0] * n)], name)
        for name, n in (("a", 5), ("b", 6))
    ]
    assert only(sides, metrics=("peak_memory",), min_effect=0.0).verdict is Verdict.SAME


def test_two_machines_in_one_table_with_one_run_id_are_no_pairs():
    both = [
        replace(row, run_id="r") for name, f in (("a", 1), ("b", 2))
        for row in reading(processes([f * t for t in FIVE]), name).rows
    ]  # fmt: skip
    c = only([Reading.of("joined.csv", both)])
    assert (c.method, c.evidence) == (Method.WELCH, "5 against 5 runs")


@pytest.mark.parametrize("samples", [True, False])
def test_values_without_samples_of_their_own_do_not_ask_for_a_file(samples):
    both = [
        replace(m, values={"peak_memory": 1e6 * f * t})
        for b, f in (("numpy", 1), ("torch", 2)) for m, t in zip(processes(FIVE, backend=b), FIVE, strict=True)
    ]  # fmt: skip
    c = only([reading(both, "m", samples=samples)], columns=("backend",), metrics=("peak_memory",))
    assert c.verdict is Verdict.INDICATED
    assert "no claim is possible: merged runs keep no values of single runs for this metric" in c.reason


def test_pairs_of_which_one_side_repeats_exactly_stay_pairs():
    """A device clock counts in steps, so that quiet runs may be equal to the last digit."""
    both = [*processes([1.0] * 5), *processes([2 * t for t in FIVE], backend="torch")]
    c = only([reading(both, "m")], columns=("backend",))
    assert (c.method, c.evidence, c.verdict) == (Method.PAIRED, "5 pairs", Verdict.SLOWER)


def test_a_name_of_a_pair_that_is_used_twice_pairs_nothing():
    """A run.json written by hand: five runs of one series, which all say that they are its first process."""
    tables = [
        reading([measured([t * f] * 3)], "m", run_id=f"{label}{i}", label=label, about={"series": "s"})
        for label, f in (("a", 1), ("b", 2))
        for i, t in enumerate(FIVE)
    ]
    assert only(tables).verdict is Verdict.UNCLEAR


# ---------------------------------------------------------------- missing


def test_a_row_without_a_value_is_missing_with_its_reason():
    a = reading([*processes(FIVE), *processes(FIVE, of=work("32"))], "a")
    b = reading([absent(), *processes(FIVE, of=work("32"))], "b")
    (c,) = compare([a, b]).unmatched
    assert (c.verdict, c.ratio, c.reason) == (Verdict.MISSING, None, "b: oom: out of memory: 3 GiB asked for")
    assert c.baseline.ok
    assert not c.contender.ok


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
def test_a_value_under_any_other_status_is_never_a_number(status):
    """A forged or half-written row may contain a value; only rows with the status ok are used."""
    a, b = two(FIVE, FIVE)
    rows = tuple(replace(row, status=status.value) for row in b.rows)
    more = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    result = compare([a, replace(b, rows=rows), *more], CompareOptions(metrics=("time", "flop_rate")))
    assert {c.verdict for c in result.comparisons if c.key.size == "64"} == {Verdict.MISSING}


def test_a_value_that_is_not_positive_is_no_number():
    a, b = two(FIVE, FIVE)
    zero = replace(b, rows=tuple(replace(row, value=0.0) for row in b.rows))
    more = [reading(processes(FIVE, of=work("32")), name, run_id=f"more-{name}") for name in "ab"]
    (c,) = compare([a, zero, *more]).unmatched
    assert c.reason == "b: the value 0 is not positive"


@pytest.mark.parametrize(("flags", "verdict"), [((), "faster"), (("unchecked",), "faster")])
def test_a_claim_of_this_suites_own_times_needs_no_reference(flags, verdict):
    assert only(two(FIVE, [t / 2 for t in FIVE], flags=flags)).verdict == verdict


def test_what_another_program_has_measured_is_indicated_at_most():
    c = only(two(FIVE, [t / 2 for t in FIVE], flags=("unchecked", "imported")))
    assert (c.verdict, round(c.ratio, 3)) == (Verdict.INDICATED, 2.0)
    assert "no claim is possible: other programs measured it, and this suite has not checked it" in c.reason
    assert only(two(FIVE, FIVE, flags=("unchecked", "imported"))).verdict is Verdict.UNCLEAR
