"""Scaling over ranks: what each of n devices does beside the others, relative to one alone, and what exchanging costs.

Works that differ only in how many ranks compute belong together. The one on a single rank, measured on the same target,
is T1; Tn is that on n ranks. A work says by its parameter `scaling` what grows: `weak` has more to do with each rank
(its efficiency is T1 / Tn), `strong` is the same work in parts (its speed-up is T1 / Tn, its efficiency T1 / (n Tn)).

A ratio of one process has an interval that holds for any pair of values in the two intervals. Of several processes the
ratio is formed within each, in which T1 and Tn were measured under the same conditions, and the interval is of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench_core import sequential, stats
from bench_core.records import SEQUENTIAL, Clock, Measurement, Row, Series, Status
from bench_core.results.metrics import METRICS

WEAK, STRONG = "weak", "strong"  # values of the parameter `scaling`
WITHOUT_EXCHANGE = "time_without_exchange"  # the metric of the probe that does the same without any exchange
_SINGLE = "single_run"

Known = tuple[Sequence[Measurement], Sequence[Row]]  # those of one case: one for each process, and its rows
# The value that follows from two medians, and its interval from the ends of theirs.
Ends = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Timed:
    """The times of one case by the wall clock. row: that of them all. by_process: the calm blocks of each process."""

    row: Row
    by_process: Mapping[int, stats.Summary]

    @property
    def in_sequence(self) -> bool:
        return SEQUENTIAL in self.row.flags.split(";")


def scaled_rows(cases: Iterable[Known]) -> list[Row]:
    """Return the rows of efficiency, speed-up and exposed communication of a run.

    There is none where T1 or the time without exchange is missing, and no exposed communication that is not positive:
    exchanging then cost less than the two times are uncertain.
    """
    found: list[Row] = []
    alike: dict[tuple[Any, ...], dict[int, _Timed]] = {}
    for measurements, rows in cases:
        timed = _timed("time", measurements, rows)
        if timed is None or not timed.row.is_across_ranks:
            continue
        alike.setdefault(_who_and_what(timed.row), {})[timed.row.ranks] = timed
        if alone := _timed(WITHOUT_EXCHANGE, measurements, rows):
            found += _derived("exposed_communication", timed, alone, _difference)
    for by_ranks in alike.values():
        one = by_ranks.get(1)
        for ranks, timed in sorted(by_ranks.items()):
            if one is not None and ranks > 1:
                found += _scaled(one, timed, ranks)
    return found


def _who_and_what(row: Row) -> tuple[Any, ...]:
    """Return the key of the rows that differ only in their ranks, and in what follows from them (size, threads)."""
    params = tuple((name, value) for name, value in row.parameters.items() if name != "ranks")
    what = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache, params)
    return (row.run_id, row.backend, row.implementation, row.device, *what)


def _timed(metric: str, measurements: Sequence[Measurement], rows: Sequence[Row]) -> _Timed | None:
    """Return the times of a case in this metric, None if it has none."""
    row = next((row for row in rows if row.metric == metric and row.clock == Clock.WALL and row.has_value), None)
    series = ((m.process, one) for m in measurements if m.status is Status.OK for one in m.series)
    blocks = {process: stats.summarise(one.calm) for process, one in series if _is(one, metric)}
    return _Timed(row, blocks) if row else None


def _is(series: Series, metric: str) -> bool:
    return series.metric == metric and series.clock == Clock.WALL


def _scaled(one: _Timed, several: _Timed, ranks: int) -> list[Row]:
    """Return the rows of a work on several ranks, given that on one."""
    kind = several.row.parameters.get("scaling")
    if kind == WEAK:
        return _derived("parallel_efficiency", one, several, _quotient)
    if kind == STRONG:
        shared = _derived("parallel_efficiency", one, several, lambda t1, tn: _over(_quotient(t1, tn), ranks))
        return [*_derived("speedup", one, several, _quotient), *shared]
    return []


def _quotient(first: stats.Summary, second: stats.Summary) -> Ends:
    return first.median / second.median, first.ci_low / second.ci_high, first.ci_high / second.ci_low


def _difference(first: stats.Summary, second: stats.Summary) -> Ends:
    return first.median - second.median, first.ci_low - second.ci_high, first.ci_high - second.ci_low


def _over(ends: Ends, ranks: int) -> Ends:
    value, low, high = (end / ranks for end in ends)
    return value, low, high


def _derived(
    metric: str, first: _Timed, second: _Timed, by: Callable[[stats.Summary, stats.Summary], Ends]
) -> list[Row]:
    """Return the row of what follows from two times, with what is known of that on more ranks; none if not positive.

    by: the function of two times of one process. Processes that have only one of the two are left out.
    """
    processes = sorted(first.by_process.keys() & second.by_process.keys())
    pairs = [(first.by_process[process], second.by_process[process]) for process in processes]
    values = [by(*pair)[0] for pair in pairs]
    value = stats.quantile(sorted(values), 0.5) if values else 0.0
    if value <= 0:
        return []
    in_sequence = first.in_sequence or second.in_sequence
    ends: tuple[float, float] | None = None
    level = stats.CONFIDENCE
    if len(pairs) > 1:
        ends = sequential.between_processes(values, in_sequence=in_sequence)
    elif not in_sequence and min(summary.n for summary in pairs[0]) > 1:
        ends, level = by(*pairs[0])[1:], min(summary.ci_level for summary in pairs[0])
    known: dict[str, Any] = {"value": value, "n": len(pairs), "processes": len(pairs)}
    if ends:
        known |= {"ci_low": max(min(ends[0], value), 0.0), "ci_high": max(ends[1], value), "ci_level": level}
    row = max((first.row, second.row), key=lambda row: row.ranks)
    words = [word for timed in (second, first) for word in timed.row.flags.split(";") if word and word != _SINGLE]
    flags = ";".join(dict.fromkeys([*words, *([_SINGLE] if len(pairs) == 1 else [])]))
    return [_row(row, metric, flags=flags, **known)]


def _row(row: Row, metric: str, **columns: Any) -> Row:
    about = METRICS[metric]
    statistics = ("ci_low", "ci_high", "ci_level", "inner_loops", "mean", "std", "min", "p10", "p25", "p75", "p90")
    nothing: dict[str, Any] = dict.fromkeys((*statistics, "max"))
    kind: dict[str, Any] = {"metric": about.name, "unit": about.unit, "better": about.better}
    return replace(row, **nothing | kind | columns)
