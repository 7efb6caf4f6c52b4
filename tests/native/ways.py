"""Ways of measuring, and what each is worth a minute: pure functions of recorded samples.

A turn is what a way starts at once: one session, script or set of worker processes that measures all kernels. A whole
measurement is as many turns in a row as the way needs until it says that every kernel is known within PRECISION. A
record ends somewhere; so its turns are taken as a circle, and a whole measurement may begin at each of them.

What a way says is the half-width of the interval that it states or that its users derive from what it prints. What is
true is how far apart two whole measurements lie that share no turn: |log ratio| stays below `apart` in 95 % of such
pairs, and so would that of two values of which each is known within apart / sqrt(2). Turns of all ways alternate at
random, so two measurements lie further apart in time than two that follow each other: all ways see the same drift.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations, count
from pathlib import Path

from bench_core import sequential, stats
from bench_core.compare import CompareOptions
from bench_core.records import Case, Clock, Measurement, Series, Status, Work
from bench_core.results.traits import TraitsOf
from bench_core.run.precision import Goal, Precision, Value
from bench_core.run.replicate import Side

PRECISION = 0.03
LADDER = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40)  # numbers of turns for which the truth is looked up
REGRESSION = 0.05  # what fails a run of pytest-benchmark here: --benchmark-compare-fail=median:5%
MARKED = 1.01, 100e-9  # Compare colours as the best what is at most this factor, or these seconds, above the least


@dataclass(frozen=True)
class Turn:
    """One turn of a way.

    took: wall seconds, from the start of its first process to the end of the last. values: by kernel, the seconds per
    call of each block. alone: by kernel, the seconds of `took` that it alone needs; the rest is for all together.
    """

    took: float
    values: Mapping[str, Sequence[float]]
    alone: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """The turns of a way, in the order in which they began. once: seconds that every whole measurement pays once."""

    turns: Sequence[Turn]
    once: float = 0.0

    def since(self, start: int) -> list[Turn]:
        """Return all turns, beginning with number `start`."""
        return [*self.turns[start:], *self.turns[:start]]


@dataclass(frozen=True)
class Whole:
    """A whole measurement. start, turns: where in the record. middles, halves: by kernel, its value, and how well it is
    known by what the way says, 0.03 for 3 %. If the record ends first, one has all of its turns and is less precise."""

    start: int
    turns: int
    seconds: float
    middles: Mapping[str, float]
    halves: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_precise(self) -> bool:
        return max(self.halves.values()) <= PRECISION


Blocks = Sequence[Sequence[float]]  # of one kernel, of each turn
Differs = Callable[[Sequence[float], Sequence[float]], bool]  # whether a rule claims that a kernel has become different


@dataclass(frozen=True)
class Way:
    """A way of measuring.

    least: the number of turns that its users begin with. middle: the value of a kernel. half: how well that is known by
    what the way says. rules: how its users compare two measurements of `least` turns, by what a report calls it. These
    receive the blocks of both sides together. Without `half` it is this suite.
    """

    name: str
    least: int
    middle: Callable[[Blocks], float]
    half: Callable[[Blocks], float] | None
    rules: Mapping[str, Differs]

    def whole(self, record: Record, start: int) -> Whole | None:
        """Return the whole measurement that begins with a turn; None if the record has too few for any interval."""
        turns = record.since(start)
        if self.half is None:
            return _until_precise(record, start)
        whole = None
        for n in range(self.least, len(turns) + 1):
            blocks = _by_kernel(turns[:n])
            whole = self._of(record, start, n, {kernel: self.half(each) for kernel, each in blocks.items()})
            if whole.is_precise:
                break
        return whole

    def first(self, record: Record) -> list[Whole]:
        """Return the measurements of `least` turns; none if the record has fewer."""
        starts = range(len(record.turns))
        found = ((start, self.whole(Record(record.since(start)[: self.least], record.once), 0)) for start in starts)
        return [replace(whole, start=start) for start, whole in found if whole]

    def fixed(self, record: Record, n: int) -> list[Whole]:
        """Return the measurements of n turns, whatever is said of their precision."""
        return [self._of(record, start, n, {}) for start in range(len(record.turns))]

    def _of(self, record: Record, start: int, n: int, halves: Mapping[str, float]) -> Whole:
        turns = record.since(start)[:n]
        middles = {kernel: self.middle(each) for kernel, each in _by_kernel(turns).items()}
        return Whole(start, n, record.once + sum(turn.took for turn in turns), middles, halves)


def _by_kernel(turns: Sequence[Turn]) -> dict[str, Blocks]:
    return {kernel: [turn.values[kernel] for turn in turns] for kernel in turns[0].values}


# ---------------------------------------------------------------- what each way says


def pooled_median(blocks: Blocks) -> float:
    return statistics.median(chain(*blocks))


def pooled_mean(blocks: Blocks) -> float:
    return statistics.fmean(chain(*blocks))


def median_of_medians(blocks: Blocks) -> float:
    return statistics.median(map(statistics.median, blocks))


def half_of_rounds(blocks: Blocks) -> float:
    """Return half of the 95 % interval of the median from what pytest-benchmark prints: median, IQR and rounds."""
    return stats.relative_half_width(list(chain(*blocks)))


def half_of_timer(blocks: Blocks) -> float:
    """Return half of the interval by which Compare trims digits: 1.645 standard errors of what lies between quartiles.

    torch/utils/benchmark/utils/common.py, Measurement.significant_figures, of PyTorch 2.13. Several turns are taken
    together as by Measurement.merge.
    """
    ordered = sorted(chain(*blocks))
    n = len(ordered)
    between = ordered[n // 4 : math.ceil(3 * n / 4)]
    half = max(1.645 * statistics.pstdev(between) / math.sqrt(len(between)), 25e-9)
    return half / stats.quantile(ordered, 0.5)


def half_of_processes(blocks: Blocks) -> float:
    """Return half of pyperf's 95 % interval of the mean, from the means of processes: Benchmark.required_nprocesses.

    psf/pyperf, pyperf/_bench.py: 4 Z^2 s^2 / W^2 processes are needed for an interval of width W.
    """
    means = [statistics.fmean(each) for each in blocks]
    return 1.96 * statistics.stdev(means) / statistics.fmean(means) / math.sqrt(len(means))


# ---------------------------------------------------------------- what each way claims


def slower(figure: Callable[[Sequence[float]], float]) -> Differs:
    """Return the rule of --benchmark-compare-fail=FIGURE:5%."""
    return lambda before, after: figure(after) > (1 + REGRESSION) * figure(before)


def unmarked(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether Compare, with `colorize`, marks only one of two as the best (compare.py, color_segment, PyTorch 2.13)."""
    least, most = sorted(map(statistics.median, (before, after)))
    factor, seconds = MARKED
    return most > least * factor and most > least + seconds


