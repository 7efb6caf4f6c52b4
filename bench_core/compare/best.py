"""The best GPU row against the best CPU row of each piece of work, with their runners-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench_core.compare.loading import Reading
from bench_core.compare.options import SIDES, CompareOptions
from bench_core.compare.pairing import arrange
from bench_core.compare.replicates import Replicates, collect_replicates
from bench_core.compare.result import BestPair, Entry, Key
from bench_core.compare.spread import Spreads
from bench_core.compare.verdicts import Pair, judge
from bench_core.records import Status


@dataclass(frozen=True, slots=True)
class Ranking:
    """All results with a value of one piece of work, the best first."""

    key: Key
    cpu: tuple[Replicates, ...]
    gpu: tuple[Replicates, ...]

    @property
    def is_checked(self) -> bool:
        """Whether these results have been checked. If not, none of this work has, and no one is said to be the best."""
        return not any(e.entry.is_unchecked for e in (*self.cpu, *self.gpu))


def rank(readings: Sequence[Reading], options: CompareOptions, *, needs_both: bool = False) -> list[Ranking]:
    """Return the results of every piece of work over all machines, backends, devices and thread counts.

    The order is by the median, which is the typical result. Where a result of a work has been checked, those that have
    not are left out: a wrong answer may be fast. needs_both: leave out work that has no value of a CPU, or none of a
    GPU.
    """
    if needs_both:
        readings = _of_both(readings)
    rankings = []
    for key, cells in arrange(readings, replace(options, columns=SIDES)).cells.items():
        kinds = {row.device_type == "cpu" for found in cells.values() for _, row in found if row.has_value}
        if needs_both and len(kinds) < 2:
            continue
        good = [e for e in (collect_replicates(side, found) for side, found in cells.items()) if e.entry.ok]
        good = [e for e in good if not e.entry.is_unchecked] or good
        good.sort(key=lambda e: e.entry.value or 0.0, reverse=key.better == "higher")
        cpu, gpu = ([e for e in good if (e.entry.row.device_type == "cpu") is on_cpu] for on_cpu in (True, False))
        rankings.append(Ranking(key, tuple(cpu), tuple(gpu)))
    return rankings


def _of_both(readings: Sequence[Reading]) -> list[Reading]:
    """Return the readings with the rows alone of cases that a CPU and a GPU measured."""
    good = [reading.only(reading.rows.mask("status", Status.OK.__eq__)) for reading in readings]
    found = {
        (case, device_type == "cpu")
        for reading in good
        for case, device_type in reading.rows.distinct("case_id", "device_type")
    }
    both = {case for case, on_cpu in found if (case, not on_cpu) in found}
    return [reading.only(reading.rows.mask("case_id", both.__contains__)) for reading in good]


def best_of(rankings: Sequence[Ranking], options: CompareOptions, spreads: Spreads) -> tuple[BestPair, ...]:
    """Compare the best GPU row with the best CPU row, for all work that has both, and checked ones."""
    both = sorted((r for r in rankings if r.cpu and r.gpu and r.is_checked), key=lambda r: r.key.order)
    pairs = [Pair(r.key, r.gpu[0].entry.name, r.cpu[0].entry.name, r.cpu[0], r.gpu[0]) for r in both]
    comparisons = judge(pairs, options.min_effect, options.confidence, spreads)
    return tuple(BestPair(c, _second(r.gpu), _second(r.cpu)) for c, r in zip(comparisons, both, strict=True))


def _second(ranked: Sequence[Replicates]) -> Entry | None:
    return ranked[1].entry if len(ranked) > 1 else None
