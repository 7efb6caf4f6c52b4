"""Lay out a table for a terminal: text columns shrink and wrap, numeric columns do not.

This does not use a library, so that 10,000 rows take a tenth of a second and the result does not depend on the
library version.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_GAP = 2
_LEAST = (14, 8)  # minimum width of text columns in characters, and the minimum if the table is still too wide
BOLD, RED = "1", "31"
_COLOURS = {"faster": "32", "better": "32", "slower": RED, "worse": RED, "same": "36", "incomparable": "33"}
_VERDICT = re.compile(rf"\b({'|'.join(_COLOURS)})( \(\d+\))*$")


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; a cell may have several lines. right: the indices of the numeric columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()
    footnotes: tuple[str, ...] = ()


def layout(table: Table, width: int, *, colour: bool = False) -> Iterator[str]:
    """Yield the lines of a table of at most `width` columns if text columns can shrink that much."""
    header, *body = ([cell.split("\n") for cell in row] for row in (table.header, *table.rows))
    widths = _widths([header, *body], table.right, width)
    yield from _row(header, widths, table.right, BOLD if colour else None)
    yield "─" * min(width, sum(widths) + _GAP * (len(widths) - 1))
    for row in body:
        yield from _row(row, widths, table.right, "" if colour else None)


def _widths(rows: Sequence[Sequence[Sequence[str]]], right: frozenset[int], width: int) -> list[int]:
    """Return the width of each column: its longest line, or less if the table would not fit."""
    widths = [max(columns(line) for row in rows for line in row[i]) for i in range(len(rows[0]))]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    for least in _LEAST:
        while excess > 0 and (flexible := [i for i in range(len(widths)) if i not in right and widths[i] > least]):
            widths[max(flexible, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def _row(
    cells: Sequence[Sequence[str]], widths: Sequence[int], right: frozenset[int], style: str | None
) -> Iterator[str]:
    """Yield the lines of one row. style: an ANSI style, "" to colour verdicts, None for no colour."""
    wrapped = [_wrap(lines, width) for lines, width in zip(cells, widths, strict=True)]
    for k in range(max(map(len, wrapped))):
        parts = []
        for i, (lines, width) in enumerate(zip(wrapped, widths, strict=True)):
            line = lines[k] if k < len(lines) else ""
            space = " " * (width - columns(line))
            verdict = _VERDICT.search(line) if style == "" else None
            painted = paint(line, style or (_COLOURS[verdict[1]] if verdict else ""))
            parts.append(space + painted if i in right else painted + space)
        yield (" " * _GAP).join(parts).rstrip()


def _wrap(lines: Sequence[str], width: int) -> list[str]:
    if all(columns(line) <= width for line in lines):
        return list(lines)
    return [part for line in lines for part in textwrap.wrap(line, width, break_on_hyphens=False) or [""]]


def columns(line: str) -> int:
    """Return the width of a line in terminal columns: wide characters take two."""
    if line.isascii():
        return len(line)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line if not unicodedata.combining(c))


def paint(line: str, style: str) -> str:
    """Return a line in an ANSI style such as BOLD; unchanged if style or line is empty."""
    return f"\x1b[{style}m{line}\x1b[0m" if style and line else line
