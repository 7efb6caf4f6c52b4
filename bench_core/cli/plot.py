"""`bench-core plot`: a chart of the report as SVG or PNG, for a README or a paper: page by page, or panel by panel.

Exit codes: 0 written; 2 usage, or a library of the `report` extra is missing; 3 a table cannot be read, or
these runs have no data for the chart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import Filter, Paths, chosen, print_notes, say, write
from bench_core.cli.report import read_filtered
from bench_core.errors import NothingToCompare, UsageError
from bench_core.report import require_extra
from bench_core.text import file_name, printable


class Chart(StrEnum):
    """The charts of the report."""

    SPEEDUP = "speedup"
    SCALING = "scaling"
    RANKS = "ranks"
    EXCHANGE = "exchange"
    PAIRS = "pairs"
    ROOFLINE = "roofline"
    LADDER = "ladder"
    MODELS = "models"
    HEATMAP = "heatmap"


_Chart = Annotated[
    str, typer.Option(metavar="|".join(Chart), autocompletion=lambda: [*map(str, Chart)], help="What to draw.")
]


@app.command("plot")
def plot_command(
    paths: Paths,
    *,
    chart: _Chart = Chart.SPEEDUP.value,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The file to write: .svg or .png. What does not fit one page goes to NAME-2, NAME-3, ... beside it.",
        ),
    ],
    panels: Annotated[
        bool, typer.Option("--panels", help="Write a file for each panel: NAME-matmul-float32.svg, ...")
    ] = False,
    where: Filter = "",
    scale: Annotated[float, typer.Option(min=0.5, max=8.0, help="PNG pixels per SVG unit.")] = 2.0,
) -> None:
    """Draw a chart of the report as SVG or PNG, in a grid that fits a page.

    SVG adapts to light and dark.
    """
    chosen("--chart", chart, [*Chart])
    suffix = output.suffix.lower()
    if suffix not in {".svg", ".png"}:
        raise UsageError(f"--output {output}: the name must end in .svg or .png")
    require_extra()
    from bench_core.analysis.report_data import ReportData
    from bench_core.report import svg
    from bench_core.report.captions import captioned_figure

    readings = read_filtered(paths, where)
    data = ReportData(readings)
    figure = captioned_figure(data, chart)
    if not figure.drawings:
        raise NothingToCompare(" ".join([f"--chart {chart}: {figure.about}", *data.silent, *data.apart]))
    columns = 1 if figure.wide else svg.COLUMNS
    groups = [[drawing] for drawing in figure.drawings] if panels else svg.pages(figure.drawings, columns)
    names = [drawing.title for drawing in figure.drawings] if panels else [""] * len(groups)
    for place, (path, group) in enumerate(zip(beside(output, names), groups, strict=True), start=1):
        heading = figure.heading + (f" ({place} of {len(groups)})" if len(groups) > 1 else "")
        markup = svg.compose("" if panels else heading, figure.about, figure.legend, group, columns)
        write(path, markup if suffix == ".svg" else svg.png(markup, scale), readings)
        say(f"{path}: {printable(group[0].title) if panels else heading}")
    if figure.note:
        say(figure.note)
    for sentence in data.apart:
        say(f"Note: {sentence}")
    print_notes(readings)


def beside(output: Path, names: Sequence[str]) -> list[Path]:
    """Return a path in the folder of `output` for each name, "" for the path itself, and number those that are taken.

    Names may come from a table: only what is safe in a file name is used.
    """
    paths: list[Path] = []
    for name in names:
        stem = "-".join(filter(None, (output.stem, file_name(name))))
        stems = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        found = (output.with_name(stem + output.suffix) for stem in stems)
        paths.append(next(path for path in found if path not in paths))
    return paths
