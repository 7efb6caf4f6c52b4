"""Rows of a table made safe to show, and those of several runs pooled into one row each."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from bench_core import stats
from bench_core.compare.comparison import Entry
from bench_core.compare.evidence import collect
from bench_core.compare.options import SIDES, Options
from bench_core.compare.pairing import arrange
from bench_core.compare.reading import Reading
from bench_core.metrics import METRICS, severity
from bench_core.model import Row, Status

LONGEST_TEXT = 300
_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(?:([kmg])i?b|b)?", re.IGNORECASE)


def clean(text: str) -> str:
    r"""Return free text on one line with every control and formatting character spelt out.

    ANSI escapes, NUL and bidirectional overrides become visible `\x1b`, `\x00`, `\u202e`; what is
    longer than 300 characters ends in an ellipsis. HTML is left alone: escaping is the template's part.
    """
    shown = "".join(_visible(c) for c in " ".join(text[: 2 * LONGEST_TEXT].split()))
    return shown if len(shown) <= LONGEST_TEXT else shown[: LONGEST_TEXT - 1] + "…"


def _visible(character: str) -> str:
    hidden = unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn"}
    return ascii(character)[1:-1] if hidden else character


_TEXTS = tuple(f.name for f in fields(Row) if f.type in {"str", str})


def cleaned(rows: Iterable[Row]) -> list[Row]:
    """Return rows whose texts are all safe to show."""
    seen: dict[str, str] = {}
    shown = []
    for row in rows:
        changed: dict[str, Any] = {}
        for name in _TEXTS:
            text = getattr(row, name)
            if text not in seen:
                seen[text] = clean(text)
            if seen[text] != text:
                changed[name] = seen[text]
        shown.append(replace(row, **changed) if changed else row)
    return shown


def safe(reading: Reading) -> Reading:
    """Return a reading whose rows are safe to show."""
    return replace(reading, rows=tuple(cleaned(reading.rows)))


def pooled(readings: Sequence[Reading]) -> list[Row]:
    """Return one row a result and metric, over all runs; a result without any value is one row that says why.

    Runs are pooled as `bench-core compare` pools them, and rows that stand in two files count once. Of runs
    that failed in different ways the worst is told. Raises TableError for tables that contradict each other.
    """
    everything = [row for reading in readings for row in reading.rows]
    places: dict[tuple[object, ...], int] = {}
    for row in everything:
        places.setdefault(_result(row), len(places))
    options = Options(columns=SIDES, metrics=tuple(METRICS))
    cells = arrange(readings, options, lambda row: row.status == Status.OK).cells.values()
    rows = [pooled_row(collect(side, found).entry) for sides in cells for side, found in sides.items()]
    known = {_result(row) for row in rows}
    lost: dict[tuple[object, ...], Row] = {}
    for row in everything:
        result = _result(row)
        if row.status != Status.OK and result not in known:
            lost[result] = min(lost.get(result, row), row, key=lambda row: severity(row.status))
    return sorted([*rows, *lost.values()], key=lambda row: places[_result(row)])


def _result(row: Row) -> tuple[object, ...]:
    return (row.machine, row.case_id, row.backend, row.implementation, row.device, row.threads)


def pooled_row(entry: Entry) -> Row:
    """Return an entry as its newest row, with the value, interval, processes and flags of all its runs."""
    if len(entry.rows) == 1 or not entry.ok:
        return entry.row
    single = {"single_run"} if entry.processes > 1 else set()
    nothing: dict[str, Any] = dict.fromkeys(_OF_ONE_RUN)
    return replace(
        entry.row,
        **nothing,
        value=entry.value,
        ci_low=entry.ci_low,
        ci_high=entry.ci_high,
        ci_level=stats.CONFIDENCE,
        processes=entry.processes,
        flags=";".join(word for word in entry.flags if word not in single),
    )


# Columns that describe the blocks of one run, so they hold for no pooled row.
_OF_ONE_RUN = ("n", "inner_loops", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")


def has_value(row: Row) -> bool:
    """Return whether the row has a value that may be shown as one."""
    return row.status == Status.OK and row.value is not None and math.isfinite(row.value)


def size_number(size: str) -> float | None:
    """Return a size that is one number, with a binary suffix or none ("2048", "64KiB"), else None."""
    match = _SIZE.fullmatch(size)
    return float(match[1]) * _BINARY[(match[2] or "").lower()] if match else None
