"""What the runs of two sides support: replicates, their pairs, and the interval of a ratio.

Processes are the unit of replication; blocks inside one process are correlated, so they only make the
one number that a process contributes. That number is the p10 of its seconds, the steadiest between
processes; the median stands in where a table came without its samples. All arithmetic is on logarithms,
so that "2.00x faster" one way is "2.00x slower" the other way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from bench_core import stats
from bench_core.compare.comparison import Entry, Method
from bench_core.compare.reading import Reading
from bench_core.metrics import METRICS
from bench_core.model import Row, Status
from bench_core.sidecar import sample_key
from bench_core.stats import Estimate, Moments

# Spread between processes that is assumed where a side ran once, as a standard deviation of logarithms. Measured for
# this project: 1 % for NumPy on a quiet machine, 9 % for GPU frameworks, 8 to 10 % for all on a shared virtual one.
SPREAD = 0.09
_LAST_DIGITS = 1e-12  # a difference of logarithms that is nothing but rounding

Found = tuple[Reading, Row]


@dataclass(frozen=True, slots=True)
class Replicate:
    """One process: logarithms of its p10 (p90 of a rate) and of its median.

    pair: equal for two processes that ran side by side. origin: the machine's own name, which two machines
    of one model share. label: the name that its table was given, "" for none.
    """

    low: float
    middle: float
    pair: tuple[str, str, int]
    started_at: str
    origin: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Replicates:
    """An entry with what stands behind it.

    replicates: its processes, one by one. summaries: moments of the log medians of rows that merge several
    processes and came without samples. within: standard error of the log value inside a lone process.
    """

    entry: Entry
    replicates: tuple[Replicate, ...] = ()
    summaries: tuple[Moments, ...] = ()
    within: float = 0.0

    def moments(self, basis: str) -> Moments:
        """Return the moments of this side's processes for "p10" or "median"."""
        values = [r.low if basis == "p10" else r.middle for r in self.replicates]
        parts = [*([Moments.of(values)] if values else []), *self.summaries]
        return sum(parts[1:], parts[0])


@dataclass(frozen=True, slots=True)
class Weighed:
    """How much better the contender is, as a logarithm, and how that was found.

    values: the two numbers whose ratio it is: geometric means over processes, in the unit of the metric.
    label: what the runs were ("5 pairs of runs"). tested: whether a significance test is valid here.
    caveat: what a claim from these runs may be mistaken for. one_machine: whether all runs of both sides have the
    same origin, whatever the sides are called.
    """

    estimate: Estimate
    values: tuple[float, float]
    method: Method
    basis: str
    label: str
    tested: bool
    caveat: str = ""
    one_machine: bool = False


def collect(side: str, found: Sequence[Found]) -> Replicates:
    """Return the evidence of one side for one key, from its rows in all runs; there must be a row."""
    found = sorted(found, key=lambda item: (item[1].started_at, item[1].run_id))
    good = [
        (reading, row) for reading, row in found if row.status == Status.OK and row.value is not None and row.value > 0
    ]
    if not good:
        return Replicates(Entry(side, tuple(row for _, row in found), None, None, None, 0))
    replicates: list[Replicate] = []
    summaries: list[Moments] = []
    for reading, row in good:
        processes = list(_processes(reading, row))
        replicates += processes
        if not processes:
            summaries.append(_summary(row))
    rows = tuple(row for _, row in good)
    count = len(replicates) + sum(s.n for s in summaries)
    entry = Entry(side, rows, *_value(rows, replicates), count)
    return Replicates(entry, tuple(replicates), tuple(summaries), _within(rows[0]))


