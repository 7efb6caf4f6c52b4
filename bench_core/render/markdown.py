"""Render a comparison as GitHub Markdown: whole, for a file or a README, or folded, for a comment on a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from bench_core.compare.result import Result
from bench_core.render.text_table import Table
from bench_core.render.view import VERDICT, Section, sections

LONGEST_COMMENT = 65_536  # characters that GitHub accepts
_OWN = 1_536  # characters left for what the sender of a comment adds
_LEFT_OUT = "- The rest is left out: --format md shows all"
# No link, mention, emoji, reference to an issue (GH-1), emphasis, HTML or cell border.
_PLAIN = re.compile(
    r"(?!.*(?://|www\.|__|--|\*\*|:[\w+\-]+:|\b[Gg][Hh]-\d|(?<!\w)_|_(?!\w)))[\w .,:;()+%/=\-µ'?]*",
)

_OPTION = re.compile(r"(?<![^\s(])--[a-z]+(?:-[a-z]+)*(?![^\s),.;:])")  # of a command in a sentence


def markdown(result: Result) -> str:
    """Return a comparison as Markdown; markup in text from files has no effect."""
    return sections_as_markdown(sections(result))


def sections_as_markdown(every: Iterable[Section]) -> str:
    """Return sections as Markdown; markup in them has no effect."""
    return "\n".join(line for section in every for line in (f"### {section.title}", "", *_body(section)))


def github(result: Result, longest: int = LONGEST_COMMENT - _OWN) -> str:
    """Return a comparison as a comment on GitHub: the verdict, then a folded part for each other section.

    It has at most `longest` characters. If it would be longer, tables of cases lose rows, and say how many. If that
    is not enough, the last sections are left out, and the last line says so.
    """
    most, folded = None, _folded(sections(result))
    while len(folded) > longest and most != 0:
        rows = len(result.compared) + len(result.best) if most is None else most
        most = int(rows * min(0.9, longest / len(folded)))
        folded = _folded(sections(result, most_rows=most))
    if len(folded) <= longest:
        return folded
    whole = ""
    for section in sections(result, most_rows=0):
        longer = whole + _folded([section])
        if len(longer) + len(_LEFT_OUT) >= longest:
            break
        whole = longer
    return f"{whole}{_LEFT_OUT}\n"


def _folded(every: Sequence[Section]) -> str:
    lines: list[str] = []
    for section in every:
        if section.title == VERDICT:
            first, *others = section.lines
            lines += [f"**{inert(first)}**", "", *(f"- {inert(line)}" for line in others), ""]
        else:
            cases = max((len(table.rows) for table in section.tables), default=0)
            title = f"{section.title}: {cases:,} rows" if cases > 1 else section.title
            lines += [f"<details><summary>{html.escape(title)}</summary>", "", *_body(section), "</details>", ""]
    return "\n".join(lines)


def _body(section: Section) -> Iterator[str]:
    yield from (f"- {inert(line)}" for line in section.lines)
    yield from [""] * bool(section.lines)
    for table in section.tables:
        yield from (*_table(table), "", *(f"- {inert(note)}" for note in table.footnotes))
        yield from [""] * bool(table.footnotes)


def inert(text: str) -> str:
    """Return plain text unchanged and other text as inline code: links, mentions, HTML and markup have no effect.

    Of text that is plain but for options such as `--runs`, only these are code.
    """
    if _PLAIN.fullmatch(_OPTION.sub("", text)):
        return _OPTION.sub(r"`\g<0>`", text)
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`"


def _table(table: Table) -> Iterator[str]:
    yield _line(table.header)
    yield "|" + "|".join(" ---: " if i in table.right else " --- " for i in range(len(table.header))) + "|"
    for row in table.rows:
        yield _line(row)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join("<br>".join(inert(line) for line in cell.split("\n")) for cell in cells) + " |"
