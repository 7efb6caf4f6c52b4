"""The figures of a report as data: what each shows, with the Rows that prove it.

A figure that has nothing to show is empty, and the page says so in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench_core import datasheet
from bench_core.compare.comparison import Comparison
from bench_core.compare.options import Options
from bench_core.compare.verdicts import Pair, judge
from bench_core.metrics import is_launch_bound, parameters
from bench_core.model import Row
from bench_core.report.records import has_value, pooled_row, size_number
from bench_core.report.study import Contender, Family, Study
from bench_core.roofline import STREAMS, is_ceiling, needed_share

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


def speedups(study: Study) -> list[Speedup]:
    """Return the speed-ups of every GPU over the best CPU of all runs, each family at one size.

    That size is the largest that a CPU and the most GPUs have in common. All pairs of the report are judged
    together, with the options that compare has by default, so that their tests are adjusted for one another.
    """
    options = Options()
    found = [
        (family, contender, pair)
        for family in study.families
        for case_id in study.cases(family).values()
        for contender, pair in _pairs(study, case_id)
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


def _pairs(study: Study, case_id: str) -> list[tuple[Contender, Pair]]:
    """Return each GPU's best result of one case beside the best of any CPU."""
    ranking = study.rankings.get(case_id)
    if ranking is None or not ranking.cpu:
        return []
    cpu = ranking.cpu[0]
    best = {study.contender(gpu.entry.row): gpu for gpu in reversed(ranking.gpu)}
    name = cpu.entry.name
    return [(c, Pair(ranking.key, c.label, name, cpu, best[c])) for c in study.contenders if c in best]


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


def crossovers(study: Study) -> list[Crossover]:
    """Return the crossovers of every family outside the memory suite, whose sizes are places in the caches."""
    families = [family for family in study.families if family.suite != "memory"]
    return [c for family in families for c in crossovers_of(study, family)]


def crossovers_of(study: Study, family: Family) -> list[Crossover]:
    """Return the crossover of every GPU that did two amounts of work or more that a CPU of its machine did too."""
    found = []
    for contender in study.gpus:
        rivals = [c for c in study.cpus if c.machine == contender.machine]
        pairs = [(study.best(contender, case), study.best_of(rivals, case)) for case in study.cases(family).values()]
        both = [(gpu, cpu) for gpu, cpu in pairs if gpu and cpu and gpu.value and cpu.value]
        both.sort(key=lambda pair: _amount(pair[0]))
        if len({_amount(gpu) for gpu, _ in both}) < 2:  # the sizes of such a family are variants of one
            continue
        losses = [i for i, (gpu, cpu) in enumerate(both) if (gpu.value or 0.0) >= (cpu.value or 0.0)]
        start = losses[-1] + 1 if losses else 0
        row = both[start][0] if start < len(both) else None
        found.append(Crossover(family, contender, row, start == 0))
    return found


def crossover_lines(study: Study, most: int = MOST_CROSSOVERS) -> list[str]:
    """Return a line a family: "matmul float32: wins from 256", with the GPUs named where there are several."""
    alike: dict[str, dict[str, list[str]]] = {}
    for c in crossovers(study):
        alike.setdefault(c.family.label, {}).setdefault(c.text, []).append(c.contender.label)
    several = len(study.gpus) > 1
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


def sweeps(study: Study) -> list[Sweep]:
    """Return every family outside the memory suite that was measured at three sizes or more."""
    families = [f for f in study.families if f.suite != "memory"]
    found = [_sweep(study, f, study.rate_of(f), _x_kind(study, f)) for f in families]
    return [s for s in found if s]


def ladders(study: Study) -> list[Sweep]:
    """Return the memory families as bandwidth against bytes moved a call.

    For a kernel that passes each array once, the bytes that STREAM counts are its footprint.
    """
    families = [f for f in study.families if f.suite == "memory"]
    found = [_sweep(study, f, "bandwidth", "B") for f in families]
    return [s for s in found if s]


