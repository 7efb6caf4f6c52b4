"""Drive a fleet: plan what is measured where, give each node its order, and watch until all have ended."""

from __future__ import annotations

import importlib
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path

from bench_core import __version__
from bench_core.errors import TableError, UsageError
from bench_core.files import write_atomically
from bench_core.fleet.alone import LOCK, alone
from bench_core.fleet.engine import Engine, EngineError, Job, JobState, Place
from bench_core.fleet.plan import TOKEN, FleetFolder, Node, Order, Part, Plan, Seen
from bench_core.machine.environment import git_state
from bench_core.results.schema import UNFINISHED
from bench_core.text import no_such, printable
from bench_core.units import counted

ENGINES = {"slurm": "Slurm", "ray": "Ray", "local": "Local"}  # module of this room -> class
PER = ("node", "gpu")
_PATIENCE = 60.0  # seconds that a cancelled job has to write what it has measured
_LONGEST_NAME = 60
_NO_LABELS = {UNFINISHED, TOKEN, LOCK, *ENGINES}  # other folders and files have these names


def engine(name: str, private: Path, settings: Mapping[str, str]) -> Engine:
    """Return an engine by its name; private: the private folder of the fleet, which need not be there yet.

    Raises UsageError for an unknown one, EngineError if it cannot be used.
    """
    if name not in ENGINES:
        raise UsageError(f"--on: {no_such('', name, ENGINES)}")
    module = importlib.import_module(f"bench_core.fleet.{name}")
    made: Engine = getattr(module, ENGINES[name])(private, settings)
    return made


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for. per: "node" or "gpu". by_name: whether labels are names of nodes. The rest: as in Plan."""

    engine: str
    runs: int
    arguments: tuple[str, ...] = ()
    per: str = "node"
    by_name: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


def new_plan(fleet_id: str, request: Request, places: Sequence[Place]) -> tuple[Plan, dict[str, Place], list[str]]:
    """Return a plan, the place of each of its nodes by label, and notes for the user.

    Raises UsageError if no node can do what was asked for.
    """
    able = [place for place in places if request.per == "node" or place.gpus]
    if not able:
        raise UsageError(
            f"--per gpu: {counted(len(places), 'node')}, none with a GPU" if places else "no node is there"
        )
    notes = [f"{place.name}: has no GPU, and is left out" for place in places if place not in able]
    labels, renamed = _labels([place.name for place in able], by_name=request.by_name)
    by_label = dict(zip(labels, able, strict=True))
    nodes = tuple(Node(label, _parts(label, place, request.per)) for label, place in by_label.items())
    working = Path.cwd()
    git = git_state(working)
    about = (request.engine, request.runs, request.arguments, nodes, __version__, git.commit, dict(request.settings))
    return Plan(fleet_id, *about, str(working), git.dirty), by_label, notes + renamed


def _parts(label: str, place: Place, per: str) -> tuple[Part, ...]:
    if per == "node":
        return (Part(label),)
    return tuple(Part(f"{label}-gpu-{number}", number) for number in range(place.gpus))


def _labels(names: Sequence[str], *, by_name: bool) -> tuple[list[str], list[str]]:
    """Return a label for each node, and a note for each that is not the name of its node although names are wanted."""
    if not by_name:
        width = max(2, len(str(len(names))))
        return [f"node-{number:0{width}}" for number in range(1, len(names) + 1)], []
    taken = {name.lower() for name in _NO_LABELS}
    labels = [_label(name, taken) for name in names]
    counts = Counter(names)
    notes = [
        f"{printable(name)} is labelled {label}" + ": two nodes have that name" * (counts[name] > 1)
        for name, label in zip(names, labels, strict=True)
        if label != name
    ]
    return labels, notes


def _label(name: str, taken: set[str]) -> str:
    """Return a label like a name, which is none of those taken, and add it there in lower case.

    It is the name of a folder, and not every file system tells a from A.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_LONGEST_NAME].strip("-.") or "node"
    tried = chain([plain], (f"{plain}-{number}" for number in count(2)))
    label = next(label for label in tried if label.lower() not in taken)
    taken.add(label.lower())
    return label


