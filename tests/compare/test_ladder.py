"""What is claimed and indicated is true as often as stated, on simulated machines.

Every comparison is of 35 cases. The tables are those that runs would have written, with raw samples. The first of each
kind go through `compare` itself, and the others through its arithmetic alone, which must come to the same in the first.
"""

import functools
import math
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest

from bench_core import stats
from bench_core.compare import CompareOptions, Reading, Verdict, compare, engine, spread
from bench_core.compare.replicates import Replicate
from bench_core.results.run_files import sample_key
from tests.support.properties import given, settings, st
from tests.support.tables import measured, reading, work

CASES = 35
SMALLEST = 8  # the size of the first case; that of the next is one more
BLOCKS = 10
DRAWS = 200
CLAIMED = (Verdict.FASTER, Verdict.SLOWER)


@dataclass(frozen=True)
class Noise:
    """The noise of a machine, on logarithms of times.

    process: standard deviation between processes, of each case by itself. skewed: whether that noise is exponential,
    and not normal. slow: how much slower the machine is in a quarter of its runs. of_cases: whether each case has its
    slow runs, and not the whole run. drift: from the first to the last run. block: standard deviation inside a process.
    """

    process: float = 0.02
    skewed: bool = False
    slow: float = 0.0
    of_cases: bool = False
    drift: float = 0.0
    block: float = 0.02


MACHINES = {
    "quiet": Noise(),
    "two speeds": Noise(slow=math.log(1.2)),
    "two speeds of every case": Noise(slow=math.log(1.2), of_cases=True),
    "drift": Noise(drift=math.log(1.05)),
    "skewed": Noise(process=0.05, skewed=True),
    "log-normal, wide": Noise(process=0.10),
    "all": Noise(slow=math.log(1.2), drift=math.log(1.05), process=0.05, skewed=True),
}


@dataclass(frozen=True)
class Tables:
    """Tables whose samples are drawn anew for each comparison; everything else stays, which saves most of the time."""

    readings: tuple[Reading, ...]

    def of(self, cases):
        """Return the tables of the first cases alone; of the logarithms those of the others are not used then."""
        return Tables(tuple(replace(r, rows=r.rows[:cases]) for r in self.readings))

    def with_logs(self, logs, blocks):
        """Return the readings with these samples: logs[side] (cases, processes), blocks[side] (cases, processes, n)."""
        return [self._one(r, logs[i], blocks[i]) for i, r in enumerate(self.readings)]

    def _one(self, table, logs, blocks):
        seconds = np.exp(logs[:, :, None] + blocks)
        middles = np.median(seconds, axis=2)
        samples, rows = {}, []
        for i, row in enumerate(table.rows):
            samples[sample_key(row)] = {p: tuple(map(float, each)) for p, each in enumerate(seconds[i])}
            ends = stats.log_mean_interval(middles[i].tolist()) if len(middles[i]) > 1 else (None, None)
            value = float(np.median(middles[i]))
            rows.append(replace(row, value=value, p10=value, ci_low=ends[0], ci_high=ends[1], ci_level=0.95))
        return replace(table, rows=tuple(rows), files=replace(table.files, samples=samples))


@functools.cache
def tables(runs, machines, more=0):
    """Two sides of `runs` processes each, with the same series if they are of one machine: then they are pairs.

    more: how many processes the second side has in addition.
    """
    cases = [work(str(n + SMALLEST)) for n in range(CASES)]
    about = {"series": "s"} if len(set(machines)) == 1 else {}
    sides = []
    for machine, label, count in zip(machines, "ab", (runs, runs + more), strict=True):
        done = [
            measured([1.0] * BLOCKS, of, process=process, backend="torch", flops=None)
            for of in cases
            for process in range(count)
        ]
        sides.append(reading(done, machine, label=label, about=about, run_id=label))
    return Tables(tuple(sides))


