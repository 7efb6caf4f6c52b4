"""Read CSV files of unknown origin strictly, and write CSV files that are safe to open in a spreadsheet.

This module does not depend on the schema. Files may have been edited, truncated or merged. Every problem raises
TableError with the line; nothing is guessed.
"""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.files import read_text
from bench_core.text import one_line, quoted

# First characters that make a spreadsheet run a cell as a formula, in ASCII and full width (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")
_CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7})( |$)|^={7}$", re.MULTILINE)
_FOREIGN = {
    "version https://git-lfs": "a Git LFS pointer, not the file itself: run `git lfs pull`",
    "<!doctype html": "an HTML page, not a table",
    "<html": "an HTML page, not a table",
    "{": "JSON, not a table",
    "PK\x03\x04": "a spreadsheet or ZIP archive: save it as CSV",
}


@dataclass(frozen=True, slots=True)
class Csv:
    """A table of texts. Every record has as many cells as the header; `lines`: the line on which each record ends."""

    path: Path
    header: tuple[str, ...]
    records: list[list[str]]
    lines: list[int]

    def column(self, name: str, convert: Callable[[str], Any]) -> list[Any]:
        """Return a column, each cell converted by `convert`, whose ValueError becomes a TableError with the line."""
        position = self.header.index(name)
        texts = [record[position] for record in self.records]
        try:
            known = {text: convert(text) for text in set(texts)}  # most columns have few distinct texts
        except ValueError:
            return [self._convert(name, convert, *item) for item in zip(texts, self.lines, strict=True)]
        return [known[text] for text in texts]

    def _convert(self, name: str, convert: Callable[[str], Any], text: str, line: int) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise TableError(self.path, f"column {name!r} holds {quoted(text)}: {error}", line) from None


def read_csv(path: Path, required: Collection[str]) -> Csv:
    """Return a CSV file whose header has the `required` columns; raises TableError for any other file.

    Blank lines are skipped. A last line without a line feed causes a warning: the file may be truncated there.
    """
    text = read_text(path)
    _refuse_foreign(path, text)
    table = _parse(path, text, required)
    if not text.endswith(("\n", "\r")):
        last = text.count("\n") + 1
        warnings.warn(f"{path}:{last}: the last line has no line feed: the file may be cut off", stacklevel=2)
    return table


def _refuse_foreign(path: Path, text: str) -> None:
    if not text.strip():
        raise TableError(path, "the file is empty", 1)
    start = text.lstrip()[:40]
    for prefix, what in _FOREIGN.items():
        if start.lower().startswith(prefix.lower()):
            raise TableError(path, what, 1)
    if conflict := _CONFLICT.search(text):
        raise TableError(path, "a merge conflict marker", text.count("\n", 0, conflict.start()) + 1)


def _parse(path: Path, text: str, required: Collection[str]) -> Csv:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    records, lines = [], []
    try:
        for record in reader:
            if not record:
                continue
            if not header:
                header = record
                _check_header(path, header, required, reader.line_num)
                continue
            if len(record) != len(header):
                cut = "" if text.endswith(("\n", "\r")) or len(record) > len(header) else "; the file may be cut off"
                message = f"{len(record)} cells where the header has {len(header)}{cut}"
                raise TableError(path, message, reader.line_num)
            if record == header:
                raise TableError(path, "a second header: pass the files one by one, do not join them", reader.line_num)
            records.append(record)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise TableError(path, f"{error}", reader.line_num) from None
    return Csv(path, tuple(header), records, lines)


def _check_header(path: Path, header: list[str], required: Collection[str], line: int) -> None:
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise TableError(path, f"column {quoted(twice[0])} appears twice", line)
    missing = [name for name in required if name not in header]
    if not missing:
        return
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and len(header[0].split(delimiter)) >= len(required):
            raise TableError(path, f"cells are separated by {name}: this table needs commas", line)
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    raise TableError(path, f"column {missing[0]!r} is missing{more}: not this table, or damaged", line)


# ---------------------------------------------------------------- writing


def cell(value: Any) -> str:
    """Return the text of one cell: "" for None, repr for a float; never a formula or a control character.

    Line breaks in a text are replaced. A text that a spreadsheet would run as a formula gets a leading apostrophe,
    which reading removes. Raises ValueError for a float that is not finite.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a table must not contain a value that is not finite")
        return repr(value)
    if isinstance(value, int):
        return str(value)
    text = one_line(str(value).translate(_CONTROLS))
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair cannot be encoded in UTF-8
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def csv_text(header: Sequence[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return a table as CSV text (RFC 4180 quoting, line feeds), each value converted by `cell`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell(value) for value in line] for line in lines)
    return buffer.getvalue()
