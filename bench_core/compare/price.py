"""The cost of work on machines that are paid by the hour: the price of an hour divided by the work done in it.

The fastest row of each machine is used, over all backends and devices. If a kilowatt-hour has a price, the energy that
was measured for the same row is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench_core.compare.apart import kept_apart
from bench_core.compare.best import Ranking, rank
from bench_core.compare.loading import Reading
from bench_core.compare.options import CompareOptions
from bench_core.compare.replicates import Replicates
from bench_core.compare.result import Comparison, Entry, Key
from bench_core.compare.spread import Spreads
from bench_core.compare.tariff import Tariff
from bench_core.compare.verdicts import Pair, judge
from bench_core.errors import NothingToCompare, UsageError
from bench_core.records import is_unchecked
from bench_core.results import filters
from bench_core.results.metrics import headline
from bench_core.results.traits import TraitsOf, merged
from bench_core.text import no_such

_HOUR = 3600.0
_KWH = 3.6e6  # joules


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of work that is priced.

    number: how much. text: the same for people, without what is counted. counted: what is counted, if that is a thing
    which a workload may sell under a name of its own. per_joule: the metric of how much is done with a joule.
    """

    number: float
    text: str
    counted: str
    per_joule: str

    def of(self, sold_as: str) -> str:
        """Return the amount for people: "1 M tokens", or "1 M tokens generated" if the work is sold as that."""
        return f"{self.text} {sold_as or self.counted}" if self.counted else self.text


# By the metric of the rate.
AMOUNTS = {
    "token_rate": Amount(1e6, "1 M", "tokens", "tokens_per_joule"),
    "sample_rate": Amount(1e3, "1 k", "samples", "samples_per_joule"),
    "flop_rate": Amount(1e18, "1 EFLOP", "", "flops_per_joule"),
}


@dataclass(frozen=True, slots=True)
class Price:
    """The cost of an amount of work on one machine, in the currency of the tariff.

    entry: the best result of the machine. time: the cost of the time that the amount takes. low, high: its interval,
    from that of the rate; None if the rate has none. joules: the energy of the amount, as measured for the same row;
    None if it was not, or if energy has no price. energy: its cost.
    """

    entry: Entry
    time: float
    low: float | None
    high: float | None
    joules: float | None = None
    energy: float | None = None

    @property
    def total(self) -> float:
        """The cost of the time and, if it is known, of the energy."""
        return self.time + (self.energy or 0.0)


