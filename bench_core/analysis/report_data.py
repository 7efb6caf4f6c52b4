"""The data of a report: contenders, families of cases, and the best rows, which figures look up.

Functions take Rows and return frozen records that contain Rows, so that a chart can show backend, threads and size next
to each number. This module does not draw.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench_core.analysis.pooling import pooled, safe
from bench_core.compare.best import Ranking, rank
from bench_core.compare.loading import Reading
from bench_core.compare.options import CompareOptions
from bench_core.compare.result import Comparison
from bench_core.compare.spread import Spreads
from bench_core.compare.verdicts import Pair, judge
from bench_core.records import Cache, Clock, Row, Scope, severity
from bench_core.results.metrics import headline
from bench_core.results.traits import TraitsOf, merged
from bench_core.units import natural, size_order


@dataclass(frozen=True, slots=True)
class Contender:
    """A device of a machine. `label` is the shortest name that no other contender has."""

    machine: str
    device: str
    label: str
    name: str = ""

    @property
    def is_gpu(self) -> bool:
        return self.device.partition(":")[0] != "cpu"


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of work over all its sizes: a line of a chart.

    variant: the parameters that differ from those of families that are otherwise equal, as text.
    """

    suite: str
    workload: str
    version: int
    dtype: str
    precision: str
    scope: str
    cache: str
    variant: str = ""

    @property
    def label(self) -> str:
        """Workload, dtype, and all other fields that are not the default."""
        words = [self.workload, self.dtype]
        words += [self.precision] * (self.precision != "ieee") + [self.variant] * bool(self.variant)
        words += [self.scope.replace("_", " ")] * (self.scope != Scope.RESIDENT)
        words += [self.cache] * (self.cache != Cache.HOT)
        return " ".join(words)