def quartiles_apart(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether the ranges from first to third quartile have nothing in common, which Measurement prints as IQR."""
    (a, b), (c, d) = ([stats.quantile(sorted(side), q) for q in (0.25, 0.75)] for side in (before, after))
    return b < c or d < a


def significant(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether pyperf's compare_to calls it significant: Student's t test of all values (pyperf/_utils.py)."""
    sides = [stats.Moments.of(side) for side in (before, after)]
    freedom = sum(side.n - 1 for side in sides)
    error = math.sqrt(sum(side.squares for side in sides) / freedom * sum(1 / side.n for side in sides))
    return stats.Estimate(sides[1].mean - sides[0].mean, error, freedom).p() <= 1 - stats.CONFIDENCE


SUITE = Way("this suite, --precision 3%", sequential.FIRST, median_of_medians, None, {})
PYTEST_BENCHMARK = Way(
    "pytest-benchmark",
    1,
    pooled_median,
    half_of_rounds,
    {"median:5%": slower(statistics.median), "min:5%": slower(min)},
)
TIMER = Way(
    "torch Timer",
    1,
    pooled_median,
    half_of_timer,
    {"Compare marks one as best": unmarked, "quartiles apart": quartiles_apart},
)
PYPERF = Way("like pyperf", 20, pooled_mean, half_of_processes, {"compare_to: significant": significant})
WAYS = (SUITE, PYTEST_BENCHMARK, TIMER, PYPERF)


# ---------------------------------------------------------------- this suite


def series_of(turns: Sequence[Turn], once: float, sides: int = 1) -> tuple[dict[str, Value], float, int]:
    """Let the schedule of `bench-core run --precision` take its rounds from recorded turns, until it or they end.

    Return what is known of each kernel, the seconds that it took and the number of turns. A round of some kernels costs
    what the turn took, less what the others alone need.
    """
    clock = once
    names = ["before", "after"][:sides]
    schedule = Precision(Goal(PRECISION), [Side(name) for name in names], Path(), now=lambda: clock)
    works = (Work("six", "kernel", str(i), "float32") for i in count())
    cases = {kernel: Case(work, "numpy", "cpu") for kernel, work in zip(turns[0].values, works, strict=False)}
    used = number = 0
    while used + sides <= len(turns) and schedule.next(number) is not None:
        chosen = set(schedule.chosen) if number else set(cases.values())
        mine = turns[used : used + sides]
        left_out = [kernel for kernel, case in cases.items() if case not in chosen]
        seconds = sum(turn.took - sum(turn.alone[kernel] for kernel in left_out) for turn in mine)
        clock += seconds
        measured = {
            name: {case: _measurement(case, turn, kernel) for kernel, case in cases.items() if case in chosen}
            for name, turn in zip(names, mine, strict=True)
        }
        schedule.add(measured, seconds, TraitsOf())
        used, number = used + sides, number + 1
    return {kernel: schedule.values[case] for kernel, case in cases.items() if used}, clock, used


def _measurement(case: Case, turn: Turn, kernel: str) -> Measurement:
    series = (Series("time", Clock.WALL, tuple(turn.values[kernel])),)
    return Measurement(case, Status.OK, series=series, elapsed_s=turn.alone[kernel])


def _until_precise(record: Record, start: int) -> Whole | None:
    values, seconds, used = series_of(record.since(start), record.once)
    halves = {kernel: value.precision for kernel, value in values.items() if value.precision is not None}
    if len(halves) < len(values):
        return None
    return Whole(start, used, seconds, {kernel: value.middle for kernel, value in values.items()}, halves)


def _suite_claims(turns: Sequence[Turn]) -> bool | None:
    """Return whether `compare` claims a change in a series of two equal sides; None if it has too few pairs to say so.

    The rule is that of compare/verdicts.py for pairs of a series that values have ended.
    """
    values, _, _ = series_of(turns, 0.0, sides=2)
    medians = [sequential.Median(tuple(map(math.log, value.numbers))) for value in values.values()]
    if not medians or min(len(median.values) for median in medians) < sequential.FIRST:
        return None
    adjusted = stats.benjamini_hochberg([median.p() for median in medians])
    least = math.log1p(CompareOptions().min_effect)
    found = zip(medians, adjusted, strict=True)
    return any(p <= 1 - stats.CONFIDENCE and abs(median.mean) >= least for median, p in found)


# ---------------------------------------------------------------- what a record shows


def _disjoint(wholes: Sequence[Whole], turns: int) -> Iterator[tuple[Whole, Whole]]:
    """Yield the pairs of measurements from a circle of turns that have no turn in common."""
    for one, other in combinations(wholes, 2):
        ahead = (other.start - one.start) % turns
        if one.turns <= ahead <= turns - other.turns:
            yield one, other


def truth(wholes: Sequence[Whole], turns: int, kernels: Sequence[str]) -> float | None:
    """Return how well such measurements know these kernels, 0.03 for 3 %; None if no two have no turn in common.

    turns: the number of those recorded.
    """
    logs = sorted(
        abs(math.log(one.middles[kernel] / other.middles[kernel]))
        for one, other in _disjoint(wholes, turns)
        for kernel in kernels
    )
    return math.expm1(stats.quantile(logs, 0.95) / math.sqrt(2)) if logs else None


@dataclass(frozen=True)
class Alarms:
    """How often a rule claims a difference where there is none.

    share: of comparisons of all kernels in which any is claimed different, None if there were no two measurements.
    comparisons: their number. apart: how many of them can be made with no turn in common.
    """

    way: str
    rule: str
    share: float | None
    comparisons: int
    apart: int


@dataclass(frozen=True)
class Worth:
    """What a record shows of a way.

    says_after, true_after: minutes until every kernel is known within PRECISION, by what the way says and in truth;
    None if that needs more than the record. says, truth: how well they are known when the way says so: by its widest
    interval, and in truth all together; if it never does, after the turns with which its users begin. by_kernel: the
    same of each. longest: the minutes of the whole record.
    """

    way: str
    turns: int
    longest: float
    says_after: float | None
    says: float | None
    truth: float | None
    true_after: float | None
    by_kernel: Mapping[str, tuple[float | None, float | None]]
    alarms: Sequence[Alarms]


def worth(way: Way, record: Record) -> Worth:
    """Return what a record of at least one turn shows of a way."""
    n = len(record.turns)
    kernels = list(record.turns[0].values)
    found = [whole for start in range(n) if (whole := way.whole(record, start))]
    seconds = sorted(whole.seconds for whole in found if whole.is_precise)
    is_usual = 2 * len(seconds) > n  # else the median is longer than the record
    shown = [whole for whole in found if whole.is_precise] if is_usual else way.first(record)
    return Worth(
        way.name,
        n,
        (record.once + sum(turn.took for turn in record.turns)) / 60,
        seconds[n // 2] / 60 if is_usual else None,  # those that are not precise take longer
        _said(shown, kernels),
        truth(shown, n, kernels),
        _true_after(way, record),
        {kernel: (_said(shown, [kernel]), truth(shown, n, [kernel])) for kernel in kernels},
        alarms(way, record),
    )


def _said(wholes: Sequence[Whole], kernels: Sequence[str]) -> float | None:
    widest = [max(whole.halves[kernel] for kernel in kernels) for whole in wholes]
    return statistics.median(widest) if widest else None


def _true_after(way: Way, record: Record) -> float | None:
    """Return the minutes of the fewest turns from which on kernels are truly known within PRECISION, None without."""
    found = None
    for n in reversed([n for n in LADDER if 2 * n <= len(record.turns)]):
        measured = way.fixed(record, n)
        if (truth(measured, len(record.turns), list(record.turns[0].values)) or 0.0) > PRECISION:
            break
        found = statistics.median(whole.seconds for whole in measured) / 60
    return found


def alarms(way: Way, record: Record) -> list[Alarms]:
    """Return how often each rule of a way raises a false alarm in comparisons of all kernels."""
    n = len(record.turns)
    if way.half is None:
        claims = [_suite_claims(record.since(start)) for start in range(n)]
        claims = [claim for claim in claims if claim is not None]
        pairs = 2 * sequential.FIRST
        return [_alarms(way, "compare, 5 % and more", claims, n // pairs)]
    both = list(_disjoint(way.fixed(record, way.least), n))
    ordered = [*both, *((other, one) for one, other in both)]
    blocks = [
        {k: sorted(chain(*each)) for k, each in _by_kernel(record.since(start)[: way.least]).items()}
        for start in range(n)
    ]
    found = []
    for rule, differs in way.rules.items():
        claims = [
            any(differs(blocks[one.start][k], blocks[other.start][k]) for k in one.middles) for one, other in ordered
        ]
        found.append(_alarms(way, rule, claims, n // (2 * way.least)))
    return found


def _alarms(way: Way, rule: str, claims: Sequence[bool], apart: int) -> Alarms:
    return Alarms(way.name, rule, sum(claims) / len(claims) if claims else None, len(claims), apart)
