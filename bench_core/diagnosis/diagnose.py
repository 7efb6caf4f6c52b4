"""The whole diagnosis: from tables to what is said of each node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from bench_core import stats
from bench_core.compare.loading import Reading
from bench_core.diagnosis.evidence import Evidence
from bench_core.diagnosis.judge import (
    ALARM_RATE,
    FEWEST_NODES,
    FEWEST_RUNS,
    LEAST,
    MOST_SPREAD,
    Judged,
    Members,
    Verdicts,
    fewest_runs,
    judge,
)
from bench_core.diagnosis.nodes import Hardware, nodes_of
from bench_core.diagnosis.outliers import Floats
from bench_core.diagnosis.result import OFF, Diagnosis, Finding, Fleet, Group, GroupKind, NodeReport, Standing
from bench_core.stats import exponential
from bench_core.units import counted

_WORDS: Mapping[GroupKind, str] = {"all": "all work together", "family": "a family", "work": "a single piece of work"}
_CONCERN = {standing: place for place, standing in enumerate((*Standing,))}


def diagnose_readings(readings: Sequence[Reading], least: float = LEAST) -> Diagnosis:
    """Return the diagnosis of the machines of some tables. least: the share by which a node must differ."""
    return diagnose(nodes_of(readings), readings, least)


def diagnose(kinds: Sequence[Hardware], readings: Sequence[Reading], least: float = LEAST) -> Diagnosis:
    """Return the diagnosis of machines by kind. readings: the tables of which `kinds` were made, for the causes."""
    fleets = [_fleet(kind, readings, least) for kind in kinds if kind.machines or kind.unmeasured]
    said = [note for _, notes in fleets for note in notes]
    return Diagnosis(tuple(fleet for fleet, _ in fleets), (*said, *(note for kind in kinds for note in kind.notes)))


def _is_missed(group: Group, found: Verdicts) -> bool:
    """Whether nobody is judged in a group that is more than one piece of work."""
    return group.kind != "work" and not found.nodes


def _unjudged(label: str, found: Verdicts) -> str:
    """Return why nobody is judged in a group."""
    if found.able < FEWEST_NODES:
        return f"{label}: {counted(found.able, 'node')} with {FEWEST_RUNS} runs there, and {FEWEST_NODES} are needed"
    return f"{label}: there no majority of nodes is alike within {MOST_SPREAD:.0%}"


def _fleet(kind: Hardware, readings: Sequence[Reading], least: float) -> tuple[Fleet, tuple[str, ...]]:
    """Return the fleet of a kind, and what its runs are too few for."""
    silent = tuple(NodeReport(machine, Standing.FEW, 0, (), (), 0.0) for machine in kind.unmeasured)
    if not kind.works:
        nothing = "none of its nodes has a value that counts"
        return Fleet(kind.name, silent, (), ALARM_RATE, stats.CONFIDENCE, least, nothing), ()
    members, groups = _groups(kind)
    verdicts = judge(_values(kind), members, least)
    groups = [replace(group, spread=found.spread) for group, found in zip(groups, verdicts, strict=True)]
    kept = [(group, found) for group, found in zip(groups, verdicts, strict=True) if found.nodes]
    runs = [_runs(kind, machine) for machine in kind.machines]
    nodes = [_node(machine, i, runs[i], kept) for i, machine in enumerate(kind.machines)]
    off = {node.node for node in nodes if node.standing in OFF}
    if off:
        evidence = Evidence.of(kind.machines, readings)
        nodes = [replace(node, causes=evidence.causes(node.node)) if node.node in off else node for node in nodes]
    ranked = sorted(
        [*nodes, *silent], key=lambda node: (_CONCERN[node.standing], -node.distance)
    )  # stable: else in natural order
    needed = fewest_runs(members, max(len(runs), FEWEST_NODES))
    reason = _why_not(runs, needed, agree=bool(kept))
    shown = tuple(group for group, _ in kept)
    unjudged = tuple(_unjudged(g.label, v) for g, v in zip(groups, verdicts, strict=True) if _is_missed(g, v))
    fleet = Fleet(kind.name, tuple(ranked), shown, ALARM_RATE, stats.CONFIDENCE, least, reason, unjudged)
    return fleet, () if reason else tuple(_too_few(kind.name, int(median(runs)), needed))


def _runs(kind: Hardware, machine: str) -> int:
    return len({process for by_machine in kind.values.values() for process in by_machine.get(machine, {})})


def _groups(kind: Hardware) -> tuple[list[Members], list[Group]]:
    """Return the groups: all work, then the families if there are several, then the works if a family has several."""
    families: dict[str, list[int]] = {}
    for place, work in enumerate(kind.works):
        families.setdefault(work.family, []).append(place)
    members = [Members("all", tuple(range(len(kind.works))))]
    groups = [Group("all", "all work", "all", "", len(kind.works), math.nan)]
    if len(families) > 1:
        members += [Members("family", tuple(places)) for places in families.values()]
        groups += [Group(name, name, "family", name, len(places), math.nan) for name, places in families.items()]
    for name, places in families.items():
        if len(places) > 1:
            members += [Members("work", (place,)) for place in places]
            labels = [kind.works[i].label for i in places]
            groups += [Group(f"{name}: {label}", label, "work", name, 1, math.nan) for label in labels]
    return members, groups


def _values(kind: Hardware) -> Floats:
    """Return the values with the axes work, node, run. The runs of a node have one order in all of its works."""
    runs: dict[str, dict[str, int]] = {machine: {} for machine in kind.machines}
    for by_machine in kind.values.values():
        for machine, processes in by_machine.items():
            for process in processes:
                runs[machine].setdefault(process, len(runs[machine]))
    most = max(map(len, runs.values()), default=0)
    values = np.full((len(kind.works), len(kind.machines), most), np.nan)
    for i, work in enumerate(kind.works):
        for j, machine in enumerate(kind.machines):
            for process, value in kind.values[work].get(machine, {}).items():
                values[i, j, runs[machine][process]] = value
    return values


def _node(machine: str, number: int, runs: int, judged: Sequence[tuple[Group, Verdicts]]) -> NodeReport:
    """Return what is said of a node. One without a value in all work, of which others have one, has too few results."""
    findings = [_finding(group, of) for group, found in judged if (of := found.nodes.get(number))]
    standings = [Standing.ALIKE if _is_unsure_work(f) else f.standing for f in findings]
    worst = min(standings, key=_CONCERN.__getitem__, default=Standing.FEW)
    lacks_whole = bool(judged) and judged[0][0].kind == "all" and number not in judged[0][1].nodes
    if worst is Standing.ALIKE and lacks_whole:
        worst = Standing.FEW
    return NodeReport(machine, worst, runs, tuple(findings), (), max((f.distance for f in findings), default=0.0))


def _is_unsure_work(finding: Finding) -> bool:
    """Whether nobody can be sure of a single piece of work: of many, some are far out by chance."""
    return finding.standing is Standing.UNSURE and finding.group.kind == "work"


def _finding(group: Group, of: Judged) -> Finding:
    ratio, low, high = map(exponential, (of.difference, of.low, of.high))
    return Finding(group, ratio, low, high, of.runs, of.standing, of.distance)


def _why_not(runs: Sequence[int], needed: Mapping[GroupKind, int], *, agree: bool) -> str:
    """Return why no node of a kind is judged; "" if they are. runs: of each node. agree: whether most nodes do."""
    enough = [count for count in runs if count >= FEWEST_RUNS]
    if len(enough) < FEWEST_NODES:
        few = f"{counted(len(enough), 'node')} of this kind with {FEWEST_RUNS} runs or more"
        return f"{few}: what is normal takes {FEWEST_NODES} to tell"
    if max(enough) < min(needed.values()):
        few = f"{len(enough)} nodes of {max(enough)} runs are too few to tell a slow node from chance"
        return f"{few}: {min(needed.values())} runs of each are enough"
    return "" if agree else "in no work do most nodes agree"


def _too_few(name: str, runs: int, needed: Mapping[GroupKind, int]) -> Iterator[str]:
    """Yield in which groups nothing can be called slow with so many runs of a node."""
    for kind, what in _WORDS.items():
        if runs < needed.get(kind, 0):
            enough = f"{needed[kind]} are enough"
            yield f"{name}: with {runs} runs of a node nothing is called slow in {what}; {enough}"
