"""Render the answer of a query: as a table for a terminal, as CSV or as JSON.

Texts in it are from elsewhere: of the SQL, which can make any character, as of the tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bench_core.render.text_table import Table, layout
from bench_core.results.strict_csv import csv_text
from bench_core.text import harmless, printable

if TYPE_CHECKING:
    from bench_core.history.query import Answer


def answer_text(answer: Answer, width: int, *, colour: bool = False) -> Iterator[str]:
    """Yield the lines of a table of at most `width` columns; numbers have six digits."""
    rows = [[_plain(value) for value in row] for row in answer.rows()]
    right = frozenset(i for i, cells in enumerate(zip(*rows, strict=True)) if _are_numbers(cells))
    shown = tuple(tuple(map(_cell, row)) for row in rows)
    header = tuple(printable(name) for name in answer.names)
    return layout(Table(header, shown, right), width, colour=colour)


def answer_csv(answer: Answer) -> str:
    """Return an answer as CSV; lists and maps are JSON. What is missing or not finite is empty."""
    lines = ([_nested(_plain(value)) for value in row] for row in answer.rows())
    return csv_text([printable(name) for name in answer.names], lines)


def answer_json(answer: Answer) -> str:
    """Return an answer as JSON: a list with an object for each row. What is missing or not finite is null.

    Of several columns of one name the last one counts.
    """
    names = [harmless(name) for name in answer.names]
    rows = [dict(zip(names, map(_plain, row), strict=True)) for row in answer.rows()]
    return json.dumps(rows, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    match value:
        case None | bool() | int():
            plain: Any = value
        case float():
            plain = value if math.isfinite(value) else None
        case Decimal():
            plain = int(value) if value == value.to_integral_value() else float(value)
        case Mapping():
            plain = {harmless(str(key)): _plain(item) for key, item in value.items()}
        case list() | tuple():
            plain = _span(value) if hasattr(value, "nanoseconds") else [_plain(item) for item in value]
        case bytes():
            plain = value.hex()
        case date() | time():
            plain = value.isoformat()
        case _:
            plain = harmless(str(value))
    return plain


def _span(interval: Iterable[int]) -> str:
    """Return Arrow's INTERVAL, which has three parts, in ISO 8601."""
    months, days, nanoseconds = interval
    seconds = f"{nanoseconds / 1e9:.9f}".rstrip("0").rstrip(".")
    return f"P{months}M{days}DT{seconds}S"


def _nested(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _are_numbers(cells: tuple[Any, ...]) -> bool:
    known = [cell for cell in cells if cell is not None]
    return bool(known) and all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in known)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(_nested(value)))
