"""A ratio has the interval that its runs support, on simulated and real machines, and inverts if sides are swapped."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench_core.compare import CompareOptions, Key, Method, Verdict, compare
from bench_core.compare.replicates import Replicate, Replicates
from bench_core.compare.result import Entry
from bench_core.compare.verdicts import Pair, judge
from bench_core.records import Case, Clock, Costs, Measurement, Row, Series, Status, Work
from tests.support.comparisons import DRIFT, FIVE, only, two
from tests.support.properties import given, settings, st
from tests.support.tables import measured, processes, reading

# ---------------------------------------------------------------- how the interval is made


def test_less_time_and_a_higher_rate_are_both_faster():
    tables = two([2 * t for t in FIVE], FIVE)
    for metric in ("time", "flop_rate"):
        c = only(tables, metrics=(metric,))
        assert (c.verdict, c.change, c.method) == (Verdict.FASTER, "2.00x faster", Method.WELCH)
        assert c.ci_low < 2.0 < c.ci_high


@pytest.mark.parametrize(("backend", "spread"), [("numpy", 0.09), ("torch", 0.09)])
def test_the_interval_of_single_runs_has_the_spread_assumed_between_processes(backend, spread):
    c = only(two([1.0], [1.0], backend=backend))
    assert math.log(c.ci_high) >= 1.96 * math.sqrt(2) * spread
    assert math.log(c.ci_high) == pytest.approx(1.96 * math.hypot(spread, spread, 0.0184), rel=0.05)


def test_timings_equal_to_the_last_digit_count_as_a_single_run():
    c = only(two([1.0] * 5, [2.0] * 5))
    assert c.label == "single-run"


def test_values_that_every_run_repeats_exactly_are_compared_without_a_test():
    """Peak memory has no noise, so any difference is real."""
    a = [replace(m, values={"peak_memory": 1000.0}) for m in processes(FIVE)]
    b = [replace(m, values={"peak_memory": 2000.0}) for m in processes(FIVE)]
    c = only([reading(a, "a"), reading(b, "b")], metrics=("peak_memory",))
    assert (c.verdict, c.method, c.change) == (Verdict.SLOWER, Method.EXACT, "2.00x worse")
    assert "machines" not in c.reason


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
    assert (blocks.method, blocks.verdict) == (Method.WELCH, Verdict.UNCLEAR)
    assert "5 against 5 runs); the runs are not in pairs: machine drift can look like a change" in blocks.reason


def test_two_backends_in_the_same_runs_are_paired():
    both = [*processes(DRIFT), *processes([1.5 * d for d in DRIFT], backend="torch")]
    c = only([reading(both, "m")], columns=("backend",))
    assert (c.method, c.against, c.side, c.change) == (Method.PAIRED, "numpy", "torch", "1.50x slower")


# ---------------------------------------------------------------- laws that hold for any times

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(TIMES, TIMES)
def test_swapped_sides_invert_ratio_interval_and_verdict(a, b):
    """Swapping the sides inverts ratio and interval and swaps faster with slower."""
    forth, back = only(two(a, b), baseline="a"), only(two(a, b), baseline="b")
    assert forth.ratio * back.ratio == pytest.approx(1, rel=1e-9)
    assert forth.ci_low * back.ci_high == pytest.approx(1, rel=1e-9)
    assert forth.p == pytest.approx(back.p) if forth.p else back.p == forth.p
    opposite = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    assert back.verdict is opposite.get(forth.verdict, forth.verdict)


@settings(max_examples=60, deadline=None)
@given(TIMES, TIMES, st.floats(1e-3, 1e3))
def test_scaling_all_times_changes_no_ratio(a, b, scale):
    """A machine on which everything takes `scale` times as long changes no comparison made on it."""
    plain, scaled = only(two(a, b)), only(two([scale * t for t in a], [scale * t for t in b]))
    assert scaled.ratio == pytest.approx(plain.ratio, rel=1e-6)
    assert scaled.ci_low == pytest.approx(plain.ci_low, rel=1e-4)


# ---------------------------------------------------------------- simulated machines: false alarms, coverage, power

DRAWS = 2000
CASES = 6
BETWEEN = 0.02  # spread of processes, as on a quiet CPU
MACHINE_DRIFT = 0.05  # of the machine, shared by the two runs of a pair


def row(value, machine, run_id="r"):
    """An ok row of this many seconds."""
    return Row(
        run_id=run_id, started_at="", machine=machine, case_id="c", suite="s", workload="w", workload_version=1,
        size="1", dtype="float32", precision="ieee", params="", backend="torch", implementation="default",
        device_type="cpu", device="cpu", threads=1, metric="time", unit="s", better="lower", clock="wall",
        scope="resident", cache="hot", value=value, status="ok",
    )  # fmt: skip


def side(name, logs, origin):
    """The replicates of one side from its processes' log seconds."""
    replicates = tuple(Replicate(x, x, (origin, origin, i), f"{i:03}", origin) for i, x in enumerate(logs))
    value = math.exp(float(np.median(logs)))
    return Replicates(Entry(name, (row(value, name, name),), value, None, None, len(logs)), replicates)


KEY = Key("c", "s", "w", 1, "1", "float32", "ieee", "", "resident", "hot", "time", "s", "lower", "wall")