class Simulation:
    """Compares tables of which the times alone change, without what else `compare` does: that is most of its time."""

    CHECKED = 2  # comparisons that are made by `compare` as well

    def __init__(self, drawn):
        self._drawn, self._judged, self._left = drawn, None, self.CHECKED

    def __call__(self, logs, blocks):
        """Return the comparisons and the means of logarithms as for `Tables.with_logs`."""
        known = self._compared(logs, blocks) if self._left else None
        seconds = [np.exp(log[:, :, None] + block) for log, block in zip(logs, blocks, strict=True)]
        times = [np.log(np.quantile(each, (0.1, 0.5), axis=2)).transpose(1, 2, 0).tolist() for each in seconds]
        pairs, least, *others = self._judged
        comparisons = engine.judge([self._with_times(pair, times) for pair in pairs], least, *others)
        means = list(engine._means(comparisons, least))
        assert known is None or same(known, (comparisons, means))
        return comparisons, means

    def _compared(self, logs, blocks):
        """Return what `compare` makes of them, and keep what it judges."""
        self._left -= 1
        judge = engine.judge

        def noted(*given):
            self._judged = given
            return judge(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "judge", noted)
            result = compare(self._drawn.with_logs(logs, blocks), CompareOptions())
        return result.comparisons, result.means

    def _with_times(self, pair, times):
        case = int(pair.key.size) - SMALLEST
        sides = zip((pair.baseline, pair.contender), times, strict=True)
        return replace(
            pair, **dict(zip(("baseline", "contender"), (with_times(s, t[case]) for s, t in sides), strict=True))
        )


def with_times(side, times):
    """Return a side with the logarithms of the p10 and of the median of each of its processes."""
    both = zip(side.replicates, times, strict=True)
    made = (Replicate(*each, r.pair, r.started_at, r.origin, r.label) for r, each in both)
    return replace(side, replicates=tuple(made))


def same(known, found):
    """Whether two have the same verdicts for the same reasons, and the same numbers but for rounding."""

    def told(each):
        return [(one.verdict, one.evidence, one.lacking, getattr(one, "reason", "")) for one in each]

    def numbers(each):
        some = [(one.ratio, one.ci_low, one.ci_high, getattr(one, "p_adjusted", None)) for one in each]
        return np.array(some, float)

    return all(
        told(a) == told(b) and np.allclose(numbers(a), numbers(b), rtol=1e-9, atol=0, equal_nan=True)
        for a, b in zip(known, found, strict=True)
    )


def draw(rng, noise, runs, *, paired, changes):
    """Return the logarithms of both sides, (2, cases, runs), and those of their blocks. changes: of side b, by case."""
    if paired:  # the two runs of a pair follow each other in random order
        places = np.stack([rng.permutation(2) + 2 * i for i in range(runs)]).T / (2 * runs - 1)
    else:  # each machine drifts by itself, up or down
        places = np.linspace(-0.5, 0.5, runs) * rng.choice([-1, 1], (2, 1))
    shape = (2, CASES, runs)
    if noise.skewed:
        own = noise.process * (rng.exponential(size=shape) - 1)
    else:
        own = noise.process * rng.standard_normal(shape)
    slow = noise.slow * (rng.random(shape if noise.of_cases else (2, 1, runs)) < 0.25)
    drift = noise.drift * places[:, None, :]
    logs = own + slow + drift
    logs[1] += np.asarray(changes)[:, None]
    return logs, noise.block * rng.standard_normal((*shape, BLOCKS))


def comparisons(seed, noise, runs, count, **known):
    """Yield the 35 comparisons of each of `count` simulated results."""
    yield from (found for found, _ in results(seed, noise, runs, count, **known))


def results(seed, noise, runs, count, *, paired=True, changes=None):
    """Yield the comparisons and means of `count` simulated results. changes: of the second side, by case."""
    rng = np.random.default_rng(seed)
    compared = Simulation(tables(runs, ("m", "m") if paired else ("m", "n")))
    changes = np.zeros(CASES) if changes is None else changes
    for _ in range(count):
        yield compared(*draw(rng, noise, runs, paired=paired, changes=changes))


def share_of_comparisons(found, test):
    return sum(map(test, found)) / len(found)


def has_claim(made):
    """Whether anything is claimed by comparisons, or by means."""
    return any(each.verdict in CLAIMED for each in made)


