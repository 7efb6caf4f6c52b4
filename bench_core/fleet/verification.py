"""Whether a run of a node is what it says: whole, unchanged, of this part of the fleet, and of its plan."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_core.fleet.plan import Plan, State
from bench_core.fleet.problems import Fault, Kind
from bench_core.records import Row, Status
from bench_core.results.integrity import Damage, Whole, whole
from bench_core.results.schema import RUN
from bench_core.results.traits import FIT
from bench_core.text import printable, quoted
from bench_core.units import counted

# Those that change what a run does: alike on all nodes.
RUN_OPTIONS = ("preset", "backends", "seed", "keyword", "markers", "budget", "timeout")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run was found: the label of a part, and of its node. owners: the node of each label of the fleet."""

    label: str
    node: str
    owners: Mapping[str, str]

    def told(self, other: str) -> str:
        """Return what to say of runs that have another label."""
        shown = f"{quoted(other)}, which is not {self.label}"
        owner = self.owners.get(other)
        return f"{shown}: {owner} and {self.node} have one label" if owner else shown


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case. reason: "" if there is none."""

    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A run that is what it says.

    options: the values of RUN_OPTIONS as JSON. cases: those planned, by their names for people.
    """

    folder: Path
    options: tuple[str, ...]
    commit: str
    cases: Mapping[str, Outcome]


def verified(folder: Path, origin: Origin) -> Verified:
    """Return a complete run, whose files belong together and are of this origin; raises Fault."""
    try:
        run = whole(folder)
    except Damage as damage:
        raise Fault(Kind.DAMAGED, str(damage)) from None
    if interrupted := run.statuses.get(Status.INTERRUPTED, 0):
        raise Fault(Kind.DAMAGED, f"{counted(interrupted, 'case')} interrupted, and its journal is gone")
    other = next((name for name in sorted(run.machines) if name != origin.label), None)
    if other is not None:
        raise Fault(Kind.LABEL, f"is labelled {origin.told(other)}")
    options = run.about.get("options")
    if not isinstance(options, dict):
        raise Fault(Kind.DAMAGED, f"{RUN} lacks 'options'")
    shown = tuple(json.dumps(options.get(name)) for name in RUN_OPTIONS)
    return Verified(folder, shown, str(run.run.get("git_commit") or ""), _cases(run))


def require_version(run: Verified, plan: Plan, state: State | None) -> None:
    """Raise Fault for a run of another commit or another bench_core than the fleet, as far as both are known."""
    if plan.commit and run.commit and run.commit != plan.commit:
        raise Fault(Kind.VERSION, f"is of commit {quoted(run.commit)}, the fleet of {quoted(plan.commit)}")
    if state and state.version and state.version != plan.version:
        raise Fault(Kind.VERSION, f"is of bench-core {printable(state.version, 40)}, the fleet of {plan.version}")


def _cases(run: Whole) -> dict[str, Outcome]:
    """Return what became of each case, by its name for people."""
    alike: dict[str, list[Row]] = {}
    for row in {row.identity: row for row in run.rows if not row.workload.endswith(FIT)}.values():
        name = f"{row.workload} {row.size} {row.dtype} {row.who} {row.device}"
        alike.setdefault(f"{name} ({row.case_id})", []).append(row)
    return {
        f"{name}{threads}": Outcome(row.status, row.reason or row.reason_code)
        for name, rows in alike.items()
        for threads, row in _by_threads(rows)
    }


def _by_threads(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Yield the rows of cases that differ only in their threads, each with what tells its case from the others.

    The one with most threads has "": it is, as a rule, that of all cores. Its number is no part of its name, because
    other nodes have other cores, and because the row of a case that never began lacks the number. Of any other case it
    is known, as it was planned.
    """
    first, *fewer = sorted(rows, key=lambda row: -math.inf if row.threads is None else -row.threads)
    yield "", first
    yield from ((f" {row.threads}t", row) for row in fewer)
