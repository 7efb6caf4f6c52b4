"""The data of the figures of a report, with the Rows from which it comes.

A figure without data is empty; the page then shows a sentence instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from bench_core import stats
from bench_core.analysis.families import Family
from bench_core.analysis.pooling import pooled_row
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Contender, Sides
from bench_core.compare.options import CompareOptions
from bench_core.compare.result import Comparison, Entry, Method, Verdict, change, interval
from bench_core.compare.verdicts import verdict_of_mean
from bench_core.machine import datasheets
from bench_core.records import CACHE_UNKNOWN, Cache, Limit, Row
from bench_core.results import roofline
from bench_core.results.metrics import METRICS
from bench_core.units import size_number

SMALLEST_SWEEP = 3  # sizes that a curve needs
MODEL_RATES = ("token_rate", "sample_rate")
MOST_CROSSOVERS = 8  # lines in the summary


@dataclass(frozen=True, slots=True)
class Speedup:
    """The comparison of a contender with the baseline of its sides on one case, by the method of `bench-core compare`.

    row, base: the best result of the contender and that of the baseline, `against`, in one metric: that of `comparison`
    or one that follows from it. ratio: that of `comparison`, how many times faster the contender is.
    """

    family: Family
    contender: Contender
    against: str
    comparison: Comparison
    row: Row
    base: Row
    ratio: float

    @property
    def label(self) -> str:
        return f"{self.family.label} · {self.row.size}"

    @property
    def is_checked(self) -> bool:
        """Whether the answers of both results have been checked."""
        return not (self.row.is_unchecked or self.base.is_unchecked)

    @classmethod
    def of(cls, family: Family, contender: Contender, against: str, c: Comparison) -> Self | None:
        """Return a comparison as a speed-up, None if it has no ratio."""
        if not (c.ratio and c.baseline and c.contender):
            return None
        return cls(family, contender, against, c, pooled_row(c.contender), pooled_row(c.baseline), c.ratio)

    @property
    def values(self) -> tuple[float, float]:
        """The two values that are compared (`Comparison.values`), the baseline first, in the unit of the rows.

        They are of the statistic that is compared (`Comparison.basis`), not the medians that the rows have.
        """
        c = self.comparison
        assert c.baseline and c.contender and c.values  # noqa: PT018, S101 - `of` makes no speed-up without them
        first, second = c.values
        return _value_at(self.base, c.baseline, first), _value_at(self.row, c.contender, second)

    @property
    def low(self) -> float | None:
        return self.comparison.ci_low

    @property
    def high(self) -> float | None:
        return self.comparison.ci_high


def _value_at(row: Row, entry: Entry, compared: float) -> float:
    """Return what the metric of a row is when the metric of an entry, from which it follows, is `compared`."""
    if row.metric == entry.row.metric:
        return compared
    formula, share = METRICS[row.metric].formula, compared / (entry.value or math.nan)
    return (row.value or math.nan) * (1 / share if formula and formula.falls else share)


def speedups(data: ReportData, sides: Sides | None = None, metric: str = "time") -> list[Speedup]:
    """Return the speed-ups of all contenders of these sides (by default `data.sides[0]`), for one size of each family.

    Of the sizes that the baseline and the most contenders have in common, the largest is chosen.
    """
    if sides is None and not data.sides:
        return []
    sides = sides or data.sides[0]
    compared = data.compared(sides, metric)
    found: list[Speedup] = []
    for family, cases in data.families.items():
        by_size = [
            [s for who, c in compared.get(case_id, ()) if (s := Speedup.of(family, who, sides.against, c))]
            for case_id in cases.values()
        ]
        largest: list[Speedup] = max(reversed(by_size), key=_count_then_work)
        found += largest
    return found


def of_which(data: ReportData) -> str:
    """Return in words of which statistic the ratios of times are, and their values (`Speedup.values`)."""
    counts = Counter(
        _statistic(c) for sides in data.sides for found in data.compared(sides).values() for _, c in found if c.ratio
    )
    usual, *others = [text for text in _STATISTICS if counts[text]] or [_MEDIANS]
    exceptions = (
        f", but {counts[text]:,} of {counts.total():,} {'is' if counts[text] == 1 else 'are'} {text}" for text in others
    )
    return "".join([usual, *exceptions])


_OF_P10 = "p10 (a tenth of the times of each are shorter)"
_GEOMETRIC = f"of the geometric mean over processes of their {_OF_P10}"
_SEQUENCE = (
    f"of the median over processes of their {_OF_P10}, because --precision repeated them until their values were "
    "precise (of processes in pairs the ratio is the median of the ratios of the pairs)"
)
_MEDIANS = "of the geometric mean of the medians of processes, because no samples of single processes are at hand"
_STATISTICS = (_GEOMETRIC, _SEQUENCE, _MEDIANS)


def _statistic(c: Comparison) -> str:
    """Return in words of which statistic the ratio of a comparison is, one of _STATISTICS."""
    if c.method is Method.SEQUENTIAL:
        return _SEQUENCE
    return _GEOMETRIC if c.basis.startswith("p10") else _MEDIANS


def _count_then_work(found: list[Speedup]) -> tuple[int, float]:
    return len(found), _amount(found[0].row) if found else 0.0


def _amount(row: Row) -> float:
    """Return the amount of work of a case, in FLOP or else bytes, by which sizes are sorted."""
    return row.flops or row.bytes or 0.0


@dataclass(frozen=True, slots=True)
class MeanSpeedup:
    """The geometric mean of the speed-ups of one contender over one machine in one arithmetic ("float32 tf32").

    Other formats are not mixed in: they are units of a chip of their own, and can be ten times as fast. Nor are the
    baselines of other machines. of: each work once. low, high: the interval of the mean, if the errors of all cases are
    fully correlated, which makes it widest.
    """

    contender: Contender
    against: str
    base_machine: str
    arithmetic: str
    of: tuple[Speedup, ...]
    ratio: float
    low: float
    high: float
    verdict: Verdict

    @property
    def example(self) -> Speedup:
        """The speed-up that is nearest to the mean."""
        return min(self.of, key=lambda s: abs(math.log(s.ratio / self.ratio)))

    @property
    def is_at_home(self) -> bool:
        """Whether contender and baseline are of one machine."""
        return self.base_machine == self.contender.machine

    @property
    def change(self) -> str:
        return change(self.ratio, self._unit)

    @property
    def interval(self) -> str:
        return interval(self.ratio, self.low, self.high, self._unit)

    @property
    def _unit(self) -> str:
        return self.of[0].comparison.key.unit


def means(found: Sequence[Speedup]) -> list[MeanSpeedup]:
    """Return the mean of each contender over each machine in each arithmetic, in the order of the families."""
    groups: dict[tuple[str, Contender, str], list[Speedup]] = {}
    for s in found:
        groups.setdefault((s.family.arithmetic, s.contender, s.base.machine), []).append(s)
    return [_mean(arithmetic, _each_work_once(several)) for (arithmetic, *_), several in groups.items()]


def fastest(found: Sequence[MeanSpeedup]) -> MeanSpeedup:
    """Return the mean over the most work of the fastest contender, of the means of one arithmetic in one metric.

    Contenders are ranked by their own values in the work that at least two of them have, relative to the best value:
    ratios do not rank them, as their baselines may be different CPUs. Raises ValueError for no means.
    """
    costs: dict[str, dict[Contender, float]] = {}
    for s in (s for mean in found for s in mean.of):
        costs.setdefault(s.comparison.key.case_id, {})[s.contender] = _log_cost(s)
    behind: dict[Contender, list[float]] = {}
    for of_work in (of_work for of_work in costs.values() if len(of_work) > 1):
        for contender, cost in of_work.items():
            behind.setdefault(contender, []).append(cost - min(of_work.values()))
    mean_behind = {contender: sum(by) / len(by) for contender, by in behind.items()}
    return min(found, key=lambda mean: (mean_behind.get(mean.contender, math.inf), -len(mean.of)))


def _log_cost(s: Speedup) -> float:
    """Return the logarithm of the contender's value, with the sign that makes a lower one better."""
    assert s.comparison.values  # noqa: S101 - a speed-up has a ratio, and so its values
    return math.log(s.comparison.values[1]) * (1 if s.comparison.key.better == "lower" else -1)


