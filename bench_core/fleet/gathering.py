"""Gather what the nodes of a fleet gave: verify each run, copy it beside the others, and say what is missing and why.

A run is copied whole or not at all, and what was copied is never replaced: to gather again changes nothing that is
there. What is wrong with one node keeps no other from being gathered.
"""

from __future__ import annotations

import errno
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench_core.errors import TableError
from bench_core.files import is_file, is_link, read_bytes, write_atomically
from bench_core.fleet import outcomes
from bench_core.fleet.alone import is_driven
from bench_core.fleet.plan import FleetFolder, Plan, is_full
from bench_core.fleet.problems import Fault, Kind, Problem
from bench_core.fleet.reasons import Known, is_success, known_of, last_words, says_full
from bench_core.fleet.verification import RUN_OPTIONS, Origin, Verified, require_version, verified
from bench_core.results.integrity import require_no_link
from bench_core.results.schema import RESULTS, RUN, SAMPLES
from bench_core.text import harmless, printable

_FILES = (RESULTS, SAMPLES, RUN)  # in the order in which they are written: a folder with a run.json is complete
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_MOST_ASIDE = 1000  # runs of one name that are set aside


@dataclass(frozen=True, slots=True)
class Given:
    """What a part has given. runs: where its runs are now. verified: how many of them can be used."""

    node: str
    part: str
    runs: tuple[Path, ...]
    verified: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A complete run in the private folder of a node that cannot be used."""

    node: str
    part: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was gathered. asked: runs of each part. new: how many runs this call has copied."""

    folder: Path
    asked: int
    given: tuple[Given, ...]
    problems: tuple[Problem, ...]
    refused: tuple[Refused, ...]
    new: int

    @property
    def lacking(self) -> tuple[str, ...]:
        """The labels of the nodes of which another attempt may give more."""
        return tuple(dict.fromkeys(part.node for part in self.given if part.verified < self.asked))

    @property
    def is_whole(self) -> bool:
        """Whether every node gave everything."""
        return all(problem.kind.is_note for problem in self.problems)


@dataclass(frozen=True, slots=True)
class _Member:
    """A part with what is known of its node. runs: those that can be used; problems: of the others, and of itself.

    home: where its runs are copied to. refused: in its private folder.
    """

    origin: Origin
    home: Path
    known: Known
    runs: tuple[Verified, ...] = ()
    refused: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()

    def problem(self, kind: Kind, text: str) -> Problem:
        return Problem(self.origin.node, self.origin.label, kind, harmless(text))

    def without(self, faults: Mapping[Path, Fault]) -> _Member:
        """Return it without the runs that have these faults."""
        told = (self.problem(fault.kind, self._told(path, fault)) for path, fault in faults.items())
        return replace(
            self,
            runs=tuple(run for run in self.runs if run.folder not in faults),
            refused=(*self.refused, *(path for path in faults if path.parent != self.home)),
            problems=(*self.problems, *told),
        )

    def _told(self, path: Path, fault: Fault) -> str:
        """Return what to say of a run that cannot be used, of which an earlier call may have made a copy."""
        text = f"{path.name}: {fault.text}"
        copy = self.home / path.name
        if is_link(self.home) or is_link(copy) or not is_file(copy / RESULTS):
            return text  # readers find none
        return f"{text}; its copy in {self.origin.label}/{path.name} is still read by everyone: move it away"


def gather(folder: FleetFolder) -> Gathered:
    """Verify the runs of all nodes, and copy those that can be used to FLEET/LABEL/RUN.

    A run that was copied by an earlier call counts by its copy if it is damaged or lost where it was measured. What
    cannot be copied is a problem of its part. Raises TableError if the plan of the fleet cannot be read.
    """
    plan = folder.plan()
    driven = is_driven(folder)
    known = {node.label: known_of(folder, node.label, driven) for node in plan.nodes}
    members = _alike([_member(folder, plan, origin, known[origin.node]) for origin in _origins(plan)])
    usual = outcomes.Usual.of([member.runs for member in members])
    given, new = [], 0
    problems: list[Problem] = []
    for member in members:
        copied, kept, newly = _copy_all(member)
        given.append(Given(member.origin.node, member.origin.label, copied, len(member.runs)))
        problems += [*member.problems, *kept, *_missing(folder, plan, member), *_cases(member, usual)]
        new += newly
    refused = tuple(Refused(m.origin.node, m.origin.label, path) for m in members for path in m.refused)
    gathered = Gathered(folder.path, plan.runs, tuple(given), tuple(problems), refused, new)
    lacking = set(gathered.lacking)
    of_nodes = [
        each for node, what in known.items() for each in _of_node(node, what, _resume(folder) * (node in lacking))
    ]
    return replace(gathered, problems=(*problems, *of_nodes))


