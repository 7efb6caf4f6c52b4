"""`bench-core compare`: compare results from different machines, backends or versions.

Exit codes: 0 compared; 1 a gate of --fail-on is breached; 2 usage; 3 a file cannot be read, or nothing
could be compared; 4 a condition of --require-same differs; 5 no case supports a claim, so that the gate "regression"
neither passes nor fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import Filter, Paths, chosen, columns, has_colour, say, write
from bench_core.errors import UsageError
from bench_core.garbage import collection_off

if TYPE_CHECKING:
    from bench_core.compare import Reading, Result

_UNDECIDED = 5  # exit code

_FORMATS = ("table", "md", "github", "csv", "json")
_EXTENSIONS = ("md", "csv", "json")
_PAGES = ("html", "htm")

_Baseline = Annotated[
    str, typer.Option(metavar="SIDE|best-cpu", help="Compare the other sides with this one. Default: the first side.")
]
_Row = Annotated[str, typer.Option(help="Fields that label a row; fields needed to distinguish rows are added.")]
_Col = Annotated[
    str,
    typer.Option(
        help="Fields whose values are the sides: machine, backend, implementation, device, threads. "
        "Default: machine; with only one machine, backend and device."
    ),
]
_Metric = Annotated[str, typer.Option(help="Metrics to compare, separated by commas.")]
_MinEffect = Annotated[str, typer.Option(help="The smallest change of interest: 5% or 0.05.")]
_Confidence = Annotated[float, typer.Option(help="Confidence level of intervals and tests.")]
_RequireSame = Annotated[str | None, typer.Option(help="Conditions that must not differ, for example: driver,threads")]
_FailOn = Annotated[str | None, typer.Option(help="Exit with 1 if there is any of: regression, missing, invalid.")]
_Threshold = Annotated[str, typer.Option(help="The smallest slowdown that is a regression; at least --min-effect.")]
_Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="|".join(_FORMATS),
        help="github: Markdown for a comment, folded. Default: from the extension of --output, else table.",
    ),
]
_Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file instead of the terminal.")]


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
    from bench_core.compare import CompareOptions, compare, read
    from bench_core.compare.options import share, words

    chosen = _format(format_, output)
    # All objects created below are kept, so garbage collection finds nothing and costs a third of the run time.
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
        result = compare(readings, options)
        text = _text(result, chosen, to_file=output is not None)
    if output:
        write(output, text, readings)
    else:
        typer.echo(text, nl=not text.endswith("\n"), color=True)
    if output or chosen != "table":
        for breach in result.breaches:
            say(f"bench-core: FAILED {breach}", err=True)
        if result.undecided:
            say(f"bench-core: UNDECIDED {result.undecided}", err=True)
    if result.breaches:
        raise typer.Exit(1)
    if result.undecided:
        raise typer.Exit(_UNDECIDED)


def _comparable(metrics: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics. Raises UsageError for a temperature: ratios of temperatures are meaningless."""
    from bench_core.results.metrics import METRICS

    for name in metrics:
        if name in METRICS and METRICS[name].unit == "degC":
            raise UsageError(f"--metric: {name} cannot be compared: ratios of temperatures are meaningless")
    return metrics


def _named(option: str, text: str | None) -> tuple[str, ...]:
    """Return the words of an option. Raises UsageError for an empty value, which must not disable the check."""
    from bench_core.compare.options import words

    if text is not None and not words(text):
        raise UsageError(f"{option}: the value is empty; leave the option out, or name what to check")
    return words(text or "")


def sides(readings: Sequence[Reading]) -> tuple[str, ...]:
    """Return the default of --col: machine, or for a single machine those of backend and device that vary."""
    import numpy as np  # the help of a command needs none

    tables = [reading.rows for reading in readings]
    if len({machine for table in tables for machine in table.distinct("machine")}) != 1:
        return ("machine",)
    valued = [table.only(~np.isnan(table.numbers("value"))) for table in tables]
    fields = (name for name in ("backend", "device") if len({v for rows in valued for v in rows.distinct(name)}) > 1)
    return tuple(fields) or ("machine",)


def _format(named: str, output: Path | None) -> str:
    """Return the format: `named`, else from the extension of `output`, else "table".

    Raises UsageError for HTML and for unknown formats and extensions.
    """
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    if (named or suffix) in _PAGES:
        raise UsageError("compare writes no HTML; for a page with charts: bench-core report PATH... -o report.html")
    if named:
        return chosen("--format", named, _FORMATS)
    if suffix not in {"", "txt", *_EXTENSIONS}:
        raise UsageError(f"--output {output}: name it .md, .csv, .json or .txt, or give --format")
    return suffix if suffix in _EXTENSIONS else "table"


def _text(result: Result, chosen: str, *, to_file: bool) -> str:
    from bench_core import render

    if chosen != "table":
        writers = {"md": render.markdown, "github": render.github, "csv": render.as_csv, "json": render.as_json}
        return writers[chosen](result)
    return render.text(result, columns(), colour=has_colour() and not to_file)
