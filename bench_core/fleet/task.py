"""What a node does: it measures its parts at the same time, each as often as the order says, and tells how far it is.

An engine calls `perform` on the node, or runs `python -m bench_core.fleet.task ORDER_FILE` there. Every run is a normal
one in a process of its own. What the node has measured before, when it was given this order already, counts: complete
runs are not repeated, and an unfinished one is finished.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

from bench_core import __version__, child_process
from bench_core.errors import BenchError, TableError, UsageError
from bench_core.files import read_text
from bench_core.fleet import devices
from bench_core.fleet.devices import Device, Lock
from bench_core.fleet.plan import TOKEN, FleetFolder, Order, Part, PartState, State, is_full, is_superseded, write_state
from bench_core.interrupts import Interrupts
from bench_core.machine.nvml import NotTold
from bench_core.results import schema
from bench_core.run.replicate import last_error
from bench_core.scratch import Scratch
from bench_core.text import printable
from bench_core.units import counted

_LOCK = "lock"  # in the folder of a node
_REFUSED = {2, 4}  # pytest's codes of an error in the collection, and of a usage error
_INTERRUPTED = "interrupted: this node was told to end"
_GRACE = 20.0  # seconds for runs to write what they have; Slurm kills 30 s after its SIGTERM (slurm.conf, KillWait)
_POLL = 0.5  # seconds between two tries to get a lock
# What a run says that has lost something, or was refused: in its last lines, or as an error of pytest's collection.
_PROBLEM = re.compile(r"^(?:problem|E   bench_core\.errors\.\w+): (.*)", re.MULTILINE)
_MOST_LOG = 1 << 20  # bytes of a log that are searched for the reason, from its end


class _Stopped(BenchError):
    """A part cannot go on; the text is the reason."""


def perform(order_text: str, now: Callable[[], float] = time.time) -> dict[str, bytes]:
    """Measure what an order says, and write the state of the node, at the beginning, after each run and at the end.

    Returns nothing if this node sees the folder that the order names, else every file that would be there, by its path
    in it. now: the clock of the node. A signal that would end this process ends the runs, which write what they have,
    and is told as the reason. Raises BenchError if the state cannot be written; KeyError, TypeError, ValueError for
    what is no order.
    """
    order = Order.from_text(order_text)
    if _is_shared(order):
        _Task(replace(order, complete={}), Path(order.folder).parent.parent, Path(order.working), now).run()
        return {}
    with Scratch() as name:
        here, elsewhere = Path(name), Path(order.working)
        fleet = here / "fleet"
        _Task(order, fleet, elsewhere if elsewhere.is_dir() else here, now).run()
        folder = FleetFolder(fleet).node(order.node.label)
        files = (f for f in sorted(folder.rglob("*")) if f.is_file() and f != folder / _LOCK)
        return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def _is_shared(order: Order) -> bool:
    """Return whether the folder that an order names is the one of the computer that gave it."""
    try:
        return read_text(Path(order.folder).parent / TOKEN).strip() == order.token
    except TableError:
        return False


@dataclass(frozen=True, slots=True)
class _Means:
    """What the runs of a part have for themselves: variables, and descriptors of the locks that they hold too."""

    environ: Mapping[str, str]
    inherited: tuple[int, ...]


class _Report:
    """The state of the node, in its file after every change; several threads change it.

    Once a newer order was given, the file is that of the task with that order: this one changes it no more.
    """

    def __init__(self, fleet: FleetFolder, order: Order, began: float) -> None:
        self._fleet, self._folder, self._lock = fleet, fleet.node(order.node.label), threading.Lock()
        parts = {part.label: PartState() for part in order.node.parts}
        self._state = State(began, parts=parts, version=__version__, token=order.token)
        self.unwritten = ""  # why the last change is not in the file

    def write(self, **changes: object) -> None:
        """Change the state of the node."""
        with self._lock:
            self._write(replace(self._state, **changes))  # type: ignore[arg-type]

    def ran(self, label: str, code: int) -> None:
        """Add the exit code of a run of a part."""
        with self._lock:
            part = self._state.parts[label]
            self._of(label, replace(part, exit_codes=(*part.exit_codes, code)))

    def says(self, label: str, reason: str) -> None:
        """Tell why a part waits or has stopped, "" for neither."""
        with self._lock:
            self._of(label, replace(self._state.parts[label], reason=reason))

    def _of(self, label: str, part: PartState) -> None:
        if part != self._state.parts[label]:
            self._write(replace(self._state, parts={**self._state.parts, label: part}))

    def _write(self, state: State) -> None:
        self._state, self.unwritten = state, ""
        if is_superseded(self._fleet, state.token):
            return
        try:
            write_state(self._folder, state)
        except OSError as error:  # the disk is full, or was taken away: what was measured so far may be whole
            self.unwritten = error.strerror or type(error).__name__


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A process that measured a run of a part: its exit code and its log. refused: the run that it would not finish."""

    code: int
    log: Path
    refused: Path | None = None

    def why(self) -> str:
        """Return why it left no complete run."""
        if self.code < 0:
            said = f"the run {child_process.ending(self.code)}"
        elif is_full(self.log.parent):
            said = f"exit code {self.code}: the disk is full: {self._words()}"
        else:
            said = f"exit code {self.code}: {self._words()}"
        return f"{self.log.name}: {said}"

    def _words(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _MOST_LOG))
                said = file.read().decode(errors="replace").replace(f"{self.log.parent}{os.sep}", "")
        except OSError as error:
            return f"its output cannot be read: {error.strerror}"
        problem = _PROBLEM.search(said)
        return printable(problem[1] if problem else last_error(said))