@pytest.mark.parametrize("paired", [True, False], ids=["pairs", "two machines"])
@pytest.mark.parametrize("machine", MACHINES)
def test_of_35_equal_cases_none_is_claimed_to_differ_in_95_of_100_comparisons(machine, paired):
    """At most 5 % of 200 comparisons claim anything, and intervals hold the truth.

    Neither do their geometric means.
    """
    found, means = zip(*results(1, MACHINES[machine], 5, DRAWS, paired=paired), strict=True)
    assert share_of_comparisons(found, has_claim) <= 0.05
    assert share_of_comparisons(means, has_claim) <= 0.05
    covered = [c.ci_low <= 1 <= c.ci_high for each in found for c in each]
    assert sum(covered) / len(covered) >= 0.94


@pytest.mark.parametrize("machine", MACHINES)
def test_five_runs_against_twenty_claim_nothing_more_often(machine):
    """Welch's test would: with two speeds in a third of all comparisons."""
    rng = np.random.default_rng(8)
    compared, found = Simulation(tables(5, ("m", "n"), more=15)), []
    for _ in range(60):
        logs, blocks = draw(rng, MACHINES[machine], 20, paired=False, changes=np.zeros(CASES))
        few = [logs[0][:, 5:10], logs[1]], [blocks[0][:, 5:10], blocks[1]]
        found.append(compared(*few)[0])
    assert share_of_comparisons(found, has_claim) <= 0.05
    covered = [c.ci_low <= 1 <= c.ci_high for each in found for c in each]
    assert sum(covered) / len(covered) >= 0.94


@pytest.mark.parametrize("runs", [1, 2, 3, 4])
@pytest.mark.parametrize("paired", [True, False], ids=["pairs", "two machines"])
def test_fewer_than_five_runs_claim_nothing_and_indicate_what_is_there(runs, paired):
    doubled = np.full(CASES, math.log(3.0))
    for each in comparisons(2, Noise(), runs, 3, paired=paired, changes=doubled):
        assert {c.verdict for c in each} == {Verdict.INDICATED}
        assert {c.evidence for c in each} == {EVIDENCE[runs][paired]}
        assert all(c.ratio == pytest.approx(1 / 3, rel=0.2) for c in each)


EVIDENCE = {
    1: {True: "one run", False: "one run a side"},
    2: {True: "2 pairs", False: "2 against 2 runs"},
    3: {True: "3 pairs", False: "3 against 3 runs"},
    4: {True: "4 pairs", False: "4 against 4 runs"},
}


@pytest.mark.parametrize("paired", [True, False], ids=["pairs", "two machines"])
def test_five_runs_find_a_slowdown_of_ten_percent(paired):
    """A whole machine that is 10 % slower, under a noise of 2 %: claimed in 90 % of all cases, and never as faster."""
    slower = np.full(CASES, math.log(1.1))
    verdicts = [c.verdict for each in comparisons(3, Noise(), 5, 50, paired=paired, changes=slower) for c in each]
    assert verdicts.count(Verdict.SLOWER) / len(verdicts) >= 0.9
    assert Verdict.FASTER not in verdicts


def test_one_slower_case_among_35_is_at_least_indicated():
    """Its p-value is adjusted for 35 tests, so five pairs claim it in half of the comparisons, and eight nearly always.

    If 35 cases were each allowed 5 % of false alarms, most comparisons would raise one.
    """
    slower = np.zeros(CASES)
    slower[0] = math.log(1.1)
    claimed = {}
    for runs in (5, 8):
        firsts = [each[0].verdict for each in comparisons(4, Noise(), runs, 60, changes=slower)]
        assert set(firsts) <= {Verdict.SLOWER, Verdict.INDICATED}
        claimed[runs] = firsts.count(Verdict.SLOWER) / len(firsts)
    assert claimed[5] >= 0.3
    assert claimed[8] >= 0.9