def _processes(reading: Reading, row: Row) -> Iterator[Replicate]:
    """Yield the processes behind a row; none if it merges several and their samples are not there."""
    value = row.value or math.nan
    origin = dict(reading.origins).get(row.run_id, row.machine)
    series = reading.sidecar.about.get("series")
    series = series if isinstance(series, str) else row.run_id
    seconds = _samples(reading, row)
    if seconds is None:
        if (row.processes or 1) == 1:
            quantile = row.p10 if row.better == "lower" else row.p90
            low = quantile if quantile and quantile > 0 else value
            yield Replicate(math.log(low), math.log(value), (series, origin, 0), row.started_at, origin, reading.label)
        return
    ordered = {process: sorted(values) for process, values in seconds.items()}
    middles = {process: stats.quantile(values, 0.5) for process, values in ordered.items()}
    # Whatever is derived from the time is proportional to it or to its inverse, by what the row says.
    sign = 1.0 if row.better == "lower" else -1.0
    offset = math.log(value) - sign * math.log(median(middles.values()))
    for process, values in ordered.items():
        low, middle = (offset + sign * math.log(t) for t in (stats.quantile(values, 0.1), middles[process]))
        yield Replicate(low, middle, (series, origin, process), row.started_at, origin, reading.label)


def _samples(reading: Reading, row: Row) -> dict[int, tuple[float, ...]] | None:
    """Return a row's seconds by process if they are there and are the ones it was made of."""
    samples = reading.sidecar.samples
    if samples is None or not row.clock:
        return None
    own = samples.get(sample_key(row))
    by_process = dict(own or samples.get((*sample_key(row)[:5], "time", row.clock), {}))
    if own is None and not _follows_from_time(row.metric):
        return None
    if sum(map(len, by_process.values())) != row.n or len(by_process) != row.processes:
        return None
    if not all(s > 0 for values in by_process.values() for s in values):
        return None
    made_of = median(median(values) for values in by_process.values())
    return by_process if own is None or math.isclose(made_of, row.value or 0.0, rel_tol=1e-6) else None


def _follows_from_time(name: str) -> bool:
    metric = METRICS.get(name)
    return metric is not None and (metric.amount is not None or metric.share is not None)


def _summary(row: Row) -> Moments:
    """Return the moments that a row of several processes was made from: its interval is Student's t on logs."""
    n, ends = row.processes or 1, _log_interval(row)
    if ends is None or n < 2:
        return Moments(1, math.log(row.value or math.nan), 0.0)
    error = (ends[1] - ends[0]) / 2 / Estimate(0.0, 1.0, n - 1).interval(_level(row))[1]
    return Moments(n, (ends[0] + ends[1]) / 2, error**2 * n * (n - 1))


def _log_interval(row: Row) -> tuple[float, float] | None:
    """Return the logarithms of a row's interval, None if it has none that makes sense."""
    if row.ci_low is None or row.ci_high is None or not 0 < row.ci_low <= row.ci_high:
        return None
    return math.log(row.ci_low), math.log(row.ci_high)


def _level(row: Row) -> float:
    level = row.ci_level or stats.CONFIDENCE
    return level if 0.5 <= level < 1 else stats.CONFIDENCE


def _value(rows: Sequence[Row], replicates: Sequence[Replicate]) -> tuple[float, float | None, float | None]:
    """Return the median over processes with its interval; a lone row already has them."""
    first = rows[0]
    if len(rows) == 1:
        return first.value or math.nan, first.ci_low, first.ci_high
    middles = [stats.exponential(r.middle) for r in replicates] or [row.value or math.nan for row in rows]
    value = median(middles)
    low, high = stats.log_mean_interval(middles) if len(middles) > 1 else (value, value)
    return value, min(low, value), max(high, value)


def _within(row: Row) -> float:
    """Return the standard error of a row's log value inside its process, 0.0 where nothing is known of it."""
    ends = _log_interval(row)
    return (ends[1] - ends[0]) / 2 / NormalDist().inv_cdf(0.5 + _level(row) / 2) if ends else 0.0


def _alike(moments: Moments) -> bool:
    """Tell whether several processes agree to the last digit or two."""
    return moments.n > 1 and moments.squares <= moments.n * _LAST_DIGITS**2


