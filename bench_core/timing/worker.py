"""A worker process: one per backend, device, thread count and environment, replaced when it dies.

This is the parent's side. `Worker` owns one child (worker_child.py) and exchanges the messages of worker_protocol.py
with it. If a child hangs, crashes or is killed, or if its times contradict the clock of this process, its case gets a
Measurement with that status.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import IO, Any, NamedTuple, Protocol

from bench_core import child_process
from bench_core.errors import CaseError, Unavailable
from bench_core.machine import host
from bench_core.machine.privacy import scrub
from bench_core.records import Case, Measurement, Status
from bench_core.scratch import Scratch
from bench_core.timing import parent_clock
from bench_core.timing import worker_protocol as protocol
from bench_core.timing.case import OnPhase, Settings
from bench_core.timing.sources import Source
from bench_core.timing.worker_protocol import ProcessEnvironment, WorkerSpec

START_TIMEOUT = 120.0  # seconds; a cold import of a GPU library from a network disk is slow
_TAIL = 1 << 16  # bytes at the end of a dead child's output that are searched for its last line
# Coverage reads these variables at the start of a process, and would trace a kernel line by line while it is timed.
_TRACERS = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")  # tempfile of Python, and libraries on every system, read one of them


class Arrival(NamedTuple):
    """An answer of a child, and its time of arrival by the clock of this process, in seconds."""

    answer: dict[str, Any]
    at: float


class Executor(Protocol):
    """Runs the cases of one WorkerSpec, in a child process or in this process."""

    spec: WorkerSpec

    def start(self) -> ProcessEnvironment:
        """Start if necessary, and return the environment; raises Unavailable, or CaseError if no process starts."""

    def execute(self, case: Case, source: Source, settings: Settings, timeout: float, on_phase: OnPhase) -> Measurement:
        """Run a case and return its Measurement. Raises nothing except an interrupt."""

    def close(self) -> None:
        """End the process, if it is a child."""


def environ(spec: WorkerSpec, scratch: str = "") -> dict[str, str]:
    """Return the environment variables of a worker: those of this process and of the spec, without a tracer.

    scratch: the folder for its temporary files, "" for that of this process.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _TRACERS}
    return {**inherited, **(dict.fromkeys(_TEMPORARY, scratch) if scratch else {}), **dict(spec.environ)}