def _each_work_once(found: Sequence[Speedup]) -> list[Speedup]:
    """Return the speed-ups without those of work that was measured again in a newer form."""
    newest_first = sorted(found, key=lambda s: (s.row.started_at, s.family.version), reverse=True)
    kept: list[Speedup] = []
    for s in newest_first:
        if not any(s.family.is_form_of(other.family) for other in kept):
            kept.append(s)
    return [s for s in found if s in kept]


def _mean(arithmetic: str, found: Sequence[Speedup]) -> MeanSpeedup:
    ratios = [(s.ratio, s.low or s.ratio, s.high or s.ratio) for s in found]
    mean, low, high = (stats.geometric_mean(xs) for xs in zip(*ratios, strict=True))
    verdict = verdict_of_mean((mean, low, high), min(s.comparison.support for s in found), CompareOptions().min_effect)
    if len(found) == 1:
        verdict = found[0].comparison.verdict
    first = found[0]
    against = first.contender, first.against, first.base.machine
    return MeanSpeedup(*against, arithmetic, tuple(found), mean, low, high, verdict)


@dataclass(frozen=True, slots=True)
class Crossover:
    """The size from which a GPU is faster than the best CPU of its machine, at that size and all larger ones.

    A size counts if it is claimed or at least indicated that the GPU is faster there. row: the row of the GPU at that
    size, None if there is no such size. first: whether it is the smallest size measured; the true crossover may then be
    smaller. claimed: whether the GPU is claimed to be faster at all of these sizes.
    """

    family: Family
    contender: Contender
    row: Row | None
    first: bool
    claimed: bool = False

    @property
    def text(self) -> str:
        if self.row is None:
            return "not shown to win at any size"
        where = "at every size measured" if self.first else f"from {self.row.size}"
        return f"wins {where}" + " (indicated)" * (not self.claimed)


