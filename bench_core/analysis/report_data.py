"""The data of a report: its rows in a fixed order, and the best of them, which figures look up.

Functions take Rows and return frozen records that contain Rows, so that a chart can show backend, threads and size next
to each number. This module does not draw.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench_core.analysis.families import Family, families_of
from bench_core.analysis.pooling import pooled, safe
from bench_core.analysis.sides import Contender, Kind, Sides, backend_order, backends_of, contenders_of, sides_of
from bench_core.compare.apart import kept_apart
from bench_core.compare.best import Ranking, rank
from bench_core.compare.loading import Reading
from bench_core.compare.options import CompareOptions
from bench_core.compare.replicates import Replicates
from bench_core.compare.result import Comparison
from bench_core.compare.spread import Spreads
from bench_core.compare.verdicts import Pair, judge
from bench_core.records import Clock, Identity, Row, severity
from bench_core.results.metrics import METRICS, headline
from bench_core.results.traits import merged
from bench_core.units import natural


class ReportData:
    """The pooled rows of any number of runs, indexed for figures.

    The order of rows, families and contenders does not depend on the order in which a run measured its cases.

    contenders: devices with at least one value. by_backend: their backends with at least one value. place: the sort key
    of a row, also of one that was not pooled. unchecked: the cases, by case_id, of which no value has been checked; in
    all others, values that have not are the best of nothing. silent: a sentence for each device without any value.
    apart: sentences on rows that are shown in the full table only, or as work of their own (apart.py). comparable: the
    readings without these rows, or with a case_id of their own.

    Raises TableError for tables that contradict each other.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = [safe(reading) for reading in readings]
        comparable = kept_apart(self.readings)
        self.comparable, self.apart = comparable.readings, comparable.said
        rows = pooled(self.comparable)
        self.traits = merged(reading.traits for reading in self.readings)
        self.spreads = Spreads.of(self.readings)
        self.families = families_of(rows, self.traits)
        self.place = _order([row for reading in self.readings for row in reading.rows], self.families)
        self.rows = sorted(rows, key=self.place)
        self.contenders, self.silent = contenders_of(rows)
        self.by_backend = backends_of(self.contenders, rows)
        self._known = {(c.machine, c.device, c.backend): c for c in (*self.contenders, *self.by_backend)}
        self._best: dict[tuple[Contender, str, str], Row] = {}
        self._metrics: dict[str, set[str]] = defaultdict(set)  # with a value, by case_id
        self._failed: dict[tuple[Contender, str], Row] = {}
        self._by_result: dict[tuple[str, Identity, str], Row] = {}
        self._compared: dict[tuple[str, str], dict[str, list[tuple[Contender, Comparison]]]] = {}
        self._of: dict[Contender, list[Row]] = defaultdict(list)
        checked = {row.case_id for row in self.rows if row.has_value and not row.is_unchecked}
        self.unchecked = {row.case_id for row in self.rows if row.has_value} - checked
        for row in self.rows:
            self._enter(row)

    def _enter(self, row: Row) -> None:
        contender = self.contender(row)
        if contender is None or row.clock == Clock.DEVICE:
            return
        self._of[contender].append(row)
        if row.has_value:
            self._by_result[row.machine, row.identity, row.metric] = row
        backend = self._known.get((row.machine, row.device, row.backend))
        for who in (contender, *([backend] if backend else [])):
            self._enter_for(who, row)

    def _enter_for(self, who: Contender, row: Row) -> None:
        if not row.has_value:
            held = self._failed.get((who, row.case_id))
            if held is None or severity(row.status) < severity(held.status):
                self._failed[who, row.case_id] = row
            return
        if row.is_unchecked and row.case_id not in self.unchecked:
            return
        self._metrics[row.case_id].add(row.metric)
        best = self._best.get((who, row.case_id, row.metric))
        if best is None or _beats(row, best):
            self._best[who, row.case_id, row.metric] = row

    def contender(self, row: Row) -> Contender | None:
        """Return the contender of a row, None if its device has no value in any row."""
        return self._known.get((row.machine, row.device, ""))

    def of(self, contender: Contender) -> list[Row]:
        """Return all rows of a contender by the wall clock, and those without a clock."""
        return self._of[contender]

    def best(self, contender: Contender, case_id: str, metric: str = "time") -> Row | None:
        """Return the best row of a contender over all its backends, implementations and threads, by the wall clock."""
        return self._best.get((contender, case_id, metric))

    def fastest(self, contender: Contender, case_id: str) -> list[Replicates]:
        """Return the processes behind each result of a contender in a case, the fastest first."""
        ranking = self.rankings.get(case_id)
        ranked = (*ranking.cpu, *ranking.gpu) if ranking else ()
        return [found for found in ranked if self.contender(found.entry.row) == contender]

    def same(self, row: Row, metric: str) -> Row:
        """Return the row of the same result with another metric, by the wall clock; `row` itself if there is none."""
        return self._by_result.get((row.machine, row.identity, metric), row)

    def failure(self, contender: Contender, case_id: str) -> Row | None:
        """Return the row with the most severe status of a contender in a case, None if no row failed."""
        return self._failed.get((contender, case_id))

    @functools.cached_property
    def drawn(self) -> list[Contender]:
        """What charts draw lines and bars of: each device; if only backends tell results apart, the backends."""
        kinds = {sides.kind for sides in sides_of(self.contenders, self.rows)}
        return [c for c in (self.by_backend if kinds == {Kind.BACKEND} else self.contenders) if not c.is_several]

    @property
    def machines(self) -> list[str]:
        return list(dict.fromkeys(c.machine for c in self.contenders))

    @property
    def gpus(self) -> list[Contender]:
        return [c for c in self.contenders if c.is_gpu and not c.is_several]

    @property
    def cpus(self) -> list[Contender]:
        return [c for c in self.contenders if not c.is_gpu and not c.is_several]

    def cases(self, family: Family) -> dict[str, str]:
        """Return the case_id of each size of a family, in ascending order of size."""
        return self.families[family]

    def memory(self, contender: Contender) -> Row | None:
        """Return the fastest hot stream over the largest arrays that this contender was measured on."""
        streams = [f for f in self.families if self.traits(f).is_stream and f.is_plain]
        cases = (case_id for family in streams for case_id in self.cases(family).values())
        found = (self.best(contender, case_id, "bandwidth") for case_id in cases if case_id not in self.unchecked)
        rows = [row for row in found if row]
        return max(rows, key=lambda row: (row.least_bytes or row.bytes or 0.0, row.value or 0.0), default=None)

    def holders(self, case_id: str, metric: str) -> list[Contender]:
        """Return the contenders that have a value of this metric in this case."""
        return [c for c in self.contenders if self.best(c, case_id, metric)]

    def best_of_each(self, case_id: str, metric: str) -> list[Row]:
        """Return the best row of each that is `drawn`, and of devices together, of this metric in this case."""
        together = (c for c in self.contenders if c.is_several)
        return [row for c in (*self.drawn, *together) if (row := self.best(c, case_id, metric))]

    def rate_of(self, family: Family) -> str:
        """Return the headline metric of a family: a rate, or "time" if it has no rate."""
        known = (self._metrics.get(case_id, set()) for case_id in self.cases(family).values())
        return headline(self.traits(family), set().union(*known))

    @functools.cached_property
    def rankings(self) -> dict[str, Ranking]:
        """The results of each case by wall time, the best first, ranked as in `bench-core compare`; by case_id."""
        return self._ranked("time")

    def _ranked(self, metric: str) -> dict[str, Ranking]:
        by_wall = [reading.only(reading.rows.mask("clock", Clock.DEVICE.__ne__)) for reading in self.comparable]
        ranked = rank(by_wall, CompareOptions(metrics=(metric,)))
        return {ranking.key.case_id: ranking for ranking in ranked}

    @functools.cached_property
    def sides(self) -> list[Sides]:
        """The ways in which these results are compared, the most important first; only those with a ratio."""
        every = sides_of(self.contenders, self.rows)
        return [sides for sides in every if any(c.ratio for found in self.compared(sides).values() for _, c in found)]

    def compared(self, sides: Sides, metric: str = "time") -> Mapping[str, Sequence[tuple[Contender, Comparison]]]:
        """Return the comparisons of all contenders of these sides, by case_id.

        All of one metric are judged together, so that their p-values are adjusted for multiple tests.
        """
        if (sides.kind, metric) not in self._compared:
            rankings = self.rankings if metric == "time" else self._ranked(metric)
            places = {case_id: i for i, case_id in enumerate(self._case_ids())}
            ordered = sorted(rankings.values(), key=lambda ranking: places.get(ranking.key.case_id, len(places)))
            found = [(c, pair) for ranking in ordered for c, pair in sides.pairs(ranking)]
            by_case: dict[str, list[tuple[Contender, Comparison]]] = defaultdict(list)
            for (contender, pair), c in zip(found, self.judged([pair for _, pair in found]), strict=True):
                by_case[pair.key.case_id].append((contender, c))
            self._compared[sides.kind, metric] = by_case
        return self._compared[sides.kind, metric]

    def _case_ids(self) -> Iterable[str]:
        return (case_id for cases in self.families.values() for case_id in cases.values())

    @functools.cached_property
    def at_home(self) -> dict[tuple[Contender, str], Comparison]:
        """The best result of each GPU against the best CPU of its own machine, by GPU and case_id; judged together."""
        found = [(case, c, pair) for case in self._case_ids() for c, pair in self._against_own_cpu(case)]
        judged = self.judged([pair for _, _, pair in found])
        return {(contender, case): c for (case, contender, _), c in zip(found, judged, strict=True)}

    def _against_own_cpu(self, case_id: str) -> list[tuple[Contender, Pair]]:
        """Return a pair for each GPU with a result of one case: its best result and that of its machine's CPU."""
        ranking = self.rankings.get(case_id)
        if ranking is None:
            return []
        best = {self.contender(gpu.entry.row): gpu for gpu in reversed(ranking.gpu)}
        pairs = []
        for c in (c for c in self.gpus if c in best):
            rivals = (cpu for cpu in ranking.cpu if cpu.entry.row.machine == c.machine)
            if cpu := next(rivals, None):
                pairs.append((c, Pair(ranking.key, c.label, cpu.entry.name, cpu, best[c])))
        return pairs

    def judged(self, pairs: Sequence[Pair]) -> list[Comparison]:
        """Return the comparisons of pairs, judged together with the default options of compare."""
        options = CompareOptions()
        return judge(pairs, options.min_effect, options.confidence, self.spreads)

    def statuses(self) -> list[Loss]:
        """Return the cases without a value, grouped by reason, largest group first."""
        groups: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        for row in self.rows:
            if not row.has_value:
                groups[row.status, row.reason_code, row.reason][f"{row.machine} {row.backend} {row.device}"] += 1
        losses = [Loss(*key, tuple(who.items()), who.total()) for key, who in groups.items()]
        return sorted(losses, key=lambda loss: (-loss.cases, loss.status, loss.reason))


