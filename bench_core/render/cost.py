"""Render the costs of work: as text for a terminal, as CSV with a line per work and machine, or as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from bench_core.compare.labels import label, label_fields, short
from bench_core.compare.price import Price, PriceList, WorkPrices
from bench_core.compare.result import CLAIMS, QUANTITY, WORK, Verdict
from bench_core.compare.tariff import Tariff
from bench_core.render.text_table import BOLD, Table, layout, paint
from bench_core.results.strict_csv import csv_text
from bench_core.text import printable
from bench_core.units import SYMMETRIC, significant

COST_VERSION = 1
_LABEL = ("workload", "size", "dtype")  # the first two on a line each: the cells beside them have as many
_WHO = ("backend", "implementation", "device", "device_name", "threads")
_COST = ("cost", "time_cost", "time_cost_low", "time_cost_high", "energy_cost", "joules")
_JUDGED = ("ratio", "ci_low", "ci_high", "confidence", "verdict", "evidence", "reason")
_CHEAPEST = ("cheapest", "with_energy", *_JUDGED)
_WORK = ("case_id", *WORK, *QUANTITY)
COLUMNS = (
    *("cost_version", "cost_of", "amount", "is_bought", *_WORK),
    *("machine", *_WHO, "value", "hourly", "kwh", "currency", *_COST, *_CHEAPEST),
)


def cost_text(prices: PriceList, width: int = 80, *, colour: bool = False) -> str:
    """Return costs as text of `width` columns: what a person buys, the rest, and what the numbers mean."""
    bought = [work for work in prices.compared if work.is_bought]
    rest = [work for work in prices.compared if not work.is_bought]
    energy = any(price.energy is not None for work in prices.compared for price in work.by_machine.values())
    lines = [paint("What a person buys", BOLD if colour else "")]
    lines += layout(_table(bought, prices.tariff, energy=energy, hour=True), width, colour=colour)
    if rest:
        lines += ["", paint("Other work", BOLD if colour else "")]
        lines += layout(_table(rest, prices.tariff, energy=energy), width, colour=colour)
    lines.append("")
    for note in _notes(prices):
        lines += textwrap.wrap(note, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _table(works: Sequence[WorkPrices], tariff: Tariff, *, energy: bool, hour: bool = False) -> Table:
    """Return a table with a row for each work; an amount is not repeated below itself.

    energy: show the energy as a part of each cost. hour: add the hourly prices.
    """
    several = len(tariff.hourly) > 1
    fields, _ = label_fields([work.key for work in works], _LABEL)
    rows, above = [], ""
    for work in works:
        cells = [_cell(work.by_machine.get(machine), energy=energy) for machine in tariff.hourly]
        amount = "" if work.text == above else short(work.text)
        what = "\n".join([*(label(work.key, [name]) for name in _LABEL[:2]), label(work.key, fields[2:])])
        rows.append((amount, what, *cells, *([_cheapest(work)] if several else [])))
        above = work.text
    if hour:
        hourly = [f"{price:g}" for price in tariff.hourly.values()]
        rows.append(("1 hour", "of the machine", *hourly, *([""] if several else [])))
    unit = f", {tariff.currency}" if tariff.currency else ""
    machines = [short(machine) + unit for machine in tariff.hourly]
    return Table(("cost of", "work", *machines, *(["cheapest"] if several else [])), tuple(rows))


def _cell(price: Price | None, *, energy: bool) -> str:
    """Return a cost with its interval, its two parts if `energy` and it was measured, and who did the work, by line."""
    if price is None:
        return ""
    lines = [_with_interval(price)]
    if energy and price.energy is not None:
        lines.append(f"{significant(price.time)} + {significant(price.energy)}")
    row = price.entry.row
    return "\n".join([*lines, short(f"{row.who} {row.device}")])


def _with_interval(price: Price) -> str:
    """Return a cost with "±", or above its two ends where these are far away: then they are at unequal distances."""
    ends = [end + (price.energy or 0.0) for end in (price.low, price.high) if end is not None]
    total = significant(price.total)
    if not ends:
        return total
    deviation = max(abs(end - price.total) for end in ends) / price.total
    if deviation < SYMMETRIC:
        return f"{total} ±{deviation:.0%}" if deviation >= 0.005 else f"{total} ±<1%"
    return f"{total}\n{' to '.join(map(significant, ends))}"


def _cheapest(work: WorkPrices) -> str:
    """Return the machine with the lowest price, the ratio of the second lowest to it, and the verdict on that ratio.

    Return only the verdict if it is not clear which of the two is cheaper.
    """
    c = work.cheapest
    if c is None:
        return ""
    if c.verdict in {Verdict.SAME, Verdict.IDENTICAL}:
        return "the same"
    if c.verdict not in {Verdict.FASTER, Verdict.INDICATED}:
        return str(Verdict.UNCLEAR)
    first, second = list(work.by_machine)[:2]
    less = f"{short(first)}\n{significant(work.cost(second) / work.cost(first))}x less"
    return f"{less}\n{c.word}" if c.verdict is Verdict.INDICATED else less


def _notes(prices: PriceList) -> Iterator[str]:
    """Yield what is not listed, what the numbers are, and what they are not."""
    tariff, compared = prices.tariff, prices.compared
    yield from _not_listed(prices)
    currency = tariff.currency or "the currency of --price"
    yield f"Costs of the fastest row of each machine, in {currency}; ± or a range is the interval of its rate."
    yield from _about_energy(prices)
    reasons = dict.fromkeys(c.lacking for w in compared if (c := w.cheapest) and c.verdict not in CLAIMS and c.lacking)
    yield from (printable(f"Where the cheapest is indicated or unclear: {reason}.", 400) for reason in reasons)
    yield "Tokens and samples are those of the small models measured here: do not compare them with API prices."


def _not_listed(prices: PriceList) -> Iterator[str]:
    """Yield one line on the works that only one machine has a value for, and one if nothing is what a person buys."""
    bought = [work.text for work in prices.works if work.is_bought]
    if prices.alone:
        counts = ", ".join(f"{count:,} on {short(machine)}" for machine, count in prices.alone.items())
        listed = {work.text for work in prices.compared}
        missed = ", ".join(short(text) for text in dict.fromkeys(bought) if text not in listed)
        among = f" (among them {missed})" if missed else ""
        advice = "Price one machine alone to list its works."
        yield f"Not listed, with a value on one machine only: {counts}{among}. {advice}"
    if not bought:
        yield "None of these works is what a person buys, such as tokens generated."


def _about_energy(prices: PriceList) -> Iterator[str]:
    tariff = prices.tariff
    if tariff.kwh is None:
        return
    price = f"{tariff.kwh:g} {tariff.currency}".rstrip()
    found = [price for work in prices.compared for price in work.by_machine.values()]
    known = sum(price.energy is not None for price in found)
    if not known:
        yield f"No energy was measured for any row listed, so that nothing is added at {price} a kWh."
        return
    yield (
        f"Below a cost: that of the time + that of the energy at {price} a kWh. Where that line is missing, no energy "
        f"was measured ({known:,} of {len(found):,} have it). It is that of the GPU board or of the CPU packages, not "
        "of the whole machine."
    )
    if len(tariff.hourly) > 1:
        yield "The cheapest is found with the energy where all machines have it, otherwise by the time alone."


def cost_csv(prices: PriceList) -> str:
    """Return costs as CSV: a line per work and machine, with those that have a value on one machine only."""
    lines = [line for work in prices.works for line in _lines(work, prices.tariff)]
    return csv_text(COLUMNS, (map(line.__getitem__, COLUMNS) for line in lines))


def _lines(work: WorkPrices, tariff: Tariff) -> Iterator[dict[str, Any]]:
    about = _work(work) | _judged(work) | {"cost_version": COST_VERSION}
    about |= {"kwh": tariff.kwh, "currency": tariff.currency}
    for machine, price in work.by_machine.items():
        yield about | _costs(machine, price) | {"hourly": tariff.hourly[machine]}


def cost_json(prices: PriceList, notes: Sequence[str] = ()) -> str:
    """Return costs as JSON (ASCII, no NaN): the tariff and all works; a missing value is null."""
    tariff = prices.tariff
    plain = {
        "cost_version": COST_VERSION,
        "currency": tariff.currency,
        "hourly": dict(tariff.hourly),
        "kwh": tariff.kwh,
        "works": [
            _work(work)
            | {"costs": [_costs(*item) for item in work.by_machine.items()]}
            | {"cheapest": _judged(work) if work.cheapest else None}
            for work in prices.works
        ],
        "notes": list(notes),
    }
    return json.dumps(plain, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _work(work: WorkPrices) -> dict[str, Any]:
    about = {"cost_of": work.text, "amount": work.amount.number, "is_bought": work.is_bought}
    return about | {name: getattr(work.key, name) for name in _WORK}


def _costs(machine: str, price: Price) -> dict[str, Any]:
    about = {"machine": machine} | {name: getattr(price.entry.row, name) for name in _WHO}
    costs = (price.total, price.time, price.low, price.high, price.energy, price.joules)
    return about | {"value": price.entry.value} | dict(zip(_COST, costs, strict=True))


def _judged(work: WorkPrices) -> dict[str, Any]:
    """Return the cheapest machine with the verdict against the second cheapest; None in each field for a single one."""
    c = work.cheapest
    if c is None:
        return dict.fromkeys(_CHEAPEST)
    return {"cheapest": c.side, "with_energy": work.has_energy} | {name: getattr(c, name) for name in _JUDGED}
