"""The processes behind each side, and the statistics that each process contributes.

Processes are the unit of replication. Blocks inside one process are correlated, so each process contributes
one number: the p10 of its seconds, which varies least between processes. If a table has no samples, the median
is used instead. Both are kept as logarithms, as ratio.py needs them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench_core import sequential, stats
from bench_core.compare.loading import Reading
from bench_core.compare.result import Entry
from bench_core.records import SEQUENTIAL, Row, is_quantity
from bench_core.results.metrics import METRICS
from bench_core.results.run_files import sample_key
from bench_core.stats import Estimate, Moments

Found = tuple[Reading, Row]


@dataclass(frozen=True, slots=True)
class Replicate:
    """One process: logarithms of its p10 (p90 of a rate) and of its median.

    pair: identifies a pair of runs; the two processes of a pair have equal values. origin: the machine name in
    the table, which two machines of one model share, and the device on it. label: the label given to the table, "" for
    none.
    """

    low: float
    middle: float
    pair: tuple[str, str, int]
    started_at: str
    origin: tuple[str, str]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Replicates:
    """An entry with the processes that it is based on.

    replicates: its processes, one by one. summaries: moments of the log medians of rows that merge several
    processes and have no samples. within: standard error of the log value inside one process. origins: those of all
    its rows, as in Replicate.
    """

    entry: Entry
    replicates: tuple[Replicate, ...] = ()
    summaries: tuple[Moments, ...] = ()
    within: float = 0.0
    origins: frozenset[tuple[str, str]] = frozenset()

    @property
    def is_sequence(self) -> bool:
        """Whether the values of its processes decided how many there are: then only sequential.py is valid."""
        return any(SEQUENTIAL in row.flags.split(";") for row in self.entry.rows)

    def values(self, basis: str) -> list[float]:
        """Return the logarithms of this side's processes for "p10" or "median", in the order of their measurement."""
        return [r.low if basis == "p10" else r.middle for r in self.replicates]

    def moments(self, basis: str) -> Moments:
        """Return the moments of this side's processes for "p10" or "median"."""
        values = self.values(basis)
        parts = [*([Moments.of(values)] if values else []), *self.summaries]
        return sum(parts[1:], parts[0]) if len(parts) > 1 else parts[0]


def collect_replicates(side: str, found: Sequence[Found]) -> Replicates:
    """Return the replicates of one side for one key, from its rows in all runs; `found` must not be empty."""
    found = sorted(found, key=lambda item: (item[1].started_at, item[1].run_id))
    good = [(reading, row) for reading, row in found if row.has_value]
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
    origins = frozenset(_origin(reading, row) for reading, row in good)
    return Replicates(entry, tuple(replicates), tuple(summaries), _within(rows[0]), origins)


def _processes(reading: Reading, row: Row) -> Iterator[Replicate]:
    """Yield the processes behind a row; none if the row merges several processes and has no samples."""
    value = row.value or math.nan
    origin = _origin(reading, row)
    machine = origin[0]
    series = reading.files.about.get("series")
    series = series if isinstance(series, str) else row.run_id
    seconds = _samples(reading, row)
    if seconds is None:
        if (row.processes or 1) == 1:
            quantile = row.p10 if row.better == "lower" else row.p90
            low = quantile if quantile and quantile > 0 else value
            yield Replicate(math.log(low), math.log(value), (series, machine, 0), row.started_at, origin, reading.label)
        return
    ordered = {process: sorted(values) for process, values in seconds.items()}
    middles = {process: stats.quantile(values, 0.5) for process, values in ordered.items()}
    # A metric derived from time alone is proportional to it or to its inverse.
    formula = METRICS[row.metric].formula if row.metric in METRICS else None
    sign = -1.0 if formula and formula.falls else 1.0
    offset = math.log(value) - sign * math.log(median(middles.values()))
    for process, values in ordered.items():
        low, middle = (offset + sign * math.log(t) for t in (stats.quantile(values, 0.1), middles[process]))
        yield Replicate(low, middle, (series, machine, process), row.started_at, origin, reading.label)


def _origin(reading: Reading, row: Row) -> tuple[str, str]:
    """Return the name of the machine in the table, and the device."""
    return reading.machine_in_table(row.run_id, row.machine), row.device


def _samples(reading: Reading, row: Row) -> dict[int, tuple[float, ...]] | None:
    """Return the seconds of a row by process, or None if they are missing or do not agree with the row."""
    samples = reading.files.samples
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
    formula = METRICS[name].formula if name in METRICS else None
    return formula is not None and formula.depends_only_on("time")


def _summary(row: Row) -> Moments:
    """Return the moments of the log values behind a row, recovered from its interval (Student's t on logs)."""
    n, ends = row.processes or 1, _log_interval(row)
    if ends is None or n < 2:
        return Moments(1, math.log(row.value or math.nan), 0.0)
    error = (ends[1] - ends[0]) / 2 / Estimate(0.0, 1.0, n - 1).interval(_level(row))[1]
    return Moments(n, (ends[0] + ends[1]) / 2, error**2 * n * (n - 1))


def _log_interval(row: Row) -> tuple[float, float] | None:
    """Return the logarithms of a row's interval, None if the interval is missing or invalid."""
    low, high = row.ci_low, row.ci_high
    if low is None or high is None or not (is_quantity(low) and is_quantity(high) and low <= high):
        return None
    return math.log(low), math.log(high)


def _level(row: Row) -> float:
    level = row.ci_level or stats.CONFIDENCE
    return level if 0.5 <= level < 1 else stats.CONFIDENCE


def _value(rows: Sequence[Row], replicates: Sequence[Replicate]) -> tuple[float, float | None, float | None]:
    """Return the median over processes with its interval; a single row already contains both."""
    first = rows[0]
    if len(rows) == 1:
        return first.value or math.nan, first.ci_low, first.ci_high
    middles = [stats.exponential(r.middle) for r in replicates] or [row.value or math.nan for row in rows]
    value = median(middles)
    if any(SEQUENTIAL in row.flags.split(";") for row in rows):
        ends = sequential.interval(middles)
    else:
        ends = stats.log_mean_interval(middles) if len(middles) > 1 else (value, value)
    return (value, min(ends[0], value), max(ends[1], value)) if ends else (value, None, None)


def _within(row: Row) -> float:
    """Return the standard error of a row's log value inside its process, 0.0 if it is unknown."""
    ends = _log_interval(row)
    return (ends[1] - ends[0]) / 2 / stats.normal_quantile(0.5 + _level(row) / 2) if ends else 0.0