def _of_one_device(data: ReportData) -> list[Family]:
    """Return the families but those of several devices together, which over_ranks.py shows."""
    return [family for family in data.families if not family.across_ranks]


def crossovers(data: ReportData) -> list[Crossover]:
    """Return the crossovers of all families except streams, whose sizes are levels of the memory hierarchy."""
    families = [family for family in _of_one_device(data) if not data.traits(family).is_stream]
    return [c for family in families for c in crossovers_of(data, family)]


def crossovers_of(data: ReportData, family: Family) -> list[Crossover]:
    """Return the crossover of every GPU that has at least two amounts of work in common with a CPU of its machine."""
    found = []
    for contender in data.gpus:
        home = [data.at_home.get((contender, case_id)) for case_id in data.cases(family).values()]
        both = [(c, pooled_row(c.contender)) for c in home if c and c.contender and c.ratio]
        both.sort(key=lambda pair: _amount(pair[1]))
        if len({_amount(row) for _, row in both}) < 2:  # all sizes are variants of one amount
            continue
        losses = [i for i, (c, _) in enumerate(both) if not _is_win(c)]
        start = losses[-1] + 1 if losses else 0
        won = both[start:]
        claimed = all(c.verdict is Verdict.FASTER for c, _ in won)
        found.append(Crossover(family, contender, won[0][1] if won else None, start == 0, claimed))
    return found


def _is_win(c: Comparison) -> bool:
    """Return whether it is claimed or indicated that the contender is faster."""
    return c.verdict is Verdict.FASTER or (c.verdict is Verdict.INDICATED and (c.ratio or 0.0) > 1)


def crossover_lines(data: ReportData, most: int = MOST_CROSSOVERS) -> list[str]:
    """Return one line per family: "matmul float32: wins from 256"; with several GPUs, the line names them."""
    alike: dict[str, dict[str, list[str]]] = {}
    for c in crossovers(data):
        alike.setdefault(c.family.label, {}).setdefault(c.text, []).append(c.contender.label)
    several = len(data.gpus) > 1
    lines = []
    for label, texts in alike.items():
        words = [f"{text} ({', '.join(gpus)})" if several else text for text, gpus in texts.items()]
        lines.append(f"{label}: {'; '.join(words)}")
    left = len(lines) - most
    return [*lines[:most], f"and {left} more kinds of work"] if left > 0 else lines


@dataclass(frozen=True, slots=True)
class Point:
    """One row and its position on the horizontal axis."""

    contender: Contender
    x: float
    row: Row


@dataclass(frozen=True, slots=True)
class Sweep:
    """One family over its sizes: `metric` against size, a line of the best rows of each of `data.drawn`.

    x_kind: the quantity on the horizontal axis: "size", "FLOP", "B", or the one parameter that varies ("batch").
    """

    family: Family
    metric: str
    unit: str
    x_kind: str
    points: tuple[Point, ...]
    crossovers: tuple[Crossover, ...] = ()


def sweeps(data: ReportData) -> list[Sweep]:
    """Return the sweeps of all families except streams that were measured at three sizes or more."""
    families = [f for f in _of_one_device(data) if not data.traits(f).is_stream]
    found = [_sweep(data, f, data.rate_of(f), _x_kind(data, f)) for f in families]
    return [s for s in found if s]


