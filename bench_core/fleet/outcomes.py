"""What became of the cases of a fleet: which were planned, which failed on a node, and which were only there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.fleet.verification import Outcome, Verified
from bench_core.records import NOT_TRIED, Status
from bench_core.text import printable
from bench_core.units import counted

_LONGEST_REASON = 160  # characters
_Runs = Sequence[Verified]


@dataclass(frozen=True, slots=True)
class Usual:
    """The cases that most parts have planned, and those that were measured on most."""

    planned: frozenset[str]
    measured: frozenset[str]

    @classmethod
    def of(cls, parts: Sequence[_Runs]) -> Usual:
        """Return them. parts: the runs of each part; one without any counts for nothing."""
        given = [runs for runs in parts if runs]
        return cls(_of_most(map(_planned, given), len(given)), _of_most(map(_measured, given), len(given)))


def unlike(runs: _Runs, everywhere: Mapping[frozenset[str], int]) -> dict[Path, str]:
    """Return what is wrong with each run of a part whose cases are not those of most of its runs.

    Of cases that equally many of its runs have, those that more runs of the fleet have are the usual ones.
    everywhere: how many runs of the fleet have planned exactly these cases.
    """
    counts = Counter(frozenset(run.cases) for run in runs)
    if len(counts) < 2:
        return {}
    usual = max(counts, key=lambda cases: (counts[cases], everywhere[cases]))
    return {run.folder: _difference(run.cases.keys(), usual) for run in runs if run.cases.keys() != usual}


def not_planned(runs: _Runs, usual: Usual) -> str:
    """Return what to say of a part that has not planned what most parts have; "" if it has."""
    lacking = sorted(usual.planned - _planned(runs)) if runs else []
    if not lacking:
        return ""
    return f"has not planned {len(lacking):,} of the {len(usual.planned):,} cases that most have, such as {lacking[0]}"


def nothing_measured(runs: _Runs) -> str:
    """Return what to say of a part of which no case was measured in any run, although some were tried; else ""."""
    ends = {case: outcome for run in runs for case, outcome in run.cases.items() if outcome.status not in NOT_TRIED}
    if not ends or _measured(runs):
        return ""
    return f"none of its {counted(len(_planned(runs)), 'case')} was measured: {_told(ends)}"


def failed(runs: _Runs, usual: Usual) -> str:
    """Return what to say of the cases that most parts have measured and that have no value in some run of this one."""
    ends = {
        case: outcome
        for run in runs
        for case, outcome in run.cases.items()
        if outcome.status != Status.OK and case in usual.measured
    }
    if not ends:
        return ""
    have = "has" if len(ends) == 1 else "have"
    cases = counted(len(_planned(runs)), "case")
    return f"{len(ends):,} of {cases} {have} no value here and one on most nodes: {_told(ends)}"


def _told(ends: Mapping[str, Outcome]) -> str:
    """Return how many cases ended how, with an example of the most frequent end."""
    counts = Counter(outcome.status for outcome in ends.values()).most_common()
    shown = ", ".join(f"{number:,} {status}" for status, number in counts)
    case, reason = next((c, end.reason) for c, end in sorted(ends.items()) if end.status == counts[0][0])
    return f"{shown}, such as {case}" + f": {printable(reason, _LONGEST_REASON)}" * bool(reason)


def _difference(cases: Iterable[str], usual: frozenset[str]) -> str:
    here = frozenset(cases)
    lacks, more = sorted(usual - here), sorted(here - usual)
    texts = [f"lacks {len(lacks):,} of those, such as {lacks[0]}"] if lacks else []
    texts += [f"has {counted(len(more), 'other')}, such as {more[0]}"] if more else []
    most = f"and the other runs of this node {len(usual):,}"
    return f"has planned {counted(len(here), 'case')}, {most}: {'; '.join(texts)}"


def _planned(runs: _Runs) -> frozenset[str]:
    return frozenset().union(*(run.cases for run in runs))


def _measured(runs: _Runs) -> frozenset[str]:
    return frozenset(case for run in runs for case, outcome in run.cases.items() if outcome.status == Status.OK)


def _of_most(sets: Iterable[frozenset[str]], parts: int) -> frozenset[str]:
    """Return what is in more than half of the sets."""
    counts = Counter(case for cases in sets for case in cases)
    return frozenset(case for case, number in counts.items() if 2 * number > parts)