class Worker:
    """An Executor in a child process. After a timeout or a crash, the next case starts a new child."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._log: IO[bytes] | None = None
        self._scratch: Scratch | None = None
        self._environment: ProcessEnvironment | None = None
        self._timed_out = False
        self._kills_before = 0

    def start(self) -> ProcessEnvironment:
        if self._process is not None and self._environment is not None:
            return self._environment
        self._begin()
        self._send(protocol.start_command(self.spec))
        arrived = self._receive(monotonic() + START_TIMEOUT)
        if arrived is None:
            late = f"the worker did not start within {START_TIMEOUT:.0f} s"
            reason = late + self._whereabouts() if self._timed_out else self._last_words("while starting")
            self._kill()
            raise CaseError("worker_start", reason)
        try:
            self._environment = protocol.read_start_answer(arrived.answer)
        except Unavailable:
            self.close()
            raise
        except protocol.MalformedAnswer:
            self._kill()
            raise
        return self._environment

    def _begin(self) -> None:
        """Start a process and a thread that reads its answers; raises CaseError, and leaves nothing open then."""
        try:
            self._log, self._scratch = _log_and_scratch()
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=self._environ(),
                text=True,
                encoding="utf-8",
                errors="replace",
                **child_process.apart(),  # Ctrl-C reaches only the parent, which then ends the child
            )
            self._answers = queue.SimpleQueue()
            threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        except CaseError:
            self._kill()
            raise
        except (OSError, RuntimeError) as error:  # there is no file, memory, process or thread to be had
            self._kill()
            raise CaseError("worker_start", f"the worker could not be started: {scrub(str(error))}") from error

    def _command(self) -> list[str]:
        return child_process.command(protocol.CHILD, parent=os.getpid())

    def _environ(self) -> dict[str, str]:
        return environ(self.spec, self._scratch.name if self._scratch else "")

    def _whereabouts(self) -> str:
        """Return what is known of a child that is late, to be added to the reason: nothing."""
        return ""

    def execute(self, case: Case, source: Source, settings: Settings, timeout: float, on_phase: OnPhase) -> Measurement:
        phase, measuring = "start", parent_clock.MeasuredPhase()
        try:
            here = self.start()
            self._send(protocol.case_command(case, source, settings))
            deadline = monotonic() + timeout
            while (arrived := self._receive(deadline)) is not None:
                begins = arrived.answer.get("phase")
                measuring.answered(begins, arrived.at)
                if begins not in protocol.PHASES:
                    break
                phase = begins
                on_phase(phase)
            if arrived is not None:
                done = protocol.read_measurement_answer(arrived.answer, case, f"in {phase}")
                return self._judged(replace(done, env_id=here.env_id), measuring.seconds)
        except CaseError as error:
            self._kill()
            return Measurement.missing(case, Status(error.status), error.code, str(error))
        except BaseException:  # an interrupt: the child must not continue to compute
            self._kill()
            raise
        return self._late_or_dead(case, phase, timeout, here)

    def _judged(self, done: Measurement, seen: float) -> Measurement:
        """Return the measurement as judged by the clock of this process; kill a child whose clock is patched."""
        done = parent_clock.judged(done, seen)
        if done.reason_code == parent_clock.CODE:  # the next case would be timed by it as well
            self._kill()
        return done

    def _late_or_dead(self, case: Case, phase: str, timeout: float, here: ProcessEnvironment) -> Measurement:
        """Kill a child that gave no answer, and return the Measurement of its case."""
        if self._timed_out:
            reason = f"no result within {timeout:g} s, stopped in {phase}{self._whereabouts()}"
            self._kill()
            return Measurement.missing(case, Status.TIMEOUT, f"timeout_{phase}", reason, env_id=here.env_id)
        killed_for_memory = host.out_of_memory_kills() > self._kills_before
        status, code = (Status.OOM, "killed_for_memory") if killed_for_memory else (Status.CRASHED, f"crashed_{phase}")
        reason = self._last_words(f"in {phase}")
        self._kill()
        return Measurement.missing(case, status, code, reason, env_id=here.env_id)

    def close(self) -> None:
        """Give the child 2 s to end by itself, then kill it."""
        if self._process is None:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait(timeout=2)
        self._kill()

    def _send(self, command: Mapping[str, Any]) -> None:
        process = self._process
        assert process is not None and process.stdin is not None  # noqa: PT018, S101 - start() made both
        self._kills_before = host.out_of_memory_kills()
        with contextlib.suppress(OSError):  # the child is dead: _receive returns None, _last_words says why
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()

    def _receive(self, deadline: float) -> Arrival | None:
        """Return the next answer; None if the child is late (`_timed_out` is then true) or dead."""
        self._timed_out = False
        try:
            return self._answers.get(timeout=max(0.0, deadline - monotonic()))
        except queue.Empty:
            self._timed_out = True
            return None

    def _last_words(self, where: str) -> str:
        """Return how a dead child ended, and the last line that it wrote."""
        code, lines = self._wait()
        return f"the worker {child_process.ending(code)} {where}" + (f": {scrub(lines[-1])}" if lines else "")

    def _kill(self) -> None:
        """End the child, if there is one, and close what was opened for it."""
        process, self._process, self._environment = self._process, None, None
        if process is not None:
            self._end(process)
        for stream in (self._log, *((process.stdin, process.stdout) if process else ())):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
        if self._scratch:  # what a child that was killed could not remove
            self._scratch.cleanup()
        self._log = self._scratch = None

    def _end(self, process: subprocess.Popen[str]) -> None:
        """End a child and all that it has started, and wait for it."""
        child_process.kill(process)

    def _wait(self) -> tuple[int, list[str]]:
        """Wait for a child that has closed its channel; return its exit code and the last lines that it wrote."""
        assert self._process is not None and self._log is not None  # noqa: PT018, S101
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it still runs
            self._process.kill()
            code = self._process.wait()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL))
        return code, self._log.read().decode(errors="replace").strip().splitlines()


def _log_and_scratch() -> tuple[IO[bytes], Scratch | None]:
    """Return a file for the output of a child, and a folder for its temporary files.

    Where no temporary folder can be written to, the output is discarded, and the child has to see for itself.
    """
    try:
        return tempfile.TemporaryFile(), Scratch()
    except OSError:
        return Path(os.devnull).open("w+b"), None


def _pump(stream: IO[str], answers: queue.SimpleQueue[Arrival | None]) -> None:
    """Put every answer of a child into the queue, and None at the end of its output; ignore all other lines.

    This thread records the time of arrival, because the reader of the queue may be busy at that moment.
    """
    for line in stream:
        at = monotonic()
        if (answer := protocol.read_line(line)) is not None:
            answers.put(Arrival(answer, at))
    answers.put(None)
