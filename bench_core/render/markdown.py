"""Render a comparison as GitHub Markdown, for an issue, a pull request or a README."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bench_core.compare.result import Result
from bench_core.render.text_table import Table
from bench_core.render.view import sections

_PLAIN = re.compile(r"(?!.*(//|www\.|__|--|\*\*))[\w .,:;()+%/=\-µ'?]*")


def markdown(result: Result) -> str:
    """Return a comparison as Markdown; markup in text from files has no effect."""
    lines: list[str] = []
    for section in sections(result):
        lines += [f"### {section.title}", ""]
        lines += [f"- {inert(line)}" for line in section.lines]
        lines += [""] * bool(section.lines)
        for table in section.tables:
            lines += [*_table(table), "", *(f"- {inert(note)}" for note in table.footnotes)]
            lines += [""] * bool(table.footnotes)
    return "\n".join(lines)


def inert(text: str) -> str:
    """Return plain text unchanged and other text as inline code: links, mentions, HTML and markup have no effect."""
    if _PLAIN.fullmatch(text):
        return text
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`"


def _table(table: Table) -> Iterator[str]:
    yield _line(table.header)
    yield "|" + "|".join(" ---: " if i in table.right else " --- " for i in range(len(table.header))) + "|"
    for row in table.rows:
        yield _line(row)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join("<br>".join(inert(line) for line in cell.split("\n")) for cell in cells) + " |"