def set_aside(folder: FleetFolder, gathered: Gathered) -> None:
    """Move refused runs to where a node does not take them for complete ones; raises OSError.

    They stay in the private folder, for whoever wants to know what has happened to them.
    """
    for run in gathered.refused:
        aside = folder.node(run.node) / run.part / "refused"
        aside.mkdir(exist_ok=True)
        names = (aside / f"{run.folder.name}{f'-{n}' * bool(n)}" for n in range(_MOST_ASIDE))
        run.folder.rename(next(name for name in names if not name.exists()))


def _origins(plan: Plan) -> list[Origin]:
    """Return the origin of each part of a plan."""
    parts = [(part.label, node.label) for node in plan.nodes for part in node.parts]
    owners = dict(reversed(parts))  # of two nodes with one label the first
    return [Origin(label, node, owners) for label, node in parts]


def _member(folder: FleetFolder, plan: Plan, origin: Origin, known: Known) -> _Member:
    """Return a part with its runs, each of which was verified by itself."""
    member = _Member(origin, folder.path / origin.label, known)
    member = replace(member, problems=tuple(_of_other_labels(folder, member)))
    owner = origin.owners[origin.label]
    if owner != origin.node:
        text = f"{owner} and {origin.node} have one label, {origin.label}: only the runs of {owner} are gathered"
        return replace(member, problems=(*member.problems, member.problem(Kind.LABEL, text)))
    runs, faults = [], {}
    for paths in _found(folder, member):
        try:
            runs.append(_usable(paths, plan, member))
        except Fault as fault:
            faults[paths[0]] = fault
    return replace(member.without(faults), runs=tuple(runs))


def _found(folder: FleetFolder, member: _Member) -> list[list[Path]]:
    """Return where each complete run of a part is: in its private folder, in its copy, or in both, in this order."""
    private = folder.complete(member.origin.node, member.origin.label)
    copies = [] if is_link(member.home) else [file.parent for file in member.home.glob(f"*/{RUN}")]
    by_name: dict[str, list[Path]] = {}
    for path in (*private, *(path for path in copies if not is_link(path))):
        by_name.setdefault(path.name, []).append(path)
    return [paths for _, paths in sorted(by_name.items())]


def _usable(paths: Sequence[Path], plan: Plan, member: _Member) -> Verified:
    """Return a run from the first folder in which it can be used; raises the Fault of the first if there is none."""
    faults = []
    for path in paths:
        try:
            run = verified(path, member.origin)
            require_version(run, plan, member.known.state)
        except Fault as fault:
            faults.append(fault)
        else:
            return run
    raise faults[0]


def _of_other_labels(folder: FleetFolder, member: _Member) -> Iterator[Problem]:
    """Yield a problem for each label other than its own under which a part has runs."""
    own = folder.runs(member.origin.node, member.origin.label)
    for label in sorted({file.parent.parent.name for file in own.parent.glob(f"*/*/{RUN}")} - {own.name}):
        yield member.problem(Kind.LABEL, f"has runs that are labelled {member.origin.told(label)}")


def _alike(members: Sequence[_Member]) -> list[_Member]:
    """Return the parts without the runs that cannot be compared with the others.

    These are runs whose options are not those of most runs of the fleet, and runs whose cases are not those of most
    runs of their own part. Between parts the cases may differ: not all nodes can measure the same.
    """
    usual = Counter(run.options for member in members for run in member.runs).most_common(1)
    members = [
        member.without(
            {
                run.folder: Fault(Kind.OPTIONS, _differing(run.options, options))
                for run in member.runs
                for options, _ in usual
                if run.options != options
            }
        )
        for member in members
    ]
    everywhere = Counter(frozenset(run.cases) for member in members for run in member.runs)
    return [
        member.without(
            {path: Fault(Kind.MIXED, text) for path, text in outcomes.unlike(member.runs, everywhere).items()}
        )
        for member in members
    ]


def _differing(options: Sequence[str], usual: Sequence[str]) -> str:
    different = [
        f"{name} {printable(mine, 80)}, most others with {printable(theirs, 80)}"
        for name, mine, theirs in zip(RUN_OPTIONS, options, usual, strict=True)
        if mine != theirs
    ]
    return f"was measured with {'; '.join(different)}"


