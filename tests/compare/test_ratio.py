"""A ratio has the interval that its runs support, on real machines too, and inverts if sides are swapped."""

import math
from dataclasses import replace

import pytest

from bench_core import sequential
from bench_core.compare import CompareOptions, Method, Verdict, compare
from bench_core.compare.spread import SPREADS, SPREADS_FROM
from bench_core.records import SEQUENTIAL
from tests.support.comparisons import DRIFT, FIVE, only, two
from tests.support.identical_machines import identical_machines
from tests.support.properties import given, settings, st
from tests.support.tables import measured, processes, reading

# ---------------------------------------------------------------- how the interval is made


def test_less_time_and_a_higher_rate_are_both_faster():
    tables = two([2 * t for t in FIVE], FIVE)
    for metric in ("time", "flop_rate"):
        c = only(tables, metrics=(metric,))
        assert (c.verdict, c.change, c.method) == (Verdict.FASTER, "2.00x faster", Method.WELCH)
        assert c.ci_low < 2.0 < c.ci_high


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_interval_of_single_runs_has_the_spread_assumed_between_processes(backend):
    spread = SPREADS[backend, "cpu", "products"]
    c = only(two([1.0], [1.0], backend=backend))
    assert math.log(c.ci_high) >= 1.96 * math.sqrt(2) * spread
    assert math.log(c.ci_high) == pytest.approx(1.96 * math.hypot(spread, spread, 0.0184), rel=0.05)
    assert f"{backend} {100 * spread:.2g} % ({SPREADS_FROM})" in c.reason


def test_timings_equal_to_the_last_digit_count_as_a_single_run():
    c = only(two([1.0] * 5, [2.0] * 5))
    assert c.method is Method.SINGLE


def test_values_that_every_run_repeats_exactly_are_compared_without_a_test():
    """Peak memory has no noise, so any difference is real."""
    a = [replace(m, values={"peak_memory": 1000.0}) for m in processes(FIVE)]
    b = [replace(m, values={"peak_memory": 2000.0}) for m in processes(FIVE)]
    c = only([reading(a, "a"), reading(b, "b")], metrics=("peak_memory",))
    assert (c.verdict, c.method, c.change) == (Verdict.SLOWER, Method.EXACT, "2.00x worse")
    assert c.reason.startswith("5 against 5 runs, all alike")


def two_backends(hour):
    """Five runs of NumPy on machine m, and five of a slower PyTorch half a minute and `hour` hours later."""
    times = (("numpy", 1.0, "00:0{}:00"), ("torch", 1.2, f"{hour:02}:0{{}}:30"))
    return [
        reading([measured([t * d] * 3, backend=b)], "m", run_id=f"{b}{i}", started_at=f"2001-01-01T{at.format(i)}")
        for i, d in enumerate(DRIFT)
        for b, t, at in times
    ]


def test_runs_of_one_machine_that_took_turns_are_paired():
    """Drift cancels in alternating runs; it does not cancel in consecutive blocks of runs."""
    in_turn, blocks = (only(two_backends(hour), columns=("backend",)) for hour in (0, 1))
    assert (in_turn.method, in_turn.verdict, in_turn.change) == (Method.PAIRED, Verdict.SLOWER, "1.20x slower")
    assert (blocks.method, blocks.verdict, blocks.p) == (Method.WELCH, Verdict.UNCLEAR, None)
    assert blocks.reason == (
        "these runs of one device did not take turns, so its drift can look like a change; "
        "measure in turns: bench-core run --runs 5"
    )


def test_two_backends_in_the_same_runs_are_paired():
    both = [*processes(DRIFT), *processes([1.5 * d for d in DRIFT], backend="torch")]
    c = only([reading(both, "m")], columns=("backend",))
    assert (c.method, c.against, c.side, c.change) == (Method.PAIRED, "numpy", "torch", "1.50x slower")


# ---------------------------------------------------------------- where values decided how many processes there are


def in_sequence(medians, **known):
    return [replace(m, flags=(SEQUENTIAL,)) for m in processes(medians, **known)]


def drifting(n):
    return [1.3 ** math.sin(i) for i in range(n)]


def test_pairs_of_a_sequence_are_judged_by_the_median_of_their_ratios():
    """One pair of ten, measured while something else ran, has no weight beyond its sign."""
    ratios = [1.5] * 9 + [30.0]
    times = [d * r for d, r in zip(drifting(10), ratios, strict=True)]
    both = [*in_sequence(drifting(10)), *in_sequence(times, backend="torch")]
    c = only([reading(both, "m")], columns=("backend",))
    assert (c.method, c.verdict, c.change, c.evidence) == (Method.SEQUENTIAL, "slower", "1.50x slower", "10 pairs")
    assert c.p == pytest.approx(sequential.p_of_zero([1.0] * 10))
    assert 1 / c.ci_low == pytest.approx(1.5)


