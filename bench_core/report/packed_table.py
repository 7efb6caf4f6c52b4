"""The full table in a compact format: each column is a sorted list of distinct words, each cell an index into it.

The words are sorted here, numbers by value, so the script of the page can sort cells by their index without parsing
units or sizes. Index 0 is the empty cell. A row whose value is the empty cell is shown under the reason for it.
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
    """A column of the table. `cell` returns a sort key and the text; text "" is an empty cell.

    may_go: the column is left out where it tells no rows apart.
    """

    title: str
    cell: Callable[[Row], Cell]
    is_number: bool = False
    may_go: bool = False


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
    return _text(row.absence or row.status)


def _threads(row: Row) -> Cell:
    return row.threads or 0, "" if row.threads is None else str(row.threads)


def _metric(row: Row) -> Cell:
    return _text(f"{row.metric} ({row.clock} clock)" if row.clock == Clock.DEVICE else row.metric)


COLUMNS = (
    Column("Machine", lambda row: _text(row.machine), may_go=True),
    Column("Workload", lambda row: _text(row.workload)),
    Column("Size", lambda row: (size_order(row.size), row.size)),
    Column("Dtype", _dtype),
    Column("Backend", _backend),
    Column("Device", lambda row: _text(row.device), may_go=True),
    Column("Threads", _threads, is_number=True, may_go=True),
    Column("Metric", _metric),
    Column("Value", _value, is_number=True),
    Column("Status", _status),
    Column("Interval", _interval, is_number=True),
    Column("Flags", lambda row: _text(row.flags.replace(";", ", ")), may_go=True),
    Column("Details", _details, may_go=True),
    Column("Run", lambda row: _text(row.run_id), may_go=True),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that tell rows apart, and what the others say of every row: (title, text)."""

    columns: tuple[Column, ...]
    alike: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Layout:
        """Return the layout of these rows: a machine, a device or a run that all of them share needs no column."""
        texts = {column: {column.cell(row)[1] for row in rows} for column in COLUMNS if column.may_go}
        alike = [(column.title, *found) for column, found in texts.items() if len(found) == 1]
        gone = {title for title, _ in alike}
        shown = tuple(column for column in COLUMNS if column.title not in gone)
        return cls(shown, tuple((title, text) for title, text in alike if text))


def in_order(rows: Sequence[Row], place: Callable[[Row], tuple[Any, ...]]) -> list[Row]:
    """Return rows in the order of the charts, whose sort key is `place` (`ReportData.place`).

    What tells least goes last, since a large page omits the last rows: first calls, memory and the clock of the device;
    after these the rows without a value, whose reasons a page lists by themselves.
    """
    extras = {"first_call", "peak_memory"}

    def least(row: Row) -> tuple[bool, int]:
        return not row.has_value, (row.metric in extras) + (row.clock == Clock.DEVICE)

    return sorted(rows, key=lambda row: (*least(row), *place(row)))


class Packed:
    """Rows in columns, of which `first` returns as many as a page has room for: each cell is made and sorted once."""

    def __init__(self, rows: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> None:
        self._columns = [(column, *_coded([column.cell(row) for row in rows])) for column in columns]

    def first(self, count: int) -> str:
        """Return the first rows as JSON for a script element.

        `<`, `>` and `&` are escaped, so no text can end the element.
        """
        packed = []
        for column, words, every in self._columns:
            codes = every[:count]
            there = sorted({0, *codes})
            places = {code: place for place, code in enumerate(there)}
            shown = {"words": [words[code] for code in there], "codes": [places[code] for code in codes]}
            packed.append({"title": column.title, "number": column.is_number, **shown})
        text = json.dumps(packed, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def least_bytes(count: int, columns: Sequence[Column]) -> int:
    """Return a number of bytes that the table of this many rows exceeds whatever they hold: two for each cell."""
    return 2 * count * len(columns)


def _coded(cells: Sequence[Cell]) -> tuple[list[str], list[int]]:
    """Return the words of a column in order, the empty one first, and the place of each cell among them."""
    # Equal texts may have different sort keys (two values shown as 1.23 ms), so each keeps its own place.
    known: dict[Cell, int] = {}
    codes = [known.setdefault(cell, len(known)) for cell in cells]
    ordered = sorted(cell for cell in known if cell[1])
    places = {known[cell]: place for place, cell in enumerate(ordered, start=1)}
    return ["", *(text for _, text in ordered)], [places.get(code, 0) for code in codes]
