"""`bench-core cost`: what a million tokens or a thousand samples cost on machines that are paid by the hour.

Exit codes: 0 shown; 2 usage; 3 a table cannot be read, or no machine with a price has a rate.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import Filter, Paths
from bench_core.compare import read
from bench_core.compare.cost import Cost, WorkCosts, costs
from bench_core.csvfile import printable
from bench_core.errors import UsageError
from bench_core.metrics import who
from bench_core.render.text import layout
from bench_core.render.view import Table, clean, label, label_fields
from bench_core.units import significant

_PIPE_WIDTH = 100


@app.command("cost")
def cost_command(
    paths: Paths,
    *,
    price: Annotated[
        list[str],
        typer.Option(
            metavar="MACHINE=PRICE",
            help="What an hour of a machine costs, once for each; of a machine with several GPUs the share of one.",
        ),
    ],
    where: Filter = "",
) -> None:
    """Price work on machines that are paid by the hour."""
    prices = dict(_price(text) for text in price)
    found = costs(read(paths), prices, where)
    width = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    typer.echo("\n".join(layout(table(found, list(prices)), width)))
    typer.echo("Costs of the fastest row of each machine, in the currency of --price; ± is the interval of its rate.")
    typer.echo("The work is this suite's own: a token here is one of a small model, not of an API's price list.")


def _price(text: str) -> tuple[str, float]:
    """Return machine and price of "h100=2.5"; raises UsageError for anything else."""
    machine, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (machine and equals and 0 < value < math.inf):
        raise UsageError(f"--price {printable(text)}: write MACHINE=PRICE, with the price of an hour, such as h100=2.5")
    return machine, value


def table(found: Sequence[WorkCosts], machines: Sequence[str]) -> Table:
    """Return a row for each piece of work: its cost on every machine, and which one is the cheapest."""
    several = len(machines) > 1
    fields, _ = label_fields([work.key for work in found], ("workload", "size", "dtype"))
    rows = []
    for work in found:
        cells = [_cell(work.by_machine.get(machine)) for machine in machines]
        rows.append((label(work.key, fields), work.amount, *cells, *([_cheapest(work)] if several else [])))
    return Table(("work", "cost of", *map(clean, machines), *(["cheapest"] if several else [])), tuple(rows))


def _cell(cost: Cost | None) -> str:
    """Return a cost with its uncertainty, and below it who did the work."""
    if cost is None:
        return ""
    ends = [end for end in (cost.low, cost.high) if end is not None]
    spread = f" ±{max(abs(end / cost.value - 1) for end in ends):.0%}" if ends else ""
    row = cost.entry.row
    return f"{significant(cost.value)}{spread}\n{clean(f'{who(row)} {row.device}')}"


def _cheapest(work: WorkCosts) -> str:
    """Return the machine with the lowest cost and how many times less that is than the next one's.

    Where their intervals overlap nothing is claimed.
    """
    (machine, cost), *others = work.by_machine.items()
    if not others:
        return f"{clean(machine)}\nno other"
    second = others[0][1]
    if (cost.high or cost.value) >= (second.low or second.value):
        return "unclear"
    return f"{clean(machine)}\n{second.value / cost.value:.2f}x less"
