"""`bench-core list`: show the cases that a run would measure, without measuring them.

Exit codes: 0; 2 for an invalid option or a benchmark file that cannot be collected.
"""

from __future__ import annotations

import contextlib
import io
from typing import Annotated

import pytest
import typer
from rich.console import Console
from rich.table import Table

from bench_core import child_process
from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.errors import UsageError
from bench_core.plan.targets import Absent
from bench_core.pytest_plugin import planned
from bench_core.run import replicate


@app.command("list", context_settings=PYTEST_OPTIONS)
def list_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_OPTION", help="For example: -k matmul --bench-preset=full"),
    ] = None,
    *,
    ids: Annotated[bool, typer.Option("--ids", help="Print only pytest ids, one per line.")] = False,
) -> None:
    """Show the planned cases, and why others cannot be measured.

    Each line shows the number of cases of a workload on one backend and device.
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
    console = Console(highlight=False, soft_wrap=ids)
    if ids:
        console.print("\n".join(item.nodeid for item in collected.items), markup=False)
        return
    console.print(_table(collected.items))


class _Collected:
    """A pytest plugin that stores the collected items."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


def _table(items: list[pytest.Item]) -> Table:
    groups: dict[tuple[str, str, str, str], list[tuple[str, Absent | None]]] = {}
    for item in items:
        if plan := planned(item):
            case, absent = plan
            # An absent device is absent for all workloads, so it gets one line.
            suite, workload = ("all", "") if absent else (case.work.suite, case.work.workload)
            key = (suite, workload, case.backend, case.device)
            groups.setdefault(key, []).append((case.implementation, absent))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("suite", "workload", "backend", "device"):
        table.add_column(column, no_wrap=True)
    table.add_column("cases", justify="right")
    table.add_column("implementations, or reason", overflow="fold")
    for key, cases in groups.items():
        absent = cases[0][1]
        about = absent.reason if absent else ", ".join(dict.fromkeys(name for name, _ in cases))
        table.add_row(*key, str(len(cases)), about, style="dim" if absent else "")
    total = sum(len(cases) for cases in groups.values())
    table.add_row("", "", "", "[bold]total", f"[bold]{total}", "")
    return table
