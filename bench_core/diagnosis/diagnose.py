"""The whole diagnosis: from tables to what is said of each node."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench_core import stats
from bench_core.compare.loading import Reading
from bench_core.diagnosis.evidence import Evidence
from bench_core.diagnosis.judge import ALARM_RATE, FEWEST_NODES, FEWEST_RUNS, LEAST, Members, Verdicts, judge
from bench_core.diagnosis.nodes import Hardware, nodes_of
from bench_core.diagnosis.outliers import Floats
from bench_core.diagnosis.result import Diagnosis, Finding, Fleet, Group, NodeReport, Standing
from bench_core.stats import exponential
from bench_core.units import counted

_CONCERN = {standing: place for place, standing in enumerate((*Standing,))}


def diagnose_readings(readings: Sequence[Reading], least: float = LEAST) -> Diagnosis:
    """Return the diagnosis of the machines of some tables. least: the share by which a node must differ."""
    return diagnose(nodes_of(readings), readings, least)


def diagnose(kinds: Sequence[Hardware], readings: Sequence[Reading], least: float = LEAST) -> Diagnosis:
    """Return the diagnosis of machines by kind. readings: the tables of which `kinds` were made, for the causes."""
    fleets = tuple(_fleet(kind, readings, least) for kind in kinds if kind.machines)
    return Diagnosis(fleets, tuple(note for kind in kinds for note in kind.notes))


def _fleet(kind: Hardware, readings: Sequence[Reading], least: float) -> Fleet:
    members, groups = _groups(kind)
    verdicts = judge(_values(kind), members, least)
    groups = [_with_spread(group, found) for group, found in zip(groups, verdicts, strict=True)]
    kept = [(group, found) for group, found in zip(groups, verdicts, strict=True) if found.nodes]
    nodes = [_node(kind, i, kept) for i in range(len(kind.machines))]
    off = {node.node for node in nodes if node.doubt >= 1}
    if off:
        evidence = Evidence.of(kind.machines, readings)
        nodes = [_with_causes(node, evidence) if node.node in off else node for node in nodes]
    ranked = sorted(nodes, key=lambda node: (_CONCERN[node.standing], -node.doubt))  # stable: else in natural order
    reason = "" if kept else _why_not(kind)
    return Fleet(
        kind.name, tuple(ranked), tuple(group for group, _ in kept), ALARM_RATE, stats.CONFIDENCE, least, reason
    )


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


def _with_spread(group: Group, found: Verdicts) -> Group:
    return Group(group.key, group.label, group.kind, group.family, group.works, found.spread)


def _node(kind: Hardware, number: int, judged: Sequence[tuple[Group, Verdicts]]) -> NodeReport:
    findings = [
        Finding(
            group,
            exponential(of.difference),
            exponential(of.low),
            exponential(of.high),
            of.runs,
            of.standing,
            of.doubt,
        )
        for group, found in judged
        if (of := found.nodes.get(number))
    ]
    machine = kind.machines[number]
    runs = len({process for by_machine in kind.values.values() for process in by_machine.get(machine, {})})
    worst = min((finding.standing for finding in findings), key=_CONCERN.__getitem__, default=Standing.FEW)
    return NodeReport(machine, worst, runs, tuple(findings), (), max((f.doubt for f in findings), default=0.0))


def _with_causes(node: NodeReport, evidence: Evidence) -> NodeReport:
    causes = evidence.causes(node.node)
    return NodeReport(node.node, node.standing, node.runs, node.findings, causes, node.doubt)


def _why_not(kind: Hardware) -> str:
    """Return why no node of a kind is judged."""
    enough = [
        machine
        for machine in kind.machines
        if any(len(by_machine.get(machine, {})) >= FEWEST_RUNS for by_machine in kind.values.values())
    ]
    if len(enough) < FEWEST_NODES:
        return (
            f"{counted(len(enough), 'node')} of this kind with {FEWEST_RUNS} runs or more: "
            f"what is normal takes {FEWEST_NODES} to tell"
        )
    return "in no work do most nodes agree"
