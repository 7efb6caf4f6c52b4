"""`bench-core list`: show the cases that a run would measure, without measuring them.

Exit codes: 0; 2 for an invalid option or a benchmark file that cannot be collected.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.cli.common import columns, has_temporary_folder
from bench_core.errors import UsageError
from bench_core.text import harmless, printable
from bench_core.units import counted, size_order

if TYPE_CHECKING:
    import pytest
    from rich.table import Table

    from bench_core.records import Case, Work

_LONGEST_NAMES = 24  # characters of the workloads that share a line
_LONGEST_BELOW_SUITE = 18  # the same where the terminal is too narrow for a column of suites
_INDENT = "  "  # of workloads below the name of their suite
_GAP, _NARROW_GAP = 2, 1  # columns of the terminal between two columns of the table, with suites and without


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
    import pytest
    from rich.console import Console

    from bench_core import child_process
    from bench_core.pytest_plugin import planned
    from bench_core.run import replicate

    collected = _Collected()
    said = io.StringIO()
    quiet = ("--collect-only", "-qq", "-p", "no:cacheprovider", "-p", "no:randomly")  # a plan has one order
    sys.path.append(str(Path.cwd()))  # as child_main.py does for a run
    capture = () if has_temporary_folder() else ("--capture=sys",)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([*child_process.MEASURING, *quiet, *capture, *(arguments or [])], plugins=[collected])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise UsageError(replicate.last_error(said.getvalue()))
    if not collected.items and (others := _only_on_several(collected)):
        raise UsageError(others)
    if not collected.items:
        raise UsageError("no benchmark matches; to see those of bench-core: bench-core list --bench-suite=always")
    console = Console(highlight=False, width=columns())
    if ids:
        console.print("\n".join(harmless(item.nodeid) for item in collected.items), markup=False, soft_wrap=True)
        return
    found = [(item, *plan) for item in collected.items if (plan := planned(item))]
    if cases := [(item, case) for item, case, absent in found if absent is None]:
        console.print(_plan(cases, console.width))
        console.print()
    skipped = Counter((case.backend, case.device, absent) for _, case, absent in found if absent)
    tried = counted(len(found) - skipped.total(), "case")
    console.print(f"{tried} to measure, {skipped.total():,} to skip; --ids names each")
    for (backend, device, absent), count in skipped.items():
        line = f"skipped: {backend} {device}, {counted(count, 'case')}: {printable(absent.reason)}"
        console.print(line, markup=False, soft_wrap=True, style="dim")
    if others := _only_on_several(collected):
        console.print(others, markup=False, style="dim")


def _only_on_several(collected: _Collected) -> str:
    """Return a line about the suites with workloads that have no case because no target has several devices; or ""."""
    suites = sorted({suite for suite, _ in collected.across - {_named(item) for item in collected.items}})
    return f"only on several devices (--bench-backends=torch:cuda:x8): {', '.join(suites)}" if suites else ""


def _named(item: pytest.Item) -> tuple[str, str]:
    """Return the suite and the name of the workload of an item."""
    mark = item.get_closest_marker("workload")
    return (mark.args[0].suite, mark.args[0].name) if mark else ("", "")


class _Collected:
    """A pytest plugin that stores the collected items.

    across: the workloads for several devices that were not deselected, also those that have no case.
    """

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.across: set[tuple[str, str]] = set()

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        mark = item.get_closest_marker("workload")
        if mark and mark.args[0].across_ranks:
            self.across.add(_named(item))

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            self.across.discard(_named(item))

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

    def joined(self, other: _Entry, longest: int) -> _Entry | None:
        """Return the entry of both, None if their cases differ or their names have more characters than `longest`."""
        both = replace(self, workloads=self.workloads + other.workloads)
        is_equal = replace(self, workloads=()) == replace(other, workloads=())
        return both if is_equal and len(both.names) <= longest else None


def _entries(found: Iterable[tuple[pytest.Item, Case]], longest: int) -> list[_Entry]:
    """Return the lines of the table, suites in the order of reports. longest: the characters of names on one line."""
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
        joined = entries[-1].joined(entry, longest) if entries else None
        entries = [*entries[:-1], joined] if joined else [*entries, entry]
    return entries


def _arithmetic(work: Work) -> str:
    return work.dtype if work.precision == "ieee" else f"{work.dtype} {work.precision}"


def _plan(cases: Sequence[tuple[pytest.Item, Case]], width: int) -> Table:
    """Return the table of cases in `width` columns; suites have a column of it where every line can name a size."""
    entries = _entries(cases, _LONGEST_NAMES)
    if sum(map(_least, _columns(entries))) <= _rest(entries, width, suites=True):
        return _table(entries, width, suites=True)
    return _table(_entries(cases, _LONGEST_BELOW_SUITE), width, suites=False)


def _table(entries: Sequence[_Entry], width: int, *, suites: bool) -> Table:
    """Return the table in `width` columns. Sizes and dtypes of a line that do not fit are counted instead.

    suites: give the suites a column; otherwise the name of each is a line above its workloads.
    """
    from rich.table import Table

    devices = _devices(entries)
    table = Table(box=None, pad_edge=False, padding=(0, _gap(suites=suites), 0, 0), header_style="bold")
    named = ["suite", "workload"] if suites else ["workload"]
    for header in (*named, "sizes", "dtypes"):
        table.add_column(header, no_wrap=True)
    for backend, device in devices:
        table.add_column(f"{backend}\n{device}", justify="right", no_wrap=True)
    sizes, dtypes = _widths(entries, _rest(entries, width, suites=suites))
    above = ""
    for entry in entries:
        counts = [f"{n:,}" if (n := entry.count(device)) else "" for device in devices]
        suite, above = entry.suite if entry.suite != above else "", entry.suite
        if suite and not suites:
            table.add_row(suite, style="bold")
        plan = _fitted(entry.sizes, sizes, "size"), _fitted(entry.dtypes, dtypes, "dtype")
        table.add_row(*([suite, entry.names] if suites else [_INDENT + entry.names]), *plan, *counts)
    totals = [f"{sum(entry.count(device) for entry in entries):,}" for device in devices]
    table.add_row("total", *[""] * (len(named) + 1), *totals, style="bold")
    return table


def _gap(*, suites: bool) -> int:
    return _GAP if suites else _NARROW_GAP


def _devices(entries: Iterable[_Entry]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(device for entry in entries for device in entry.counts))


def _columns(entries: Sequence[_Entry]) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """Return the sizes and the dtypes of each line."""
    return [entry.sizes for entry in entries], [entry.dtypes for entry in entries]


def _rest(entries: Sequence[_Entry], width: int, *, suites: bool) -> int:
    """Return how many of `width` columns are left for sizes and dtypes."""
    suite, names = ["suite", *(entry.suite for entry in entries)], ["workload", *(entry.names for entry in entries)]
    others = [*([suite, names] if suites else [[_INDENT + name for name in names]]), *_devices(entries)]
    return width - sum(max(map(len, texts)) for texts in others) - _gap(suites=suites) * (len(others) + 1)


def _widths(entries: Sequence[_Entry], rest: int) -> tuple[int, int]:
    """Return the widths of sizes and dtypes in `rest` columns: dtypes get what sizes leave, at least their shortest."""
    sizes, dtypes = (max(len(", ".join(texts)) for texts in column) for column in _columns(entries))
    least = _least(_columns(entries)[1])
    of_dtypes = min(dtypes, max(rest - sizes, min(least, rest // 2)))
    return rest - of_dtypes, of_dtypes


def _least(column: Iterable[Sequence[str]]) -> int:
    """Return the columns in which every cell can name its first text."""
    return max(len(_shortest(texts)) for texts in column)


def _shortest(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} +{len(texts) - 1}"


def _fitted(texts: Sequence[str], width: int, noun: str) -> str:
    """Return texts in at most `width` columns: all, or "first ... last (4)", or "first +3", or "4 sizes"."""
    ends = f"{texts[0]} ... {texts[-1]} ({len(texts)})"
    forms = (", ".join(texts), ends, _shortest(texts))
    return next((form for form in forms if len(form) <= width), counted(len(texts), noun))
