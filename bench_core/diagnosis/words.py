"""A diagnosis in words: who is off, in what, by how much. A report and the command line say the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench_core.compare.labels import short
from bench_core.diagnosis.result import OFF, Finding, Fleet, NodeReport, Standing
from bench_core.units import counted, significant

ASSUMED = (
    "Assumed: in each kind of work most nodes are healthy and differ about normally, and the runs of a node do not "
    "depend on each other"
)
_MOST_NODES = 10
_MOST_FINDINGS = 3  # of a node


def verdict(fleet: Fleet, name: Callable[[str], str] = short) -> str:
    """Return who is slow, who is fast, and who cannot be judged. name: makes a text of the label of a node."""
    if fleet.reason:
        return f"No node is judged: {short(fleet.reason)}"
    few = [node for node in fleet.nodes if node.standing is Standing.FEW]
    sentences = [_off(fleet, name) if fleet.off else f"None of {_nodes(len(fleet.nodes) - len(few))} is slow or fast"]
    sentences += [
        f"{name(node.node)} {_in_short(node, Standing.UNSURE)}: too few runs to be sure" for node in _unsure(fleet)
    ]
    if fleet.unjudged:
        sentences.append(f"Nobody is judged in {_listed(fleet.unjudged, '; ')}")
    if few:
        has = "has" if len(few) == 1 else "have"
        sentences.append(
            f"{_nodes(len(few))} {has} too few results to be judged: {_listed([name(n.node) for n in few])}"
        )
    return ". ".join(sentences)


def percent(share: float) -> str:
    """Return a share as text: "1 %"."""
    return f"{100 * share:.3g} %"


def change(finding: Finding) -> str:
    """Return a difference in time with its sign: "+5.1 %", "-3.0 %"; from twice on, or to a half, "2.10x"."""
    return f"{_points(finding.ratio)} %" if 0.5 < finding.ratio < 2 else f"{significant(finding.ratio)}x"


def interval(finding: Finding) -> str:
    """Return the interval of `change`: "+4.2 to +6.0 %"; "" if it is not known, as of one run."""
    low, high = finding.low, finding.high
    if not 0 < low <= high < math.inf:
        return ""
    if 0.5 < finding.ratio < 2:
        return f"{_points(low)} to {_points(high)} %"
    return f"{significant(low)} to {significant(high)}x"


def _off(fleet: Fleet, name: Callable[[str], str]) -> str:
    """Return which nodes are slow or fast: "Of 20 nodes 2 are slow: node-07 +5.1 % (+4.2 to +6.0 %) in all work"."""
    counts = [(sum(node.standing is standing for node in fleet.off), standing.value) for standing in OFF]
    told = " and ".join(f"{count:,} {'is' if count == 1 else 'are'} {word}" for count, word in counts if count)
    named = [f"{name(node.node)} {_in_short(node)}" for node in fleet.off]
    return f"Of {_nodes(len(fleet.nodes))} {told}: {_listed(named, '; ')}"


def _unsure(fleet: Fleet) -> list[NodeReport]:
    return [node for node in fleet.nodes if node.standing is Standing.UNSURE]


def _in_short(node: NodeReport, *of: Standing) -> str:
    """Return what is said of a node: "+5.1 % (+4.2 to +6.0 %) in memory on cpu". of: findings of these standings alone.

    All work comes first, then families: what is said of a family holds for more than one piece of work.
    """
    kinds = ("all", "family", "work")
    said = sorted(node.said(of or OFF), key=lambda finding: (kinds.index(finding.group.kind), -finding.distance))
    ends = [f" ({text})" if (text := interval(f)) else "" for f in said]
    parts = [f"{change(f)}{end} in {short(f.group.label)}" for f, end in zip(said, ends, strict=True)]
    more = len(parts) - _MOST_FINDINGS
    return ", ".join(parts[:_MOST_FINDINGS]) + f", and in {more:,} more" * (more > 0)


def _listed(texts: Sequence[str], between: str = ", ") -> str:
    more = len(texts) - _MOST_NODES
    return between.join(texts[:_MOST_NODES]) + f"{between}and {more:,} more" * (more > 0)


def _nodes(count: int) -> str:
    return counted(count, "node")


def _points(ratio: float) -> str:
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f}"  # a zero has no minus
