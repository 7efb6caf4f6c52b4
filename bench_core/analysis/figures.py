"""The figures of a report as data: what each shows, with the Rows that prove it.

A figure that has nothing to show is empty, and the page says so in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench_core.analysis.pooling import pooled_row
from bench_core.analysis.report_data import Contender, Family, ReportData
from bench_core.compare.options import CompareOptions
from bench_core.compare.result import Comparison
from bench_core.compare.verdicts import Pair, judge
from bench_core.machine import datasheets
from bench_core.records import Limit, Row
from bench_core.results.roofline import measured_limit, needed_share
from bench_core.units import size_number

SMALLEST_SWEEP = 3  # sizes that make a curve
MODEL_RATES = ("token_rate", "sample_rate")
MOST_CROSSOVERS = 8  # lines of a summary


@dataclass(frozen=True, slots=True)
class Speedup:
    """A GPU against the best CPU row at one case, as `bench-core compare` judges it. ratio: of `comparison`."""

    family: Family
    contender: Contender
    comparison: Comparison
    gpu: Row
    cpu: Row
    ratio: float

    @property
    def label(self) -> str:
        return f"{self.family.label} · {self.gpu.size}"

    @property
    def low(self) -> float | None:
        return self.comparison.ci_low

    @property
    def high(self) -> float | None:
        return self.comparison.ci_high


def speedups(data: ReportData) -> list[Speedup]:
    """Return the speed-ups of every GPU over the best CPU of all runs, each family at one size.

    That size is the largest that a CPU and the most GPUs have in common. All pairs of the report are judged
    together, with the options that compare has by default, so that their tests are adjusted for one another.
    """
    options = CompareOptions()
    found = [
        (family, contender, pair)
        for family in data.families
        for case_id in data.cases(family).values()
        for contender, pair in _pairs(data, case_id)
    ]
    judged = judge([pair for _, _, pair in found], options.min_effect, options.confidence)
    by_size: dict[Family, dict[str, list[Speedup]]] = {}
    for (family, contender, _), c in zip(found, judged, strict=True):
        if c.ratio and c.baseline and c.contender:
            s = Speedup(family, contender, c, pooled_row(c.contender), pooled_row(c.baseline), c.ratio)
            by_size.setdefault(family, {}).setdefault(c.key.case_id, []).append(s)
    return [s for sizes in by_size.values() for s in max(sizes.values(), key=_count_then_work)]


def _count_then_work(found: list[Speedup]) -> tuple[int, float]:
    return len(found), _amount(found[0].gpu)


def _amount(row: Row) -> float:
    """Return how much work a case is, to order sizes by."""
    return row.flops or row.bytes or 0.0


def _pairs(data: ReportData, case_id: str) -> list[tuple[Contender, Pair]]:
    """Return each GPU's best result of one case beside the best of any CPU."""
    ranking = data.rankings.get(case_id)
    if ranking is None or not ranking.cpu:
        return []
    cpu = ranking.cpu[0]
    best = {data.contender(gpu.entry.row): gpu for gpu in reversed(ranking.gpu)}
    name = cpu.entry.name
    return [(c, Pair(ranking.key, c.label, name, cpu, best[c])) for c in data.contenders if c in best]


@dataclass(frozen=True, slots=True)
class Crossover:
    """From which size a GPU beats the best CPU of its own machine, at that size and every larger one.

    row: the GPU's row at that size, None where it never wins. first: whether that is the smallest size
    measured, so that the true crossover lies below.
    """

    family: Family
    contender: Contender
    row: Row | None
    first: bool

    @property
    def text(self) -> str:
        if self.row is None:
            return "never wins at the sizes measured"
        return "wins at every size measured" if self.first else f"wins from {self.row.size}"


def crossovers(data: ReportData) -> list[Crossover]:
    """Return the crossovers of every family but streams, whose sizes are places in the caches."""
    families = [family for family in data.families if not data.traits(family).is_stream]
    return [c for family in families for c in crossovers_of(data, family)]


