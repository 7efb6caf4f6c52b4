"""`bench-core compare`: what may be said of results from different machines, backends or versions.

Exit codes: 0 compared; 1 a gate of --fail-on is breached; 2 usage; 3 a file cannot be read, or nothing
could be compared; 4 a condition of --require-same differs.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench_core import render
from bench_core.cli import app
from bench_core.cli.common import Filter, Paths, write
from bench_core.compare import CompareOptions, Reading, Result, compare, read
from bench_core.compare.options import share, words
from bench_core.errors import UsageError
from bench_core.garbage import collection_off
from bench_core.results.metrics import METRICS
from bench_core.text import quoted

_PIPE_WIDTH = 100


_FORMATS = ("table", "md", "csv", "json")
_PAGES = ("html", "htm")

_Baseline = Annotated[
    str, typer.Option(metavar="SIDE|best-cpu", help="What the others are compared with; by default the first side.")
]
_Row = Annotated[str, typer.Option(help="Fields that label a row; those needed to tell two rows apart are added.")]
_Col = Annotated[
    str,
    typer.Option(
        help="Fields whose values are the sides: machine, backend, implementation, device, threads. "
        "By default machine; backend and device where there is only one machine."
    ),
]
_Metric = Annotated[str, typer.Option(help="Which quantities, separated by commas.")]
_MinEffect = Annotated[str, typer.Option(help="The smallest change of interest: 5% or 0.05.")]
_Confidence = Annotated[float, typer.Option(help="Confidence level of intervals and tests.")]
_RequireSame = Annotated[str | None, typer.Option(help="Conditions that must not differ, for instance: driver,threads")]
_FailOn = Annotated[str | None, typer.Option(help="Exit with 1 on any of: regression, missing, invalid.")]
_Threshold = Annotated[str, typer.Option(help="The slowdown that is a regression; not below --min-effect.")]
_Format = Annotated[
    str, typer.Option("--format", metavar="|".join(_FORMATS), help="By default as the file of -o is named, else table.")
]
_Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file, not to the terminal.")]


@app.command("compare")
def compare_command(  # noqa: PLR0913 - one parameter an option
    paths: Paths,
    *,
    baseline: _Baseline = "",
    row: _Row = "workload,size,dtype",
    col: _Col = "",
    metric: _Metric = "time",
    where: Filter = "",
    min_effect: _MinEffect = "5%",
    confidence: _Confidence = 0.95,
    require_same: _RequireSame = None,
    fail_on: _FailOn = None,
    threshold: _Threshold = "10%",
    format_: _Format = "",
    output: _Output = None,
) -> None:
    """Compare results: ratios with intervals, verdicts and reasons."""
    chosen = _format(format_, output)
    # Everything made below is kept: scanning it for cycles costs a third of the run time.
    with collection_off():
        readings = read(paths)
    options = CompareOptions(
        baseline=baseline,
        rows=words(row),
        columns=words(col) or sides(readings),
        metrics=_comparable(words(metric)),
        where=where,
        min_effect=share("--min-effect", min_effect),
        confidence=confidence,
        require_same=_named("--require-same", require_same),
        fail_on=_named("--fail-on", fail_on),
        threshold=share("--threshold", threshold),
    )
    with collection_off():
        result = compare(readings, options)
        text = _text(result, chosen, to_file=output is not None)
    if output:
        write(output, text)
    else:
        typer.echo(text, nl=not text.endswith("\n"), color=True)
    if output or chosen != "table":
        for breach in result.breaches:
            typer.echo(f"bench-core: FAILED {breach}", err=True)
    if result.breaches:
        raise typer.Exit(1)


def _comparable(metrics: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics; raises UsageError for one whose ratios mean nothing: its scale has no zero of its own."""
    for name in metrics:
        if name in METRICS and METRICS[name].unit == "degC":
            raise UsageError(f"--metric: {name} is evidence, not work: a ratio of temperatures means nothing")
    return metrics


def _named(option: str, text: str | None) -> tuple[str, ...]:
    """Return the words of a gate's option; raises UsageError for none: an unset variable must not open the gate."""
    if text is not None and not words(text):
        raise UsageError(f"{option}: names nothing; leave it out, or say what to hold against the comparison")
    return words(text or "")


def sides(readings: Sequence[Reading]) -> tuple[str, ...]:
    """Return what to set side by side where nobody says: machines, or the backends and devices of the only one."""
    rows = [row for reading in readings for row in reading.rows]
    if len({row.machine for row in rows}) != 1:
        return ("machine",)
    valued = [row for row in rows if row.value is not None]
    fields = tuple(name for name in ("backend", "device") if len({getattr(row, name) for row in valued}) > 1)
    return fields or ("machine",)


def _format(named: str, output: Path | None) -> str:
    """Return how to write: as named, or as the name of the file ends, or as a table; raises UsageError."""
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    if (named or suffix) in _PAGES:
        raise UsageError("compare writes no HTML; for a page with charts: bench-core report PATH... -o report.html")
    if named and named not in _FORMATS:
        raise UsageError(f"--format: no {quoted(named)}; there are: {', '.join(_FORMATS)}")
    if not named and suffix not in {"", "txt", *_FORMATS}:
        raise UsageError(f"--output {output}: name it .md, .csv, .json or .txt, or give --format")
    return named or (suffix if suffix in _FORMATS else "table")


def _text(result: Result, chosen: str, *, to_file: bool) -> str:
    if chosen != "table":
        return {"md": render.markdown, "csv": render.as_csv, "json": render.as_json}[chosen](result)
    terminal = sys.stdout.isatty() and not to_file
    columns = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    return render.text(result, columns, colour=terminal and not os.environ.get("NO_COLOR"))
