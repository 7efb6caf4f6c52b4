"""The schema of a run folder: its files, the columns of its tables, the allowed values of a cell.

results/<machine>/<run_id>/
    results.csv     one row per metric of a case; usable without the other files
    samples.csv     one row per raw sample
    run.json        environment, plan, options, counts, sha256 of the two tables
    journal.jsonl   during the run, after a kill, and if the run was asked to keep it
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from bench_core.errors import TableError
from bench_core.records import Row, Status
from bench_core.results.strict_csv import Csv
from bench_core.text import quoted

RESULTS, SAMPLES, RUN = "results.csv", "samples.csv", "run.json"
NOISE = "noise.json"  # in the folder of a machine, beside its runs: what `bench-core noise` has measured
UNFINISHED = "unfinished"  # the folder of runs to be merged into one later; read only if a path names it
COLUMNS = tuple(f.name for f in fields(Row))
STATISTICS = ("value", "ci_low", "ci_high", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
SAMPLE_COLUMNS = (
    *("case_id", "backend", "implementation", "device", "threads", "metric", "clock"),
    *("process", "round", "seconds", "noisy"),
)
_INTEGERS = range(-(2**63), 2**63)


def _kind(annotation: Any) -> type:
    """Return the scalar type of a column: `float` for `float | None`."""
    members = [t for t in typing.get_args(annotation) if t is not types.NoneType]
    return members[0] if members else annotation  # type: ignore[no-any-return]


KINDS: dict[str, type] = {name: _kind(hint) for name, hint in typing.get_type_hints(Row).items()}


def _text(text: str) -> str:
    return text[1:] if text[:1] == "'" else text


def integer(text: str) -> int | None:
    """Return the integer in a cell, None for an empty cell; raises ValueError for any other text."""
    if not text:
        return None
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 20 or int(text) not in _INTEGERS:
        raise ValueError("not an integer")
    return int(text)


def _number(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value):
        raise ValueError("not a finite number; a missing value is an empty cell")
    if "_" in text or not text.isascii():
        raise ValueError("not a number")
    return value


def _truth(text: str) -> bool | None:
    word = text.lower()  # pandas writes True, spreadsheets TRUE
    if word not in {"", "true", "false"}:
        raise ValueError("neither true nor false")
    return word == "true" if word else None


# Functions that convert the text of a cell, by the type of its column; each raises ValueError for an invalid text.
CONVERT: dict[type, Callable[[str], Any]] = {str: _text, int: integer, float: _number, bool: _truth}

_WORDS = {"better": ("lower", "higher"), "status": tuple(Status)}
_NEVER_EMPTY = ("run_id", "machine", "case_id", "workload", "workload_version", "backend", "device", "metric", "unit")


def require_words(table: Csv, columns: Mapping[str, list[Any]]) -> None:
    """Raise TableError for an empty cell in a mandatory column, or an unknown word in a column of fixed words."""
    for name in _NEVER_EMPTY:
        for line, value in zip(table.lines, columns[name], strict=True):
            if value == "" or value is None:
                raise TableError(table.path, f"column {name!r} is empty", line)
    for name, allowed in _WORDS.items():
        for line, word in zip(table.lines, columns[name], strict=True):
            if word not in allowed:
                message = f"column {name!r} holds {quoted(word)}, which is none of: {', '.join(allowed)}"
                raise TableError(table.path, message, line)
