"""What several devices do together: scaling over their number, and the bandwidth of exchanges between them.

In an exchange of all ranks each takes as long as the slowest. Which rank or link that is, the exchanges of two ranks
tell, one pair after the other while the rest wait.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench_core.analysis.families import Family
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Contender
from bench_core.records import Row, is_quantity
from bench_core.results.scaling import STRONG, WEAK
from bench_core.units import binary_bytes, counted, natural, show, significant, size_number

# What is drawn over the number of ranks, by what grows with them.
DRAWN = {WEAK: "parallel_efficiency", STRONG: "speedup"}
EFFICIENCY = "parallel_efficiency"
EXCHANGED = "bus_bandwidth"  # the metric of a rate that can be compared with that of a link
PAIR = "pair"  # the parameter with the two of the ranks that exchange, "0-3"; of all others, none does anything then
# By what share the pairs of a slow rank are below all others at least, by the number of pairs up to which it holds. Of
# three ranks one has the two slower of the three pairs by chance alone, of four with a probability of 1/5, of five with
# 1/40. What rests on a single pair may be a single disturbed case.
LESS_OF_ONE = 0.25
LESS = ((3, LESS_OF_ONE), (6, 0.1), (float("inf"), 0.05))
FEWEST_PAIRS = 3  # those of three ranks
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


@dataclass(frozen=True, slots=True)
class Slow:
    """A rank of which all pairs are slow, or the two ranks of a link: a single slow pair.

    share: what its fastest pair reaches, relative to the slowest of all others.
    """

    ranks: tuple[int, ...]
    share: float

    @property
    def text(self) -> str:
        """In words: "rank 2 is slow (at most 51.0 % of any other pair)"."""
        what = "link" if len(self.ranks) > 1 else "rank"
        return f"{what} {name_of(self.ranks)} is slow (at most {significant(100 * self.share)} % of any other pair)"


@dataclass(frozen=True, slots=True)
class Pairs:
    """The bus bandwidth of an exchange between two ranks of a target, for each pair, the lower rank first.

    work: its name, arithmetic and bytes. ranks: how many there are. slow: the rank or the link that is slow, if one is.
    """

    work: str
    contender: Contender
    ranks: int
    rows: Mapping[tuple[int, int], Row]
    slow: Slow | None

    @property
    def members(self) -> list[int]:
        """The ranks of which a pair has a value."""
        return sorted({rank for pair in self.rows for rank in pair})

    @property
    def are_all(self) -> bool:
        """Whether there are the pairs of all ranks."""
        return 2 * len(self.rows) >= self.ranks * (self.ranks - 1)

    @property
    def slowest(self) -> Row:
        return min(self.rows.values(), key=_value)

    @property
    def fastest(self) -> Row:
        return max(self.rows.values(), key=_value)


def scalings(data: ReportData) -> list[Scaling]:
    """Return all works that were measured on one rank and on several, in the order of the families."""
    found = _grouped(data.rows, DRAWN.values(), lambda row: _but(row, "ranks"))
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
    """Return all exchanges of all ranks whose bus bandwidth was measured, in the order of the families."""
    found = _grouped((row for row in data.rows if PAIR not in row.parameters), [EXCHANGED], lambda _: ())
    several = {row.who for rows in found.values() for row in rows}

    def label(row: Row) -> str:
        return " ".join([counted(row.ranks, "rank"), *([row.who] if len(several) > 1 else [])])

    panels = []
    for (family, _), rows in found.items():
        curves = tuple(_curves(data, rows, bytes_of, label))
        links = tuple(link for c in dict.fromkeys(curve.contender for curve in curves) for link in links_of(data, c))
        panels += [Exchange(f"{family.name} {family.arithmetic}", curves, links)] if curves else []
    return panels


def pairs(data: ReportData) -> list[Pairs]:
    """Return all exchanges of two ranks, for each target by work and bytes, in the order of the families."""
    found = _grouped(data.rows, [EXCHANGED], lambda row: (("bytes", f"{bytes_of(row)}"), ("ranks", f"{row.ranks}")))
    panels: dict[Contender, list[Pairs]] = {contender: [] for contender in data.contenders}
    for (family, _), rows in found.items():
        by_contender: dict[Contender, dict[tuple[int, int], Row]] = defaultdict(dict)
        for row in rows:
            contender, pair = data.contender(row), pair_of(row)
            if contender and pair and _value(row) > 0 and bytes_of(row) > 0:
                there = by_contender[contender]
                there[pair] = max(there.get(pair, row), row, key=_value)
        for contender, there in by_contender.items():
            work = " ".join([family.name, family.arithmetic, binary_bytes(bytes_of(rows[0]))])
            panels[contender].append(Pairs(work, contender, rows[0].ranks, dict(sorted(there.items())), slow(there)))
    return [p for of_target in panels.values() for p in of_target]


def slow(rows: Mapping[tuple[int, int], Row]) -> Slow | None:
    """Return the rank of which all pairs are slower than all others, or the one pair that is; None if there is none.

    rows: the rates of all pairs that were measured. Slower means: the whole intervals are below those of all other
    pairs by the share LESS or, for one pair, LESS_OF_ONE, and the gap between them is wider than the values of either
    group differ. So nothing is slow where links are of several kinds, or two of them are bad. A rank of which a single
    pair was measured is not told from a link.
    """
    if len(rows) < FEWEST_PAIRS:
        return None
    of_rank = next(share for most, share in LESS if len(rows) <= most)
    ranks = sorted({rank for pair in rows for rank in pair})
    found: list[tuple[tuple[int, ...], float, set[tuple[int, int]]]]
    found = [((rank,), of_rank, {pair for pair in rows if rank in pair}) for rank in ranks]
    found += [(pair, LESS_OF_ONE, {pair}) for pair in rows]
    for who, less, own in found:
        theirs, others = ([row for pair, row in rows.items() if (pair in own) == is_own] for is_own in (True, False))
        if not others or len(theirs) == len(who) == 1:
            continue
        high = max(_interval(row)[1] for row in theirs)
        low = min(_interval(row)[0] for row in others)
        if low - high > max(less * low, _range(theirs), _range(others)):
            return Slow(who, max(map(_value, theirs)) / min(map(_value, others)))
    return None


def name_of(ranks: Iterable[int]) -> str:
    """Return the ranks of a pair as in its parameter: "0-3"."""
    return "-".join(map(str, ranks))


def _value(row: Row) -> float:
    return row.value or 0.0


def _interval(row: Row) -> tuple[float, float]:
    return row.interval or (_value(row), _value(row))


def _range(rows: Sequence[Row]) -> float:
    return max(map(_value, rows)) - min(map(_value, rows))


def pair_of(row: Row) -> tuple[int, int] | None:
    """Return the two ranks that exchange, the lower first; None if the row has no such parameter."""
    found = re.fullmatch(r"(\d{1,6})-(\d{1,6})", row.parameters.get(PAIR, ""))
    low, high = sorted(map(int, found.groups())) if found else (0, 0)
    return (low, high) if low < high else None


def bytes_of(row: Row) -> float:
    """Return the bytes of an exchange: its parameter of that name, or its size."""
    return size_number(row.parameters.get("bytes", "") or row.size) or 0.0


Params = tuple[tuple[str, str], ...]


def _but(row: Row, *names: str) -> Params:
    return tuple((name, value) for name, value in row.parameters.items() if name not in names)


def _grouped(
    rows: Iterable[Row], metrics: Iterable[str], apart: Callable[[Row], Params]
) -> dict[tuple[Family, Params], list[Row]]:
    """Return those across ranks with a value of these metrics, by kind of work and what else keeps them apart."""
    wanted = set(metrics)
    found: Mapping[tuple[Family, Params], list[Row]] = defaultdict(list)
    for row in rows:
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
        there[x(row)] = max(best, row, key=_value)
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
    for p in pairs(data):
        rates = " to ".join(dict.fromkeys(show(row.value, row.unit) for row in (p.slowest, p.fastest)))
        words = f"bus {rates}" + (f"; {p.slow.text}" if p.slow else "")
        found.append(Reached(f"{p.work}, {counted(len(p.rows), 'pair')}", p.ranks, words, p.slowest))
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
