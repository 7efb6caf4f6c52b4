"""What a measuring session shows besides pytest's own lines: its progress, and pytest-benchmark's tables if they fit.

    benchmarks/bench_matmul.py ......s.
    ━━━━━━━━━─────── 12/40, 3 min left  measure  matmul torch-cpu-float32-1024

The second line is erased before pytest writes again. It changes only when a phase begins, not with the time: nothing
may run beside a measurement. Without a terminal there is a plain line now and then.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import pytest
from rich.console import Console

from bench_core.records import Case, Measurement
from bench_core.run.progress import Progress
from bench_core.timing.case import OnPhase, ignore_phase

# The line below the cursor: go down and up again, which scrolls on the last row of the terminal and keeps the column;
# save the cursor; then write and restore it. pytest continues as if nothing had been written.
_SHOW = "\x1bD\x1b[A\x1b7\r\n\x1b[K{}\x1b8"
_ERASE = "\x1b7\r\n\x1b[K\x1b8"
_NARROWEST = 40  # columns
_PAUSE, _LONGEST_PAUSE, _STEP = 30.0, 300.0, 0.1  # seconds; share of the run

WIDEST = 100  # columns of pytest-benchmark's tables
SCREENFUL = 40  # lines of these tables
# Shown are the first of these that fit. The median is the value in our tables.
_COLUMNS = (
    ("min", "median", "iqr", "outliers", "rounds"),
    ("min", "median", "iqr", "rounds"),
    ("median", "iqr", "rounds"),
    ("median", "rounds"),
    ("median",),
)
# Options of pytest-benchmark that shape the tables or need them. Whoever gives one wants to see them.
_SHAPES = ("columns", "sort", "group-by", "name", "time-unit", "verbose")
_NEEDS = ("compare", "compare-fail", "histogram", "cprofile")


class Display:
    """The progress of one session on pytest's terminal."""

    def __init__(self, config: pytest.Config, progress: Progress) -> None:
        self.progress = progress
        self._reporter = config.pluginmanager.getplugin("terminalreporter")
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._live = self._reporter is not None and _is_live(self._reporter)
        self._is_shown = False
        self._said_at, self._said_done = monotonic(), 0

    def during(self, case: Case, measure: Callable[[OnPhase], Measurement]) -> Measurement:
        """Return what `measure` returns for a case, and show its phases meanwhile if the output is a terminal."""
        self.progress.begin(case)
        try:
            done = measure(self._show if self._live else ignore_phase)
        finally:
            self._erase()
        self.progress.end(done)
        return done

    def _show(self, phase: str) -> None:
        self._is_shown = True
        with self._uncaptured():
            self._write(_SHOW.format(self._line(phase)))

    def _line(self, phase: str) -> str:
        width = self._reporter._tw.fullwidth - 1
        file = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding)  # rich draws with the characters it has
        console = Console(
            file=file, width=width, force_terminal=True, color_system="standard" if self._reporter.hasmarkup else None
        )
        return self.progress.line(phase, width, console)

    def _erase(self) -> None:
        if self._is_shown:
            self._is_shown = False
            with self._uncaptured():
                self._write(_ERASE)

    def _uncaptured(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which stdout is the terminal, whose width is then known as well."""
        return self._capture.global_and_fixture_disabled() if self._capture else contextlib.nullcontext()

    def _write(self, text: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()

    def between_cases(self) -> None:
        """Write a plain line where there is no live one: at each tenth of the run, but not within 30 s of the last."""
        if self._live or self._reporter is None or self._reporter.verbosity < 0:
            return
        progress, since = self.progress, monotonic() - self._said_at
        is_far = progress.done - self._said_done >= _STEP * progress.total or since >= _LONGEST_PAUSE
        if since >= _PAUSE and is_far and progress.done < progress.total:
            self._reporter.ensure_newline()
            self._reporter.write(f"bench-core: {progress.text}")  # pytest begins the next line itself
            self._said_at, self._said_done = monotonic(), progress.done


def _is_live(reporter: Any) -> bool:
    """Whether the output is a terminal that moves the cursor as it is told. Logs of CI may call themselves one."""
    capable = reporter.isatty and "CI" not in os.environ and os.environ.get("TERM") != "dumb"
    return capable and reporter._tw.fullwidth >= _NARROWEST


def fit_tables(config: pytest.Config) -> None:
    """Make pytest-benchmark show tables that fit the screen, or else one line, unless its options ask for them.

    Call this in sessions that measure workloads only. What pytest-benchmark saves and compares stays as it is.
    """
    from pytest_benchmark.utils import NAME_FORMATTERS  # noqa: PLC0415 - a session may do without it

    benchmarks = config.pluginmanager.getplugin("pytest-benchmark")
    if benchmarks is None or benchmarks.quiet:
        return
    given = {name for name in (*_SHAPES, *_NEEDS) if _is_given(config, f"--benchmark-{name}")}
    if "columns" in given:
        return
    if "sort" not in given:
        benchmarks.sort = "median"
    if "name" not in given:
        benchmarks.name_format = NAME_FORMATTERS["short"]
    shown = benchmarks.display

    def display(terminal: Any) -> None:
        lines = sum(len(group) + _AROUND for _, group in benchmarks.groups or ())
        if lines > SCREENFUL and not given:
            benchmarks.quiet = True
            rows = sum(len(group) for _, group in benchmarks.groups)
            about = f"{rows} rows in {len(benchmarks.groups)} tables are left out"
            terminal.write_line(f"pytest-benchmark: {about} (--benchmark-sort=name shows them)")
        elif benchmarks.groups:
            width = min(WIDEST, terminal._tw.fullwidth) if terminal.isatty else WIDEST
            benchmarks.columns = next((c for c in _COLUMNS if _width(benchmarks, c) <= width), _COLUMNS[-1])
        shown(_WithoutLegend(terminal))

    benchmarks.display = display


_AROUND = 5  # lines of a table besides its rows: title, header, two rules, an empty line


def _is_given(config: pytest.Config, option: str) -> bool:
    """Whether an option of another plugin is on the command line, in PYTEST_ADDOPTS or in addopts of the ini file."""
    addopts = config.getini("addopts")
    words = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *addopts, *config.invocation_params.args]
    return any(str(word).partition("=")[0] == option for word in words)


def _width(benchmarks: Any, columns: Sequence[str]) -> int:
    """Return the width of pytest-benchmark's tables with these columns: that of what it writes to a trial terminal."""
    trial = copy.copy(benchmarks)
    trial.__dict__.pop("display", None)
    trial.columns, trial.histogram, trial.compare_fail, trial.performance_regressions = columns, None, None, []
    # Showing a table changes its names.
    trial.groups = [
        (name, [{k: v for k, v in b.items() if k != "cprofile"} for b in g]) for name, g in benchmarks.groups
    ]
    paper = _Paper()
    trial.display(_WithoutLegend(paper))
    return max(map(len, paper.text.getvalue().splitlines()), default=0)


class _Paper:
    """A terminal on which pytest-benchmark writes a trial."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    def write(self, text: str, **_: Any) -> None:
        self.text.write(text)

    def write_line(self, text: str, **_: Any) -> None:
        self.text.write(f"{text}\n")

    def ensure_newline(self) -> None:
        """Do nothing: it begins on a new line."""


class _WithoutLegend:
    """A terminal without the legend of pytest-benchmark's tables: it is wide, and of columns that are not shown."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal
        self._in_legend = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)

    def write_line(self, text: str, **markup: Any) -> None:
        self._in_legend = text == "Legend:" or (self._in_legend and text.startswith("  "))
        if not self._in_legend:
            self._terminal.write_line(text, **markup)
