"""The full table in a compact format: each column is a sorted list of distinct words, each cell an index into it.

The words are sorted here, numbers by value, so the script of the page can sort cells by their index without parsing
units or sizes. Index 0 is the empty cell.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.records import Cache, Clock, Row, Scope
from bench_core.units import natural, show, size_order

Cell = tuple[Any, str]  # sort key, text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table. `cell` returns a sort key and the text; text "" is an empty cell."""

    title: str
    cell: Callable[[Row], Cell]
    is_number: bool = False


def _text(value: str) -> Cell:
    return natural(value), value


def _dtype(row: Row) -> Cell:
    return _text(row.dtype if row.precision == "ieee" else f"{row.dtype} {row.precision}")


def _backend(row: Row) -> Cell:
    return _text(row.who)


def _details(row: Row) -> Cell:
    """Return the fields of the work that have no column of their own: params, and unusual scope and cache."""
    words = [row.params] * bool(row.params) + [row.scope] * (row.scope != Scope.RESIDENT)
    return _text("; ".join([*words, *([row.cache] * (row.cache != Cache.HOT))]))


def _value(row: Row) -> Cell:
    return ((row.unit, row.value), show(row.value, row.unit)) if row.has_value else ((), "")


def _interval(row: Row) -> Cell:
    if not row.has_value or row.ci_low is None or row.ci_high is None:
        return (), ""
    return (row.unit, row.ci_low, row.ci_high), f"{show(row.ci_low, row.unit)} to {show(row.ci_high, row.unit)}"


def _status(row: Row) -> Cell:
    reason = row.reason or row.reason_code
    return _text(f"{row.status}: {reason}" if reason else row.status)


def _metric(row: Row) -> Cell:
    return _text(f"{row.metric} ({row.clock} clock)" if row.clock == Clock.DEVICE else row.metric)


COLUMNS = (
    Column("Machine", lambda row: _text(row.machine)),
    Column("Workload", lambda row: _text(row.workload)),
    Column("Size", lambda row: (size_order(row.size), row.size)),
    Column("Dtype", _dtype),
    Column("Backend", _backend),
    Column("Device", lambda row: _text(row.device)),
    Column("Threads", lambda row: (row.threads or 0, "" if row.threads is None else str(row.threads)), is_number=True),
    Column("Metric", _metric),
    Column("Value", _value, is_number=True),
    Column("Interval", _interval, is_number=True),
    Column("Status", _status),
    Column("Flags", lambda row: _text(row.flags.replace(";", ", "))),
    Column("Details", _details),
    Column("Run", lambda row: _text(row.run_id)),
)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return rows with the least important last, since a large page omits the last rows: device clock, extras."""
    extras = {"first_call", "peak_memory"}
    return sorted(rows, key=lambda row: (row.metric in extras) + (row.clock == Clock.DEVICE))


def pack(rows: Sequence[Row]) -> str:
    """Return the table as JSON for a script element; `<`, `>` and `&` are escaped, so no text can end the element."""
    packed = []
    for column in COLUMNS:
        cells = [column.cell(row) for row in rows]
        # Equal texts may have different sort keys (two values shown as 1.23 ms), so each keeps its own index.
        ordered = sorted({cell for cell in cells if cell[1]})
        places = {cell: place for place, cell in enumerate(ordered, start=1)}
        codes = [places.get(cell, 0) for cell in cells]
        words = ["", *(text for _, text in ordered)]
        packed.append({"title": column.title, "number": column.is_number, "words": words, "codes": codes})
    text = json.dumps(packed, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
