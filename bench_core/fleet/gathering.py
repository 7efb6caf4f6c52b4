"""Gather what the nodes of a fleet gave: verify each run, copy it beside the others, and say what is missing and why.

A run is copied whole or not at all, and what was copied is never replaced: to gather again changes nothing that is
there. What is wrong with one node keeps no other from being gathered.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from bench_core.errors import TableError
from bench_core.files import is_link, read_bytes, write_atomically
from bench_core.fleet.plan import FleetFolder, Node, PartState, Plan, Seen, State, is_full
from bench_core.fleet.verification import (
    OPTIONS,
    Fault,
    Kind,
    Place,
    Verified,
    require_no_link,
    require_version,
    verified,
)
from bench_core.results.schema import RESULTS, RUN, SAMPLES
from bench_core.run.replicate import last_error
from bench_core.text import harmless, printable

_FILES = (RESULTS, SAMPLES, RUN)  # in the order in which they are written: a folder with a run.json is complete
_CLOCK_OFF = 5.0  # seconds: less may be the time between two looks
_LOG_BYTES = 1 << 16  # of the end of a log
_FULL = ("no space left on device", "disk quota exceeded", "enospc", "edquot")
_MOST_ASIDE = 1000  # runs of one name that are set aside
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a node. part: the label of the part that has it, that of the node if all have. text: a sentence."""

    node: str
    part: str
    kind: Kind
    text: str


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
    """A part with what is known of it. runs: those that can be used; problems: of the others, and of itself."""

    place: Place
    state: PartState
    runs: tuple[Verified, ...] = ()
    refused: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()

    def problem(self, kind: Kind, text: str) -> Problem:
        return Problem(self.place.node, self.place.label, kind, harmless(text))

    def without(self, faults: Mapping[Path, Fault]) -> _Member:
        """Return it without the runs that have these faults."""
        told = (self.problem(fault.kind, f"{path.name}: {fault.text}") for path, fault in faults.items())
        return replace(
            self,
            runs=tuple(run for run in self.runs if run.folder not in faults),
            refused=(*self.refused, *faults),
            problems=(*self.problems, *told),
        )


def gather(folder: FleetFolder) -> Gathered:
    """Verify the runs of all nodes, and copy those that can be used to FLEET/LABEL/RUN.

    Raises TableError if the plan of the fleet cannot be read, OSError if FLEET cannot be written to.
    """
    plan = folder.plan()
    members = _alike([_member(folder, plan, place) for place in _places(plan)])
    usual = _usual_cases(members)
    given, new = [], 0
    problems: list[Problem] = []
    for member in members:
        copied, kept, newly = _copy_all(folder, member)
        given.append(Given(member.place.node, member.place.label, copied, len(member.runs)))
        problems += [*member.problems, *kept, *_missing(folder, plan, member), *_other_cases(member, usual)]
        new += newly
    problems += [problem for node in plan.nodes for problem in _of_node(folder, node)]
    refused = tuple(Refused(m.place.node, m.place.label, path) for m in members for path in m.refused)
    return Gathered(folder.path, plan.runs, tuple(given), tuple(problems), refused, new)


def set_aside(folder: FleetFolder, gathered: Gathered) -> None:
    """Move refused runs to where a node does not take them for complete ones; raises OSError.

    They stay in the private folder, for whoever wants to know what has happened to them.
    """
    for run in gathered.refused:
        aside = folder.node(run.node) / run.part / "refused"
        aside.mkdir(exist_ok=True)
        names = (aside / f"{run.folder.name}{f'-{n}' * bool(n)}" for n in range(_MOST_ASIDE))
        run.folder.rename(next(name for name in names if not name.exists()))


def _places(plan: Plan) -> list[Place]:
    """Return the place of each part of a plan."""
    parts = [(part.label, node.label) for node in plan.nodes for part in node.parts]
    owners = dict(reversed(parts))  # of two nodes with one label the first
    return [Place(label, node, owners) for label, node in parts]


