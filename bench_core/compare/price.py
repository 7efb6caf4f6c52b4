"""The cost of work on machines that are paid by the hour: the price of an hour divided by the work done in it.

The fastest row of each machine is used, over all backends and devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench_core.compare.best import Ranking, rank
from bench_core.compare.loading import Reading
from bench_core.compare.options import CompareOptions
from bench_core.compare.replicates import Replicates
from bench_core.compare.result import Comparison, Entry, Key
from bench_core.compare.spread import Spreads
from bench_core.compare.verdicts import Pair, judge
from bench_core.errors import NothingToCompare, UsageError
from bench_core.results import filters
from bench_core.results.metrics import headline
from bench_core.results.traits import TraitsOf, merged
from bench_core.text import printable

# Metric of the rate -> the amount of work that is priced, as a number and as text.
AMOUNTS = {"token_rate": (1e6, "1 M tokens"), "sample_rate": (1e3, "1 k samples"), "flop_rate": (1e18, "1 EFLOP")}
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Price:
    """The cost of an amount of work on one machine, in the currency of the hourly price.

    entry: the best result of the machine. low, high: the interval of its rate, converted to prices; None if the rate
    has no interval.
    """

    entry: Entry
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class WorkPrices:
    """The prices of one piece of work.

    amount: the amount that is priced. by_machine: prices, lowest first. cheapest: the machine with the lowest price
    against the one with the second lowest, in units of work per price; None for a single machine.
    """

    key: Key
    amount: str
    by_machine: Mapping[str, Price]
    cheapest: Comparison | None = None


def price_work(readings: Sequence[Reading], hourly: Mapping[str, float], where: str = "") -> list[WorkPrices]:
    """Return the prices of all work for which a priced machine has a rate by the wall clock.

    hourly: the price of an hour, by machine or label. Raises UsageError for a machine that is not in the readings,
    NothingToCompare if there is no rate.
    """
    machines = list(dict.fromkeys(row.machine for reading in readings for row in reading.rows))
    for machine in hourly:
        if machine not in machines:
            there = ", ".join(printable(name, 40) for name in machines) or "none"
            raise UsageError(f"--price {printable(machine, 40)}: no such machine; available: {there}")
    options = CompareOptions(metrics=tuple(AMOUNTS), where=where)
    traits = merged(reading.traits for reading in readings)
    rankings = _headlines(rank(readings, options, filters.parse(where)), traits)
    found = sorted((_of_work(ranking, hourly) for ranking in rankings), key=lambda priced: priced[0].key.order)
    known = [(work, pair) for work, pair in found if work.by_machine]
    if not known:
        raise NothingToCompare("nothing to price: no machine with a price has a rate of tokens, samples or FLOPs")
    pairs = [pair for _, pair in known if pair]
    judged = iter(judge(pairs, options.min_effect, options.confidence, Spreads.of(readings)))
    return [replace(work, cheapest=next(judged)) if pair else work for work, pair in known]


def _headlines(rankings: Iterable[Ranking], traits: TraitsOf) -> list[Ranking]:
    """Return the ranking of each piece of work by its headline rate, if that rate can be priced."""
    by_case: dict[str, dict[str, Ranking]] = {}
    for ranking in rankings:
        if ranking.key.clock == "wall" and ranking.key.metric in AMOUNTS:
            by_case.setdefault(ranking.key.case_id, {})[ranking.key.metric] = ranking
    found = [(rates, headline(traits(next(iter(rates.values())).key), rates)) for rates in by_case.values()]
    return [rates[name] for rates, name in found if name in rates]


def _of_work(ranking: Ranking, hourly: Mapping[str, float]) -> tuple[WorkPrices, Pair | None]:
    """Return the prices of one piece of work, and the two lowest as a pair to judge, if there are two."""
    amount, words = AMOUNTS[ranking.key.metric]
    best: dict[str, Replicates] = {}
    for found in (*ranking.cpu, *ranking.gpu):
        machine = found.entry.machine
        if machine not in best or (found.entry.value or 0.0) > (best[machine].entry.value or 0.0):
            best[machine] = found
    priced = {
        machine: _price(best[machine].entry, price * amount / _HOUR)
        for machine, price in hourly.items()
        if machine in best
    }
    by_machine = dict(sorted(priced.items(), key=lambda item: item[1].value))
    work = WorkPrices(ranking.key, words, by_machine)
    if len(by_machine) < 2:
        return work, None
    first, second = list(by_machine)[:2]
    return work, Pair(ranking.key, first, second, best[second], best[first], worth=hourly[second] / hourly[first])


def _price(entry: Entry, per_rate: float) -> Price:
    """Return the price for a rate; the ends of the interval are swapped, since the price is inverse to the rate."""
    low, high = (per_rate / end if end else None for end in (entry.ci_high, entry.ci_low))
    return Price(entry, per_rate / (entry.value or 1.0), low, high)
