"""`bench-core list`: show the cases that a run would measure, without measuring them.

Exit codes: 0; 2 for an invalid option or a benchmark file that cannot be collected.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import pytest
import typer
from rich.console import Console
from rich.table import Table

from bench_core import child_process
from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.cli.common import columns
from bench_core.errors import UsageError
from bench_core.pytest_plugin import planned
from bench_core.records import Case, Work
from bench_core.run import replicate
from bench_core.text import printable
from bench_core.units import size_order

_LONGEST_NAMES = 24  # characters of the workloads that share a line
_GAP = 2  # columns of the terminal between two columns of the table


@app.command("list", context_settings=PYTEST_OPTIONS)
def list_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_OPTION", help="For example: -k matmul --bench-preset=full"),
    ] = None,
    *,
    ids: Annotated[bool, typer.Option("--ids", help="Print only the pytest id of each case, one per line.")] = False,
) -> None:
    """Show the planned cases, and why others cannot be measured.

    A line shows the sizes and dtypes of one or more workloads, and their number of cases on each backend and device.
    Workloads with equal cases share a line.
    """
    collected = _Collected()
    said = io.StringIO()
    quiet = ("--collect-only", "-qq", "-p", "no:cacheprovider")
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([*child_process.MEASURING, *quiet, *(arguments or [])], plugins=[collected])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise UsageError(replicate.last_error(said.getvalue()))
    if not collected.items:
        raise UsageError("no benchmark matches; to see those of bench-core: bench-core list --bench-suite=always")
    console = Console(highlight=False, width=columns())
    if ids:
        console.print("\n".join(item.nodeid for item in collected.items), markup=False, soft_wrap=True)
        return
    found = [(item, *plan) for item in collected.items if (plan := planned(item))]
    entries = _entries([(item, case) for item, case, absent in found if absent is None])
    if entries:
        console.print(_table(entries, console.width))
        console.print()
    skipped = Counter((case.backend, case.device, absent) for _, case, absent in found if absent)
    console.print(f"{_cases(len(found) - skipped.total())} to measure, {skipped.total():,} to skip; --ids names each")
    for (backend, device, absent), count in skipped.items():
        line = f"skipped: {backend} {device}, {_cases(count)}: {printable(absent.reason)}"
        console.print(line, markup=False, soft_wrap=True, style="dim")


class _Collected:
    """A pytest plugin that stores the collected items."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


@dataclass(frozen=True, slots=True)
class _Entry:
    """The cases of a workload, or of several of one suite that have the same: a line of the table."""

    suite: str
    workloads: tuple[str, ...]
    sizes: tuple[str, ...]
    dtypes: tuple[str, ...]
    counts: Mapping[tuple[str, str], int]  # of each workload, by backend and device

    def count(self, device: tuple[str, str]) -> int:
        """Return the number of cases of all workloads on a backend and device."""
        return len(self.workloads) * self.counts.get(device, 0)

    @property
    def names(self) -> str:
        return ", ".join(self.workloads)

    def joined(self, other: _Entry) -> _Entry | None:
        """Return the entry of both, None if their cases differ or their names are too long for a line."""
        both = replace(self, workloads=self.workloads + other.workloads)
        is_equal = replace(self, workloads=()) == replace(other, workloads=())
        return both if is_equal and len(both.names) <= _LONGEST_NAMES else None


def _entries(found: Iterable[tuple[pytest.Item, Case]]) -> list[_Entry]:
    """Return the lines of the table, suites in the order of reports."""
    by_workload: dict[tuple[str, str], list[Case]] = {}
    orders: dict[str, int] = {}
    for item, case in found:
        by_workload.setdefault((case.work.suite, case.work.workload), []).append(case)
        if mark := item.get_closest_marker("workload"):
            order = mark.args[0].traits.order
            orders[case.work.suite] = min(order, orders.get(case.work.suite, order))
    # Stable: the works of a suite stay in the order of their files.
    ordered = sorted(by_workload.items(), key=lambda group: (orders.get(group[0][0], 0), group[0][0]))
    entries: list[_Entry] = []
    for (suite, workload), cases in ordered:
        entry = _Entry(
            suite,
            (workload,),
            tuple(sorted({case.work.size for case in cases}, key=size_order)),
            tuple(dict.fromkeys(_arithmetic(case.work) for case in cases)),
            Counter((case.backend, case.device) for case in cases),
        )
        joined = entries[-1].joined(entry) if entries else None
        entries = [*entries[:-1], joined] if joined else [*entries, entry]
    return entries


def _arithmetic(work: Work) -> str:
    return work.dtype if work.precision == "ieee" else f"{work.dtype} {work.precision}"


def _table(entries: Sequence[_Entry], width: int) -> Table:
    """Return the table in `width` columns. Sizes and dtypes of a line that do not fit are counted instead."""
    devices = list(dict.fromkeys(device for entry in entries for device in entry.counts))
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    headers = ["suite", "workload", "sizes", "dtypes", *(f"{backend}\n{device}" for backend, device in devices)]
    suites, names = ["suite", *(e.suite for e in entries)], ["workload", *(e.names for e in entries)]
    taken = sum(max(map(len, texts)) for texts in (suites, names, *devices)) + _GAP * (len(headers) - 1)
    sizes, dtypes = _widths(entries, width - taken)
    limits = (None, None, max(sizes, _GAP), max(dtypes, _GAP), *(None for _ in devices))
    for i, (header, limit) in enumerate(zip(headers, limits, strict=True)):
        table.add_column(header, justify="left" if i < 4 else "right", no_wrap=True, max_width=limit)
    above = ""
    for entry in entries:
        counts = [f"{n:,}" if (n := entry.count(device)) else "" for device in devices]
        suite, above = entry.suite if entry.suite != above else "", entry.suite
        table.add_row(suite, entry.names, _fitted(entry.sizes, sizes), _fitted(entry.dtypes, dtypes), *counts)
    totals = [f"{sum(entry.count(device) for entry in entries):,}" for device in devices]
    table.add_row("total", "", "", "", *totals, style="bold")
    return table


def _widths(entries: Sequence[_Entry], rest: int) -> tuple[int, int]:
    """Return the widths of sizes and dtypes in `rest` columns.

    Dtypes get what sizes leave, at least a third and their shortest form, if that is not above half.
    """
    sizes, dtypes = (max(len(", ".join(getattr(e, name))) for e in entries) for name in ("sizes", "dtypes"))
    least = max(len(_shortest(entry.dtypes)) for entry in entries)
    of_dtypes = min(dtypes, max(rest - sizes, rest // 3, min(least, rest // 2)))
    return rest - of_dtypes, of_dtypes


def _shortest(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} +{len(texts) - 1}"


def _fitted(texts: Sequence[str], width: int) -> str:
    """Return texts in at most `width` columns: all, or "first ... last (4)", or "first +3", which rich may cut off."""
    ends = f"{texts[0]} ... {texts[-1]} ({len(texts)})"
    return next((form for form in (", ".join(texts), ends) if len(form) <= width), _shortest(texts))


def _cases(count: int) -> str:
    return f"{count:,} case{'s' * (count != 1)}"
