"""Read CSV files of unknown origin strictly, and write CSV files that are safe to open in a spreadsheet.

This module does not depend on the schema. Files may have been edited, truncated or merged. Every problem raises
TableError with the line; nothing is guessed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bench_core.errors import TableError, warn_of
from bench_core.results.columns import Coded, Numbers
from bench_core.results.foreign import read_table_text, refuse_other_table
from bench_core.text import harmless, one_line, quoted

# First characters that make a spreadsheet run a cell as a formula, in ASCII and full width (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_DELIMITERS = (",", ";", "\t", "|")  # of spreadsheets in most countries, in some, their "Unicode text", databases
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")  # of a cell: no column has such a name
_LINE = re.compile(r"[^\r\n]*")
_MOST_FLOATS = 1 << 17  # texts of a table whose numbers are kept while it is read
_CHUNK = 1 << 20  # characters that are divided into lines at a time
_DECLARED = re.compile(r"sep=.?", re.IGNORECASE)  # the first line of some exports: it tells Excel the delimiter
_UNNAMED = re.compile(r"\s*|Unnamed: \d+")  # a header cell that is empty, or that pandas named because it was empty
SEPARATOR = "\0"  # between the cells of a block: no text of a file has it (files.decoded)
_BLOCK = 1 << 14  # cells of all columns that are parsed at a time: their texts fit in a cache


@dataclass(frozen=True)
class Csv:
    """A table of texts, by columns.

    columns: the cells of each column of the header, in blocks of rows that all columns have in common. A block is one
    text, with a SEPARATOR between the cells: a text of its own for each cell takes ten times the memory. Equal blocks
    are one object. lines: the line on which each record ends.
    """

    path: Path
    header: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    lines: list[int]

    @classmethod
    def of(cls, path: Path, header: Sequence[str], records: Iterable[tuple[int, Sequence[str]]]) -> Self:
        """Return a table of records, each with the line on which it ends and as many cells as the header."""
        columns: list[list[str]] = [[] for _ in header]
        lines: list[int] = []
        known: dict[str, str] = {}
        waiting: list[Sequence[str]] = []

        def pack() -> None:
            for blocks, cells in zip(columns, zip(*waiting, strict=True), strict=False):
                block = SEPARATOR.join(cells)
                blocks.append(known.setdefault(block, block))
            waiting.clear()

        most = max(1, _BLOCK // max(1, len(header)))
        for line, record in records:
            lines.append(line)
            waiting.append(record)
            if len(waiting) == most:
                pack()
        pack()
        return cls(path, tuple(header), tuple(map(tuple, columns)), lines)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.header)}

    def blocks(self, name: str) -> tuple[str, ...]:
        """Return the blocks of a column."""
        return self.columns[self._positions[name]]

    def texts(self, name: str) -> list[str]:
        """Return the cells of a column."""
        return [text for block in self.blocks(name) for text in block.split(SEPARATOR)]

    def only(self, kept: Sequence[int]) -> Self:
        """Return a table with these records alone, which are numbered from 0."""
        columns = []
        for name in self.header:
            texts = self.texts(name)
            columns.append((SEPARATOR.join([texts[i] for i in kept]),) if kept else ())
        return replace(self, columns=tuple(columns), lines=[self.lines[i] for i in kept])

    def coded(self, name: str) -> Coded:
        """Return a column as texts."""
        if name not in self._coded:
            known: dict[str, int] = {}
            blocks = self.blocks(name)
            parts = {block: _codes(block, known) for block in dict.fromkeys(blocks)}
            self._coded[name] = Coded(list(known), _concatenated([parts[block] for block in blocks], np.int32))
        return self._coded[name]

    @cached_property
    def _coded(self) -> dict[str, Coded]:
        return {}

    def column(self, name: str, convert: Callable[[str], Any]) -> Coded:
        """Return a column, each distinct text converted by `convert`, whose ValueError becomes a TableError."""
        texts = self.coded(name)
        known: dict[Any, int] = {}
        codes = []
        for code, text in enumerate(texts.values):  # in the order of the file, so the first error is the first there
            try:
                codes.append(known.setdefault(convert(text), len(known)))
            except ValueError as error:
                raise self._invalid(name, text, int(np.argmax(texts.codes == code)), error) from None
        are_same = len(known) == len(codes)
        return Coded(list(known), texts.codes if are_same else np.array(codes, np.int32)[texts.codes])

    def numbers(self, name: str, convert: Callable[[str], float | None]) -> Numbers:
        """Return a column of numbers, its errors as those of `column`.

        `convert` is asked only about blocks with other cells than numbers without underscores and empty ones.
        """
        parts: dict[str, NDArray[np.float64]] = {}
        start = 0
        blocks = self.blocks(name)
        for block in blocks:
            if block not in parts:
                plain = _plain_numbers(block, self._floats)
                parts[block] = self._numbers_of(name, convert, block, start) if plain is None else plain
            start += len(parts[block])
        return Numbers(_concatenated([parts[block] for block in blocks], np.float64))

    @cached_property
    def _floats(self) -> _Floats:
        return _Floats({"": math.nan})

    def _numbers_of(
        self, name: str, convert: Callable[[str], float | None], block: str, start: int
    ) -> NDArray[np.float64]:
        """Return the numbers of a block whose first row is number `start`, cell by cell."""
        numbers: list[float | None] = []
        for text in block.split(SEPARATOR):
            try:
                numbers.append(convert(text))
            except ValueError as error:
                raise self._invalid(name, text, start + len(numbers), error) from None
        return np.array(numbers, np.float64)

    def _invalid(self, name: str, text: str, row: int, error: ValueError) -> TableError:
        return TableError(self.path, f"column {name!r} holds {quoted(text)}: {error}", self.lines[row])


def _codes(block: str, known: dict[str, int]) -> NDArray[np.int32]:
    """Return the codes of the cells of a block. known: those of texts, to which new ones are added."""
    texts = block.split(SEPARATOR)
    distinct = dict.fromkeys(texts)
    for text in distinct:
        known.setdefault(text, len(known))
    if len(distinct) == 1:
        return np.full(len(texts), known[texts[0]], np.int32)
    return np.fromiter(map(known.__getitem__, texts), np.int32, len(texts))


class _Floats(dict[str, float]):
    """The numbers of texts. Many texts occur more than once, and to read one takes as long as to find it five times."""

    def __missing__(self, text: str) -> float:
        number = float(text)
        if len(self) < _MOST_FLOATS:
            self[text] = number
        return number


def _plain_numbers(block: str, floats: _Floats) -> NDArray[np.float64] | None:
    """Return the numbers of a block, NaN for an empty cell; None if there is any other cell than plain numbers."""
    if not block.isascii() or "_" in block:
        return None
    cells = block.split(SEPARATOR)
    try:
        numbers = np.fromiter(map(floats.__getitem__, cells), np.float64, len(cells))
    except ValueError:
        return None
    return None if np.isinf(numbers).any() else numbers


def _concatenated(parts: Sequence[NDArray[Any]], kind: type[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, kind)


def read_csv(path: Path, required: Sequence[str]) -> Csv:
    """Return a CSV file whose header has the `required` columns; raises TableError for any other file.

    What spreadsheets and other tools change without harm is read: compression and UTF-16 (foreign.py), another
    delimiter (also one that a first line `sep=;` declares), blank lines and lines of blank cells, columns without a
    name. Such a column is left out, with a warning if it has any cell that is not a number: row numbers are what pandas
    and R write there. A last line without a line feed causes a warning: the file may be truncated there.
    """
    text = read_table_text(path)
    table = _parse(path, text, required)
    if not text.endswith(("\n", "\r")):
        last = text.count("\n") + 1
        warn_of(path, "the last line has no line feed: the file may be cut off", last)
    return _without_unnamed(table)


def _parse(path: Path, text: str, required: Sequence[str]) -> Csv:
    reader = csv.reader(_lines(text), delimiter=_delimiter(text, required), strict=True)
    try:
        header = _header(path, reader, required)
        is_whole = text.endswith(("\n", "\r"))
        return Csv.of(path, header, _records(path, reader, header, is_whole=is_whole))
    except csv.Error as error:
        raise TableError(path, f"{error}", reader.line_num) from None


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text with their ends, LF, CR LF or CR. A copy is made of some of them at a time."""
    start = 0
    while start < len(text):
        # To the end of a line. A CR LF is not divided: it ends there.
        end = text.find("\n", start + _CHUNK) + 1 or len(text)
        yield from io.StringIO(text[start:end], newline="")
        start = end