def _member(folder: FleetFolder, plan: Plan, place: Place) -> _Member:
    """Return a part with its runs, each of which was verified by itself."""
    state = _if_readable(lambda: folder.state(place.node))
    own = state.parts.get(place.label) if state else None
    member = _Member(place, own or PartState())
    member = replace(member, problems=tuple(_of_other_labels(folder, member)))
    owner = place.owners[place.label]
    if owner != place.node:
        text = f"{owner} and {place.node} have one label, {place.label}: only the runs of {owner} are gathered"
        return replace(member, problems=(*member.problems, member.problem(Kind.LABEL, text)))
    runs, faults = [], {}
    for path in folder.complete(place.node, place.label):
        try:
            run = verified(path, place)
            require_version(run, plan, state)
        except Fault as fault:
            faults[path] = fault
        else:
            runs.append(run)
    return replace(member.without(faults), runs=tuple(runs))


def _of_other_labels(folder: FleetFolder, member: _Member) -> Iterator[Problem]:
    """Yield a problem for each label other than its own under which a part has runs."""
    own = folder.runs(member.place.node, member.place.label)
    for label in sorted({file.parent.parent.name for file in own.parent.glob(f"*/*/{RUN}")} - {own.name}):
        yield member.problem(Kind.LABEL, f"has runs that are labelled {member.place.told(label)}")


def _alike(members: Sequence[_Member]) -> list[_Member]:
    """Return the parts without the runs whose options are not those of most runs of the fleet."""
    usual = Counter(run.options for member in members for run in member.runs).most_common(1)
    return [
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


def _differing(options: Sequence[str], usual: Sequence[str]) -> str:
    different = [
        f"{name} {printable(mine, 80)}, most others with {printable(theirs, 80)}"
        for name, mine, theirs in zip(OPTIONS, options, usual, strict=True)
        if mine != theirs
    ]
    return f"was measured with {'; '.join(different)}"


def _usual_cases(members: Sequence[_Member]) -> frozenset[str]:
    """Return the cases that more than half of the parts have which gave anything."""
    planned = [_cases(member) for member in members if member.runs]
    counted = Counter(case for cases in planned for case in cases)
    return frozenset(case for case, count in counted.items() if 2 * count > len(planned))


def _cases(member: _Member) -> frozenset[str]:
    return frozenset().union(*(run.cases for run in member.runs))


def _other_cases(member: _Member, usual: frozenset[str]) -> Iterator[Problem]:
    lacking = sorted(usual - _cases(member)) if member.runs else []
    if lacking:
        text = f"has not planned {len(lacking):,} of the {len(usual):,} cases that most have, such as {lacking[0]}"
        yield member.problem(Kind.CASES, text)


def _copy_all(folder: FleetFolder, member: _Member) -> tuple[tuple[Path, ...], list[Problem], int]:
    """Copy the runs of a part; return where all of them are, what could not be copied, and how many are new."""
    copied, problems, new = [], [], 0
    for run in member.runs:
        target = folder.path / member.place.label / run.folder.name
        try:
            new += _copy(run.folder, target)
        except Fault as fault:
            problems.append(member.problem(fault.kind, fault.text))
        else:
            copied.append(target)
    return tuple(copied), problems, new


def _copy(source: Path, target: Path) -> bool:
    """Copy the files of a run that are not there yet, and return whether there were any.

    Raises Fault, before anything is written, if one is there with other content.
    """
    contents = {name: read_bytes(source / name) for name in _FILES}
    wanted = [name for name in _FILES if not _is_there(target / name, contents[name])]
    for name in wanted:
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / name, contents[name])
    return bool(wanted)


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
    place, count = member.place, len(member.runs)
    if count >= plan.runs or place.owners[place.label] != place.node:
        return
    unfinished = folder.unfinished(place.node, place.label)
    resume = f"bench-core fleet run --resume {shlex.quote(str(folder.path))}"
    for run in unfinished:
        yield member.problem(Kind.UNFINISHED, f"{run.name}: did not end; `{resume}` finishes it")
    log = _last_words(folder.node(place.node) / place.label)
    reasons = _reasons(folder, member) or [f"its log ends: {log}"] * bool(log)
    if not reasons and not member.problems and not unfinished:
        reasons = ["it is not known why"]
    text = f"{count} of {plan.runs} runs can be used" if count else "no run can be used"
    yield member.problem(Kind.FEWER if count else Kind.NOTHING, ": ".join([text, *reasons[:1]]))
    full = next((text for text in (*reasons, log) if any(word in text.lower() for word in _FULL)), "")
    if full:
        yield member.problem(Kind.DISK, f"its disk was full: {full}")
    elif is_full(folder.node(member.place.node)):
        yield member.problem(Kind.DISK, "the disk with its folder is full")