class ReportData:
    """The pooled rows of any number of runs, indexed for figures.

    contenders: devices with at least one value. silent: a sentence for each device without any value. Raises TableError
    for tables that contradict each other.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = [safe(reading) for reading in readings]
        self.rows = pooled(self.readings)
        self.traits = merged(reading.traits for reading in self.readings)
        self.spreads = Spreads.of(self.readings)
        self.families = _families(self.rows, self.traits)
        self.contenders, self.silent = _contenders(self.rows)
        self._by_device = {(c.machine, c.device): c for c in self.contenders}
        self._best: dict[tuple[Contender, str, str], Row] = {}
        self._failed: dict[tuple[Contender, str], Row] = {}
        self._of: dict[Contender, list[Row]] = defaultdict(list)
        self._by_case: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            self._enter(row)

    def _enter(self, row: Row) -> None:
        contender = self.contender(row)
        if contender is None or row.clock == Clock.DEVICE:
            return
        self._of[contender].append(row)
        self._by_case[row.case_id].append(row)
        if not row.has_value:
            held = self._failed.get((contender, row.case_id))
            if held is None or _severity(row) < _severity(held):
                self._failed[contender, row.case_id] = row
            return
        best = self._best.get((contender, row.case_id, row.metric))
        if best is None or _beats(row, best):
            self._best[contender, row.case_id, row.metric] = row

    def contender(self, row: Row) -> Contender | None:
        """Return the contender of a row, None if its device has no value in any row."""
        return self._by_device.get((row.machine, row.device))

    def of(self, contender: Contender) -> list[Row]:
        """Return all rows of a contender by the wall clock, and those without a clock."""
        return self._of[contender]

    def best(self, contender: Contender, case_id: str, metric: str = "time") -> Row | None:
        """Return the best row of a contender over all backends, implementations and threads, by the wall clock."""
        return self._best.get((contender, case_id, metric))

    def failure(self, contender: Contender, case_id: str) -> Row | None:
        """Return the row with the most severe status of a contender in a case, None if no row failed."""
        return self._failed.get((contender, case_id))

    def of_backend(self, contender: Contender, backend: str, case_id: str, metric: str) -> Row | None:
        """Return the best row of one backend of a contender, else its row with the reason why there is no value."""
        rows = [r for r in self._by_case[case_id] if self.contender(r) == contender and r.backend == backend]
        good = [row for row in rows if row.has_value and row.metric == metric]
        lost = [row for row in rows if not row.has_value]
        return min(good, key=_rank, default=None) or min(lost, key=_severity, default=None)

    @property
    def machines(self) -> list[str]:
        return list(dict.fromkeys(c.machine for c in self.contenders))

    @property
    def gpus(self) -> list[Contender]:
        return [c for c in self.contenders if c.is_gpu]

    @property
    def cpus(self) -> list[Contender]:
        return [c for c in self.contenders if not c.is_gpu]

    def cases(self, family: Family) -> dict[str, str]:
        """Return the case_id of each size of a family, in ascending order of size."""
        return self.families[family]

    def best_of(self, contenders: Iterable[Contender], case_id: str, metric: str = "time") -> Row | None:
        """Return the best row over several contenders."""
        rows = [row for c in contenders if (row := self.best(c, case_id, metric))]
        return min(rows, key=_rank, default=None)

    def holders(self, case_id: str, metric: str) -> list[Contender]:
        """Return the contenders that have a value of this metric in this case."""
        return [c for c in self.contenders if self.best(c, case_id, metric)]

    def rate_of(self, family: Family) -> str:
        """Return the headline metric of a family: a rate, or "time" if it has no rate."""
        ids = set(self.cases(family).values())
        return headline(self.traits(family), {metric for _, case_id, metric in self._best if case_id in ids})

    @functools.cached_property
    def rankings(self) -> dict[str, Ranking]:
        """The results of each case by wall time, the best first, ranked as in `bench-core compare`; by case_id."""
        options = CompareOptions(metrics=("time",))
        ranked = rank(self.readings, options, lambda row: row.clock == Clock.WALL)
        return {ranking.key.case_id: ranking for ranking in ranked}

    @functools.cached_property
    def at_home(self) -> dict[tuple[Contender, str], Comparison]:
        """The best result of each GPU against the best CPU of its own machine, by GPU and case_id; judged together."""
        found = [(case, c, pair) for case in self.rankings for c, pair in self.against_cpu(case, own_machine=True)]
        judged = self.judged([pair for _, _, pair in found])
        return {(contender, case): c for (case, contender, _), c in zip(found, judged, strict=True)}

    def against_cpu(self, case_id: str, *, own_machine: bool = False) -> list[tuple[Contender, Pair]]:
        """Return a pair for each GPU with a result of one case: its best result and the best of all CPUs.

        own_machine: of the CPU of its own machine instead; a GPU without one is left out.
        """
        ranking = self.rankings.get(case_id)
        if ranking is None:
            return []
        best = {self.contender(gpu.entry.row): gpu for gpu in reversed(ranking.gpu)}
        pairs = []
        for c in (c for c in self.contenders if c in best):
            rivals = (cpu for cpu in ranking.cpu if not own_machine or cpu.entry.row.machine == c.machine)
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


def _rank(row: Row) -> float:
    value = row.value if row.value is not None else 0.0
    return value if row.better == "lower" else -value


def _beats(row: Row, other: Row) -> bool:
    return _rank(row) < _rank(other)


def _severity(row: Row) -> int:
    return severity(row.status)


def _contenders(rows: Sequence[Row]) -> tuple[list[Contender], list[str]]:
    names: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.has_value:
            names[row.machine, row.device] = names.get((row.machine, row.device)) or row.device_name
    machines = list(dict.fromkeys(row.machine for row in rows))
    silent = []
    for machine, device in dict.fromkeys((row.machine, row.device) for row in rows):
        lost = [row for row in rows if (row.machine, row.device) == (machine, device)]
        if (machine, device) not in names:
            reasons = Counter(f"{row.status}: {row.reason or row.reason_code}" for row in lost)
            why = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
            silent.append(f"{machine} {device} has no value in any of {len(lost)} cases ({why}).")
    order = sorted(names, key=lambda key: (machines.index(key[0]), key[1] != "cpu", natural(key[1])))
    return [Contender(m, d, _label(m, d, order), names[m, d]) for m, d in order], silent


def _label(machine: str, device: str, among: Sequence[tuple[str, str]]) -> str:
    kind, _, index = device.partition(":")
    alike = [d for m, d in among if m == machine and d.partition(":")[0] == kind]
    short = "CPU" if kind == "cpu" else "GPU" if kind == "cuda" else f"GPU ({kind})"
    words = [machine] if len({m for m, _ in among}) > 1 else []
    return " ".join([*words, short] + [index] * (len(alike) > 1))


def _families(rows: Sequence[Row], traits: TraitsOf) -> dict[Family, dict[str, str]]:
    """Group cases that differ only in size; return the case_id of each size, by family.

    A parameter with several values at one size (a layout, a batch) makes variants, each a family of its own. Parameters
    that depend only on the size (m, n, k) do not.
    """
    groups: dict[tuple[str | int, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        key = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache)
        groups[key].setdefault(row.case_id, row)
    families: dict[Family, dict[str, str]] = {}
    for cases in groups.values():
        distinct = _distinguishing_parameters(list(cases.values()))
        for case_id, row in cases.items():
            variant = " ".join(f"{k}={v}" for k, v in row.parameters.items() if k in distinct)
            about = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache)
            families.setdefault(Family(*about, variant), {})[row.size] = case_id
    ordered = sorted(families, key=lambda family: traits(family).order)
    return {f: dict(sorted(families[f].items(), key=lambda item: size_order(item[0]))) for f in ordered}


def _distinguishing_parameters(rows: Sequence[Row]) -> set[str]:
    """Return the parameters in which two rows of equal size differ; a missing parameter counts as empty."""
    known = [(row.size, row.parameters) for row in rows]
    names = {name for _, values in known for name in values}
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for size, values in known:
        for name in names:
            seen[size, name].add(values.get(name, ""))
    return {name for (_, name), values in seen.items() if len(values) > 1}
