"""Rows of a table made safe to show, and several runs of one machine folded into one."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from bench_core import stats
from bench_core.compare.reading import Reading
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


def fold(rows: Iterable[Row]) -> list[Row]:
    """Return one row per machine, case, way of doing it and metric, out of any number of runs.

    A value becomes the median over runs, its interval Student's t on their logarithms: runs are the
    replicates. Runs without a value count only where no run has one.
    """
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        key = (row.machine, row.case_id, row.backend, row.implementation, row.device, row.threads)
        groups[*key, row.metric, row.unit, row.clock].append(row)
    return [_median(group) for group in groups.values()]


def _median(group: Sequence[Row]) -> Row:
    good = [row for row in group if has_value(row)]
    if len(good) < 2:
        return good[0] if good else group[0]
    values = sorted(row.value for row in good if row.value is not None)
    middle = stats.quantile(values, 0.5)
    low, high = stats.log_mean_interval(values) if values[0] > 0 else (values[0], values[-1])
    known: dict[str, Any] = {"value": middle, "ci_low": min(low, middle), "ci_high": max(high, middle)}
    return replace(good[0], processes=len(good), flags=good[0].flags.replace("single_run", ""), **known)


def has_value(row: Row) -> bool:
    """Return whether the row has a value that may be shown as one."""
    return row.status == Status.OK and row.value is not None and math.isfinite(row.value)


def size_number(size: str) -> float | None:
    """Return a size that is one number, with a binary suffix or none ("2048", "64KiB"), else None."""
    match = _SIZE.fullmatch(size)
    return float(match[1]) * _BINARY[(match[2] or "").lower()] if match else None