def _sweep(study: Study, family: Family, metric: str, x_kind: str) -> Sweep | None:
    points = []
    for contender in study.contenders:
        for case_id in study.cases(family).values():
            row = study.best(contender, case_id, metric)
            x = _x(row, x_kind) if row else None
            if row and x:
                points.append(Point(contender, x, row))
    if len({p.x for p in points}) < SMALLEST_SWEEP:
        return None
    crossed = () if family.suite == "memory" else tuple(crossovers_of(study, family))
    return Sweep(family, metric, points[0].row.unit, x_kind, tuple(points), crossed)


def _x_kind(study: Study, family: Family) -> str:
    if all(size_number(size) for size in study.cases(family)):
        return "size"
    rows = [row for c in study.contenders for case in study.cases(family).values() if (row := study.best(c, case))]
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, text in parameters(row).items():
            seen.setdefault(name, set()).add(text)
    growing = [name for name, texts in seen.items() if len(texts) > 1]
    if len(growing) == 1 and all(size_number(text) for text in seen[growing[0]]):
        return growing[0]
    return "FLOP" if all(row.flops for row in rows) else "B"


def _x(row: Row, kind: str) -> float | None:
    known = {"size": size_number(row.size), "FLOP": row.flops, "B": row.bytes}
    return known[kind] if kind in known else size_number(parameters(row).get(kind, ""))


@dataclass(frozen=True, slots=True)
class Rate:
    """The throughput of one model on one contender, or the row that says why there is none."""

    family: Family
    contender: Contender
    row: Row


def model_rates(study: Study) -> list[Rate]:
    """Return samples or tokens a second of every model, at the largest size that most contenders finished.

    A contender that tried and has no value there is in the list with its reason.
    """
    found: list[Rate] = []
    for family in study.families:
        metric = study.rate_of(family)
        if metric not in MODEL_RATES:
            continue
        cases = study.cases(family).values()
        _, _, case_id = max((len(study.holders(case, metric)), i, case) for i, case in enumerate(cases))
        for contender in study.contenders:
            row = study.best(contender, case_id, metric) or study.failure(contender, case_id)
            found += [Rate(family, contender, row)] if row else []
    return found


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the heat map: a contender, or one of its backends where there are few contenders."""

    contender: Contender
    backend: str = ""

    @property
    def label(self) -> str:
        return f"{self.contender.label} {self.backend}".strip()


@dataclass(frozen=True, slots=True)
class Cell:
    """One case in one column. share: of the best value in its line, 1.0 for the best; None without a value.

    row: the best row, or the one that says why there is none; None where the case was not planned.
    """

    line: str
    column: Column
    row: Row | None
    share: float | None

    @property
    def word(self) -> str:
        """What stands in place of a value."""
        return "not planned" if self.row is None else str(self.row.status)


def heat(study: Study) -> list[Cell]:
    """Return workload x device: every family at the largest size that any contender could do."""
    columns = _columns(study)
    cells: list[Cell] = []
    for family in study.families:
        metric = study.rate_of(family)
        for size, case_id in reversed(study.cases(family).items()):
            rows = {column: _in_column(study, column, case_id, metric) for column in columns}
            values = [row.value for row in rows.values() if row and has_value(row) and row.value]
            if values:
                best = min(values) if metric == "time" else max(values)
                label = f"{family.label} · {size}"
                cells += [Cell(label, column, row, _share(row, best)) for column, row in rows.items()]
                break
    return cells


def _share(row: Row | None, best: float) -> float | None:
    if row is None or not has_value(row) or not row.value:
        return None
    return best / row.value if row.better == "lower" else row.value / best


def _columns(study: Study) -> list[Column]:
    if len(study.contenders) > 2:
        return [Column(contender) for contender in study.contenders]
    backends = dict.fromkeys((study.contender(row), row.backend) for row in study.rows if has_value(row))
    return [Column(c, backend) for c in study.contenders for who, backend in backends if who == c]


def _in_column(study: Study, column: Column, case_id: str, metric: str) -> Row | None:
    if not column.backend:
        return study.best(column.contender, case_id, metric) or study.failure(column.contender, case_id)
    return study.of_backend(column.contender, column.backend, case_id, metric)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A limit of a device: arithmetic in FLOP/s or memory in B/s, measured in these runs or from a datasheet."""

    label: str
    unit: str
    value: float
    measured: bool
    source: str