def crossovers_of(data: ReportData, family: Family) -> list[Crossover]:
    """Return the crossover of every GPU that did two amounts of work or more that a CPU of its machine did too."""
    found = []
    for contender in data.gpus:
        rivals = [c for c in data.cpus if c.machine == contender.machine]
        pairs = [(data.best(contender, case), data.best_of(rivals, case)) for case in data.cases(family).values()]
        both = [(gpu, cpu) for gpu, cpu in pairs if gpu and cpu and gpu.value and cpu.value]
        both.sort(key=lambda pair: _amount(pair[0]))
        if len({_amount(gpu) for gpu, _ in both}) < 2:  # the sizes of such a family are variants of one
            continue
        losses = [i for i, (gpu, cpu) in enumerate(both) if (gpu.value or 0.0) >= (cpu.value or 0.0)]
        start = losses[-1] + 1 if losses else 0
        row = both[start][0] if start < len(both) else None
        found.append(Crossover(family, contender, row, start == 0))
    return found


def crossover_lines(data: ReportData, most: int = MOST_CROSSOVERS) -> list[str]:
    """Return a line a family: "matmul float32: wins from 256", with the GPUs named where there are several."""
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
    """One row at its place on the horizontal axis."""

    contender: Contender
    x: float
    row: Row


@dataclass(frozen=True, slots=True)
class Sweep:
    """One family over its sizes: `metric` against size, a line a contender, best row each.

    x_kind: what the horizontal axis holds: "size", "FLOP", "B", or the one parameter that grows ("batch").
    """

    family: Family
    metric: str
    unit: str
    x_kind: str
    points: tuple[Point, ...]
    crossovers: tuple[Crossover, ...] = ()


def sweeps(data: ReportData) -> list[Sweep]:
    """Return every family but streams that was measured at three sizes or more."""
    families = [f for f in data.families if not data.traits(f).is_stream]
    found = [_sweep(data, f, data.rate_of(f), _x_kind(data, f)) for f in families]
    return [s for s in found if s]


def ladders(data: ReportData) -> list[Sweep]:
    """Return the streams as bandwidth against bytes moved a call.

    For a kernel that passes each array once, the bytes that STREAM counts are its footprint.
    """
    families = [f for f in data.families if data.traits(f).is_stream]
    found = [_sweep(data, f, "bandwidth", "B") for f in families]
    return [s for s in found if s]


def _sweep(data: ReportData, family: Family, metric: str, x_kind: str) -> Sweep | None:
    points = []
    for contender in data.contenders:
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
    """The throughput of one model on one contender, or the row that says why there is none."""

    family: Family
    contender: Contender
    row: Row


def model_rates(data: ReportData) -> list[Rate]:
    """Return samples or tokens a second of every model, at the largest size that most contenders finished.

    A contender that tried and has no value there is in the list with its reason.
    """
    found: list[Rate] = []
    for family in data.families:
        metric = data.rate_of(family)
        if metric not in MODEL_RATES:
            continue
        cases = data.cases(family).values()
        _, _, case_id = max((len(data.holders(case, metric)), i, case) for i, case in enumerate(cases))
        for contender in data.contenders:
            row = data.best(contender, case_id, metric) or data.failure(contender, case_id)
            found += [Rate(family, contender, row)] if row else []
    return found