def require_same(plan: Plan, folder: Path) -> list[str]:
    """Return notes on what may be another thing than the fleet was started with, in the folder where that was.

    Raises UsageError if it is another one, or if that folder is gone.
    """
    working = _working(plan)
    if not working.is_dir():
        raise UsageError(f"--resume {folder}: started in {printable(str(working))}, which is no folder now")
    git = git_state(working)
    same = {"bench-core": (plan.version, __version__), "git_commit": (plan.commit, git.commit)}
    for name, (was, now) in same.items():
        if was != now:
            told = f"started with {name} {was or 'unknown'}, which is now {now or 'unknown'}"
            raise UsageError(f"--resume {folder}: {told}")
    is_dirty = plan.dirty or git.dirty
    return ["measured with uncommitted changes, which may be others now"] * bool(is_dirty)


def _working(plan: Plan) -> Path:
    """Return the folder in which the nodes measure: the one where the fleet was started, whoever resumes it where."""
    return Path(plan.working) if plan.working else Path.cwd()


def places_of(names: Mapping[str, str], places: Sequence[Place]) -> dict[str, Place]:
    """Return the place of each node of an earlier plan by label, as far as it is there. names: those at that time."""
    free = list(places)
    found = {}
    for label, name in names.items():
        place = next((place for place in free if place.name == name), None)
        if place is not None:
            free.remove(place)  # two nodes may have one name
            found[label] = place
    return found


@dataclass(slots=True)
class _Watched:
    """A node with a job. told: the line of its state. said: lines on why it and its parts wait or have stopped."""

    node: Node
    job: Job
    seen: Seen
    told: str = ""
    said: tuple[str, ...] = ()


