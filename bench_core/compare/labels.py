"""The names of cases and of rows: as few fields as tell cases apart, without the usual values."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bench_core.compare.result import WHO, WORK, Key
from bench_core.records import Row
from bench_core.text import printable

short = functools.partial(printable, longest=200)  # every text from a file must pass through this
_UNSAID = {"", "default", "ieee", "resident", "hot", "wall"}  # the usual values, which labels omit
_APART = ("metric", "clock")  # of these, cases of one table are often equal, and its title says them
_ROW = ("machine", "backend", "implementation", "device", "threads", "workload", "size", "dtype", "precision", "params")


def label_fields(keys: Sequence[Key], chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the fields that distinguish these keys, `chosen` first, and the values that all keys share, as text."""
    fields = list(chosen)
    rest = [name for name in (*WHO, *WORK, *_APART) if name not in fields and name != "suite"]
    distinct = len({key.work + key.who for key in keys})
    labels = [tuple(key.get(name) for name in fields) for key in keys]
    for name in rest:
        longer = [(*text, key.get(name)) for text, key in zip(labels, keys, strict=True)]
        if len(set(labels)) < distinct and len(set(longer)) > len(set(labels)):
            fields.append(name)
            labels = longer
    shared = [name for name in rest if name not in fields and name not in {"params", "workload_version", *_APART}]
    values = [{key.get(name) for key in keys} for name in shared]
    return fields, [short(v) for only in values if len(only) == 1 for v in only if v not in _UNSAID]


def label(key: Key, fields: Sequence[str]) -> str:
    """Return the label of a case: the values of `fields`, without the usual values."""
    return (
        short(" ".join(_word(name, key.get(name)) for name in fields if key.get(name) not in _UNSAID)) or "everything"
    )


def row_name(row: Row) -> str:
    """Return the name of one row of results.csv: its case, who measured it, and the metric."""
    texts = {name: str(getattr(row, name)) for name in (*_ROW, "scope", "cache", "metric", "clock")}
    texts["threads"] = "" if row.threads is None else texts["threads"]
    return " ".join(_word(name, text) for name, text in texts.items() if text not in _UNSAID)


def _word(name: str, text: str) -> str:
    words = {
        "workload_version": f"v{text}",
        "threads": f"{text} thread{'s' * (text != '1')}",
        "clock": f"({text} clock)",
    }
    return words.get(name, text)
