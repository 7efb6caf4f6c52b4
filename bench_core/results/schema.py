"""The schema of a run folder: its files, the columns of its tables, the allowed values of a cell.

results/<machine>/<run_id>/
    results.csv     one row per metric of a case; usable without the other files
    samples.csv     one row per raw sample
    run.json        environment, plan, options, counts, sha256 of the two tables
    journal.jsonl   during the run, after a kill, and if the run was asked to keep it
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bench_core.errors import TableError
from bench_core.records import Cache, Clock, Row, Scope, Status
from bench_core.results.columns import Coded, Column
from bench_core.results.strict_csv import SEPARATOR, Csv
from bench_core.text import harmless, quoted

RESULTS, SAMPLES, RUN = "results.csv", "samples.csv", "run.json"
JOURNAL = "journal.jsonl"
NOISE = "noise.json"  # in the folder of a machine, beside its runs: what `bench-core noise` has measured
UNFINISHED = "unfinished"  # the folder of runs to be merged into one later; read only if a path names it
CACHE = ".bench-core-history"  # the folder of a cache of many runs (history/store.py)
COLUMNS = tuple(f.name for f in fields(Row))
# The columns that together identify a row among those of any number of runs.
IDENTITY = (
    *("run_id", "machine", "case_id", "backend", "implementation", "device", "threads"),
    *("metric", "unit", "clock", "scope", "cache"),
)
STATISTICS = ("value", "ci_low", "ci_high", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
SAMPLE_COLUMNS = (
    *("case_id", "backend", "implementation", "device", "threads", "metric", "clock"),
    *("process", "round", "seconds", "noisy"),
)
_INTEGERS = range(-(2**63), 2**63)
_EXACT = range(-(2**53), 2**53 + 1)  # integers that a floating-point number keeps
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}")
_INTEGER = re.compile(r"(-?[0-9]{1,19})(\.0*)?")
_AS_SHOWN = re.compile(r"-?[0-9](\.[0-9]{1,6})?E[+-][0-9]{2,3}")
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
_FEW_DECIMALS = 4  # a number that is shown with so few is shown, not saved
_MORE_DECIMALS = re.compile(rf"\.[0-9]{{{_FEW_DECIMALS + 1}}}")
_SMALL = re.compile(rf"(?<![^{SEPARATOR}\n])-?0\.0[0-9]+(?![^{SEPARATOR}\n])")
_FEWEST_NUMBERS = 20  # that tell rounded numbers from those that are short by chance
# Words for a missing value, in lower case: of R, spreadsheets, pandas, databases.
_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", r"\n"}
_TRUTHS = {"true": True, "false": False, "t": True, "f": False, "1": True, "0": False, "1.0": True, "0.0": False}


def _kind(annotation: Any) -> type:
    """Return the scalar type of a column: `float` for `float | None`."""
    members = [t for t in typing.get_args(annotation) if t is not types.NoneType]
    return members[0] if members else annotation  # type: ignore[no-any-return]


KINDS: dict[str, type] = {name: _kind(hint) for name, hint in typing.get_type_hints(Row).items()}


def _text(text: str) -> str:
    return harmless(text[1:] if text[:1] == "'" else text)


def _refused(text: str, what: str) -> ValueError:
    """Return the error for a cell that is not `what`, with what the tool that wrote it may have meant."""
    if _DECIMAL_COMMA.fullmatch(text):
        return ValueError(f"{what}: decimals are written with a point")
    return ValueError(what)


def _text_if_any(text: str) -> str:
    """Return a text; "" for a word that means a missing value, in a column where it never means anything else."""
    return "" if text.lower() in _MISSING else _text(text)


def _moment(text: str) -> str:
    """Return a point in time as this program writes it: other programs change its form. Other texts are kept.

    Without a time zone it is UTC, as all times in the tables.
    """
    if not _MOMENT.match(text):
        return _text(text)
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return _text(text)


def integer(text: str) -> int | None:
    """Return the integer in a cell, None for a missing value; raises ValueError for any other text.

    An integer with a decimal point and zeros, "2.0", is what pandas writes in a column with missing values.
    """
    if text.lower() in _MISSING:
        return None
    match = _INTEGER.fullmatch(text)
    value = int(match[1]) if match else None
    if match is None or value not in _INTEGERS or (match[2] and value not in _EXACT):
        what = "not an integer"
        raise ValueError(f"{what}, perhaps rounded by a spreadsheet") if is_rounded(text) else _refused(text, what)
    return value


def number(text: str) -> float | None:
    """Return the number in a cell, None for a missing value; raises ValueError for any other text."""
    try:
        value = float(text)
    except ValueError:
        if text.lower() in _MISSING:
            return None
        raise _refused(text, "not a number") from None
    if -math.inf < value < math.inf and text.isascii() and "_" not in text:
        return value
    if math.isnan(value):
        return None
    raise ValueError("not a finite number" if math.isinf(value) else "not a number")


def rounded(blocks: Collection[str]) -> str:
    """Return a number of a column of floating-point numbers that shows that they were rounded, "" if there is none.

    A spreadsheet saves what it shows, and other programs may be told to: few digits and a capital E, or a few decimals
    of all numbers, although some are so small that these are one or two digits. blocks: of cells with a SEPARATOR
    between them, because a search in one text takes a tenth of the time of one in each.
    """
    if any("E" in cells for cells in blocks):
        return next(filter(is_rounded, (text for cells in blocks for text in cells.split(SEPARATOR))), "")
    if any("e" in cells or ("." in cells and _MORE_DECIMALS.search(cells)) for cells in set(blocks)):
        return ""
    if sum(cells.count(".") for cells in blocks) < _FEWEST_NUMBERS:
        return ""
    return next((small[0] for cells in blocks if (small := _SMALL.search(cells))), "")


def is_rounded(text: str) -> bool:
    """Return whether a number looks as a spreadsheet shows it, with few digits and a capital E: "1.23E+05"."""
    return "E" in text and _AS_SHOWN.fullmatch(text) is not None


def truth(text: str) -> bool | None:
    """Return the truth value in a cell, None for a missing one; raises ValueError for any other text."""
    word = text.lower()  # pandas writes True, spreadsheets TRUE, SQLite 1, PostgreSQL t
    if word in _MISSING:
        return None
    if word not in _TRUTHS:
        raise _refused(text, "neither true nor false")
    return _TRUTHS[word]


_CONVERT: dict[type, Callable[[str], Any]] = {str: _text, int: integer, float: number, bool: truth}

# The columns with a closed set of words. The set of units is open, but no unit is written in other characters.
WORDS: dict[str, Collection[str]] = {
    "better": ("lower", "higher"),
    "clock": ("", *Clock),
    "scope": tuple(Scope),
    "cache": tuple(Cache),
    "status": tuple(Status),
}
# The columns whose text may be missing, so that NA in them means that it is.
_MAY_BE_EMPTY = {"params", "clock", *(f.name for f in fields(Row) if f.default == "")}
_UNIT = re.compile(r"[A-Za-z0-9%\u00b5\u03bc/*.]{1,20}")
_NEVER_EMPTY = ("run_id", "machine", "case_id", "workload", "workload_version", "backend", "device", "metric", "unit")


def converter(name: str) -> Callable[[str], Any]:
    """Return the function that converts the text of a cell in a column; it raises ValueError for an invalid text.

    A missing value is None; a missing text is "". In a column that this version does not know, any text is valid.
    """
    if name == "started_at":
        return _moment
    return _text_if_any if name in _MAY_BE_EMPTY else _CONVERT[KINDS.get(name, str)]


def require_words(table: Csv, columns: Mapping[str, Column]) -> None:
    """Raise TableError for an empty cell in a mandatory column, a word not of a closed set, or what is no unit."""
    for name in _NEVER_EMPTY:
        _require(table, name, columns, lambda value: value not in ("", None), "is empty")
    for name, words in WORDS.items():
        told = "is none of: " + ", ".join(word or "(empty)" for word in words)
        _require(table, name, columns, words.__contains__, told)
    _require(table, "unit", columns, lambda unit: _UNIT.fullmatch(unit) is not None, "is not a unit")


def _require(
    table: Csv, name: str, columns: Mapping[str, Column], is_allowed: Callable[[Any], bool], what: str
) -> None:
    """Raise TableError with the line of the first value that is not allowed."""
    column = columns[name]
    assert isinstance(column, Coded), name  # noqa: S101 - none of those that are checked is of numbers
    wrong = ~column.mask(is_allowed)
    if wrong.any():
        row = int(np.argmax(wrong))
        (value,) = column.cells(np.array([row]))
        told = "is empty" if value in ("", None) else f"holds {quoted(str(value))}, which {what}"
        raise TableError(table.path, f"column {name!r} {told}", table.lines[row])