def _cases(member: _Member, usual: outcomes.Usual) -> Iterator[Problem]:
    """Yield what is to be said of the cases of a part that can be used."""
    nothing = outcomes.nothing_measured(member.runs)
    if nothing:
        yield member.problem(Kind.FAILED, nothing)
    elif failed := outcomes.failed(member.runs, usual):
        yield member.problem(Kind.FAILED_HERE, failed)
    if lacking := outcomes.not_planned(member.runs, usual):
        yield member.problem(Kind.CASES, lacking)


def _copy_all(member: _Member) -> tuple[tuple[Path, ...], list[Problem], int]:
    """Copy the runs of a part; return where all of them are, what could not be copied, and how many are new."""
    copied: list[Path] = []
    problems, new = [], 0
    for run in member.runs:
        target = member.home / run.folder.name
        try:
            new += _copy(run.folder, target)
        except Fault as fault:
            problems.append(member.problem(fault.kind, fault.text))
        except OSError as error:  # that of another part may be on another disk
            kind = Kind.DISK if error.errno in _NO_SPACE else Kind.COPY
            text = f"{target.name}: cannot be copied: {error.strerror or error}"
            return tuple(copied), [*problems, member.problem(kind, text)], new
        else:
            copied.append(target)
    return tuple(copied), problems, new


def _copy(source: Path, target: Path) -> bool:
    """Copy the files of a run that are not there yet, and return whether there were any.

    Raises Fault, before anything is written, if one is there with other content, or if a link leads elsewhere;
    OSError if writing fails.
    """
    _require_inside(target)
    contents = {name: read_bytes(source / name) for name in _FILES}
    wanted = [name for name in _FILES if not _is_there(target / name, contents[name])]
    for name in wanted:
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / name, contents[name])
    return bool(wanted)


def _require_inside(target: Path) -> None:
    """Raise Fault if the folder of a run, or the one around it, is a link: its target may be anywhere."""
    try:
        require_no_link(target.parent)
        require_no_link(target)
    except TableError as error:
        raise Fault(Kind.KEPT, f"{error}: nothing is copied there") from None


def _is_there(path: Path, content: bytes) -> bool:
    """Return whether a file has this content; raises Fault if it has another one, or cannot be read."""
    if not is_link(path) and not path.exists():
        return False
    try:
        require_no_link(path)
        is_same = read_bytes(path) == content
    except TableError as error:
        raise Fault(Kind.KEPT, f"{error}: it is not replaced") from None
    if not is_same:
        text = f"{path}: is there with other content, and is not replaced: move it away and gather again"
        raise Fault(Kind.KEPT, text)
    return True


def _missing(folder: FleetFolder, plan: Plan, member: _Member) -> Iterator[Problem]:
    """Yield what is said of a part that has not given what it was asked for."""
    origin, count = member.origin, len(member.runs)
    if count >= plan.runs or origin.owners[origin.label] != origin.node:
        return
    unfinished = folder.unfinished(origin.node, origin.label)
    for run in unfinished:
        yield member.problem(Kind.UNFINISHED, f"{run.name}: {member.known.of_unfinished(_resume(folder))}")
    log = last_words(folder.node(origin.node) / origin.label)
    reasons = member.known.reasons(origin.label, _resume(folder))
    if not reasons and not member.problems:  # else these are the reason
        is_telling = log and not is_success(log)
        reasons = [f"its log ends: {log}"] if is_telling else ["it is not known why"] * (not unfinished)
    text = f"{count} of {plan.runs} runs can be used" if count else "no run can be used"
    yield member.problem(Kind.FEWER if count else Kind.NOTHING, ": ".join([text, *reasons[:1]]))
    full = next((text for text in (*reasons, log) if says_full(text)), "")
    if full:
        yield member.problem(Kind.DISK, f"its disk was full: {full}")
    elif is_full(folder.node(member.origin.node)):
        yield member.problem(Kind.DISK, "the disk with its folder is full")


def _resume(folder: FleetFolder) -> str:
    """Return the command that measures what is missing."""
    return f"bench-core fleet run --resume {shlex.quote(str(folder.path))}"


def _of_node(node: str, known: Known, resume: str) -> Iterator[Problem]:
    """Yield what is odd about a node as a whole: what it says of itself, and its clock.

    resume: the command that measures what is missing, "" if nothing is: then a damaged file is of no consequence.
    """
    for damage in known.damaged if resume else ():
        yield Problem(node, node, Kind.DAMAGED, f"{damage}; `{resume}` gives it a new order")
    off = known.clock_off()
    if off:
        text = f"its clock is {off} that of this computer: the times of its runs are wrong, not their durations"
        yield Problem(node, node, Kind.CLOCK, text)
