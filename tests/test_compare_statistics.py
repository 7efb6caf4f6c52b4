"""The rules of comparison on simulated machines: false alarms, coverage, power; and on real identical ones."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as reference

from bench_core import stats
from bench_core.compare import Key, Options, Verdict, compare
from bench_core.compare.comparison import Entry
from bench_core.compare.evidence import Replicate, Replicates
from bench_core.compare.verdicts import Pair, judge
from bench_core.model import Case, Clock, Costs, Measurement, Row, Series, Status, Work
from bench_core.stats import Moments
from tests.tables import reading

DRAWS = 2000
CASES = 6
BETWEEN = 0.02  # spread of processes, as on a quiet CPU
DRIFT = 0.05  # of the machine, shared by the two runs of a pair


def row(value, machine, run_id="r"):
    """An ok row of this many seconds."""
    return Row(
        run_id=run_id, started_at="", machine=machine, case_id="c", suite="s", workload="w", workload_version=1,
        size="1", dtype="float32", precision="ieee", params="", backend="torch", implementation="default",
        device_type="cpu", device="cpu", threads=1, metric="time", unit="s", better="lower", clock="wall",
        scope="resident", cache="hot", value=value, status="ok",
    )  # fmt: skip


def side(name, logs, origin):
    """The evidence of one side from its processes' log seconds."""
    replicates = tuple(Replicate(x, x, (origin, origin, i), f"{i:03}", origin) for i, x in enumerate(logs))
    value = math.exp(float(np.median(logs)))
    return Replicates(Entry(name, (row(value, name, name),), value, None, None, len(logs)), replicates)


KEY = Key("c", "s", "w", 1, "1", "float32", "ieee", "", "resident", "hot", "time", "s", "lower", "wall")


def suites(rng, runs, *, same_machine, effect=0.0, draws=DRAWS):
    """Yield suites of cases: pairs of sides that differ by `effect` (logarithm) and noise alone."""
    drift = DRIFT if same_machine else 0.0
    for _ in range(draws):
        shared = rng.normal(0, drift, (CASES, 1, runs))
        logs = rng.normal(0, BETWEEN, (CASES, 2, runs)) + shared
        origins = ("m", "m") if same_machine else ("a", "b")
        yield [
            Pair(KEY, "b", "a", side("a", old, origins[0]), side("b", new + effect, origins[1])) for old, new in logs
        ]


def alarms(rng, runs, *, same_machine, min_effect):
    """The share of suites in which any claim is made although nothing changed."""
    claims = (Verdict.FASTER, Verdict.SLOWER)
    found = [
        any(c.verdict in claims for c in judge(pairs, min_effect, 0.95))
        for pairs in suites(rng, runs, same_machine=same_machine)
    ]
    return sum(found) / len(found)


@pytest.mark.parametrize("same_machine", [True, False], ids=["paired", "welch"])
def test_false_alarms_of_a_suite_stay_at_the_stated_level(same_machine):
    """With every effect counted the level is met to within the error of 2,000 draws; with 5 % it is not reached."""
    rng = np.random.default_rng(1)
    error = math.sqrt(0.05 * 0.95 / DRAWS)
    assert alarms(rng, 5, same_machine=same_machine, min_effect=0.0) <= 0.05 + 2 * error
    assert alarms(rng, 5, same_machine=same_machine, min_effect=0.05) <= 0.05


def as_rounds(evidence, rng):
    """One process passed off as thirty runs by its rounds."""
    name = evidence.entry.side
    return side(name, evidence.replicates[0].low + rng.normal(0, 0.002, 30), name)


def test_the_test_of_false_alarms_can_fail():
    """Rounds taken for runs (their error a tenth of the real one) would raise far more alarms than stated."""
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
    """95 % intervals hold the true ratio in 93 to 97 % of 2,000 draws."""
    rng = np.random.default_rng(runs)
    truth = math.exp(-0.1)
    held = [
        c.ci_low <= truth <= c.ci_high
        for pairs in suites(rng, runs, same_machine=same_machine, effect=0.1, draws=DRAWS // CASES + 1)
        for c in judge(pairs, 0.05, 0.95)
    ][:DRAWS]
    assert 0.93 <= sum(held) / DRAWS <= 0.97


@pytest.mark.parametrize("same_machine", [True, False], ids=["paired", "welch"])
def test_ten_percent_is_found(same_machine):
    """Five runs a side find a true +10 % nearly always, and call it slower, never faster."""
    rng = np.random.default_rng(5)
    effect = math.log(1.10)
    verdicts = [
        c.verdict
        for pairs in suites(rng, 5, same_machine=same_machine, effect=effect, draws=300)
        for c in judge(pairs, 0.05, 0.95)
    ]
    assert verdicts.count(Verdict.SLOWER) / len(verdicts) > 0.95
    assert Verdict.FASTER not in verdicts


# ---------------------------------------------------------------- against SciPy


def test_welch_and_pairs_are_scipys():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0, 1, 5), rng.normal(0.5, 3, 9)
    ours, theirs = stats.welch(Moments.of(a), Moments.of(b)), reference.ttest_ind(b, a, equal_var=False)
    assert ours.p() == pytest.approx(theirs.pvalue)
    assert ours.interval() == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    ours, theirs = stats.paired(b[:5] - a), reference.ttest_rel(b[:5], a)
    assert ours.p() == pytest.approx(theirs.pvalue)
    assert ours.interval(0.9) == pytest.approx(tuple(theirs.confidence_interval(0.9)))


def test_benjamini_hochberg_is_scipys():
    p = [0.01, 0.5, 0.02, 0.9, 0.01, 0.04]
    assert stats.benjamini_hochberg(p) == pytest.approx(list(reference.false_discovery_control(p)))
    assert stats.benjamini_hochberg([]) == []


def test_moments_add_up_to_those_of_the_pooled_sample():
    rng = np.random.default_rng(7)
    a, b = rng.normal(0, 1, 4), rng.normal(5, 2, 7)
    pooled = Moments.of([*a, *b])
    added = Moments.of(list(a)) + Moments.of(list(b))
    assert (added.n, added.mean, added.squares) == pytest.approx((pooled.n, pooled.mean, pooled.squares))


# ---------------------------------------------------------------- machines that are nominally identical


def identical_machines():
    """One run a machine from tests/data: throughput of H100 machines that should not differ."""
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
    """Their figures spread up to 27 %; no pair of machines, in any role, is called faster or slower."""
    tables = identical_machines()
    one, eight = ([r for r in tables if r.rows[0].machine.startswith(kind)] for kind in ("one", "eight"))
    compared = 0
    for group in (one, eight):
        for baseline in group:
            result = compare(group, Options(metrics=("sample_rate",), baseline=baseline.rows[0].machine))
            assert {c.verdict for c in result.compared} == {Verdict.UNCLEAR}
            assert {c.label for c in result.compared} == {"single-run"}
            compared += len(result.compared)
    assert compared > 200
