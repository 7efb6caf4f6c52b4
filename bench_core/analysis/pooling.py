"""Make the texts of rows safe to show, and pool the rows of several runs into one row per result and metric."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from bench_core import stats
from bench_core.compare.loading import Reading
from bench_core.compare.options import SIDES, CompareOptions
from bench_core.compare.pairing import arrange
from bench_core.compare.replicates import collect_replicates
from bench_core.compare.result import Entry
from bench_core.records import Row, Status, severity
from bench_core.results.metrics import METRICS
from bench_core.results.table import Table
from bench_core.text import printable

_TEXTS = tuple(f.name for f in fields(Row) if f.type in {"str", str})


def safe(reading: Reading) -> Reading:
    """Return a reading with the texts of its rows made safe to show (text.printable)."""
    shown = functools.cache(printable)
    unsafe = [name for name in _TEXTS if any(text != shown(text) for (text,) in reading.rows.distinct(name))]
    if not unsafe:
        return reading

    def made_safe(row: Row) -> Row:
        texts: dict[str, Any] = {name: shown(getattr(row, name)) for name in unsafe}
        return replace(row, **texts)

    return replace(reading, rows=Table.of(map(made_safe, reading.rows)))


def pooled(readings: Sequence[Reading]) -> list[Row]:
    """Return one row per result and metric over all runs; a result without any value has one row with the reason.

    Runs are pooled as in `bench-core compare`. Rows that are in two files count once. If runs failed in different ways,
    the row with the most severe status is returned. A row whose value is not positive has the status `invalid` instead.
    Raises TableError for tables that contradict each other.
    """
    everything = [row for reading in readings for row in reading.rows]
    places: dict[tuple[object, ...], int] = {}
    for row in everything:
        places.setdefault(_result(row), len(places))
    options = CompareOptions(columns=SIDES, metrics=tuple(METRICS))
    good = [reading.only(reading.rows.mask("status", Status.OK.__eq__)) for reading in readings]
    cells = arrange(good, options).cells.values()
    rows = [pooled_row(collect_replicates(side, found).entry) for sides in cells for side, found in sides.items()]
    known = {_result(row) for row in rows if row.has_value}
    failed: dict[tuple[object, ...], Row] = {}
    for row in (row for row in (*everything, *rows) if row.status != Status.OK):
        result = _result(row)
        if result not in known:
            failed[result] = min(failed.get(result, row), row, key=lambda row: severity(row.status))
    of_known = (row for row in rows if _result(row) in known)
    return sorted([*of_known, *failed.values()], key=lambda row: places[_result(row)])


def _result(row: Row) -> tuple[object, ...]:
    return (row.machine, row.case_id, row.backend, row.implementation, row.device, row.threads)


def pooled_row(entry: Entry) -> Row:
    """Return the newest row of an entry, with the value, interval, processes and flags of all its runs.

    Without a value it has the status `invalid` and the reason for that.
    """
    if not entry.ok:
        row = entry.row
        if row.status != Status.OK:
            return row
        return replace(row, value=None, status=Status.INVALID, reason_code="no_value", reason=row.absence)
    if len(entry.rows) == 1:
        return entry.row
    single = {"single_run"} if entry.processes > 1 else set()
    nothing: dict[str, Any] = dict.fromkeys(_OF_ONE_RUN)
    return replace(
        entry.row,
        **nothing,
        value=entry.value,
        ci_low=entry.ci_low,
        ci_high=entry.ci_high,
        ci_level=None if entry.ci_low is None else stats.CONFIDENCE,
        processes=entry.processes,
        flags=";".join(word for word in entry.flags if word not in single),
    )


# Columns that describe the blocks of one run; a pooled row has none of them.
_OF_ONE_RUN = ("n", "inner_loops", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
