"""The names of cases and of rows: as few fields as tell cases apart, without the usual values."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from operator import attrgetter

from bench_core.compare.result import WHO, WORK, Key
from bench_core.text import printable

short = functools.partial(printable, longest=200)  # every text from a file must pass through this
_UNSAID = {"", "default", "ieee", "resident", "hot", "wall"}  # the usual values, which labels omit
_APART = ("metric", "clock")  # of these, cases of one table are often equal, and its title says them
_ROW = ("machine", "backend", "implementation", "device", "threads", "workload", "size", "dtype", "precision", "params")


def label_fields(keys: Sequence[Key], chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the fields that distinguish these keys, `chosen` first, and the values that all keys share, as text."""
    fields = list(chosen)
    rest = [name for name in (*WHO, *WORK, *_APART) if name not in fields and name != "suite"]
    texts = {name: _texts(keys, name) for name in (*fields, *rest)}
    distinct = len(set(keys))
    labels = list(zip(*(texts[name] for name in fields), strict=True)) or [()] * len(keys)
    told = len(set(labels))
    for name in rest:
        if told == distinct:
            break
        longer = [(*label, text) for label, text in zip(labels, texts[name], strict=True)]
        if (more := len(set(longer))) > told:
            fields.append(name)
            labels, told = longer, more
    shared = [name for name in rest if name not in fields and name not in {"params", "workload_version", *_APART}]
    values = [set(texts[name]) for name in shared]
    return fields, [short(v) for only in values if len(only) == 1 for v in only if v not in _UNSAID]


def _texts(keys: Sequence[Key], name: str) -> list[str]:
    """Return a field of these keys as texts."""
    if name in WHO:
        return [key.get(name) for key in keys]
    return list(map(str, map(attrgetter(name), keys)))


def label(key: Key, fields: Sequence[str]) -> str:
    """Return the label of a case: the values of `fields`, without the usual values."""
    texts = ((name, key.get(name)) for name in fields)
    return short(" ".join(_word(name, text) for name, text in texts if text not in _UNSAID)) or "everything"


def row_name(row: object) -> str:
    """Return the name of one row of results.csv, or of a record with the same fields: its case, who, and the metric."""
    texts = zip(_NAME, _name(row), strict=True)
    return " ".join(_word(name, str(text)) for name, text in texts if text is not None and text not in _UNSAID)


_NAME = (*_ROW, "scope", "cache", "metric", "clock")
_name = attrgetter(*_NAME)


def _word(name: str, text: str) -> str:
    if name == "workload_version":
        return f"v{text}"
    if name == "threads":
        return f"{text} thread{'s' * (text != '1')}"
    return f"({text} clock)" if name == "clock" else text
