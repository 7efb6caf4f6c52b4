"""Render a diagnosis of a fleet: which nodes are slow, in what and by how much, and what their environment says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from bench_core.compare.labels import short
from bench_core.diagnosis.result import OFF, Diagnosis, Finding, Fleet, Group, NodeReport
from bench_core.diagnosis.words import ASSUMED, change, interval, percent, verdict
from bench_core.render.markdown import sections_as_markdown
from bench_core.render.terminal import sections_as_text
from bench_core.render.text_table import Table
from bench_core.render.view import VERDICT, Section
from bench_core.results.strict_csv import csv_text
from bench_core.text import harmless, printable
from bench_core.units import counted, significant

DIAGNOSIS_VERSION = 1
_COLUMNS = (
    *("fleet", "node", "group", "kind", "works", "ratio", "low", "high"),
    *("confidence", "standing", "distance", "processes"),
)
_NOTHING = "Nothing that is known of its environment differs from most other nodes"

Names = Mapping[str, str]  # what the engine calls a node, by its label


def diagnosis_text(
    diagnosis: Diagnosis, width: int, *, colour: bool = False, most: int = 0, names: Names | None = None
) -> str:
    """Return a diagnosis as text.

    most: the most lines of a table, 0 for all. names: what the engine calls each node; shown to the person at the
    terminal alone, because names of hosts are private.
    """
    return sections_as_text(diagnosis_sections(diagnosis, most, names), width, colour=colour)


def diagnosis_markdown(diagnosis: Diagnosis, most: int = 0) -> str:
    """Return a diagnosis as Markdown, as `diagnosis_text` does, without the names of nodes in their engine."""
    return sections_as_markdown(diagnosis_sections(diagnosis, most))


def diagnosis_sections(diagnosis: Diagnosis, most: int = 0, names: Names | None = None) -> list[Section]:
    """Return the answer, the nodes of each fleet, what is known of each that is off, and the notes."""
    named = names or {}
    found = [Section(VERDICT, tuple(_answer(diagnosis, named)))]
    for fleet in diagnosis.fleets:
        found.append(Section(f"Nodes: {short(fleet.name)}", tables=_nodes(fleet, named, most)))
        found += [_node(fleet, node, named, most) for node in fleet.off]
    found.append(Section("Notes", tuple(map(printable, diagnosis.notes))))
    return [section for section in found if section.lines or section.tables]


def diagnosis_csv(diagnosis: Diagnosis) -> str:
    """Return a line for each node and group of work. A ratio above 1 is slower; low and high are its interval.

    A node without any value has one line, without a group.
    """
    lines = (line for fleet in diagnosis.fleets for node in fleet.nodes for line in _lines(fleet, node))
    return csv_text(list(_COLUMNS), lines)


def _lines(fleet: Fleet, node: NodeReport) -> Iterator[Sequence[Any]]:
    of = _cell(fleet.name), _cell(node.node)
    for f in node.findings:
        yield (*of, _cell(f.group.label), f.group.kind, *_numbers(fleet, f))
    if not node.findings:
        yield (*of, *("",) * 2, *(None,) * 5, node.standing.value, None, node.runs)


def diagnosis_json(diagnosis: Diagnosis) -> str:
    """Return everything as JSON (ASCII, no NaN): an object for each fleet with its groups of work and its nodes.

    An infinite end of an interval is null.
    """
    plain = {
        "diagnosis_version": DIAGNOSIS_VERSION,
        "fleets": [_fleet(fleet) for fleet in diagnosis.fleets],
        "notes": list(map(harmless, diagnosis.notes)),
    }
    return json.dumps(plain, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def verdict_lines(diagnosis: Diagnosis, names: Names | None = None) -> list[str]:
    """Return a sentence for each fleet: which nodes are off, or that none is, or why none is judged."""
    if not diagnosis.fleets:
        return ["No node is judged: there are no values that count"]
    several = len(diagnosis.fleets) > 1
    named = partial(_name, names=names or {})
    return [f"{short(fleet.name)}: " * several + verdict(fleet, named) for fleet in diagnosis.fleets]


# ---------------------------------------------------------------- the answer


def _answer(diagnosis: Diagnosis, names: Names) -> Iterator[str]:
    yield from verdict_lines(diagnosis, names)
    judged = [fleet for fleet in diagnosis.fleets if not fleet.reason]
    for rate, confidence, least in dict.fromkeys((f.alarm_rate, f.confidence, f.least) for f in judged):
        yield (
            f"Of healthy nodes at most {percent(rate)} are called slow or fast. A difference below "
            f"{percent(least)} is called neither slow nor fast. Intervals: {percent(confidence)}"
        )
    if judged:
        yield ASSUMED


def _name(node: str, names: Names) -> str:
    """Return the label of a node, with what its engine calls it, if that says more."""
    label, name = short(node), names.get(node, "")
    return f"{label} ({short(name)})" if name and name != node else label


# ---------------------------------------------------------------- tables


def _nodes(fleet: Fleet, names: Names, most: int) -> tuple[Table, ...]:
    """Return a line for each node: what is said of it, overall, and where it is furthest from the fleet."""
    if not fleet.nodes:
        return ()
    rows = [
        (
            _name(node.node, names),
            node.standing.value,
            _overall(node),
            _furthest(node),
            str(node.runs),
            _distance(node.distance),
        )
        for node in fleet.nodes[: most or None]
    ]
    header = ("node", "standing", "in everything", "furthest from the fleet", "runs", "distance")
    note = "distance: from the fleet, as a multiple of what is called slow or fast"
    return (Table(header, tuple(rows), frozenset({2, 4, 5}), (*_left(fleet.nodes, most), note)),)


def _overall(node: NodeReport) -> str:
    return next((change(f) for f in node.findings if f.group.kind == "all"), "")


def _furthest(node: NodeReport) -> str:
    parts = [f for f in node.findings if f.group.kind != "all"]
    if not parts:
        return ""
    furthest = max(parts, key=lambda finding: finding.distance)
    return f"{short(furthest.group.label)} {change(furthest)}"


def _distance(distance: float) -> str:
    return significant(distance, 2) if distance else "0"


def _node(fleet: Fleet, node: NodeReport, names: Names, most: int) -> Section:
    """Return what is known of a node that is off: in what, and what its environment says."""
    off = [finding for finding in node.findings if finding.standing in OFF]
    kinds = ("all", "family", "work")
    off.sort(key=lambda finding: (kinds.index(finding.group.kind), -finding.distance))
    rows = [
        (short(f.group.label), f.standing.value, change(f), interval(f), str(f.processes), _distance(f.distance))
        for f in off[: most or None]
    ]
    header = ("in", "standing", "time", f"interval, {percent(fleet.confidence)}", "runs", "distance")
    table = Table(header, tuple(rows), frozenset({2, 3, 4, 5}), _left(off, most))
    lines = tuple(map(printable, node.causes)) or (_NOTHING,)
    return Section(f"{_name(node.node, names)}: {node.standing.value}", lines, (table,) if rows else ())


def _left(every: Sequence[object], most: int) -> tuple[str, ...]:
    more = len(every) - most if most else 0
    return (f"{counted(more, 'more line')}: --limit 0 shows all",) if more > 0 else ()


# ---------------------------------------------------------------- for programs


def _cell(text: str) -> str:
    return printable(text)


def _numbers(fleet: Fleet, finding: Finding) -> Iterable[Any]:
    low, high = map(_finite, (finding.low, finding.high))
    known = (finding.group.works, finding.ratio, low, high, fleet.confidence)
    return [*known, finding.standing.value, _finite(finding.distance), finding.processes]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _fleet(fleet: Fleet) -> dict[str, Any]:
    return {
        "name": harmless(fleet.name),
        "reason": harmless(fleet.reason),
        "unjudged": list(map(harmless, fleet.unjudged)),
        "alarm_rate": fleet.alarm_rate,
        "confidence": fleet.confidence,
        "least": fleet.least,
        "groups": [_group(group) for group in fleet.groups],
        "nodes": [_report(node) for node in fleet.nodes],
    }


def _group(group: Group) -> dict[str, Any]:
    texts = {name: harmless(getattr(group, name)) for name in ("key", "label", "kind", "family")}
    return {**texts, "works": group.works, "spread": _finite(group.spread)}


def _report(node: NodeReport) -> dict[str, Any]:
    return {
        "node": harmless(node.node),
        "standing": node.standing.value,
        "runs": node.runs,
        "distance": _finite(node.distance),
        "causes": list(map(harmless, node.causes)),
        "findings": [_finding(finding) for finding in node.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "group": harmless(finding.group.key),
        **{name: _finite(getattr(finding, name)) for name in ("ratio", "low", "high", "distance")},
        "standing": finding.standing.value,
        "processes": finding.processes,
    }
