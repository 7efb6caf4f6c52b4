"""What several devices do together: scaling over their number, and the bandwidth of exchanges between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench_core.analysis.families import Family
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Contender
from bench_core.records import Row, is_quantity
from bench_core.results.scaling import STRONG, WEAK
from bench_core.units import counted, natural, show, significant, size_number

# What is drawn over the number of ranks, by what grows with them.
DRAWN = {WEAK: "parallel_efficiency", STRONG: "speedup"}
EFFICIENCY = "parallel_efficiency"
EXCHANGED = "bus_bandwidth"  # the metric of a rate that can be compared with that of a link
LINK = "ranks.link_bandwidth"  # the fact with that of a link: B/s of one device in one direction


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel. points: position on the horizontal axis and row, in ascending order."""

    contender: Contender
    label: str
    points: tuple[tuple[float, Row], ...]

    @property
    def last(self) -> Row:
        """The row at the right end."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Scaling:
    """A work over the number of ranks, on each target by each implementation.

    work: its name, arithmetic and size. kind: what grows with the ranks, "weak" or "strong". metric: that of the rows.
    """

    work: str
    kind: str
    metric: str
    curves: tuple[Curve, ...]

    @property
    def title(self) -> str:
        return f"{self.work} · {self.kind} scaling"


@dataclass(frozen=True, slots=True)
class Link:
    """What the link between the devices of a target carries, in B/s of one device in one direction, and who says so."""

    contender: Contender
    rate: float
    source: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """The bus bandwidth of one exchange over its bytes: a line for each number of ranks of each target."""

    title: str
    curves: tuple[Curve, ...]
    links: tuple[Link, ...]


def scalings(data: ReportData) -> list[Scaling]:
    """Return all works that were measured on one rank and on several, in the order of the families."""
    found = _grouped(data, DRAWN.values(), lambda row: _but(row, "ranks"))
    panels = []
    for (family, _), rows in found.items():
        kind = rows[0].parameters.get("scaling", "")
        metric = DRAWN.get(kind)
        several = {row.size for row in rows}
        work = " ".join([family.name, family.arithmetic, *(several if len(several) == 1 else ())])
        drawn = [row for row in rows if row.metric == metric]
        curves = tuple(_curves(data, drawn, lambda row: float(row.ranks), lambda row: row.who))
        panels += [Scaling(work, kind, metric, curves)] if metric and curves else []
    return panels


def exchanges(data: ReportData) -> list[Exchange]:
    """Return all exchanges whose bus bandwidth was measured, in the order of the families."""
    found = _grouped(data, [EXCHANGED], lambda _: ())
    several = {row.who for rows in found.values() for row in rows}

    def label(row: Row) -> str:
        return " ".join([counted(row.ranks, "rank"), *([row.who] if len(several) > 1 else [])])

    panels = []
    for (family, _), rows in found.items():
        curves = tuple(_curves(data, rows, bytes_of, label))
        links = tuple(link for c in dict.fromkeys(curve.contender for curve in curves) for link in links_of(data, c))
        panels += [Exchange(f"{family.name} {family.arithmetic}", curves, links)] if curves else []
    return panels


def bytes_of(row: Row) -> float:
    """Return the bytes of an exchange: its parameter of that name, or its size."""
    return size_number(row.parameters.get("bytes", "") or row.size) or 0.0


Params = tuple[tuple[str, str], ...]


def _but(row: Row, *names: str) -> Params:
    return tuple((name, value) for name, value in row.parameters.items() if name not in names)


def _grouped(
    data: ReportData, metrics: Iterable[str], apart: Callable[[Row], Params]
) -> dict[tuple[Family, Params], list[Row]]:
    """Return the rows across ranks with a value of these metrics, by kind of work and what else keeps them apart."""
    wanted = set(metrics)
    found: Mapping[tuple[Family, Params], list[Row]] = defaultdict(list)
    for row in data.rows:
        if row.metric in wanted and row.has_value and row.is_across_ranks:
            what = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache)
            found[Family(*what, across_ranks=True), apart(row)].append(row)
    return dict(found)


def _curves(
    data: ReportData, rows: Iterable[Row], x: Callable[[Row], float], label: Callable[[Row], str]
) -> Iterator[Curve]:
    """Yield a line for each target and label; of two rows at one place the better."""
    several = len([c for c in data.contenders if c.is_several]) > 1
    lines: dict[tuple[Contender, str], dict[float, Row]] = defaultdict(dict)
    for row in rows:
        contender = data.contender(row)
        if contender is None or x(row) <= 0:
            continue
        there = lines[contender, label(row)]
        best = there.get(x(row), row)
        there[x(row)] = max(best, row, key=lambda row: row.value or 0.0)
    places = {contender: place for place, contender in enumerate(data.contenders)}
    for (contender, words), there in sorted(lines.items(), key=lambda line: (places[line[0][0]], natural(line[0][1]))):
        name = f"{contender.label} {words}" if several else words
        yield Curve(contender, name, tuple(sorted(there.items())))


def best_of_each_target(curves: Iterable[Curve]) -> list[Curve]:
    """Return the line of each target that has the best value on the most ranks."""
    best: dict[Contender, Curve] = {}
    for curve in curves:
        held = best.get(curve.contender, curve)
        best[curve.contender] = max(held, curve, key=lambda curve: (curve.last.ranks, curve.last.value or 0.0))
    return list(best.values())


@dataclass(frozen=True, slots=True)
class Reached:
    """What a target reached in a work on the most ranks, by its best form, as text."""

    work: str
    ranks: int
    value: str
    row: Row


def reached(data: ReportData) -> list[Reached]:
    """Return what each target reached in each work of several devices together: scaling, exchanges, others."""
    found = []
    for s in scalings(data):
        for row in (curve.last for curve in best_of_each_target(s.curves)):
            faster = f"{significant(row.value or 0.0)}x, " if s.kind == STRONG else ""
            found.append(Reached(s.title, row.ranks, faster + percent(data.same(row, EFFICIENCY)), row))
    for e in exchanges(data):
        rows = [curve.last for curve in best_of_each_target(e.curves)]
        found += [Reached(f"{e.title} {r.size}", r.ranks, f"bus {show(r.value, r.unit)}", r) for r in rows]
    shown = {(one.row.suite, one.row.workload) for one in found}
    for family in (f for f in data.families if f.across_ranks and (f.suite, f.workload) not in shown):
        metric = data.rate_of(family)
        for c in (c for c in data.contenders if c.is_several):
            there = [held for case in data.cases(family).values() if (held := data.best(c, case, metric))]
            found += [Reached(f"{family.label} {r.size}", r.ranks, show(r.value, r.unit), r) for r in there[-1:]]
    return found


def percent(row: Row) -> str:
    """Return a share with its interval, in per cent: "93.1 % (92.0 % to 94.4 %)"."""
    value, *ends = (f"{significant(100 * share)} %" for share in (row.value or 0.0, *(row.interval or ())))
    return f"{value} ({' to '.join(ends)})" if ends else value


def links_of(data: ReportData, contender: Contender) -> list[Link]:
    """Return what run.json says of the link between the devices of a target, if it does: the lowest of its runs."""
    found = []
    for reading in data.readings:
        rows = [row for row in reading.rows if (row.machine, row.device) == (contender.machine, contender.device)]
        places = [reading.files.facts, *(reading.files.worker_facts.get(env, {}) for env in {r.env_id for r in rows})]
        facts = [facts[LINK] for facts in places if rows and LINK in facts]
        known = [f for f in facts if isinstance(f.value, int | float) and is_quantity(f.value)]
        found += [Link(contender, float(fact.value), fact.source) for fact in known]
    return [min(found, key=lambda link: link.rate)] if found else []