@dataclass(slots=True)
class _Running:
    """The child processes that run now, and whether no more may be started."""

    stopping: threading.Event = field(default_factory=threading.Event)
    _children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, start: Callable[[], subprocess.Popen[bytes]]) -> int:
        """Start a child, wait for its end and return its exit code; raises _Stopped if that is no longer allowed."""
        with self._lock:
            if self.stopping.is_set():
                raise _Stopped(_INTERRUPTED)
            child = start()
            self._children.add(child)
        code = child.wait()
        with self._lock:
            self._children.discard(child)
        return code

    def end(self, *, gently: bool) -> None:
        """End all children, and start no more."""
        with self._lock:
            self.stopping.set()
            for child in self._children:
                child.terminate() if gently else child.kill()

    def moment(self) -> bool:
        """Wait a moment, for a lock that others have; return False if this process is to end."""
        return not self.stopping.wait(_POLL)


class _Task:
    """An order in work. fleet: the folder of the fleet, as this node sees it. working: where the runs are started."""

    def __init__(self, order: Order, fleet: Path, working: Path, now: Callable[[], float]) -> None:
        self._order, self._fleet, self._working, self._now = order, FleetFolder(fleet.absolute()), working, now
        self._folder = self._fleet.node(order.node.label)
        # Each part with what is set at the end of its thread. Thread.join would take one that runs on for ended, if a
        # signal interrupts it (Python 3.11).
        self._parts = [(part, threading.Event()) for part in order.node.parts]
        self._started: list[threading.Event] = []
        self._running, self._earlier = _Running(), Lock(self._folder / _LOCK)
        self._devices: Sequence[Device] = ()
        self._no_devices = ""  # why there are none

    def run(self) -> None:
        """Measure all parts; raises BenchError if the folder cannot be made or the last state cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BenchError(f"{self._folder}: cannot be made: {error.strerror}") from None
        self._report = _Report(self._fleet, self._order, self._now())
        interrupts = Interrupts()
        try:
            interrupts.take()
            self._measure()
        except KeyboardInterrupt:
            self._end()
        except BenchError as error:
            self._report.write(reason=str(error))
        finally:
            interrupts.ignore()
            self._earlier.release()
            self._report.write(ended=self._now())
            interrupts.give_back()
        if self._report.unwritten:
            raise BenchError(f"{self._folder}: the state of the node cannot be written: {self._report.unwritten}")

    def _measure(self) -> None:
        self._report.write()
        if not self._working.is_dir():
            raise BenchError(f"{self._working}: this node has no such working folder")
        self._earlier.acquire(self._waits_for_earlier)
        try:
            self._devices = devices.usable()
        except (NotTold, UsageError) as error:
            self._no_devices = str(error)
        for part, ended in self._parts:
            self._started.append(ended)
            threading.Thread(target=self._part, args=(part, ended)).start()
        for ended in self._started:
            ended.wait()

    def _waits_for_earlier(self) -> bool:
        """Wait a moment for runs that a task with this order has left when it was killed: they write what they have."""
        for part in self._order.node.parts:
            self._report.says(part.label, "waits for the runs of an earlier task with this order to end")
        return self._running.moment()

    def _end(self) -> None:
        """End the runs, which have some seconds to write what they have measured."""
        limit = time.monotonic() + _GRACE
        self._running.end(gently=True)
        for ended in self._started:
            ended.wait(max(0.0, limit - time.monotonic()))
        self._running.end(gently=False)
        for ended in self._started:
            ended.wait()
        for part, _ in self._parts[len(self._started) :]:
            self._report.says(part.label, _INTERRUPTED)

    def _part(self, part: Part, ended: threading.Event) -> None:
        """Measure a part, in a thread of its own; raises nothing."""
        try:
            with contextlib.ExitStack() as held:
                self._runs(part, self._alone(part, held))
        except BenchError as error:
            self._report.says(part.label, str(error))
        except Exception as error:  # noqa: BLE001 - nobody sees what ends a thread: the state tells it
            self._report.says(part.label, printable(f"{type(error).__name__}: {error}"))
        finally:
            ended.set()

    def _alone(self, part: Part, held: contextlib.ExitStack) -> _Means:
        """Wait until a part has its devices for itself, and let this thread run on the cores of its one device."""
        mine = self._devices if part.gpu is None else self._devices[part.gpu : part.gpu + 1]
        if part.gpu is not None and not mine:
            why = self._no_devices or f"this process may use {counted(len(self._devices), 'GPU')}"
            raise _Stopped(f"GPU {part.gpu} is not here: {why}")
        inherited = list(self._earlier.inherited)
        # All tasks take the locks in one order: else two could wait for each other.
        for device, lock in sorted(((d, d.lock()) for d in mine), key=lambda pair: pair[1].path):
            if not lock.acquire(partial(self._waits_for, device, part)):
                raise _Stopped(_INTERRUPTED)
            held.callback(lock.release)
            inherited += lock.inherited
        self._report.says(part.label, "")
        if part.gpu is None:
            return _Means({}, tuple(inherited))
        devices.pin(mine[0].cpus)
        return _Means(mine[0].environ, tuple(inherited))

    def _waits_for(self, device: Device, part: Part) -> bool:
        self._report.says(part.label, f"waits for GPU {device.number}, on which another task of this computer measures")
        return self._running.moment()

    def _runs(self, part: Part, means: _Means) -> None:
        """Measure the runs of a part that are missing; raises _Stopped, OSError."""
        of = self._order.node.label, part.label
        missing = self._order.runs - self._order.complete.get(part.label, 0)
        refused: list[Path] = []
        while (complete := len(self._fleet.complete(*of))) < missing:
            left = [run for run in self._fleet.unfinished(*of) if run not in refused]
            done = self._attempt(part, means, left[0] if left else None)
            self._report.ran(part.label, done.code)
            if len(self._fleet.complete(*of)) > complete:
                continue
            if self._running.stopping.is_set():
                raise _Stopped(_INTERRUPTED)
            if done.refused is None:
                raise _Stopped(done.why())
            refused.append(done.refused)
            self._report.says(part.label, f"a new run replaces {done.refused.name}, not to be finished: {done.why()}")

    def _attempt(self, part: Part, means: _Means, unfinished: Path | None) -> _Attempt:
        """Measure a new run, or the rest of an unfinished one, in a process of its own."""
        folder = self._folder / part.label
        folder.mkdir(exist_ok=True)
        where = [f"--bench-output={folder / 'runs'}", f"--bench-machine={part.label}"]
        if unfinished:
            where = [f"--bench-resume={unfinished}"]
        options = (*child_process.MEASURING, *self._order.arguments, *where)
        log = next(path for number in count() if not (path := folder / f"log-{number}.txt").exists())
        with log.open("wb") as file:

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    child_process.pytest_command(sys.executable, *options, parent=os.getpid()),
                    cwd=self._working,
                    env={**os.environ, **means.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    pass_fds=means.inherited,
                )

            before = _journal(unfinished)
            code = self._running.wait_for(start)
        is_refused = unfinished and code in _REFUSED and _journal(unfinished) == before
        return _Attempt(code, log, unfinished if is_refused else None)


def _journal(run: Path | None) -> tuple[int, int]:
    """Return what changes with the journal of a run: its size, and when it was written."""
    try:
        about = (run / schema.JOURNAL).stat() if run else None
    except OSError:  # the run is complete
        about = None
    return (about.st_size, about.st_mtime_ns) if about else (0, 0)


def main(arguments: Sequence[str]) -> int:
    """Carry out the order in a file, and return the exit code. It is 0 also if runs have failed: the state tells."""
    try:
        perform(read_text(Path(arguments[0])))
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except (KeyError, TypeError, ValueError) as error:
        sys.stderr.write(printable(f"{arguments[0]}: not an order of this version of bench-core: {error}") + "\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
