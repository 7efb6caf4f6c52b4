"""Kernels that are added to workloads from outside: for one dialect, and without a change of any workload.

A table of kernels is a mapping: (suite, workload) -> {implementation: builder}. A package registers one in the
entry-point group `bench_core.kernels`, under the name of its dialect, or of the dialect on one type of device
("jax:cpu"); a file calls `add`. Only the tables of a dialect that is measured are imported. The process that plans a
run imports them too, so builders import their library when they are called.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bench_core.errors import UsageError
from bench_core.machine.privacy import scrub
from bench_core.text import printable

GROUP = "bench_core.kernels"
Builders = Mapping[str, Callable[..., Any]]
Table = Mapping[tuple[str, str], Builders]

_added: dict[str, list[EntryPoint]] = {}


def add(dialect: str, table: str) -> None:
    """Add a table of kernels, "package.module:NAME", for the workloads that are measured in this process.

    dialect: its name, or "dialect:device type". Raises UsageError for another text.
    """
    if not re.fullmatch(r"[^:]+(:[a-z]+)?", dialect):
        raise UsageError(f"{table}: {dialect!r} is neither a dialect nor one on a type of device, as in 'jax:cpu'")
    point = EntryPoint(dialect, table, GROUP)
    if point not in _added.setdefault(dialect, []):
        _added[dialect].append(point)


def of(suite: str, workload: str, dialect: str, kind: str) -> Builders:
    """Return the kernels that were added to a workload for a dialect on a type of device, by implementation.

    Raises UsageError, which names the table, if one cannot be imported or is none, or if two have an implementation.
    """
    found: dict[str, Callable[..., Any]] = {}
    names = (dialect, f"{dialect}:{kind}")
    registered = (point for point in _registered(tuple(sys.path)) if point.name in names)
    points = (*(point for name in names for point in _added.get(name, ())), *registered)
    for point in {point.value: point for point in points}.values():  # a table that was added twice is one
        builders = _table(point).get((suite, workload), {})
        if twice := sorted(found.keys() & builders.keys()):
            raise UsageError(f"{point.value}: {workload} has another {twice[0]!r} kernel for {dialect}: tables add up")
        found |= builders
    return found


@functools.cache
def _registered(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001 - where entry_points looks
    """Return the tables of packages on a path. Looked up once: it reads a file of every installed package."""
    return tuple(entry_points(group=GROUP))


@functools.cache
def _table(point: EntryPoint) -> Table:
    try:
        table = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a package of the user may raise anything
        what = printable(scrub(f"{type(error).__name__}: {error}"))
        raise UsageError(f"{point.value}: these kernels for {point.name} cannot be imported: {what}") from None
    if not isinstance(table, Mapping) or not all(map(_is_entry, table.items())):
        raise UsageError(f"{point.value}: kernels are a mapping, (suite, workload) -> {{implementation: builder}}")
    return table


def _is_entry(entry: tuple[Any, Any]) -> bool:
    """Whether a key is two texts, and its value a mapping of callables."""
    key, builders = entry
    is_pair = isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) for part in key)
    return is_pair and isinstance(builders, Mapping) and all(map(callable, builders.values()))
