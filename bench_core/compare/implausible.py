"""Find implausible values. They are reported with the results and never removed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from bench_core.records import Row, Status
from bench_core.results.columns import Mask
from bench_core.results.table import Table
from bench_core.units import show

_AMOUNTS = {"flop_rate": "flops", "bandwidth": "bytes"}
_RATE_WITHIN = 0.01  # of work over time: the two medians are of the same blocks
_ORDER = ("min", "p10", "p25", "p75", "p90", "max")
_RESULT = ("run_id", "machine", "backend", "implementation", "device", "threads", "case_id", "clock", "params")
_order = attrgetter(*_ORDER)
Result = tuple[object, ...]


def implausible_rows(tables: Iterable[Table]) -> list[tuple[Row, str]]:
    """Return the rows whose numbers are inconsistent, each once with the reason, in their order."""
    good = [table.only(table.mask("status", Status.OK.__eq__) & ~np.isnan(table.numbers("value"))) for table in tables]
    times: dict[Result, float] = {}
    for rows in good:
        times |= _times(rows)
    return [item for rows in good for item in _implausible_in(rows, times)]


def _implausible_in(rows: Table, times: Mapping[Result, float]) -> Iterator[tuple[Row, str]]:
    time = _time_of_each(rows, times)
    rates = _are_not_work_over_time(rows, time)
    suspects = _may_contradict_themselves(rows) | rates
    each = zip(rows.only(suspects), rates[suspects].tolist(), time[suspects].tolist(), strict=True)
    for row, is_wrong_rate, seconds in each:
        text = _against_time(row, seconds) if is_wrong_rate else _contradiction(row)
        if text:
            yield row, text


def _may_contradict_themselves(rows: Table) -> Mask:
    """Return for every row whether its statistics may contradict each other, which `_contradiction` finds out."""
    value, low, high = (rows.numbers(name) for name in ("value", "ci_low", "ci_high"))
    doubt = (value <= 0) | (low > value) | (value > high)
    most = np.full(len(rows), -np.inf)
    for name in _ORDER:
        numbers = rows.numbers(name)
        doubt |= (numbers < most) | (numbers < 0)
        most = np.fmax(most, numbers)
    return doubt | (rows.numbers("min") > value) | (value > most)


def _contradiction(row: Row) -> str:
    """Return how the statistics of a row contradict each other, "" if they do not."""
    value = row.value or 0.0
    if value <= 0:
        return f"the value {value:g} is not positive"
    if not (_is_within(row.ci_low, value, row.ci_high) and _is_within(row.min, value, row.max)):
        return f"the value {show(value, row.unit)} is outside its own interval"
    known = [x for x in _order(row) if x is not None]
    return "min, quantiles and max are out of order" if any(a > b * (1 + 1e-9) for a, b in pairwise(known)) else ""


def _is_within(low: float | None, value: float, high: float | None) -> bool:
    """Return whether a value is in an interval, both of whose ends are known, or outside by rounding."""
    return low is None or high is None or low <= value <= high or (_le(low, value) and _le(value, high))


def _le(a: float, b: float) -> bool:
    return a <= b or math.isclose(a, b, rel_tol=1e-9)


def _times(rows: Table) -> dict[Result, float]:
    """Return the seconds of each result."""
    rows = rows.only(rows.mask("metric", "time".__eq__))
    results, numbers = rows.groups(_RESULT)
    seconds = np.empty(len(results))
    seconds[numbers] = rows.numbers("value")
    return dict(zip(results, seconds.tolist(), strict=True))


def _time_of_each(rows: Table, times: Mapping[Result, float]) -> NDArray[np.float64]:
    """Return the seconds of the result of every row, NaN if they are not known."""
    results, numbers = rows.groups(_RESULT)
    return np.array([times.get(result, np.nan) for result in results], np.float64)[numbers]


def _are_not_work_over_time(rows: Table, time: NDArray[np.float64]) -> Mask:
    """Return for every row whether it is a rate that differs from work divided by time of the same result."""
    wrong = np.zeros(len(rows), np.bool_)
    for metric, name in _AMOUNTS.items():
        amount, value = rows.numbers(name), rows.numbers("value")
        product = value * time
        differs = np.abs(product - amount) > _RATE_WITHIN * np.maximum(np.abs(product), np.abs(amount))
        are_known = (time != 0) & (amount != 0) & (value != 0)
        wrong |= rows.mask("metric", metric.__eq__) & are_known & (differs | np.isinf(product))
    return wrong


def _against_time(row: Row, seconds: float) -> str:
    name = _AMOUNTS[row.metric]
    return f"{show(row.value, row.unit)} x {show(seconds, 's')} is not {name} = {getattr(row, name):.3g}"