@dataclass(frozen=True, slots=True)
class Loss:
    """The cases without a value for one reason. where: (machine, backend and device; number of cases)."""

    status: str
    code: str
    reason: str
    where: tuple[tuple[str, int], ...]
    cases: int


def best_of(rows: Sequence[Row]) -> Row:
    """Return the best of rows of one metric. Raises ValueError for none."""
    return min(rows, key=_rank)


def _rank(row: Row) -> float:
    value = row.value if row.value is not None else 0.0
    return value if row.better == "lower" else -value


def _beats(row: Row, other: Row) -> bool:
    return _rank(row) < _rank(other)


def _order(rows: Sequence[Row], families: Mapping[Family, Mapping[str, str]]) -> Callable[[Row], tuple[Any, ...]]:
    """Return the sort key of rows: family and size, then machine, as given, device, backend, implementation, metric."""
    cases = (case_id for sizes in families.values() for case_id in sizes.values())
    work = {case_id: i for i, case_id in enumerate(cases)}
    machines = {machine: i for i, machine in enumerate(dict.fromkeys(row.machine for row in rows))}
    backends = {name: i for i, name in enumerate(backend_order(row.backend for row in rows))}
    metrics = {name: i for i, name in enumerate(METRICS)}

    def place(row: Row) -> tuple[Any, ...]:
        where = (work.get(row.case_id, len(work)), machines[row.machine], row.device_type != "cpu", natural(row.device))
        who = (backends[row.backend], row.implementation != "default", row.implementation, row.threads or math.inf)
        return (*where, *who, metrics.get(row.metric, len(metrics)), row.metric, row.clock)

    return place