@dataclass(frozen=True, slots=True)
class WorkPrices:
    """The prices of one piece of work.

    amount: the amount that is priced, with `text` for people. is_bought: whether this is what a person buys, by the
    trait `sold_as` of the workload. by_machine: prices, lowest first. has_energy: whether the energy of every machine
    is known; only then it counts in that order and in `cheapest`. cheapest: the machine with the lowest price against
    the one with the second lowest, in units of work per price; None for a single machine.
    """

    key: Key
    amount: Amount
    text: str
    is_bought: bool
    by_machine: Mapping[str, Price]
    has_energy: bool = False
    cheapest: Comparison | None = None

    def cost(self, machine: str) -> float:
        """Return the cost by which machines are compared."""
        price = self.by_machine[machine]
        return price.total if self.has_energy else price.time


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of all work for which a machine of the tariff has a rate: first what a person buys, then the rest.

    apart: sentences on rows that are left out, or are work of their own (apart.py).
    """

    tariff: Tariff
    works: tuple[WorkPrices, ...]
    apart: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[WorkPrices, ...]:
        """The works with a value on several machines; all works if only one machine has a price."""
        least = min(2, len(self.tariff.hourly))
        return tuple(work for work in self.works if len(work.by_machine) >= least)

    @property
    def alone(self) -> Mapping[str, int]:
        """How many works have a value on this machine only, by machine; empty if only one machine has a price."""
        if len(self.tariff.hourly) == 1:
            return {}
        counts = Counter(next(iter(work.by_machine)) for work in self.works if len(work.by_machine) == 1)
        return {machine: counts[machine] for machine in self.tariff.hourly if counts[machine]}


def price_work(readings: Sequence[Reading], tariff: Tariff, where: str = "") -> PriceList:
    """Return the prices of all work for which a priced machine has a rate by the wall clock.

    Raises UsageError for a machine that is not in the readings, NothingToCompare if there is no rate.
    """
    machines = list(dict.fromkeys(name for reading in readings for (name,) in reading.rows.distinct("machine")))
    for machine in tariff.hourly:
        if machine not in machines:
            raise UsageError(f"--price: {no_such('machine', machine, machines)}")
    readings = [reading.only(~reading.rows.mask("flags", is_unchecked)) for reading in readings]
    energies = () if tariff.kwh is None else tuple(amount.per_joule for amount in AMOUNTS.values())
    options = CompareOptions(metrics=(*AMOUNTS, *energies), where=where)
    traits = merged(reading.traits for reading in readings)
    comparable = kept_apart(readings)
    kept = [replace(reading, rows=filters.selected(reading.rows, where)) for reading in comparable.readings]
    found = _headlines(rank(kept, options), traits)
    works = [_of_work(rate, efficiency, tariff, traits(rate.key).sold_as) for rate, efficiency in found]
    known = sorted(((work, pair) for work, pair in works if work.by_machine), key=lambda item: _place(item[0]))
    if not known:
        nothing = "nothing to price: no machine with a price has a rate of tokens, samples or FLOPs"
        raise NothingToCompare(" ".join([nothing, *comparable.said]))
    pairs = [pair for _, pair in known if pair]
    judged = iter(judge(pairs, options.min_effect, options.confidence, Spreads.of(readings)))
    judged_works = (replace(work, cheapest=next(judged)) if pair else work for work, pair in known)
    return PriceList(tariff, tuple(judged_works), comparable.said)


def _place(work: WorkPrices) -> tuple[object, ...]:
    """Return the sort key: what a person buys by what it is, tokens before samples; the rest by the work."""
    bought = (list(AMOUNTS).index(work.key.metric), work.text) if work.is_bought else ()
    return (not work.is_bought, bought, work.key.order)


def _headlines(rankings: Iterable[Ranking], traits: TraitsOf) -> list[tuple[Ranking, Ranking | None]]:
    """Return the ranking of each piece of work by its headline rate, if that can be priced, and by its energy."""
    by_case: dict[str, dict[str, Ranking]] = {}
    for ranking in rankings:
        if ranking.key.clock in {"wall", ""}:  # an energy is read once, by no clock
            by_case.setdefault(ranking.key.case_id, {})[ranking.key.metric] = ranking
    found = [
        (by_metric, headline(traits(next(iter(by_metric.values())).key), by_metric)) for by_metric in by_case.values()
    ]
    return [
        (rates[name], rates.get(AMOUNTS[name].per_joule)) for rates, name in found if name in AMOUNTS.keys() & rates
    ]


def _of_work(rate: Ranking, efficiency: Ranking | None, tariff: Tariff, sold_as: str) -> tuple[WorkPrices, Pair | None]:
    """Return the prices of one piece of work, and the two lowest as a pair to judge, if there are two."""
    amount = AMOUNTS[rate.key.metric]
    best: dict[str, Replicates] = {}
    for found in (*rate.cpu, *rate.gpu):
        machine = found.entry.machine
        if machine not in best or (found.entry.value or 0.0) > (best[machine].entry.value or 0.0):
            best[machine] = found
    per_joule = {e.entry.side: e.entry.value for e in (*efficiency.cpu, *efficiency.gpu)} if efficiency else {}
    prices = {
        machine: _price(best[machine].entry, hourly, amount, per_joule.get(best[machine].entry.side), tariff.kwh)
        for machine, hourly in tariff.hourly.items()
        if machine in best
    }
    has_energy = all(price.energy is not None for price in prices.values())
    work = WorkPrices(
        rate.key, amount, amount.of(sold_as), bool(amount.counted and sold_as), prices, has_energy=has_energy
    )
    by_machine = {machine: prices[machine] for machine in sorted(prices, key=work.cost)}
    work = replace(work, by_machine=by_machine)
    if len(by_machine) < 2:
        return work, None
    first, second = list(by_machine)[:2]
    # The ratio of costs is that of the rates, times a factor that is known: the price of a second, with its energy.
    a_second = {machine: work.cost(machine) * (best[machine].entry.value or 0.0) for machine in (first, second)}
    worth = a_second[second] / a_second[first]
    return work, Pair(rate.key, first, second, best[second], best[first], worth=worth)


def _price(entry: Entry, hourly: float, amount: Amount, per_joule: float | None, kwh: float | None) -> Price:
    """Return the price for a rate; the ends of the interval are swapped, since the price is inverse to the rate."""
    per_rate = hourly * amount.number / _HOUR
    low, high = (per_rate / end if end else None for end in (entry.ci_high, entry.ci_low))
    joules = amount.number / per_joule if per_joule and kwh is not None else None
    energy = joules / _KWH * kwh if joules is not None and kwh is not None else None
    return Price(entry, per_rate / (entry.value or 1.0), low, high, joules, energy)
