"""A comparison for a terminal, 80 columns or more, in colour where that is wanted."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from bench_core.compare.comparison import Result, Verdict
from bench_core.render.view import Section, Table, sections

_CASE, _SIDE = 32, 16  # columns that a label with its baseline, and each contender, need
_INTERVAL = 15  # "1.03x slower to", and the rest on the next line
_STYLES = {Verdict.FASTER: "green", Verdict.SLOWER: "red", Verdict.SAME: "cyan", Verdict.INCOMPARABLE: "yellow"}


def text(result: Result, width: int = 80, *, colour: bool = False) -> str:
    """Return a comparison as text of at most `width` columns (at least 60), with ANSI colours on request.

    Whatever came from a file is shown without its control characters; no markup in it is obeyed.
    """
    file = io.StringIO()
    width = max(width, 60)
    console = Console(
        file=file, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False
    )
    for section in sections(result, (width - _CASE) // _SIDE):
        _print(console, section)
    return "\n".join(line.rstrip() for line in file.getvalue().split("\n"))


def _print(console: Console, section: Section) -> None:
    console.print(Text(section.title, style="bold"))
    for line in section.lines:
        console.print(Padding(Text(line, style="red" if line.startswith("FAILED") else ""), (0, 0, 0, 2)))
    for table in section.tables:
        console.print(_rich(table))
        for note in table.footnotes:
            console.print(Padding(Text(note), (0, 0, 0, 2)))
    console.print()


def _rich(table: Table) -> RichTable:
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1), collapse_padding=True)
    for i, name in enumerate(table.header):
        right = i in table.right
        least = _INTERVAL if name.endswith("interval") else None
        rich.add_column(
            Text(name), justify="right" if right else "left", overflow="fold", no_wrap=right, min_width=least
        )
    for row in table.rows:
        rich.add_row(*(_styled(cell) for cell in row))
    return rich


def _styled(cell: str) -> Text:
    verdict = cell.rpartition("\n")[2].partition(" ")[0]
    return Text(cell, style=_STYLES.get(verdict, ""))  # type: ignore[call-overload]  # a verdict is a str
