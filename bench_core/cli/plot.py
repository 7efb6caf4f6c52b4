"""`bench-core plot`: one chart of the report as SVG or PNG, for a README or a paper.

Exit codes: 0 written; 2 usage, or a library of the `report` extra is missing; 3 a table cannot be read, or
these runs have no data for the chart.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import Filter, Paths, print_notes, write
from bench_core.cli.report import read_filtered
from bench_core.errors import NothingToCompare, UsageError
from bench_core.report import require_extra


class Chart(StrEnum):
    """The charts of the report."""

    SPEEDUP = "speedup"
    SCALING = "scaling"
    ROOFLINE = "roofline"
    LADDER = "ladder"
    MODELS = "models"
    HEATMAP = "heatmap"


@app.command("plot")
def plot_command(
    paths: Paths,
    *,
    chart: Annotated[Chart, typer.Option(help="What to draw.")] = Chart.SPEEDUP,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write: .svg or .png.")],
    where: Filter = "",
    scale: Annotated[float, typer.Option(min=0.5, max=8.0, help="PNG pixels per SVG unit.")] = 2.0,
) -> None:
    """Draw one chart of the report as SVG or PNG.

    SVG adapts to light and dark.
    """
    suffix = output.suffix.lower()
    if suffix not in {".svg", ".png"}:
        raise UsageError(f"--output {output}: the name must end in .svg or .png")
    require_extra()
    from bench_core.analysis.report_data import ReportData  # noqa: PLC0415 - needed only together with the extra
    from bench_core.report import svg  # noqa: PLC0415 - an extra
    from bench_core.report.captions import captioned_figure  # noqa: PLC0415 - an extra

    readings = read_filtered(paths, where)
    figure = captioned_figure(ReportData(readings), chart.value)
    if not figure.drawings:
        raise NothingToCompare(f"--chart {chart.value}: {figure.about}")
    markup = svg.compose(figure.heading, figure.about, figure.legend, figure.drawings)
    write(output, markup if suffix == ".svg" else svg.png(markup, scale))
    typer.echo(f"{output}: {figure.heading}. {figure.note}".rstrip())
    print_notes(readings)
