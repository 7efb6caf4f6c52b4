"""`bench-core cost`: the cost of a million tokens or a thousand samples on machines that are paid by the hour.

Exit codes: 0 shown; 2 usage; 3 a table cannot be read, or no machine with a price has a rate.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import Filter, Paths, print_notes
from bench_core.compare import read
from bench_core.compare.price import Price, WorkPrices, price_work
from bench_core.compare.result import CLAIMS, Verdict
from bench_core.errors import UsageError
from bench_core.render.text_table import Table, layout
from bench_core.render.view import label, label_fields, short
from bench_core.text import printable
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
            help="The price of an hour of a machine. Repeat it for each machine. "
            "For a machine with several GPUs, give the share of one GPU.",
        ),
    ],
    where: Filter = "",
) -> None:
    """Price work on machines that are paid by the hour."""
    prices = dict(_price(text) for text in price)
    readings = read(paths)
    found = price_work(readings, prices, where)
    width = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    typer.echo("\n".join(layout(table(found, list(prices)), width)))
    typer.echo("Costs of the fastest row of each machine, in the currency of --price; ± is the interval of its rate.")
    for advice in _advice(found):
        typer.echo(advice)
    typer.echo("Tokens and samples are those of the small models measured here: do not compare them with API prices.")
    print_notes(readings)


def _advice(found: Sequence[WorkPrices]) -> Iterator[str]:
    """Yield what would turn the verdicts on the cheapest machines into claims, each kind once."""
    reasons = dict.fromkeys(
        c.lacking for work in found if (c := work.cheapest) and c.verdict not in CLAIMS and c.lacking
    )
    yield from (short(f"Where the cheapest is indicated or unclear: {reason}.") for reason in reasons)


def _price(text: str) -> tuple[str, float]:
    """Return machine and price of a text such as "h100=2.5". Raises UsageError for any other format."""
    machine, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (machine and equals and 0 < value < math.inf):
        raise UsageError(
            f"--price {printable(text, 40)}: write MACHINE=PRICE, with the price of an hour, such as h100=2.5"
        )
    return machine, value


def table(found: Sequence[WorkPrices], machines: Sequence[str]) -> Table:
    """Return a table with a row for each piece of work: its price on every machine, and the cheapest machine."""
    several = len(machines) > 1
    fields, _ = label_fields([work.key for work in found], ("workload", "size", "dtype"))
    rows = []
    for work in found:
        cells = [_cell(work.by_machine.get(machine)) for machine in machines]
        rows.append((label(work.key, fields), work.amount, *cells, *([_cheapest(work)] if several else [])))
    return Table(("work", "cost of", *map(short, machines), *(["cheapest"] if several else [])), tuple(rows))


def _cell(price: Price | None) -> str:
    """Return a price with its uncertainty, and on the next line the backend and device that did the work."""
    if price is None:
        return ""
    ends = [end for end in (price.low, price.high) if end is not None]
    spread = f" ±{max(abs(end / price.value - 1) for end in ends):.0%}" if ends else ""
    row = price.entry.row
    return f"{significant(price.value)}{spread}\n{short(f'{row.who} {row.device}')}"


def _cheapest(work: WorkPrices) -> str:
    """Return the machine with the lowest price, the ratio of the second lowest to it, and the verdict on that ratio.

    Return only the verdict if it is not clear which of the two is cheaper.
    """
    (machine, price), *others = work.by_machine.items()
    c = work.cheapest
    if not others or c is None:
        return f"{short(machine)}\nno other"
    if c.verdict in {Verdict.SAME, Verdict.IDENTICAL}:
        return "the same"
    if c.verdict not in {Verdict.FASTER, Verdict.INDICATED}:
        return str(Verdict.UNCLEAR)
    less = f"{short(machine)}\n{others[0][1].value / price.value:.2f}x less"
    return f"{less}\n{c.word}" if c.verdict is Verdict.INDICATED else less