def ladders(data: ReportData) -> list[Sweep]:
    """Return the sweeps of streams: bandwidth in B/s against the bytes of one call, as STREAM counts them.

    For a kernel that accesses each array once, these bytes are the total size of its arrays.
    """
    families = [f for f in _of_one_device(data) if data.traits(f).is_stream]
    found = [_sweep(data, f, "bandwidth", "B") for f in families]
    return [s for s in found if s]


def _sweep(data: ReportData, family: Family, metric: str, x_kind: str) -> Sweep | None:
    points = []
    for contender in data.drawn:
        for case_id in data.cases(family).values():
            row = data.best(contender, case_id, metric)
            x = _x(row, x_kind) if row else None
            if row and x:
                points.append(Point(contender, x, row))
    if len({p.x for p in points}) < SMALLEST_SWEEP:
        return None
    crossed = () if data.traits(family).is_stream else tuple(crossovers_of(data, family))
    return Sweep(family, metric, points[0].row.unit, x_kind, tuple(points), crossed)


def _x_kind(data: ReportData, family: Family) -> str:
    if all(size_number(size) for size in data.cases(family)):
        return "size"
    rows = [row for c in data.contenders for case in data.cases(family).values() if (row := data.best(c, case))]
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, text in row.parameters.items():
            seen.setdefault(name, set()).add(text)
    growing = [name for name, texts in seen.items() if len(texts) > 1]
    if len(growing) == 1 and all(size_number(text) for text in seen[growing[0]]):
        return growing[0]
    return "FLOP" if all(row.flops for row in rows) else "B"


def _x(row: Row, kind: str) -> float | None:
    known = {"size": size_number(row.size), "FLOP": row.flops, "B": row.bytes}
    return known[kind] if kind in known else size_number(row.parameters.get(kind, ""))


@dataclass(frozen=True, slots=True)
class Rate:
    """The throughput of one model of one of `data.drawn`, or the row with the reason why it is missing."""

    family: Family
    contender: Contender
    row: Row


def model_rates(data: ReportData) -> list[Rate]:
    """Return the samples or tokens per second of every model, at its `shown_size`.

    What has no value at that size is listed with the reason, unless the case was not planned for it.
    """
    found: list[Rate] = []
    for family in _of_one_device(data):
        metric = data.rate_of(family)
        if metric not in MODEL_RATES:
            continue
        case_id = data.cases(family)[shown_size(data, family, metric)]
        for contender in data.drawn:
            row = data.best(contender, case_id, metric) or data.failure(contender, case_id)
            found += [Rate(family, contender, row)] if row else []
    return found