def suites(rng, runs, *, same_machine, effect=0.0, draws=DRAWS):
    """Yield suites of cases: pairs of sides that differ only by `effect` (logarithm) and noise."""
    drift = MACHINE_DRIFT if same_machine else 0.0
    for _ in range(draws):
        shared = rng.normal(0, drift, (CASES, 1, runs))
        logs = rng.normal(0, BETWEEN, (CASES, 2, runs)) + shared
        origins = ("m", "m") if same_machine else ("a", "b")
        yield [
            Pair(KEY, "b", "a", side("a", old, origins[0]), side("b", new + effect, origins[1])) for old, new in logs
        ]


def alarms(rng, runs, *, same_machine, min_effect):
    """Return the share of suites with any claim, although nothing changed."""
    claims = (Verdict.FASTER, Verdict.SLOWER)
    found = [
        any(c.verdict in claims for c in judge(pairs, min_effect, 0.95))
        for pairs in suites(rng, runs, same_machine=same_machine)
    ]
    return sum(found) / len(found)


@pytest.mark.parametrize("same_machine", [True, False], ids=["paired", "welch"])
def test_false_alarms_of_a_suite_stay_at_the_stated_level(same_machine):
    """With min_effect 0 the alarms exceed the level at most by the error of 2,000 draws, with 5 % not at all."""
    rng = np.random.default_rng(1)
    error = math.sqrt(0.05 * 0.95 / DRAWS)
    assert alarms(rng, 5, same_machine=same_machine, min_effect=0.0) <= 0.05 + 2 * error
    assert alarms(rng, 5, same_machine=same_machine, min_effect=0.05) <= 0.05


def as_rounds(measured, rng):
    """Return the rounds of one process as if they were thirty runs."""
    name = measured.entry.side
    return side(name, measured.replicates[0].low + rng.normal(0, 0.002, 30), name)


def test_rounds_taken_for_runs_raise_many_false_alarms():
    """If rounds were used as runs (with a tenth of the real error), there would be far more alarms than stated."""
    rng = np.random.default_rng(2)
    found = 0
    for pairs in suites(rng, 5, same_machine=False, draws=200):
        rounds = [
            Pair(p.key, p.side, p.against, *(as_rounds(e, rng) for e in (p.baseline, p.contender))) for p in pairs
        ]
        found += any(c.verdict is not Verdict.UNCLEAR for c in judge(rounds, 0.0, 0.95))
    assert found / 200 > 0.5


def test_one_run_a_side_raises_no_alarm():
    rng = np.random.default_rng(3)
    assert alarms(rng, 1, same_machine=False, min_effect=0.0) == 0


@pytest.mark.parametrize("same_machine", [True, False], ids=["paired", "welch"])
@pytest.mark.parametrize("runs", [3, 5, 10])
def test_intervals_cover_the_truth(runs, same_machine):
    """95 % intervals contain the true ratio in 93 to 97 % of 2,000 draws."""
    rng = np.random.default_rng(runs)
    truth = math.exp(-0.1)
    held = [
        c.ci_low <= truth <= c.ci_high
        for pairs in suites(rng, runs, same_machine=same_machine, effect=0.1, draws=DRAWS // CASES + 1)
        for c in judge(pairs, 0.05, 0.95)
    ][:DRAWS]
    assert 0.93 <= sum(held) / DRAWS <= 0.97


@pytest.mark.parametrize("same_machine", [True, False], ids=["paired", "welch"])
def test_five_runs_find_a_true_slowdown_of_ten_percent(same_machine):
    """Five runs per side detect a true +10 % nearly always, and call it slower, never faster."""
    rng = np.random.default_rng(5)
    effect = math.log(1.10)
    verdicts = [
        c.verdict
        for pairs in suites(rng, 5, same_machine=same_machine, effect=effect, draws=300)
        for c in judge(pairs, 0.05, 0.95)
    ]
    assert verdicts.count(Verdict.SLOWER) / len(verdicts) > 0.95
    assert Verdict.FASTER not in verdicts


# ---------------------------------------------------------------- real machines that are nominally identical


def identical_machines():
    """One run per machine from tests/compare/data: throughput of H100 machines that should not differ."""
    text = (Path(__file__).parent / "data" / "identical-machines.csv").read_text(encoding="utf-8")
    lines = [line.split(",") for line in text.splitlines()[1:]]
    tables = {}
    for machine, count, workload, rate in lines:
        done = Measurement(
            Case(Work("train", workload, "amp", "float16", (("gpus", int(count)),)), "torch", "cuda:0"),
            Status.OK,
            costs=Costs(amounts={"samples": 1.0}),
            series=(Series("time", Clock.WALL, (1.0 / float(rate),)),),
            device_name="NVIDIA H100 80GB HBM3",
        )
        tables.setdefault(machine, []).append(done)
    return [reading(measurements, machine) for machine, measurements in tables.items()]


def test_identical_machines_are_not_called_different_on_single_runs():
    """Their values differ by up to 27 %; no pair of machines, in either order, is called faster or slower."""
    tables = identical_machines()
    one, eight = ([r for r in tables if r.rows[0].machine.startswith(kind)] for kind in ("one", "eight"))
    compared = 0
    for group in (one, eight):
        for baseline in group:
            result = compare(group, CompareOptions(metrics=("sample_rate",), baseline=baseline.rows[0].machine))
            assert {c.verdict for c in result.compared} == {Verdict.UNCLEAR}
            assert {c.label for c in result.compared} == {"single-run"}
            compared += len(result.compared)
    assert compared > 200
