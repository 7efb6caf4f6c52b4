"""`bench-core compare`: what may be said of results from different machines, backends or versions.

Exit codes: 0 compared; 1 a gate of --fail-on is breached; 2 usage; 3 a file cannot be read, or nothing
could be compared; 4 a condition of --require-same differs.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.compare import Options, Reading, Result, compare, read
from bench_core.compare.options import share, words
from bench_core.errors import UsageError
from bench_core.table import write_atomically

_PIPE_WIDTH = 100


class Format(StrEnum):
    """How a comparison is written."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


_SUFFIXES = {".md": Format.MD, ".csv": Format.CSV, ".json": Format.JSON, ".html": Format.HTML, ".txt": Format.TABLE}


_Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="[LABEL=]PATH...",
        help="Runs, folders of runs, patterns or lone CSV files. A LABEL replaces the name of the machine; "
        "several runs under one label are replicates.",
    ),
]
_Baseline = Annotated[
    str, typer.Option(metavar="SIDE|best-cpu", help="What the others are compared with; by default the first side.")
]
_Row = Annotated[str, typer.Option(help="Fields that label a row; those needed to tell two rows apart are added.")]
_Col = Annotated[
    str,
    typer.Option(
        help="Fields whose values are the sides: machine, backend, implementation, device, threads. "
        "By default machine; backend where there is only one machine."
    ),
]
_Metric = Annotated[str, typer.Option(help="Which quantities, separated by commas.")]
_Filter = Annotated[
    str, typer.Option("--filter", help="Which rows: workload == 'matmul' and dtype in ('float32', 'float16')")
]
_MinEffect = Annotated[str, typer.Option(help="The smallest change of interest.")]
_Confidence = Annotated[float, typer.Option(help="Of intervals and tests.")]
_RequireSame = Annotated[str, typer.Option(help="Conditions that must not differ, for instance: driver,threads")]
_FailOn = Annotated[str, typer.Option(help="Exit with 1 on any of: regression, missing, invalid.")]
_Threshold = Annotated[str, typer.Option(help="The slowdown that is a regression.")]
_Format = Annotated[Format | None, typer.Option("--format", help="By default as the file of -o is named, else table.")]
_Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file, not to the terminal.")]


@app.command("compare")
def compare_command(  # noqa: PLR0913 - one parameter an option
    paths: _Paths,
    *,
    baseline: _Baseline = "",
    row: _Row = "workload,size,dtype",
    col: _Col = "",
    metric: _Metric = "time",
    where: _Filter = "",
    min_effect: _MinEffect = "5%",
    confidence: _Confidence = 0.95,
    require_same: _RequireSame = "",
    fail_on: _FailOn = "",
    threshold: _Threshold = "10%",
    format_: _Format = None,
    output: _Output = None,
) -> None:
    """Compare result tables: ratios with intervals, verdicts with reasons."""
    with _without_collector():
        readings = read(paths)
    options = Options(
        baseline=baseline,
        rows=words(row),
        columns=words(col) or (_sides(readings),),
        metrics=words(metric),
        where=where,
        min_effect=share("--min-effect", min_effect),
        confidence=confidence,
        require_same=words(require_same),
        fail_on=words(fail_on),
        threshold=share("--threshold", threshold),
    )
    chosen = format_ or (_SUFFIXES.get(output.suffix.lower()) if output else None) or Format.TABLE
    with _without_collector():
        result = compare(readings, options)
        text = _page(readings) if chosen is Format.HTML else _text(result, chosen, to_file=output is not None)
    if output:
        _write(output, text)
    else:
        typer.echo(text, nl=not text.endswith("\n"), color=True)
    if output or chosen is not Format.TABLE:
        for breach in result.breaches:
            typer.echo(f"bench-core: FAILED {breach}", err=True)
    if result.breaches:
        raise typer.Exit(1)


def _sides(readings: Sequence[Reading]) -> str:
    """Return what to set side by side where nobody says: machines, or the backends of the only one."""
    rows = [row for reading in readings for row in reading.rows]
    one_machine, backends = len({row.machine for row in rows}) == 1, {row.backend for row in rows}
    return "backend" if one_machine and len(backends) > 1 else "machine"


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Leave the cycle collector off: everything made here is kept to the end, and looking through it costs a third."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _page(readings: Sequence[Reading]) -> str:
    from bench_core.report import require_extra  # noqa: PLC0415 - charts are for those who ask for a page

    require_extra()
    from bench_core.report.page import render  # noqa: PLC0415 - an extra

    return render(readings)


def _text(result: Result, chosen: Format, *, to_file: bool) -> str:
    from bench_core import render  # noqa: PLC0415 - rich is for those who look

    if chosen is not Format.TABLE:
        return {Format.MD: render.markdown, Format.CSV: render.as_csv, Format.JSON: render.as_json}[chosen](result)
    terminal = sys.stdout.isatty() and not to_file
    columns = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    return render.text(result, columns, colour=terminal and not os.environ.get("NO_COLOR"))


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UsageError(f"--output {path}: cannot be written: {error.strerror}") from None
