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
        if any(a > b * (1 + 1e-9) for a, b in pairwise(known)):
            yield row, "min, quantiles and max are out of order"
        bounds = ((row.ci_low, row.ci_high), (row.min, row.max))
        if any(
            low is not None and high is not None and not (_le(low, value) and _le(value, high)) for low, high in bounds
        ):
            yield row, f"the value {show(value, row.unit)} is outside its own interval"


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


def _result(row: Row) -> tuple[object, ...]:
    who = (row.run_id, row.machine, row.backend, row.implementation, row.device, row.threads)
    return (*who, row.case_id, row.clock, row.params)
