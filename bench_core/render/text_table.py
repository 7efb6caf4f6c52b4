"""Lay out a table for a terminal: text columns and headers shrink and wrap, numbers do not.

This does not use a library, so that 10,000 rows take a tenth of a second and the result does not depend on the
library version.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

_GAP = 2
_LEAST = (24, 14, 8)  # minimum width of text columns in characters: of each step, if the table is still too wide
_NAME = re.compile(r"(?<=[/_\-])(?=\w)")  # where a word that is too long is broken: a path, a name
_SIZE = re.compile(r"(?<=\dx)(?=\d)")  # where a part is broken that is still too long: 96x1024
_PART = re.compile(f" |{_NAME.pattern}|{_SIZE.pattern}")
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
    widths = _widths([table.header, *table.rows], table.right, width)

    @functools.cache  # most texts are in many cells
    def lines(cell: str, place: int, style: str | None) -> tuple[str, ...]:
        return tuple(_lines(cell, widths[place], style, is_right=place in table.right))

    def row(cells: Sequence[str], style: str | None) -> Iterator[str]:
        each = [lines(cell, place, style) for place, cell in enumerate(cells)]
        tallest = max(map(len, each))
        filled = [some + (" " * size,) * (tallest - len(some)) for some, size in zip(each, widths, strict=True)]
        for parts in zip(*filled, strict=True):
            yield (" " * _GAP).join(parts).rstrip()

    yield from row(table.header, BOLD if colour else None)
    yield "─" * min(width, sum(widths) + _GAP * (len(widths) - 1))
    for cells in table.rows:
        yield from row(cells, "" if colour else None)


def _widths(rows: Sequence[Sequence[str]], right: frozenset[int], width: int) -> list[int]:
    """Return the width of each column: its longest line, or less if the table would not fit.

    Headers of numeric columns give way first, then the widest column of text. Words are broken only in wide columns or
    if it is not enough to break lines, and within their parts last.
    """
    every = [_distinct_lines(cells) for cells in zip(*rows, strict=True)]
    widths = [_longest(lines) for lines in every]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    if excess <= 0:
        return widths
    header, *body = rows
    words, parts, letters = ([_longest(lines, split) for lines in every] for split in (str.split, _PART.split, list))
    numbers = {
        i: max(_longest(header[i].split("\n"), _PART.split), _longest(_distinct_lines(row[i] for row in body)))
        for i in right
    }
    wide, middle, narrow = _LEAST
    headers = (middle, list(widths))
    whole = ((wide, parts), (middle, words), (middle, parts), (narrow, words), (narrow, parts))
    for least, unbroken in (headers, *whole, (middle, letters), (narrow, letters)):
        floors = [max(least, numbers.get(i, longest)) for i, longest in enumerate(unbroken)]
        while excess > 0 and (flexible := [i for i in range(len(widths)) if widths[i] > floors[i]]):
            widths[max(flexible, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def _distinct_lines(cells: Iterable[str]) -> list[str]:
    return "\n".join(dict.fromkeys(cells)).split("\n")


def _longest(lines: Sequence[str], split: Callable[[str], Sequence[str]] | None = None) -> int:
    # Each piece once: cells repeat words, and most of all letters.
    pieces = set(split(" ".join(lines))) if split else lines
    return max(map(columns, pieces), default=0)


def _lines(cell: str, width: int, style: str | None, *, is_right: bool) -> Iterator[str]:
    """Yield the lines of a cell, each padded. style: an ANSI style, "" to colour verdicts, None for no colour."""
    for line in _wrap(cell.split("\n"), width):
        space = " " * (width - columns(line))
        painted = line if style is None else paint(line, style or _colour(line))
        yield space + painted if is_right else painted + space


def _colour(line: str) -> str:
    verdict = _VERDICT.search(line)
    return _COLOURS[verdict[1]] if verdict else ""


def _wrap(lines: Sequence[str], width: int) -> Sequence[str]:
    if max(map(columns, lines)) <= width:
        return lines
    return [part for line in lines for part in fold(line, width)]


def fold(text: str, width: int, indent: int = 0, hanging: int = 0) -> list[str]:
    """Return a text as lines of at most `width` columns: the first indented by `indent`, the others by `hanging`.

    It is broken between words; a word that is longer than a line, after `/`, `_` and `-`; a part of it that still is,
    after the `x` of 96x1024; and what is left, anywhere.
    """
    lines, used = [" " * indent], indent  # used: the columns of the last line
    gap = ""
    for word in text.split():
        for part in _parts(word, width - max(indent, hanging), (_NAME, _SIZE)):
            size = columns(part)
            if used + len(gap) + size <= width:
                lines[-1] += gap + part
                used += len(gap) + size
            else:
                lines.append(" " * hanging + part)
                used = hanging + size
            gap = ""
        gap = " "
    return lines


def _parts(word: str, width: int, breaks: Sequence[re.Pattern[str]]) -> Iterator[str]:
    if columns(word) <= width:
        yield word
    elif breaks:
        for part in breaks[0].split(word):
            yield from _parts(part, width, breaks[1:])
    else:
        step = width if word.isascii() else max(1, width // 2)
        yield from (word[i : i + step] for i in range(0, len(word), step))


def columns(line: str) -> int:
    """Return the width of a line in terminal columns: wide characters take two."""
    if line.isascii():
        return len(line)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line if not unicodedata.combining(c))


def paint(line: str, style: str) -> str:
    """Return a line in an ANSI style such as BOLD; unchanged if style or line is empty."""
    return f"\x1b[{style}m{line}\x1b[0m" if style and line else line