@dataclass(frozen=True, slots=True)
class Roof:
    """The roofline of one device: its ceilings, and its rows at FLOP/B and FLOP/s."""

    contender: Contender
    ceilings: tuple[Ceiling, ...]
    points: tuple[Point, ...]

    @property
    def bandwidths(self) -> list[Ceiling]:
        return [c for c in self.ceilings if c.unit == "B/s"]

    @property
    def peaks(self) -> list[Ceiling]:
        return [c for c in self.ceilings if c.unit == "FLOP/s"]


def roofs(study: Study) -> list[Roof]:
    """Return the roofline of every contender whose arithmetic and memory were both measured."""
    found = []
    for contender in study.contenders:
        measured = [*_peaks(study, contender), *_bandwidths(study, contender)]
        if len({c.unit for c in measured}) == 2:
            found.append(Roof(contender, (*measured, *_promised(contender, measured)), _roof_points(study, contender)))
    return found


def _peaks(study: Study, contender: Contender) -> list[Ceiling]:
    """Return the best matrix product, by dtype and precision."""
    best: dict[tuple[str, str], Row] = {}
    for family in study.families:
        for case_id in study.cases(family).values() if family.suite == "matmul" else ():
            row = study.best(contender, case_id, "flop_rate")
            kind = family.dtype, family.precision
            if row and is_ceiling(row):
                best[kind] = max(row, best.get(kind, row), key=_value)
    return [_ceiling(" ".join(word for word in kind if word != "ieee"), row) for kind, row in best.items()]


def _bandwidths(study: Study, contender: Contender) -> list[Ceiling]:
    """Return the best stream over arrays that no cache holds; out of a cache, with that said, where there is none."""
    cases = [case for f in study.families if f.workload in STREAMS for case in study.cases(f).values()]
    rows = [row for case in cases if (row := study.best(contender, case, "bandwidth"))]
    memory = [row for row in rows if is_ceiling(row)]
    if memory:
        best = max(memory, key=_value)
        return [_ceiling(best.workload, best)]
    rows = [row for row in rows if not is_launch_bound(row)]
    largest = max((row.bytes or 0.0 for row in rows), default=0.0)
    return [_ceiling(f"{row.workload} in a cache", row) for row in rows if row.bytes == largest][:1]


def _value(row: Row) -> float:
    return row.value or 0.0


def _ceiling(name: str, row: Row) -> Ceiling:
    return Ceiling(name, row.unit, _value(row), True, f"{row.workload} {row.size} {row.backend}")


def _promised(contender: Contender, measured: Sequence[Ceiling]) -> list[Ceiling]:
    """Return what the datasheet says of each ceiling that was measured, if the device is exactly in the table."""
    sheet = datasheet.SHEETS.get(contender.name)
    if sheet is None:
        return []
    found = []
    for c in measured:
        dtype, _, precision = c.label.partition(" ")
        bandwidth = c.unit == "B/s"
        peak = sheet.bandwidth * 1e12 if bandwidth else datasheet.peak_flops(contender.name, dtype, precision or "ieee")
        if peak:
            found.append(Ceiling("memory" if bandwidth else c.label, c.unit, peak, False, sheet.source))
    return found


def _roof_points(study: Study, contender: Contender) -> tuple[Point, ...]:
    """Return each family at the largest size that has a value, where FLOPs and least bytes are both known.

    FLOPs are those that are needed (see roofline.py): of causal attention, what its mask leaves.
    """
    points = []
    for family in study.families:
        known = [point for case in study.cases(family).values() if (point := _roof_point(study, contender, case))]
        points += known[-1:]
    return tuple(points)


def _roof_point(study: Study, contender: Contender, case_id: str) -> Point | None:
    full, causal = (study.best(contender, case_id, name) for name in ("flop_rate", "causal_flop_rate"))
    if full is None or not full.flops or not full.least_bytes:
        return None
    return Point(contender, full.flops * needed_share(causal, full) / full.least_bytes, causal or full)