def _reasons(folder: FleetFolder, member: _Member) -> list[str]:
    """Return why a part has not given everything, as its node, its runs and its engine say: the most telling first."""
    node = member.place.node
    state, seen = (_if_readable(lambda: folder.state(node)), _if_readable(lambda: folder.seen(node)))
    said = [member.state.reason, state.reason if state else "", seen.why if seen else ""]
    told = [printable(reason) for reason in said if reason]
    return told or [reason for reason in (_silent(state, seen),) if reason]


def _silent(state: State | None, seen: Seen | None) -> str:
    """Return what is said of a node of which nothing else is known; "" if it ended as it should."""
    is_running = seen is not None and seen.ended is None
    if state is None and seen is None:
        return "it was given no order"
    if state is None:
        return "it has not begun yet" if is_running else "it never began"
    if state.ended is None:
        return "it has not ended yet" if is_running else "it ended without a word"
    return ""


def _last_words(folder: Path) -> str:
    """Return what the newest log of a part says about its end; "" if there is none."""
    logs = sorted(folder.glob("log-*.txt"), key=lambda path: (len(path.name), path.name))
    try:
        with logs[-1].open("rb") as file:
            file.seek(max(0, logs[-1].stat().st_size - _LOG_BYTES))
            said = file.read().decode("utf-8", "replace")
    except (IndexError, OSError):
        return ""
    full = [line for line in said.splitlines() if any(word in line.lower() for word in _FULL)]
    return printable(full[-1] if full else last_error(said))


def _of_node(folder: FleetFolder, node: Node) -> Iterator[Problem]:
    """Yield what is odd about a node as a whole: what it says of itself, and its clock."""
    try:
        state, seen = folder.state(node.label), folder.seen(node.label)
    except TableError as error:
        yield Problem(node.label, node.label, Kind.DAMAGED, str(error))
        return
    off = _clock_off(state, seen) if state and seen and state.token == seen.token else ""  # else of two orders
    if off:
        text = f"its clock is {off} that of this computer: the times of its runs are wrong, not their durations"
        yield Problem(node.label, node.label, Kind.CLOCK, text)


def _clock_off(state: State, seen: Seen) -> str:
    """Return how far the clock of a node is off at least, "" if it need not be.

    What a node says that it did was after its order, and before this computer saw it.
    """
    pairs = [(state.began, seen.begun), (state.ended, seen.ended)]
    ahead = max((said - saw for said, saw in pairs if said is not None and saw is not None), default=0.0)
    behind = seen.sent - state.began
    if max(ahead, behind) < _CLOCK_OFF:
        return ""
    return f"at least {max(ahead, behind):,.0f} s {'ahead of' if ahead > behind else 'behind'}"


def _if_readable(read: Callable[[], _Read | None]) -> _Read | None:
    """Return what a file says; None if it cannot be read, which `_of_node` says."""
    try:
        return read()
    except TableError:
        return None
