"""Which nodes of a fleet differ: a verdict, heat maps of nodes by work, and what is known of each node that differs.

What is slow or fast is decided in diagnosis/; here it is said in words and laid out. A cell of a map says what it says
by a mark and a number; its colour repeats that.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from bench_core.compare.loading import Reading
from bench_core.diagnosis.judge import FEWEST_NODES, FEWEST_RUNS
from bench_core.diagnosis.result import OFF, Diagnosis, Finding, Fleet, Group, GroupKind, NodeReport, Standing
from bench_core.diagnosis.words import ASSUMED, change, interval, percent, verdict
from bench_core.text import printable
from bench_core.units import counted

WHOLE = 20  # groups that are shown in one map; of more, the works have a map of their own
MOST_WORKS = 12  # columns of that: as many as paper is wide
MOST_LEVEL = 10  # columns whose labels are not turned
MOST_GROUPS = 40  # columns of the other: everything and the families
MOST_CELLS = 4_000  # of the maps of one kind of all fleets
FEWEST_ROWS = 10  # of a map, however many fleets there are
MOST_TABLES = 20  # nodes of a fleet with a table of what differs
MOST_FINDINGS = 8  # families of such a table, and pieces of work
MOST_NOTES = 20
LONGEST = 60  # characters of a label
HALF = 0.5  # the distance from which a cell that is not called anything has a number
CLEAR = 2.0  # the distance from which one that is called slow or fast has the strongest colour


@dataclass(frozen=True, slots=True)
class Cell:
    """A node in a group. look: the class of its style. text: "" of a node like the fleet. tip: all that is known."""

    look: str
    text: str
    tip: str


@dataclass(frozen=True, slots=True)
class Column:
    """A group. spread: how much healthy nodes differ, "" if nobody knows."""

    label: str
    spread: str


@dataclass(frozen=True, slots=True)
class Row:
    """A node. look: "slow", "fast" or "". place: the id of its table, "" if it has none."""

    node: str
    look: str
    standing: str
    place: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Nodes by groups. heads: what columns side by side have in common, each with their number; () if nothing.

    left_out: what is not in it, "" if nothing is.
    """

    title: str
    heads: tuple[tuple[str, int], ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    left_out: str

    @property
    def look(self) -> str:
        """The classes of its style: whether the labels of its columns are turned, and its numbers on paper."""
        count = len(self.columns)
        return " ".join(["upright"] * (count > MOST_LEVEL) + ["many"] * (count > MOST_WORKS))


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A line of the table of a node."""

    work: str
    look: str
    change: str
    interval: str
    works: str
    processes: int


@dataclass(frozen=True, slots=True)
class NodeTable:
    """A node that differs. more: in what else it is slow or fast, "" for nothing."""

    node: str
    place: str
    about: str
    rows: tuple[FindingRow, ...]
    more: str
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetPart:
    """One fleet. whole: the map of everything, the families and, if they are few, the works. works: theirs, if many."""

    name: str
    verdict: str
    how: str
    whole: HeatMap
    works: HeatMap | None
    nodes: tuple[NodeTable, ...]
    more: str


@dataclass(frozen=True, slots=True)
class FleetSection:
    """The section. legend: cells with what they mean. notes: fleets that are not judged, and what is odd."""

    fleets: tuple[FleetPart, ...]
    legend: tuple[tuple[Cell, str], ...]
    notes: tuple[str, ...]


def diagnosis_of(readings: Sequence[Reading]) -> Diagnosis | None:
    """Return which nodes differ; None if there are too few machines of several runs to tell."""
    processes: dict[str, dict[str, int]] = defaultdict(dict)
    for reading in readings:
        for machine, run_id, count in reading.rows.distinct("machine", "run_id", "processes"):
            processes[machine][run_id] = max(count or 1, processes[machine].get(run_id, 1))
    if sum(sum(counts.values()) >= FEWEST_RUNS for counts in processes.values()) < FEWEST_NODES:
        return None
    return _diagnose(readings)


def _diagnose(readings: Sequence[Reading]) -> Diagnosis:
    from bench_core.diagnosis.diagnose import diagnose_readings  # noqa: PLC0415 - most reports have no fleet

    return diagnose_readings(readings)


def fleet_section(diagnosis: Diagnosis) -> FleetSection | None:
    """Return the section on fleets; None if there is none of enough nodes."""
    judged = [fleet for fleet in diagnosis.fleets if not fleet.reason and fleet.nodes and fleet.groups]
    if all(len(fleet.nodes) < FEWEST_NODES for fleet in diagnosis.fleets):
        return None
    cells = MOST_CELLS // max(1, len(judged))
    parts = tuple(_part(fleet, f"fleet-{i}", cells) for i, fleet in enumerate(judged, 1))
    unjudged = [
        f"{_cut(f.name)}: {counted(len(f.nodes), 'node')}, not judged: {f.reason or 'nothing to compare'}"
        for f in diagnosis.fleets
        if all(f is not other for other in judged)
    ]
    notes = [printable(note) for note in (*unjudged, *diagnosis.notes)]
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES:] = [f"and {counted(len(notes) - MOST_NOTES, 'more note')}"]
    return FleetSection(parts, _legend(parts), tuple(notes))


def _part(fleet: Fleet, place: str, cells: int) -> FleetPart:
    places = {node.node: f"{place}-{i}" for i, node in enumerate(fleet.off[:MOST_TABLES], 1)}
    works = [group for group in fleet.groups if group.kind == "work"]
    above = [group for group in fleet.groups if group.kind != "work"]
    of_works = None
    if len(fleet.groups) <= WHOLE or not above:
        whole = _map(fleet, "Nodes by work", _by_family(fleet.groups), places, cells)
    else:
        title = "Nodes by family of work" if len(above) > 1 else "Nodes, all work together"
        whole = _map(fleet, title, above, places, cells)
        shown = _furthest(fleet, works)
        title = f"The {len(shown)} of {counted(len(works), 'piece')} of work in which nodes differ most"
        of_works = _map(fleet, title, _by_family(shown), places, cells) if shown else None
    more = len(fleet.off) - len(places)
    return FleetPart(
        _cut(fleet.name) or "One kind of node",
        f"{verdict(fleet)}.",
        _how(fleet),
        whole,
        of_works,
        tuple(_table(node, places[node.node]) for node in fleet.off[:MOST_TABLES]),
        f"{counted(more, 'more node')} that differ{'s' * (more == 1)} from the fleet: see the map." * (more > 0),
    )


# ---------------------------------------------------------------- words


def _cut(text: str) -> str:
    return printable(text, LONGEST)


def _how(fleet: Fleet) -> str:
    """Return what the numbers are, and how often a healthy node is called slow or fast."""
    return (
        "A number is how much longer a node takes than the fleet, as the median of its work; a negative one, how much "
        "shorter. At most "
        f"{percent(fleet.alarm_rate)} of healthy nodes are called slow or fast in anything by chance. A difference "
        f"below {percent(fleet.least)} is called neither slow nor fast. Intervals are at {percent(fleet.confidence)} "
        f"confidence. SD is the standard deviation of healthy nodes in that work. {ASSUMED}."
    )


# ---------------------------------------------------------------- maps


def _by_family(groups: Iterable[Group]) -> list[Group]:
    """Return groups with the works of each family side by side; everything and the families stay first."""
    families: dict[str, int] = {}
    for group in groups:
        families.setdefault(group.family, len(families))
    return sorted(groups, key=lambda group: families[group.family] if group.kind == "work" else -1)


def _furthest(fleet: Fleet, works: Sequence[Group]) -> list[Group]:
    """Return the works in which nodes differ most, in their own order.

    The nodes take turns, so that one that is slow in everything does not fill the map alone.
    """
    ranked = [
        sorted((f for f in node.findings if f.group.kind == "work"), key=lambda f: -f.distance)[:MOST_WORKS]
        for node in (fleet.off or fleet.nodes)[:MOST_WORKS]
    ]
    turns = (f.group.key for turn in zip_longest(*ranked) for f in turn if f is not None)
    kept = set(list(dict.fromkeys(turns))[:MOST_WORKS])
    return [group for group in works if group.key in kept]


def _map(fleet: Fleet, title: str, every: Sequence[Group], places: dict[str, str], cells: int) -> HeatMap:
    """Return the map of these groups. places: the ids of the tables of nodes. cells: how many it may have."""
    groups = every[:MOST_GROUPS]
    labels = {group.family: group.label for group in fleet.groups if group.kind == "family"}

    def head(group: Group) -> str:
        return _cut(labels.get(group.family, group.family)) if group.kind == "work" else ""

    heads = tuple((label, len(list(of))) for label, of in groupby(groups, head))
    nodes = fleet.nodes[: max(cells // len(groups), FEWEST_ROWS)]
    left = [
        counted(count, what)
        for count, what in ((len(fleet.nodes) - len(nodes), "more node"), (len(every) - len(groups), "more column"))
        if count
    ]
    return HeatMap(
        title,
        heads if any(label for label, _ in heads) else (),
        tuple(Column(_cut(g.label), f"SD {percent(g.spread)}" if math.isfinite(g.spread) else "") for g in groups),
        tuple(_row(node, groups, places.get(node.node, "")) for node in nodes),
        f"Not shown: {' and '.join(left)}." if left else "",
    )


def _look(standing: Standing) -> str:
    """Return the class of a style: of those that are slow or fast their own, of others none."""
    return standing.value if standing in OFF else ""


def _row(node: NodeReport, groups: Sequence[Group], place: str) -> Row:
    found = {finding.group.key: finding for finding in node.findings}
    cells = tuple(_cell(found.get(group.key)) for group in groups)
    return Row(_cut(node.node), _look(node.standing), node.standing.value, place, cells)


NONE = Cell("none", "\N{EN DASH}", "no value")


def _cell(finding: Finding | None) -> Cell:
    if finding is None:
        return NONE
    text, ends = change(finding), interval(finding)
    tip = f"{text}{f' ({ends})' * bool(ends)}, {_processes(finding.processes)}"
    if finding.standing is Standing.FEW:
        return Cell("few", "few", tip)
    word = "slow" if finding.ratio > 1 else "fast"
    if finding.standing in OFF:
        return Cell(f"{_look(finding.standing)} {'clear' if finding.distance >= CLEAR else 'called'}", text, tip)
    return Cell(f"near-{word}", text, tip) if finding.distance >= HALF else Cell("", "", tip)


def _processes(count: int) -> str:
    return f"{count:,} process{'es' * (count != 1)}"


def _legend(parts: Iterable[FleetPart]) -> tuple[tuple[Cell, str], ...]:
    """Return a cell of each look that there is, with its meaning."""
    maps = [of for part in parts for of in (part.whole, part.works) if of]
    there = Counter(cell.look for of in maps for row in of.rows for cell in row.cells)
    known = (
        (Cell("slow called", "+", ""), "slow: takes longer than the fleet"),
        (Cell("slow clear", "+", ""), "slow, by twice what is called that or more"),
        (Cell("fast called", "-", ""), "fast: takes less time"),
        (Cell("fast clear", "-", ""), "fast, by twice what is called that or more"),
        (Cell("near-slow", "+", ""), "half of what is called slow, or more"),
        (Cell("near-fast", "-", ""), "half of what is called fast, or more"),
        (Cell("", "", ""), "like the fleet"),
        (Cell("few", "few", ""), "too few runs to be judged"),
        (NONE, "no value"),
    )
    return tuple((cell, words) for cell, words in known if there[cell.look])


# ---------------------------------------------------------------- nodes that differ


_KINDS: dict[GroupKind, str] = {"all": "whole", "family": "group", "work": "piece"}


def _table(node: NodeReport, place: str) -> NodeTable:
    off = [finding for finding in node.findings if finding.standing in OFF]
    kinds = [sorted((f for f in off if f.group.kind == kind), key=lambda f: -f.distance) for kind in _KINDS]
    shown = [finding for of in kinds for finding in of[:MOST_FINDINGS]]
    more = [
        counted(len(of) - MOST_FINDINGS, f"other {noun}")
        for of, noun in zip(kinds, _KINDS.values(), strict=True)
        if len(of) > MOST_FINDINGS
    ]
    return NodeTable(
        _cut(node.node),
        place,
        f"{node.standing.value}, {_processes(node.runs)}",
        tuple(_finding_row(finding) for finding in shown),
        f"And in {' and '.join(more)} of work." if more else "",
        tuple(printable(cause) for cause in node.causes),
    )


def _finding_row(finding: Finding) -> FindingRow:
    group = finding.group
    works = f"{group.works:,}" if group.kind != "work" else ""
    look = _look(finding.standing)
    return FindingRow(printable(group.label), look, change(finding), interval(finding), works, finding.processes)
