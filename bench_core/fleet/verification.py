"""Whether a run of a node is what it says: whole, unchanged, of this part of the fleet, and of its plan."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.files import digest, is_link, read_bytes, read_text
from bench_core.fleet.plan import Plan, State
from bench_core.results.reader import read_rows
from bench_core.results.schema import RESULTS, RUN, SAMPLES
from bench_core.text import printable, quoted
from bench_core.units import counted

OPTIONS = ("preset", "backends", "seed", "keyword", "markers", "budget", "timeout")  # alike on all nodes


class Kind(StrEnum):
    """What is wrong with a node, or odd about it."""

    NOTHING = "nothing"
    FEWER = "fewer runs"
    UNFINISHED = "unfinished run"
    DAMAGED = "damaged"
    LABEL = "label"
    OPTIONS = "other options"
    VERSION = "other version"
    DISK = "disk full"
    KEPT = "not replaced"
    COPY = "not copied"
    MIXED = "other cases"  # than other runs of the same part
    FAILED = "nothing measured"
    FAILED_HERE = "failed here"
    CASES = "fewer cases"  # than other nodes
    CLOCK = "clock"

    @property
    def is_note(self) -> bool:
        """Whether the runs can be used nevertheless."""
        return self in {Kind.FAILED_HERE, Kind.CASES, Kind.CLOCK}


class Fault(Exception):
    """Why a run cannot be used."""

    def __init__(self, kind: Kind, text: str) -> None:
        self.kind, self.text = kind, text
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Place:
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
    """A run that is what it says. options: the values of OPTIONS as JSON. cases: those planned, named for people."""

    folder: Path
    options: tuple[str, ...]
    commit: str
    cases: Mapping[str, Outcome]


def verified(folder: Path, place: Place) -> Verified:
    """Return a complete run, whose files belong together and are of this place; raises Fault."""
    try:
        about = _about(folder)
        run, options = about["run"], about["options"]
        _require_unchanged(folder, about["files"])
        machines, found, cases = _table(folder / RESULTS)
        _require_sums(about, found)
        other = next((name for name in (str(run["machine"]), *sorted(machines)) if name != place.label), None)
        if other is not None:
            raise Fault(Kind.LABEL, f"is labelled {place.told(other)}")
        if run["run_id"] != folder.name:
            raise Fault(Kind.DAMAGED, f"{RUN} is that of the run {quoted(str(run['run_id']))}")
        shown = tuple(json.dumps(options.get(name)) for name in OPTIONS)
        return Verified(folder, shown, str(run["git_commit"] or ""), cases)
    except TableError as error:
        raise Fault(Kind.DAMAGED, str(error).replace(f"{folder}/", "", 1)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is not that of a run: {error}"
        raise Fault(Kind.DAMAGED, printable(f"{RUN} {what}")) from None


def require_version(run: Verified, plan: Plan, state: State | None) -> None:
    """Raise Fault for a run of another commit or another bench_core than the fleet, as far as both are known."""
    if plan.commit and run.commit and run.commit != plan.commit:
        raise Fault(Kind.VERSION, f"is of commit {quoted(run.commit)}, the fleet of {quoted(plan.commit)}")
    if state and state.version and state.version != plan.version:
        raise Fault(Kind.VERSION, f"is of bench-core {printable(state.version, 40)}, the fleet of {plan.version}")


def require_no_link(path: Path) -> None:
    """Raise TableError for a symbolic link: it could lead to any file of this computer."""
    if is_link(path):
        raise TableError(path, "a symbolic link, which is not followed")


def _about(folder: Path) -> Mapping[str, Any]:
    """Return run.json; raises TableError, TypeError."""
    path = folder / RUN
    require_no_link(path)
    try:
        about = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise TableError(path, f"not JSON: {printable(str(error), 80)}") from None
    if not isinstance(about, dict):
        raise TypeError("not an object")
    return about


def _require_unchanged(folder: Path, files: Mapping[str, Any]) -> None:
    """Raise Fault or TableError unless both tables have the sha256 that run.json says; KeyError, TypeError."""
    for name in (RESULTS, SAMPLES):
        path = folder / name
        require_no_link(path)
        if digest(read_bytes(path)) != files[name]["sha256"]:
            text = f"{name} has not the sha256 that {RUN} says: it was changed or cut off, or is of another run"
            raise Fault(Kind.DAMAGED, text)


def _table(path: Path) -> tuple[set[str], int, dict[str, Outcome]]:
    """Return the machines in a results.csv, the number of its cases, and what became of each; raises TableError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whoever reads the gathered table is warned
        rows = read_rows(path)
    # Without the threads: of a case without a value they are not known.
    by_case = {row.identity: row for row in rows}
    cases = {
        f"{r.workload} {r.size} {r.dtype} {r.who} {r.device} ({r.case_id})": Outcome(
            r.status, r.reason or r.reason_code
        )
        for r in by_case.values()
    }
    return {row.machine for row in rows}, len(by_case), cases


def _require_sums(about: Mapping[str, Any], found: int) -> None:
    """Raise Fault unless plan, statuses and table have equally many cases, all of them finished."""
    planned, statuses = about["planned"], about["statuses"]
    summed = sum(statuses.values())
    if not planned == summed == found:
        text = f"{planned} cases are planned, {summed} have a status and {found} are in {RESULTS}"
        raise Fault(Kind.DAMAGED, text)
    if statuses.get("interrupted"):
        raise Fault(Kind.DAMAGED, f"{counted(statuses['interrupted'], 'case')} interrupted, and its journal is gone")
