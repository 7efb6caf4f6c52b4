"""`bench-core report`: write a self-contained HTML page about any number of runs.

Exit codes: 0 written; 2 usage, or a library of the `report` extra is missing; 3 a table cannot be read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import Filter, Paths, say, write
from bench_core.errors import TableError, UsageError
from bench_core.files import encoded
from bench_core.garbage import collection_off
from bench_core.report import require_extra
from bench_core.units import counted

if TYPE_CHECKING:
    from bench_core.compare import Reading


@app.command("report")
def report_command(
    paths: Paths,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="The heading of the page.")] = "bench-core report",
    where: Filter = "",
) -> None:
    """Write an HTML report: charts, environments, the full table."""
    require_extra()
    if output.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"--output {output}: the name must end in .html")
    from bench_core.report.page import render  # an extra

    with collection_off():  # what is created is kept: collections would find nothing
        readings = read_filtered(paths, where)
        text = render(readings, title)
    write(output, text, readings)
    rows = counted(sum(len(reading.rows) for reading in readings), "row")
    size = f"{len(encoded(text)) / 1e6:.2f} MB"
    say(f"{output}: {rows} of {counted(len(readings), 'result file')}, {size}")


def read_filtered(paths: list[str], where: str) -> list[Reading]:
    """Return the readings with the rows that the filter keeps. Raises TableError if no row is left."""
    from bench_core.compare import read
    from bench_core.results import filters

    filters.parse(where)  # an error of it comes before those of files
    readings = [replace(reading, rows=filters.selected(reading.rows, where)) for reading in read(paths)]
    kept = [reading for reading in readings if reading.rows]
    if not kept:
        raise TableError(paths[0], "no row passes --filter" if where else "no rows in the files given")
    return kept