@dataclass(frozen=True, slots=True)
class HeatColumn:
    """A column of the heat map: a contender, or one of its backends where there are few contenders."""

    contender: Contender
    backend: str = ""

    @property
    def label(self) -> str:
        return f"{self.contender.label} {self.backend}".strip()


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One case in one column. share: of the best value in its line, 1.0 for the best; None without a value.

    row: the best row, or the one that says why there is none; None where the case was not planned.
    """

    line: str
    column: HeatColumn
    row: Row | None
    share: float | None

    @property
    def word(self) -> str:
        """What stands in place of a value."""
        return "not planned" if self.row is None else str(self.row.status)


def heat(data: ReportData) -> list[HeatCell]:
    """Return workload x device: every family at the largest size that any contender could do."""
    columns = _columns(data)
    cells: list[HeatCell] = []
    for family in data.families:
        metric = data.rate_of(family)
        for size, case_id in reversed(data.cases(family).items()):
            rows = {column: _in_column(data, column, case_id, metric) for column in columns}
            good = [row for row in rows.values() if row and row.has_value and row.value]
            if good:
                values = [row.value or 0.0 for row in good]
                best = min(values) if good[0].better == "lower" else max(values)
                label = f"{family.label} · {size}"
                cells += [HeatCell(label, column, row, _share(row, best)) for column, row in rows.items()]
                break
    return cells


def _share(row: Row | None, best: float) -> float | None:
    if row is None or not row.has_value or not row.value:
        return None
    return best / row.value if row.better == "lower" else row.value / best


def _columns(data: ReportData) -> list[HeatColumn]:
    if len(data.contenders) > 2:
        return [HeatColumn(contender) for contender in data.contenders]
    backends = dict.fromkeys((data.contender(row), row.backend) for row in data.rows if row.has_value)
    return [HeatColumn(c, backend) for c in data.contenders for who, backend in backends if who == c]


def _in_column(data: ReportData, column: HeatColumn, case_id: str, metric: str) -> Row | None:
    if not column.backend:
        return data.best(column.contender, case_id, metric) or data.failure(column.contender, case_id)
    return data.of_backend(column.contender, column.backend, case_id, metric)


@dataclass(frozen=True, slots=True)
class RoofLimit:
    """A limit of a device: arithmetic in FLOP/s or memory in B/s, measured in these runs or from a datasheet."""

    label: str
    unit: str
    value: float
    measured: bool
    source: str


@dataclass(frozen=True, slots=True)
class Roof:
    """The roofline of one device: its ceilings, and its rows at FLOP/B and FLOP/s.

    suites: those with a point on any device, in the order in which they are shown.
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
    """Return the roofline of every contender whose arithmetic and memory were both measured."""
    found = []
    for contender in data.contenders:
        measured = [*_peaks(data, contender), *_bandwidths(data, contender)]
        if len({c.unit for c in measured}) == 2:
            found.append(Roof(contender, (*measured, *_promised(contender, measured)), _roof_points(data, contender)))
    there = {point.row.suite for roof in found for point in roof.points}
    suites = tuple(suite for suite in dict.fromkeys(family.suite for family in data.families) if suite in there)
    return [replace(roof, suites=suites) for roof in found]


def _peaks(data: ReportData, contender: Contender) -> list[RoofLimit]:
    """Return the best matrix product, by dtype and precision."""
    best: dict[tuple[str, str], Row] = {}
    for family in data.families:
        for case_id in data.cases(family).values():
            row = data.best(contender, case_id, "flop_rate")
            kind = family.dtype, family.precision
            if row and measured_limit(row, data.traits) is Limit.COMPUTE:
                best[kind] = max(row, best.get(kind, row), key=_value)
    return [_ceiling(" ".join(word for word in kind if word != "ieee"), row) for kind, row in best.items()]


def _bandwidths(data: ReportData, contender: Contender) -> list[RoofLimit]:
    """Return the best stream over arrays that no cache holds; out of a cache, with that said, where there is none."""
    shown = [family for family in data.families if data.traits(family).measures is Limit.BANDWIDTH]
    cases = [case for family in shown for case in data.cases(family).values()]
    rows = [row for case in cases if (row := data.best(contender, case, "bandwidth"))]
    memory = [row for row in rows if measured_limit(row, data.traits)]
    if memory:
        best = max(memory, key=_value)
        return [_ceiling(best.workload, best)]
    rows = [row for row in rows if not row.is_launch_bound]
    largest = max((row.bytes or 0.0 for row in rows), default=0.0)
    return [_ceiling(f"{row.workload} in a cache", row) for row in rows if row.bytes == largest][:1]


def _value(row: Row) -> float:
    return row.value or 0.0


def _ceiling(name: str, row: Row) -> RoofLimit:
    return RoofLimit(name, row.unit, _value(row), True, f"{row.workload} {row.size} {row.backend}")


def _promised(contender: Contender, measured: Sequence[RoofLimit]) -> list[RoofLimit]:
    """Return what the datasheet says of each ceiling that was measured, if the device is exactly in the table."""
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
    """Return each family at the largest size that has a value, where FLOPs and least bytes are both known.

    FLOPs are those that are needed (see roofline.py): of causal attention, what its mask leaves.
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
    return Point(contender, full.flops * needed_share(causal, full) / full.least_bytes, causal or full)