def test_unpaired_runs_of_one_drifting_machine_are_unclear_however_far_apart_they_are():
    """Runs of one side, then of the other, with a drift of 5 % between: a test would call most of them different."""
    would = 0
    for logs, blocks in drawn_in_blocks(5, 30):
        found = compare(UNPAIRED.with_logs(logs, blocks), CompareOptions()).comparisons
        assert {c.verdict for c in found} == {Verdict.UNCLEAR}
        assert {c.p for c in found} == {None}
        assert "measure in turns: bench-core run --runs 5 --against PYTHON" in found[0].reason
        would += any(not c.ci_low <= 1 <= c.ci_high for c in found)
    assert would > 20


def drawn_in_blocks(runs, count):
    rng = np.random.default_rng(6)
    for _ in range(count):
        logs, blocks = draw(rng, Noise(), runs, paired=False, changes=np.zeros(CASES))
        logs += math.log(1.05) * np.linspace(0, 1, 2 * runs).reshape(2, 1, runs)
        yield logs, blocks


def test_rounds_taken_for_runs_raise_many_false_alarms():
    """Blocks of one process scatter far less than processes do. Taken for runs, nearly all comparisons claim a lot."""
    rng = np.random.default_rng(7)
    thirty = tables(30, ("m", "n"))
    found = []
    for _ in range(5):
        process = 0.02 * rng.standard_normal((2, CASES, 1))
        rounds = process + 0.002 * rng.standard_normal((2, CASES, 30))
        found.append(
            compare(thirty.with_logs(rounds, np.zeros((*rounds.shape, BLOCKS))), CompareOptions(min_effect=0.0))
        )
    assert all(has_claim(result.comparisons) for result in found)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 3), st.sampled_from(sorted(MACHINES)), st.booleans(),
    st.floats(-1, 1), st.sampled_from(["samples", "no samples", "noise"]),
)  # fmt: skip
def test_comparisons_obey_their_laws(seed, runs, more, machine, paired, change, files):
    """Swapped sides invert, scaled times change nothing, neither does the order of rows, files or repeated files."""
    rng = np.random.default_rng(seed)
    changes = change * rng.random(CASES)
    more = 0 if paired else more
    logs, blocks = draw(rng, MACHINES[machine], runs + more, paired=paired, changes=changes)
    logs, blocks = [logs[0][:, :runs], logs[1]], [blocks[0][:, :runs], blocks[1]]
    drawn = tables(runs, ("m", "m") if paired else ("m", "n"), more).of(12)
    noise = [{"spreads": spread.to_json({("torch", "cpu", "products"): x})} for x in (0.01, 0.1)]
    known = {"samples": [{}, {}], "no samples": [{"samples": None}] * 2, "noise": [{"noise": x} for x in noise]}[files]

    def made(logs):
        read = drawn.with_logs(logs, blocks)
        return [replace(r, files=replace(r.files, **own)) for r, own in zip(read, known, strict=True)]

    a, b = made(logs)
    forth = compare([a, b], CompareOptions(baseline="a")).comparisons
    back = compare([a, b], CompareOptions(baseline="b")).comparisons
    for one, other in zip(forth, back, strict=True):
        assert one.key == other.key
        assert one.ratio * other.ratio == pytest.approx(1, rel=1e-9)
        assert one.ci_low * other.ci_high == pytest.approx(1, rel=1e-9)
        assert (one.p, one.p_adjusted) == (other.p, other.p_adjusted) or one.p == pytest.approx(other.p)
        assert other.verdict is OPPOSITE.get(one.verdict, one.verdict)
        assert sorted(one.evidence.split()) == sorted(other.evidence.split())
    by = rng.normal()
    scaled = compare(made([side + by for side in logs]), CompareOptions(baseline="a")).comparisons
    assert [c.verdict for c in scaled] == [c.verdict for c in forth]
    assert [c.ratio for c in scaled] == pytest.approx([c.ratio for c in forth], rel=1e-6)
    shuffled = [replace(r, rows=tuple(random.Random(seed).sample(r.rows, len(r.rows)))) for r in (b, a)]
    assert compare(shuffled, CompareOptions(baseline="a")).comparisons == forth
    assert compare([a, b, a, b], CompareOptions(baseline="a")).comparisons == forth


OPPOSITE = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}
UNPAIRED = Tables(tuple(replace(r, files=replace(r.files, about={})) for r in tables(5, ("m", "m")).readings))