def test_a_process_that_only_one_side_has_is_in_no_pair():
    both = [*in_sequence(drifting(21)), *in_sequence([2 * d for d in drifting(7)], backend="torch")]
    c = only([reading(both, "m")], columns=("backend",))
    assert (c.method, c.change, c.evidence) == (Method.SEQUENTIAL, "2.00x slower", "7 pairs")


def test_two_machines_of_which_one_is_a_sequence_are_judged_by_their_medians():
    first, second = [1 + 0.01 * math.sin(i) for i in range(10)], [2 + 0.02 * math.sin(i) for i in range(14)]
    c = only([reading(in_sequence(first), "a"), reading(processes(second), "b")])
    assert (c.method, c.verdict, c.evidence) == (Method.SEQUENTIAL, "slower", "10 against 14 runs")
    assert c.ci_low < 0.5 < c.ci_high
    assert c.values == pytest.approx((0.99, 1.98), rel=0.02)


@pytest.mark.parametrize("paired", [True, False])
def test_nothing_is_claimed_before_the_first_look(paired):
    """Five runs of a fixed number would allow a claim."""
    if paired:
        a, b = processes(FIVE), processes([2 * t for t in FIVE], backend="torch")
        sides = [*a, *b], [*(replace(m, flags=(SEQUENTIAL,)) for m in (*a, *b))]
        usual, c = (only([reading(side, "m")], columns=("backend",)) for side in sides)
    else:
        usual = only(two(FIVE, [2 * t for t in FIVE]))
        c = only([reading(in_sequence(FIVE), "a"), reading(in_sequence([2 * t for t in FIVE]), "b")])
    assert (usual.verdict, c.verdict) == (Verdict.SLOWER, Verdict.INDICATED)
    assert "a claim needs more processes of --precision" in c.reason


# ---------------------------------------------------------------- laws that hold for any times

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(TIMES, TIMES)
def test_swapped_sides_invert_ratio_interval_and_verdict(a, b):
    """Swapping the sides inverts ratio and interval and swaps faster with slower."""
    forth, back = only(two(a, b), baseline="a"), only(two(a, b), baseline="b")
    assert forth.ratio * back.ratio == pytest.approx(1, rel=1e-9)
    assert forth.ci_low * back.ci_high == pytest.approx(1, rel=1e-9)
    assert forth.p == pytest.approx(back.p) if forth.p else back.p == forth.p
    opposite = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    assert back.verdict is opposite.get(forth.verdict, forth.verdict)


@settings(max_examples=200, deadline=None)
@given(TIMES, TIMES, st.floats(1e-3, 1e3))
def test_scaling_all_times_changes_no_ratio(a, b, scale):
    """A machine on which everything takes `scale` times as long changes no comparison made on it."""
    plain, scaled = only(two(a, b)), only(two([scale * t for t in a], [scale * t for t in b]))
    assert scaled.ratio == pytest.approx(plain.ratio, rel=1e-6)
    assert scaled.ci_low == pytest.approx(plain.ci_low, rel=1e-4)


# ---------------------------------------------------------------- real machines that are nominally identical


def test_identical_machines_are_not_claimed_to_differ_and_rarely_indicated():
    """Their values differ by up to 27 %, which is hardly beyond the spread assumed for a GPU."""
    tables = identical_machines()
    one, eight = ([r for r in tables if r.rows[0].machine.startswith(kind)] for kind in ("one", "eight"))
    found = []
    for group in (one, eight):
        for baseline in group:
            result = compare(group, CompareOptions(metrics=("sample_rate",), baseline=baseline.rows[0].machine))
            assert {c.method for c in result.compared} == {Method.SINGLE}
            found += [c.verdict for c in result.compared]
    assert len(found) > 200
    assert set(found) <= {Verdict.UNCLEAR, Verdict.INDICATED}
    assert found.count(Verdict.INDICATED) / len(found) <= 0.05


@pytest.mark.parametrize(("confidence", "verdict"), [(0.95, Verdict.INDICATED), (0.99, Verdict.INDICATED)])
def test_two_machines_with_too_few_processes_for_an_interval_of_both_have_the_usual_one(confidence, verdict):
    """Seven processes are the first look of a machine, but no interval of 97.5 % for each of two."""
    one = [1.0 + 0.01 * i for i in range(7)]
    pair = [reading(in_sequence(one), "a"), reading(in_sequence([1.3 * t for t in one]), "b")]
    c = only(pair, confidence=confidence)
    assert c.verdict is verdict
    assert 0.7 < c.ci_low < 1 / 1.3 < c.ci_high < 0.8
    assert "a claim needs more processes of --precision" in c.reason