@dataclass(slots=True)
class Driver:
    """Gives orders, and writes down when it saw what. tell: takes a line for each change of a node.

    clock: seconds since 1970. sleep: waits that many.
    """

    folder: FleetFolder
    engine: Engine
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    _pending: dict[str, _Watched] = field(default_factory=dict)
    _errors: list[EngineError] = field(default_factory=list)

    def run(self, plan: Plan, places: Mapping[str, Place], absent: Mapping[str, str]) -> bool:
        """Have all nodes of a plan measure, and return whether that was interrupted. No job goes on afterwards.

        places: by label. absent: why a node without one has none. Raises EngineError if not a single node could be
        given its order, UsageError if another process drives this fleet, OSError if its folder cannot be written to.
        """
        try:
            with alone(self.folder):
                return self._run(plan, places, absent)
        finally:
            for watched in self._pending.values():  # after an error in between
                watched.job.cancel()

    def _run(self, plan: Plan, places: Mapping[str, Place], absent: Mapping[str, str]) -> bool:
        token = secrets.token_hex(16)
        write_atomically(self.folder.private / TOKEN, token)
        try:
            for node in plan.nodes:
                place = places.get(node.label)
                if place is None:
                    self._note_absent(node.label, absent.get(node.label, ""), token)
                else:
                    self._start(plan, node, place, token)
            if len(self._errors) == len(plan.nodes):
                raise self._errors[0]
            self._watch()
        except KeyboardInterrupt:
            self._stop()
            return True
        return False

    def _start(self, plan: Plan, node: Node, place: Place, token: str) -> None:
        """Give a node its order."""
        label = node.label
        folder = str(self.folder.node(label).resolve())
        complete = {part.label: len(self.folder.complete(label, part.label)) for part in node.parts}
        order = Order(node, plan.runs, plan.arguments, folder, token, str(_working(plan)), complete)
        seen = Seen(self.clock(), token=token)
        try:
            self.folder.write_order(order)
            self.folder.forget(label)
            self._note(label, seen)
            job = self.engine.start(order, place)
        except (EngineError, OSError) as error:
            why = str(error) if isinstance(error, EngineError) else f"its order cannot be written: {error.strerror}"
            self._errors.append(EngineError(why))
            self._note(label, replace(seen, ended=self.clock(), why=why))
            self.tell(f"{label} not started: {why}")
        else:
            self._pending[label] = _Watched(node, job, seen)

    def _note(self, label: str, seen: Seen) -> None:
        """Write down what was seen of a node. A full disk is no reason to end what the nodes measure."""
        try:
            self.folder.write_seen(label, seen)
        except OSError as error:
            self.tell(f"{label}: what was seen of it cannot be written: {error.strerror}")

    def _note_absent(self, label: str, why: str, token: str) -> None:
        """Write down that a node was given no order this time."""
        told = f"cannot be used now: {why}" if why else "is not there now"
        self.folder.node(label).mkdir(parents=True, exist_ok=True)
        self.folder.forget(label)
        now = self.clock()
        self._note(label, Seen(now, ended=now, why=told, token=token))
        self.tell(f"{label} {told}")

    def _watch(self, until: float = math.inf) -> None:
        """Look at all jobs until they have ended, or until a time."""
        while self._pending:
            for label in list(self._pending):
                self._look(label)
            if not self._pending or self.clock() >= until:
                return
            self.sleep(self.engine.poll_s)

    def _look(self, label: str) -> None:
        """Look at a job, and write down and tell what has changed."""
        watched = self._pending[label]
        state, why = self._state(watched.job)
        seen = watched.seen
        has_begun, said = self._said(label, seen.token)
        if seen.begun is None and has_begun:
            seen = replace(seen, begun=self.clock())
        if state is JobState.ENDED:
            seen = replace(seen, ended=self.clock(), why=why)
            del self._pending[label]
        if seen != watched.seen:
            self._note(label, seen)
        told = self._told(watched, state, why)
        for line in (*said, told) if state is JobState.ENDED else (told, *said):
            if line not in (watched.told, *watched.said):
                self.tell(line)
        watched.told, watched.seen, watched.said = told, seen, said

    @staticmethod
    def _state(job: Job) -> tuple[JobState, str]:
        """Return the state of a job and, of one that has ended, why. One that cannot be seen is cancelled."""
        try:
            state = job.state()
            return state, job.why if state is JobState.ENDED else ""
        except EngineError as error:
            job.cancel()
            return JobState.ENDED, str(error)

    def _said(self, label: str, token: str) -> tuple[bool, tuple[str, ...]]:
        """Return whether a node has begun the order with this token, and lines on why it and its parts wait or stopped.

        What the task of an earlier order has said does not count.
        """
        try:
            state = self.folder.state(label)
        except TableError:  # not in a form that can be read: `gather` says so
            return True, ()
        if state is None or state.token != token:
            return False, ()
        reasons = [(label, state.reason), *((name, part.reason) for name, part in state.parts.items())]
        return True, tuple(printable(f"{name}: {reason}") for name, reason in reasons if reason)

    def _told(self, watched: _Watched, state: JobState, why: str) -> str:
        """Return the line for the state of a node."""
        node = watched.node
        if state is JobState.WAITING:
            why = getattr(watched.job, "reason", "")
        if state is not JobState.ENDED:
            return f"{node.label} {state}" + (f" ({printable(why)})" if why else "")
        runs = sum(len(self.folder.complete(node.label, part.label)) for part in node.parts)
        return f"{node.label} ended: {counted(runs, 'run')}" + (f" ({printable(why)})" if why else "")

    def _stop(self) -> None:
        """Cancel all jobs, wait for them for as long as they may take, and give up on the others."""
        if self._pending:
            nodes = counted(len(self._pending), "node")
            self.tell(f"interrupted: up to {_PATIENCE:.0f} s for {nodes} to write what was measured")
        for watched in self._pending.values():
            watched.job.cancel()
        self._watch(self.clock() + _PATIENCE)
        for label, watched in self._pending.items():
            why = f"it was cancelled, and did not end within {_PATIENCE:.0f} s"
            self._note(label, replace(watched.seen, ended=self.clock(), why=why))
            self.tell(f"{label} did not end")
        self._pending.clear()
