"""Make the texts of rows safe to show, and pool the rows of several runs into one row per result and metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from bench_core.text import printable

_TEXTS = tuple(f.name for f in fields(Row) if f.type in {"str", str})


def cleaned(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with all texts made safe to show (text.printable)."""
    seen: dict[str, str] = {}
    shown = []
    for row in rows:
        changed: dict[str, Any] = {}
        for name in _TEXTS:
            text = getattr(row, name)
            if text not in seen:
                seen[text] = printable(text)
            if seen[text] != text:
                changed[name] = seen[text]
        shown.append(replace(row, **changed) if changed else row)
    return shown


def safe(reading: Reading) -> Reading:
    """Return a reading with the texts of its rows made safe to show."""
    return replace(reading, rows=tuple(cleaned(reading.rows)))


def pooled(readings: Sequence[Reading]) -> list[Row]:
    """Return one row per result and metric over all runs; a result without any value has one row with the reason.

    Runs are pooled as in `bench-core compare`. Rows that are in two files count once. If runs failed in different ways,
    the row with the most severe status is returned. Rows in the unit of another table (`in_other_units`) are left out:
    no chart may set them beside the others. Raises TableError for tables that contradict each other.
    """
    everything = [row for reading in readings for row in reading.rows]
    places: dict[tuple[object, ...], int] = {}
    for row in everything:
        places.setdefault(_result(row), len(places))
    options = CompareOptions(columns=SIDES, metrics=tuple(METRICS))
    cells = arrange(readings, options, lambda row: row.status == Status.OK and not in_other_units(row)).cells.values()
    rows = [pooled_row(collect_replicates(side, found).entry) for sides in cells for side, found in sides.items()]
    known = {_result(row) for row in rows}
    failed: dict[tuple[object, ...], Row] = {}
    for row in everything:
        result = _result(row)
        if row.status != Status.OK and result not in known:
            failed[result] = min(failed.get(result, row), row, key=lambda row: severity(row.status))
    return sorted([*rows, *failed.values()], key=lambda row: places[_result(row)])


def in_other_units(row: Row) -> bool:
    """Whether the value of a row has another unit than its metric has here, as milliseconds where times are seconds."""
    return row.has_value and row.metric in METRICS and row.unit != METRICS[row.metric].unit


def _result(row: Row) -> tuple[object, ...]:
    return (row.machine, row.case_id, row.backend, row.implementation, row.device, row.threads)


def pooled_row(entry: Entry) -> Row:
    """Return the newest row of an entry, with the value, interval, processes and flags of all its runs."""
    if len(entry.rows) == 1 or not entry.ok:
        return entry.row
    single = {"single_run"} if entry.processes > 1 else set()
    nothing: dict[str, Any] = dict.fromkeys(_OF_ONE_RUN)
    return replace(
        entry.row,
        **nothing,
        value=entry.value,
        ci_low=entry.ci_low,
        ci_high=entry.ci_high,
        ci_level=stats.CONFIDENCE,
        processes=entry.processes,
        flags=";".join(word for word in entry.flags if word not in single),
    )


# Columns that describe the blocks of one run; a pooled row has none of them.
_OF_ONE_RUN = ("n", "inner_loops", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