def shown_size(data: ReportData, family: Family, metric: str) -> str:
    """Return the size of a family that charts with room for one size show.

    Of the sizes with a value of the most of `data.drawn` it is the largest.
    """
    cases = data.cases(family)
    return max(reversed(cases), key=lambda size: len(data.best_of_each(cases[size], metric)))


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One case in one column of the heat map.

    share: the value relative to the best of its line, at most 1.0; None without a value. row: the best row, or the row
    with the reason why it is missing; None if the case was not planned.
    """

    line: str
    column: Contender
    row: Row | None
    share: float | None

    @property
    def word(self) -> str:
        """The text that is shown if there is no value."""
        return "not planned" if self.row is None else str(self.row.status)


def heat(data: ReportData) -> list[HeatCell]:
    """Return the cells of workload x contender, each family at its `shown_size`.

    The columns are single devices, or the backends of at most two of them. A family without any value has no cells.
    """
    devices = [c for c in data.contenders if not c.is_several]
    columns = devices if len(devices) > 2 else [c for c in data.by_backend if not c.is_several]
    cells: list[HeatCell] = []
    for family in _of_one_device(data):
        metric = data.rate_of(family)
        size = shown_size(data, family, metric)
        case_id = data.cases(family)[size]
        rows = {c: data.best(c, case_id, metric) or data.failure(c, case_id) for c in columns}
        good = [row for row in rows.values() if row and row.has_value]
        if good:
            values = [row.value or 0.0 for row in good]
            best = min(values) if good[0].better == "lower" else max(values)
            label = f"{family.label} · {size}"
            cells += [HeatCell(label, column, row, _share(row, best)) for column, row in rows.items()]
    return cells


def _share(row: Row | None, best: float) -> float | None:
    if row is None or not row.has_value or not row.value:
        return None
    return best / row.value if row.better == "lower" else row.value / best


@dataclass(frozen=True, slots=True)
class RoofLimit:
    """A limit of a device: arithmetic in FLOP/s or memory in B/s, measured in these runs or taken from a datasheet.

    value: if measured, what its row supports (see roofline.py), as in the shares of the table.
    """

    label: str
    unit: str
    value: float
    measured: bool
    source: str


@dataclass(frozen=True, slots=True)
class Roof:
    """The roofline of one device: its ceilings, and its rows as points at (FLOP/B, FLOP/s).

    suites: the suites with a point on any device, in the order of the legend.
    """

    contender: Contender
    ceilings: tuple[RoofLimit, ...]
    points: tuple[Point, ...]
    suites: tuple[str, ...] = ()

    @property
    def bandwidths(self) -> list[RoofLimit]:
        return [c for c in self.ceilings if c.unit == "B/s"]

    @property
    def peaks(self) -> list[RoofLimit]:
        return [c for c in self.ceilings if c.unit == "FLOP/s"]


def roofs(data: ReportData) -> list[Roof]:
    """Return the roofline of every contender with a measured limit of arithmetic and of memory."""
    found = []
    for contender in data.contenders:
        measured = _measured(data, contender)
        if len({c.unit for c in measured}) == 2:
            found.append(Roof(contender, (*measured, *_promised(contender, measured)), _roof_points(data, contender)))
    there = {point.row.suite for roof in found for point in roof.points}
    suites = tuple(suite for suite in dict.fromkeys(family.suite for family in data.families) if suite in there)
    return [replace(roof, suites=suites) for roof in found]


def _measured(data: ReportData, contender: Contender) -> list[RoofLimit]:
    """Return the FLOP/s of the best matrix product of each dtype and precision, and the B/s of the best stream.

    Of one run they are the ceilings of its table by the wall clock, the highest over all numbers of threads; several
    runs are pooled first. Without a stream in memory, return a hot stream over the largest arrays, labelled by what is
    known of its caches.
    """
    rows = [row for row in data.of(contender) if row.has_value]
    best = roofline.highest(rows, data.traits)
    limits = [_ceiling(" ".join(word for word in kind if word != "ieee"), row) for kind, row in best.products.items()]
    if best.stream:
        return [*limits, _ceiling(best.stream.workload, best.stream)]
    streams = [row for row in rows if row.metric == "bandwidth" and _is_limit_of_a_cache(data, row)]
    largest = max((row.bytes or 0.0 for row in streams), default=0.0)
    beyond = max((row for row in streams if row.bytes == largest), key=roofline.supported, default=None)
    return [*limits, *([_ceiling(f"{beyond.workload} {_where(beyond)}", beyond)] if beyond else [])]


def _is_limit_of_a_cache(data: ReportData, row: Row) -> bool:
    hot = data.traits(row).measures is Limit.BANDWIDTH and row.cache == Cache.HOT
    return hot and not row.is_unchecked and not row.is_launch_bound and roofline.supported(row) > 0


def _where(row: Row) -> str:
    """Return where the arrays of a hot stream lie that is no ceiling of memory."""
    return "in caches of unknown size" if CACHE_UNKNOWN in row.flags.split(";") else "in a cache"


def _ceiling(name: str, row: Row) -> RoofLimit:
    return RoofLimit(name, row.unit, roofline.supported(row), True, f"{row.workload} {row.size} {row.backend}")


def _promised(contender: Contender, measured: Sequence[RoofLimit]) -> list[RoofLimit]:
    """Return the datasheet values of the measured ceilings, if datasheets.py lists exactly this device."""
    sheet = datasheets.SHEETS.get(contender.name)
    if sheet is None:
        return []
    found = []
    for c in measured:
        dtype, _, precision = c.label.partition(" ")
        bandwidth = c.unit == "B/s"
        peak = (
            sheet.bandwidth * 1e12 if bandwidth else datasheets.peak_flops(contender.name, dtype, precision or "ieee")
        )
        if peak:
            found.append(RoofLimit("memory" if bandwidth else c.label, c.unit, peak, False, sheet.source))
    return found


def _roof_points(data: ReportData, contender: Contender) -> tuple[Point, ...]:
    """Return one point per family, at the largest size with a value for which FLOPs and least bytes are known.

    FLOPs are those that the result needs (see roofline.py): causal attention counts only what its mask keeps.
    """
    points = []
    for family in data.families:
        known = [point for case in data.cases(family).values() if (point := _roof_point(data, contender, case))]
        points += known[-1:]
    return tuple(points)


def _roof_point(data: ReportData, contender: Contender, case_id: str) -> Point | None:
    full, causal = (data.best(contender, case_id, name) for name in ("flop_rate", "causal_flop_rate"))
    if full is None or not full.flops or not full.least_bytes:
        return None
    return Point(contender, full.flops * roofline.needed_share(causal, full) / full.least_bytes, causal or full)