def _records(path: Path, reader: Any, header: list[str], *, is_whole: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the records below the header, each after its last line. is_whole: whether the file ends with a line end."""
    width = len(header)
    first = header[0]
    for record in reader:
        if len(record) != width or record[0] == first or not record[0].strip():  # nearly none
            if _is_blank(record):
                continue
            if len(record) > width and _is_blank(record[width:]):
                del record[width:]
            if len(record) != width:
                cut = "" if is_whole or len(record) > width else "; the file may be cut off"
                raise TableError(path, f"{len(record)} cells where the header has {width}{cut}", reader.line_num)
            if record == header:
                raise TableError(path, "a second header: pass the files one by one, do not join them", reader.line_num)
        yield reader.line_num, record


def _header(path: Path, reader: Any, required: Sequence[str]) -> list[str]:
    """Return the first record of a CSV reader that is neither blank nor a declaration of the delimiter."""
    for record in reader:
        if not _is_blank(record) and not _DECLARED.fullmatch("".join(record)):
            _check_header(path, record, required, reader.line_num, _lines_of(reader))
            return list(record)
    raise TableError(path, "the file is empty", 1)


def _is_blank(cells: Iterable[str]) -> bool:
    """Return whether all cells are empty or white space: some editors and spreadsheets end a file with such a line."""
    return not any(map(str.strip, cells))


def _lines_of(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line on which each record that a CSV reader has left ends, and the record."""
    with contextlib.suppress(csv.Error):
        for record in reader:
            yield reader.line_num, record


def _delimiter(text: str, required: Sequence[str]) -> str:
    """Return the delimiter with which a line has the most `required` columns; a comma if none has any.

    The line is the first one with the name of the first column: other lines may be above the header.
    """
    place = max(text.find(required[0]), 0) or len(text) - len(text.lstrip())
    start = max(text.rfind(end, 0, place) for end in "\r\n") + 1
    line = _LINE.match(text, start)
    cells = {delimiter: line[0].split(delimiter) if line else [] for delimiter in _DELIMITERS}
    names = {delimiter: {name.strip('"') for name in several} for delimiter, several in cells.items()}
    return max(_DELIMITERS, key=lambda delimiter: len(names[delimiter].intersection(required)))


def _check_header(
    path: Path, header: list[str], required: Sequence[str], line: int, others: Iterator[tuple[int, list[str]]]
) -> None:
    """Raise TableError for missing columns, else for doubled ones: a table of strangers may have both.

    others: the records below, which have the header if something is above it.
    """
    there = Counter(header)
    missing = [name for name in required if name not in there]
    if missing:
        refuse_other_table(path, there, line)
        if len(missing) == len(required):
            raise TableError(path, _why_no_header(header, required, others), line)
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise TableError(path, f"column {missing[0]!r} is missing{more}: not this table, or damaged", line)
    twice = [name for name, count in there.items() if count > 1 and not _UNNAMED.fullmatch(name)]
    if twice:
        raise TableError(path, f"column {quoted(twice[0])} appears twice", line)


def _why_no_header(first: list[str], required: Sequence[str], others: Iterator[tuple[int, list[str]]]) -> str:
    """Return what is wrong with a table whose first record has none of the required columns."""
    below = next((line for line, record in others if required[0] in record and set(required) <= set(record)), None)
    if below is not None:
        return f"the header is on line {below}: move it to the first line"
    are_numbers = [_NUMBER.fullmatch(cell) is not None for cell in first if cell]
    if len(first) >= len(required) and any(are_numbers) and not all(are_numbers):  # all: the row numbers of pandas
        return f"the header is missing: the first line of the table must name its columns, such as {required[0]!r}"
    return f"none of the columns of this table is here, such as {required[0]!r}"


def _without_unnamed(table: Csv) -> Csv:
    """Return a table without its columns that have no name."""
    named = [position for position, name in enumerate(table.header) if not _UNNAMED.fullmatch(name)]
    if len(named) == len(table.header):
        return table
    unnamed = sorted(set(range(len(table.header))).difference(named))
    lost = [i for i in unnamed if not all(map(_are_row_numbers, table.columns[i]))]
    if lost:
        columns = ", ".join(str(position + 1) for position in lost[:5]) + (", ..." if len(lost) > 5 else "")
        warn_of(table.path, f"columns without a name are not read: number {columns}", 1)
    header = tuple(table.header[i] for i in named)
    return replace(table, header=header, columns=tuple(table.columns[i] for i in named))


def _are_row_numbers(block: str) -> bool:
    return all(not text or (text.isascii() and text.isdigit()) for text in block.split(SEPARATOR))


# ---------------------------------------------------------------- writing


def cell(value: Any) -> str:
    """Return the text of one cell: "" for None, repr for a float; never a formula or a control character.

    A text is put on one line, and made `harmless`. One that a spreadsheet would run as a formula gets a leading
    apostrophe, which reading removes. Raises ValueError for a float that is not finite.
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
    text = harmless(one_line(value))
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def csv_text(header: Sequence[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return a table as CSV text (RFC 4180 quoting, line feeds), each value converted by `cell`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell(value) for value in line] for line in lines)
    return buffer.getvalue()
