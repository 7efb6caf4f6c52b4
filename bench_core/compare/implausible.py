"""Find implausible values. They are reported with the results and never removed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter

from bench_core.records import Row
from bench_core.units import show

_AMOUNTS = {"flop_rate": "flops", "bandwidth": "bytes"}
_order = attrgetter("min", "p10", "p25", "p75", "p90", "max")


def implausible_rows(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Return the rows whose numbers are inconsistent, each with the reason."""
    good = [row for row in rows if row.status == "ok" and row.value is not None]
    return [*_contradictions(good), *_rates_against_times(good)]


def _contradictions(rows: Iterable[Row]) -> Iterator[tuple[Row, str]]:
    """Yield rows whose statistics contradict each other."""
    for row in rows:
        value = row.value or 0.0
        if value <= 0:
            yield row, f"the value {value:g} is not positive"
            continue
        known = [x for x in _order(row) if x is not None]
        # Nearly all are in order, which is found out faster without a tolerance. It is for positive numbers.
        is_sorted = known == sorted(known) and (not known or known[0] >= 0)
        if not is_sorted and any(a > b * (1 + 1e-9) for a, b in pairwise(known)):
            yield row, "min, quantiles and max are out of order"
        if not (_is_within(row.ci_low, value, row.ci_high) and _is_within(row.min, value, row.max)):
            yield row, f"the value {show(value, row.unit)} is outside its own interval"


def _is_within(low: float | None, value: float, high: float | None) -> bool:
    """Return whether a value is in an interval, both of whose ends are known, or outside by rounding."""
    return low is None or high is None or low <= value <= high or (_le(low, value) and _le(value, high))


def _le(a: float, b: float) -> bool:
    return a <= b or math.isclose(a, b, rel_tol=1e-9)


def _rates_against_times(rows: Iterable[Row]) -> Iterator[tuple[Row, str]]:
    """Yield rates that differ from work divided by time of the same result."""
    times: dict[tuple[object, ...], float] = {}
    rates: list[Row] = []
    for row in rows:
        if row.metric == "time":
            times[_result(row)] = row.value or 0.0
        elif row.metric in _AMOUNTS:
            rates.append(row)
    for row in rates:
        time, amount = times.get(_result(row)), getattr(row, _AMOUNTS[row.metric])
        if time and amount and row.value and not math.isclose(row.value * time, amount, rel_tol=0.01):
            yield row, f"{show(row.value, row.unit)} x {show(time, 's')} is not {_AMOUNTS[row.metric]} = {amount:.3g}"


_result = attrgetter(
    *("run_id", "machine", "backend", "implementation", "device", "threads", "case_id", "clock", "params")
)
