"""The outcome of a diagnosis: which nodes of a fleet differ from the others, in what, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

GroupKind = Literal["all", "family", "work"]


class Standing(StrEnum):
    """What is said of a node, in the order of concern."""

    SLOW = "slow"
    FAST = "fast"  # a node that is faster than its fleet is not what it seems either
    UNSURE = "not sure"  # far out, but its runs are too few to tell that from chance
    ALIKE = "like the fleet"
    FEW = "not judged"  # it has too few results, or nobody in its fleet is judged


OFF = (Standing.SLOW, Standing.FAST)


@dataclass(frozen=True, slots=True)
class Group:
    """Work that is judged together: all of it, a family, or one piece of work.

    key: a short name that no other group of the fleet has. label: for people. family: the key of the family of a work,
    of a family its own; "" of all. works: how many pieces of work are in it. spread: how much healthy nodes differ in
    it (standard deviation of the logarithm of a node's time).
    """

    key: str
    label: str
    kind: GroupKind
    family: str
    works: int
    spread: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One node in one group.

    ratio: its time by that of the fleet, 1.05 is 5 % slower; of a rate the inverse; a median over works and runs. low,
    high: the interval, at the confidence of the fleet. distance: how far it is from the fleet, as a multiple of what is
    called slow or fast: from 1 on it is.
    """

    group: Group
    ratio: float
    low: float
    high: float
    processes: int
    standing: Standing
    distance: float


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node. findings: one for each group in which it has values, in the order of Fleet.groups.

    standing: the worst of them, but that single pieces of work are never unsure. runs: how many processes it has
    measured in. causes: what its environment says, each a sentence: facts in which it differs from most other nodes.
    distance: the largest of its findings.
    """

    node: str
    standing: Standing
    runs: int
    findings: tuple[Finding, ...]
    causes: tuple[str, ...]
    distance: float

    def said(self, of: Collection[Standing] = OFF) -> tuple[Finding, ...]:
        """Return what is slow or fast, but no part again of what is so itself: the largest groups first.

        of: findings of these standings are meant.
        """
        said: list[Finding] = []
        for finding in (f for kind in ("all", "family", "work") for f in self.findings if f.group.kind == kind):
            above = [f for f in said if f.group.kind == "all" or f.group.family == finding.group.family]
            if finding.standing in of and finding.standing not in {f.standing for f in above}:
                said.append(finding)
        return tuple(said)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes of one kind, which are compared with each other.

    name: what they have in common. nodes: in the order of their standings, of each those first that are furthest from
    the fleet. groups: all, then families, then works.
    alarm_rate: at most this share of healthy nodes is called slow or fast. confidence: of the intervals. least: a
    difference below it is called neither slow nor fast. reason: why no node is judged, "" if they are. unjudged: why
    none is in all work or in a family, a sentence each.
    """

    name: str
    nodes: tuple[NodeReport, ...]
    groups: tuple[Group, ...]
    alarm_rate: float
    confidence: float
    least: float
    reason: str = ""
    unjudged: tuple[str, ...] = ()

    @property
    def off(self) -> tuple[NodeReport, ...]:
        """The nodes that are slow or fast."""
        return tuple(n for n in self.nodes if n.standing in OFF)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All fleets of some folders of runs. notes: what was left out, and what is odd about the runs."""

    fleets: tuple[Fleet, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_off(self) -> bool:
        return any(fleet.off for fleet in self.fleets)

    @property
    def is_decided(self) -> bool:
        """Whether every node is judged by all of its work, and surely."""
        judged = {Standing.SLOW, Standing.FAST, Standing.ALIKE}
        return bool(self.fleets) and all(
            not fleet.reason and not fleet.unjudged and all(node.standing in judged for node in fleet.nodes)
            for fleet in self.fleets
        )
