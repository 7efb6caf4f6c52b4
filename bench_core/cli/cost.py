"""`bench-core cost`: the cost of a million tokens or a thousand images on machines that are paid by the hour.

Exit codes: 0 shown; 2 usage; 3 a table cannot be read, or no machine with a price has a rate.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import Filter, Paths, chosen, columns, has_colour, notes_on, print_notes, say

_FORMATS = ("table", "csv", "json")

_Price = Annotated[
    list[str],
    typer.Option(
        metavar="MACHINE=PRICE",
        help="The price of an hour of a machine, with its currency if you like: h100=2.5EUR. Repeat it for each "
        "machine. For a machine with several GPUs, give the share of one GPU.",
    ),
]
_Kwh = Annotated[
    str | None,
    typer.Option(
        metavar="PRICE",
        help="The price of a kilowatt-hour: 0.30EUR. Adds the energy where it was measured. Leave it out where the "
        "price of an hour includes the energy, as that of a rented machine does.",
    ),
]


@app.command("cost")
def cost_command(
    paths: Paths,
    *,
    price: _Price,
    kwh: _Kwh = None,
    where: Filter = "",
    format_: Annotated[str, typer.Option("--format", metavar="|".join(_FORMATS), help="How to write it.")] = "table",
) -> None:
    """Price work on machines that are paid by the hour."""
    from bench_core.compare import read
    from bench_core.compare.price import price_work
    from bench_core.compare.tariff import Tariff
    from bench_core.render.cost import cost_csv, cost_json, cost_text

    chosen("--format", format_, _FORMATS)
    tariff = Tariff.parse(price, kwh)
    readings = read(paths)
    prices = price_work(readings, tariff, where)
    if format_ == "csv":
        typer.echo(cost_csv(prices), nl=False)
    elif format_ == "json":
        typer.echo(cost_json(prices, [*notes_on(readings), *prices.apart]), nl=False)
    else:
        typer.echo(cost_text(prices, columns(), colour=has_colour()), nl=False)
        for sentence in prices.apart:
            say(f"Note: {sentence}")
        print_notes(readings)
