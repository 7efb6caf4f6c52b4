"""Render a comparison for a terminal, 60 columns or wider, optionally in colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench_core.compare.result import Result
from bench_core.render.text_table import BOLD, RED, fold, layout, paint
from bench_core.render.view import Section, sections

_NARROWEST = 60
_CASE, _SIDE = 32, 16  # terminal columns needed by a label with the baseline, and by each contender


def text(result: Result, width: int = 80, *, colour: bool = False) -> str:
    """Return a comparison as text of at most `width` columns (at least 60), with ANSI colours on request.

    Text from files is shown without control characters; markup in it has no effect.
    """
    width = max(width, _NARROWEST)
    return sections_as_text(sections(result, (width - _CASE) // _SIDE), width, colour=colour)


def sections_as_text(every: Iterable[Section], width: int, *, colour: bool = False) -> str:
    """Return sections as text of at most `width` columns (at least 60)."""
    width = max(width, _NARROWEST)
    lines: list[str] = []
    for section in every:
        lines += [*_section(section, width, colour=colour), ""]
    return "\n".join(lines)


def _section(section: Section, width: int, *, colour: bool) -> Iterator[str]:
    yield paint(section.title, BOLD if colour else "")
    for line in section.lines:
        style = RED if colour and line.startswith("FAILED") else ""
        yield from (paint(part, style) for part in _paragraph(line, width))
    for table in section.tables:
        if section.lines:
            yield ""
        yield from layout(table, width, colour=colour)
        for note in table.footnotes:
            yield from _paragraph(note, width)


def _paragraph(line: str, width: int) -> list[str]:
    return fold(line, width, indent=2, hanging=4)
