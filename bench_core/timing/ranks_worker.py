"""A worker on several devices: one process (rank) for each, started by a launcher. The parent's side of rank_child.py.

The launcher ends when one of the ranks fails, and it ends all others. It may give each rank a session of its own, so
the parent kills the ranks themselves too. What a rank that is dead or late was doing is told in the reason of its case.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from bench_core import child_process
from bench_core.backends import registry
from bench_core.backends.base import Launcher, Launches
from bench_core.errors import CaseError
from bench_core.machine.privacy import scrub
from bench_core.records import Case, Measurement, Status, measurement_from_json
from bench_core.timing import rank_child
from bench_core.timing import worker_protocol as protocol
from bench_core.timing.case import OnPhase, Settings
from bench_core.timing.sources import Source
from bench_core.timing.worker import Worker
from bench_core.timing.worker_protocol import ProcessEnvironment, WorkerSpec

_TO_SAY_WHERE = 0.5  # seconds that a rank has to write where it is
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (\S+)')
# After these the ranks serve on. After others a device may still wait for a message that never comes.
_KEPT = {Status.OK, Status.SKIPPED, Status.UNSUPPORTED}


class RanksWorker(Worker):
    """An Executor in several child processes."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        self._ranks: dict[int, psutil.Process] = {}

    @property
    def _launcher(self) -> Launcher:
        backend = registry.load(self.spec.backend)
        assert isinstance(backend, Launches)  # noqa: S101 - targets.py has asked
        return backend.launcher()

    @property
    def _folder(self) -> str:
        return self._scratch.name if self._scratch else ""

    def _command(self) -> list[str]:
        if not self._folder:
            raise CaseError("worker_start", "no temporary folder can be written to: ranks meet through files in one")
        spec = self.spec
        arguments = (spec.backend, spec.device, str(spec.threads))
        return self._launcher.launch(protocol.RANK_CHILD, arguments, spec.ranks, self._folder, os.getpid())

    def _environ(self) -> dict[str, str]:
        own = {rank_child.FOLDER: self._folder}
        return {**super()._environ(), **self._launcher.environ(self._folder), **own}

    def start(self) -> ProcessEnvironment:
        here = super().start()
        for rank, pid in enumerate(here.processes if not self._ranks else ()):
            with contextlib.suppress(psutil.Error):
                self._ranks[rank] = psutil.Process(pid)
        return here

    def execute(self, case: Case, source: Source, settings: Settings, timeout: float, on_phase: OnPhase) -> Measurement:
        done = super().execute(case, source, settings, timeout, on_phase)
        if done.status not in _KEPT:
            self.close()
        return done

    def _last_words(self, where: str) -> str:
        """Return how the first rank that failed has ended, and the last line that it wrote."""
        code, said = self._wait()
        first = self._launcher.first_to_fail("\n".join(said))
        if first is None:
            return f"the launcher {child_process.ending(code)} {where}" + (f": {scrub(said[-1])}" if said else "")
        rank, code = first
        gone = self._read(rank_child.GONE)
        if gone and rank not in gone:  # the launcher takes an exit code of 0 for a success
            rank, code = gone[0], 0
        lines = self._said(rank)
        return f"rank {rank} {child_process.ending(code)} {where}" + (f": {scrub(lines[-1])}" if lines else "")

    def _late_or_dead(self, case: Case, phase: str, timeout: float, here: ProcessEnvironment) -> Measurement:
        if done := self._failure(case):
            self._kill()
            return replace(done, env_id=here.env_id)
        if self._timed_out and not self._processes(self._process):
            self._timed_out = False  # all have ended, of which the launcher has not told yet
        return super()._late_or_dead(case, phase, timeout, here)

    def _failure(self, case: Case) -> Measurement | None:
        """Return what a rank has written that left all others, because it had failed and they had not."""
        if plain := self._read(rank_child.FAILURE):
            done = measurement_from_json(plain["measurement"])
            if done.case == case:
                return rank_child.of_rank(done, int(plain["rank"]))
        return None

    def _read(self, name: str) -> Any:
        """Return what is in a file of the ranks; None if there is none, or half of one."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(Path(self._folder, name).read_text(encoding="utf-8"))
        return None

    def _said(self, rank: int) -> list[str]:
        """Return the lines that a rank has written to standard error."""
        path = self._launcher.log_of(self._folder, rank)
        with contextlib.suppress(OSError):
            return Path(path).read_text(encoding="utf-8", errors="replace").strip().splitlines() if path else []
        return []

    def _whereabouts(self) -> str:
        """Return in which line of code each rank is, those first that do not wait for others."""
        ranks = self._processes(self._process)
        for process in ranks.values():
            with contextlib.suppress(psutil.Error, OSError):
                process.send_signal(signal.SIGUSR1)  # one that has not come to say where it is ends by it
        time.sleep(_TO_SAY_WHERE)
        told, waiting = [], []
        for rank in range(self.spec.ranks):
            place = _innermost(self._said(rank))
            if rank not in ranks:
                told.append(f"rank {rank} has no process")
            elif place is None:
                told.append(f"rank {rank} does not say where it is")
            elif self._launcher.is_waiting(place[0], place[2]):
                waiting.append(f"rank {rank} waits in {_shown(place)}")
            else:
                told.append(f"rank {rank} is in {_shown(place)}")
        return f": {', '.join([*told, *waiting])}"

    def _processes(self, launcher: subprocess.Popen[str] | None) -> dict[int, psutil.Process]:
        """Return the process of each rank that lives, as it has said, or as its environment says."""
        found = dict(self._ranks)
        if launcher is not None and not found:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(launcher.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        if (rank := self._launcher.rank_in(child.environ())) is not None:
                            found.setdefault(rank, child)
        return {rank: process for rank, process in found.items() if _lives(process)}

    def _end(self, process: subprocess.Popen[str]) -> None:
        ranks, self._ranks = self._processes(process), {}
        super()._end(process)
        child_process.kill_apart(list(ranks.values()))


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _innermost(lines: list[str]) -> tuple[str, int, str] | None:
    """Return the file, line and function of the innermost frame of the last stack that faulthandler has written."""
    starts = [i for i, line in enumerate(lines) if line.startswith(("Current thread", "Thread", "Stack"))]
    frames = [match for line in lines[starts[-1] :] if (match := _FRAME.match(line))] if starts else []
    return (frames[0][1], int(frames[0][2]), frames[0][3]) if frames else None


def _shown(place: tuple[str, int, str]) -> str:
    path, line, function = place
    return f"{Path(path).name}:{line} ({function})"
