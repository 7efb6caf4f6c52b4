"""The outcome of a diagnosis: which nodes of a fleet differ from the others, in what, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

GroupKind = Literal["all", "family", "work"]


class Standing(StrEnum):
    """What is said of a node, in the order of concern."""

    SLOW = "slow"
    FAST = "fast"  # a node that is faster than its fleet is not what it seems either
    ALIKE = "like the fleet"
    FEW = "too few runs"  # of it, for any verdict


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

    ratio: its time by that of the fleet, 1.05 is 5 % slower; of a rate the inverse. low, high: the interval, at the
    confidence of the fleet. doubt: how far it is from the fleet, as a multiple of what is called slow or fast: from 1
    on it is.
    """

    group: Group
    ratio: float
    low: float
    high: float
    processes: int
    standing: Standing
    doubt: float


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node. findings: one for each group in which it has values, in the order of Fleet.groups.

    standing: the worst of them. runs: how many runs it has. causes: what its environment says, each a sentence: facts
    in which it differs from most other nodes. doubt: the largest of its findings.
    """

    node: str
    standing: Standing
    runs: int
    findings: tuple[Finding, ...]
    causes: tuple[str, ...]
    doubt: float

    def said(self) -> tuple[Finding, ...]:
        """Return what is slow or fast, but no part of it again: works only outside of families that are, and so on."""
        off = [f for f in self.findings if f.standing in OFF]
        families = {f.group.family for f in off if f.group.kind == "family"}
        if any(f.group.kind == "all" for f in off):
            return tuple(f for f in off if f.group.kind == "all")
        return tuple(f for f in off if f.group.kind == "family" or f.group.family not in families)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes of one kind, which are compared with each other.

    name: what they have in common. nodes: sorted by doubt, the most first. groups: all, then families, then works.
    alarm_rate: at most this share of healthy nodes is called slow or fast. confidence: of the intervals. least: a
    difference below it is called nothing. reason: why no node is judged, "" if they are.
    """

    name: str
    nodes: tuple[NodeReport, ...]
    groups: tuple[Group, ...]
    alarm_rate: float
    confidence: float
    least: float
    reason: str = ""

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