def weigh(baseline: Replicates, contender: Replicates) -> Weighed:
    """Return how much better the contender is. Both sides have a value."""
    basis = "median" if baseline.summaries or contender.summaries else "p10"
    sign = -1.0 if contender.entry.row.better == "lower" else 1.0
    sides = baseline.moments(basis), contender.moments(basis)
    values = stats.exponential(sides[0].mean), stats.exponential(sides[1].mean)
    counts = f"{sides[0].n} against {sides[1].n} runs"
    timed = bool(contender.entry.row.clock)
    if not timed and all(map(_alike, sides)):
        exact = Estimate(sign * (sides[1].mean - sides[0].mean), 0.0, math.inf)
        return Weighed(exact, values, Method.EXACT, "value", f"{counts}, all alike", tested=False)
    # Timings that agree to the last digit are copies of one run.
    if any(m.n == 1 or (timed and _alike(m)) for m in sides):
        return Weighed(
            _of_single_runs(baseline, contender, basis, sign), values, Method.SINGLE, basis, counts, tested=False
        )
    one_machine = len({r.origin for r in (*baseline.replicates, *contender.replicates)}) == 1
    pairs = _pairs(baseline.replicates, contender.replicates) if basis == "p10" else []
    if len(pairs) > 1:
        changes = [sign * (b.low - a.low) for a, b in pairs]
        estimate = stats.paired([x if abs(x) > _LAST_DIGITS else 0.0 for x in changes])
        first, second = (Moments.of(lows).mean for lows in zip(*((a.low, b.low) for a, b in pairs), strict=True))
        values = stats.exponential(first), stats.exponential(second)
        counts = f"{len(pairs)} pairs of runs"
        return Weighed(estimate, values, Method.PAIRED, "p10", counts, tested=True, one_machine=one_machine)
    estimate = stats.welch(*sides)
    estimate = Estimate(sign * estimate.mean, estimate.error, estimate.dof)
    caveat = "the runs are not in pairs: a drift of the machine can pass for a change" if one_machine else ""
    return Weighed(estimate, values, Method.WELCH, basis, counts, tested=True, caveat=caveat, one_machine=one_machine)


def _of_single_runs(baseline: Replicates, contender: Replicates, basis: str, sign: float) -> Estimate:
    """Return a ratio of which a side ran once: the spread between processes can only be assumed."""
    variances, freedom = [], []
    means = []
    for evidence in (baseline, contender):
        moments = evidence.moments(basis)
        means.append(moments.mean)
        assumed = moments.n == 1 or _alike(moments)
        variances.append(evidence.within**2 + SPREAD**2 if assumed else moments.variance / moments.n)
        freedom.append(math.inf if assumed else moments.n - 1)
    return stats.difference(sign * (means[1] - means[0]), variances, freedom)


def _pairs(first: Sequence[Replicate], second: Sequence[Replicate]) -> list[tuple[Replicate, Replicate]]:
    """Return the processes that ran side by side: by their pair's name, or because runs took turns.

    Labels may stand for two machines of one model, whose times of day mean nothing to each other.
    """
    by_name = {r.pair: r for r in first}
    named = [(by_name[r.pair], r) for r in second if r.pair in by_name]
    if named or {(r.origin, r.label) for r in (*first, *second)} != {(first[0].origin, "")}:
        return named
    turns = sorted([(r.started_at, 0, r) for r in first] + [(r.started_at, 1, r) for r in second], key=lambda t: t[:2])
    times = [started_at for started_at, _, _ in turns]
    if len(first) != len(second) or len(set(times)) != len(times):
        return []
    adjacent = [sorted(turns[i : i + 2], key=lambda t: t[1]) for i in range(0, len(turns), 2)]
    took_turns = all([side for _, side, _ in pair] == [0, 1] for pair in adjacent)
    return [(pair[0][2], pair[1][2]) for pair in adjacent] if took_turns else []
