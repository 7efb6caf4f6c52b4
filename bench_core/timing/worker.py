"""Worker processes: one per backend, device, thread count and environment, replaced when it dies.

The parent's side. `Worker` owns one child (worker_child.py) and speaks with it as worker_protocol.py has it. A child
that hangs, crashes or is killed becomes a Measurement, and so does one whose times this process's clock belies.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import IO, Any, NamedTuple, Protocol

from bench_core import child_process
from bench_core.backends import registry
from bench_core.backends.base import Backend
from bench_core.errors import CaseError, Unavailable, Unsupported
from bench_core.machine import host
from bench_core.machine.privacy import scrub
from bench_core.records import Case, Facts, Measurement, Status
from bench_core.timing import parent_clock
from bench_core.timing import worker_protocol as protocol
from bench_core.timing.case import OnPhase, Settings, run_case
from bench_core.timing.worker_protocol import ProcessEnvironment, WorkerSpec, WorkloadSource, process_environment

START_TIMEOUT = 120.0  # seconds; a cold import of a GPU library from a network disk is slow
_TAIL = 1 << 16  # bytes at the end of what a dead child wrote in which its last words are looked for
_STARTS = 2  # failures to start after which a process of one WorkerSpec is not tried again


class Arrival(NamedTuple):
    """An answer of a child, and when it arrived by the clock of this process, in seconds."""

    answer: dict[str, Any]
    at: float


class Executor(Protocol):
    """Something that runs the cases of one WorkerSpec: a child process, or this very process."""

    spec: WorkerSpec

    def start(self) -> ProcessEnvironment:
        """Get ready; raises Unavailable, or CaseError if the process cannot even start."""

    def execute(
        self, case: Case, source: WorkloadSource, settings: Settings, timeout: float, on_phase: OnPhase
    ) -> Measurement:
        """Return what became of a case. Never raises, but for an interrupt."""

    def close(self) -> None:
        """End it."""


class Worker:
    """An Executor in a child process. After a timeout or a crash it starts a new child for the next case."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._log: IO[bytes] | None = None
        self._environment: ProcessEnvironment | None = None
        self._timed_out = False
        self._kills_before = 0

    def start(self) -> ProcessEnvironment:
        if self._process is not None and self._environment is not None:
            return self._environment
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench_core.timing.worker_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**child_process.environ(), **dict(self.spec.environ)},
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then decides
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        self._send(protocol.start_command(self.spec))
        arrived = self._receive(monotonic() + START_TIMEOUT)
        if arrived is None:
            reason = self._last_words("while starting") if not self._timed_out else f"no start in {START_TIMEOUT:.0f} s"
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

    def execute(
        self, case: Case, source: WorkloadSource, settings: Settings, timeout: float, on_phase: OnPhase
    ) -> Measurement:
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
        except BaseException:  # an interrupt: the child must not go on computing for nobody
            self._kill()
            raise
        return self._late_or_dead(case, phase, timeout, here)

    def _judged(self, done: Measurement, seen: float) -> Measurement:
        """Return a measurement as the clock of this process judges it, and end a child whose clock is patched."""
        done = parent_clock.judged(done, seen)
        if done.reason_code == parent_clock.CODE:  # the next case would be timed by it as well
            self._kill()
        return done

    def _late_or_dead(self, case: Case, phase: str, timeout: float, here: ProcessEnvironment) -> Measurement:
        """End a child from which no answer came, and return what became of its case."""
        if self._timed_out:
            self._kill()
            reason = f"no result within {timeout:g} s, stopped in {phase}"
            return Measurement.missing(case, Status.TIMEOUT, f"timeout_{phase}", reason, env_id=here.env_id)
        killed_for_memory = host.out_of_memory_kills() > self._kills_before
        status, code = (Status.OOM, "killed_for_memory") if killed_for_memory else (Status.CRASHED, f"crashed_{phase}")
        reason = self._last_words(f"in {phase}")
        self._kill()
        return Measurement.missing(case, status, code, reason, env_id=here.env_id)

    def close(self) -> None:
        """Let the child end by itself for a moment, then kill it."""
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
        with contextlib.suppress(OSError):  # it is dead: _receive says so and _last_words says why
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()

    def _receive(self, deadline: float) -> Arrival | None:
        """Return the next answer, or None: `_timed_out` tells a child that is late from one that is dead."""
        self._timed_out = False
        try:
            return self._answers.get(timeout=max(0.0, deadline - monotonic()))
        except queue.Empty:
            self._timed_out = True
            return None

    def _last_words(self, where: str) -> str:
        """Say how a dead child ended and what it wrote last."""
        assert self._process is not None and self._log is not None  # noqa: PT018, S101
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it has closed its channel and lives on
            self._process.kill()
            code = self._process.wait()
        died = f"was killed by {host.signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"the worker {died} {where}" + (f": {scrub(lines[-1])}" if lines else "")

    def _kill(self) -> None:
        process, self._process, self._environment = self._process, None, None
        if process is None:
            return
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started itself
            except (ProcessLookupError, PermissionError):
                process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, self._log):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()


class InProcess:
    """An Executor in this very process, for use under a profiler or debugger: no timeout, no crash is survived.

    Its measurements are flagged `not_isolated`: the libraries of all backends share one process, each with the
    environment that pytest was started in. There is no second clock, so one that a kernel has patched is believed.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self._backend: Backend | None = None
        self._environment: ProcessEnvironment | None = None

    def start(self) -> ProcessEnvironment:
        if self._environment is None:
            self._backend = registry.load(self.spec.backend)(self.spec.device)
            self._backend.set_threads(self.spec.threads)
            self._environment = process_environment(self._backend)
        return self._environment

    def execute(
        self,
        case: Case,
        source: WorkloadSource,
        settings: Settings,
        timeout: float,  # noqa: ARG002 - the Protocol's
        on_phase: OnPhase,
    ) -> Measurement:
        try:
            _require_environ(case, self.spec.threads)
            here = self.start()
        except CaseError as error:
            return Measurement.missing(case, Status(error.status), error.code, str(error))
        assert self._backend is not None  # noqa: S101 - start() made it
        done = run_case(case, source.workload(), self._backend, settings, on_phase)
        return replace(done, env_id=here.env_id, flags=(*done.flags, "not_isolated"))

    def close(self) -> None:
        """Nothing to end."""


def _require_environ(case: Case, threads: int) -> None:
    """Raise Unsupported if this process lacks a variable that sets an implementation apart from the default.

    Such a variable must be set before its library is imported, or the default would be measured under the
    other's name.
    """
    environ = registry.load(case.backend).environ
    common = environ(threads, "default")
    for name, value in environ(threads, case.implementation).items():
        if common.get(name) != value != os.environ.get(name):
            reason = f"{case.implementation} needs {name}={value} before its library is imported: leave isolation on"
            raise Unsupported("needs_isolation", reason)


class Workers:
    """The executors of a run, at most one of them alive: an idle worker still holds memory and spins threads."""

    def __init__(self, *, isolated: bool) -> None:
        self._make: Callable[[WorkerSpec], Executor] = Worker if isolated else InProcess
        self._executor: Executor | None = None
        self._unavailable: dict[WorkerSpec, Unavailable] = {}
        self._failed_starts: dict[WorkerSpec, list[CaseError]] = {}
        self.environments: dict[str, Facts] = {}

    def dispatch(
        self, case: Case, source: WorkloadSource, settings: Settings, timeout: float, on_phase: OnPhase
    ) -> Measurement:
        """Return what became of a case; its worker is started, or replaced, as need be."""
        spec = WorkerSpec.of(case)
        if self._executor is None or self._executor.spec != spec:
            self.close()
            self._executor = self._make(spec)
        if spec in self._unavailable:
            known = self._unavailable[spec]
            return Measurement.missing(case, Status.SKIPPED, known.code, str(known))
        failures = self._failed_starts.setdefault(spec, [])
        if len(failures) == _STARTS:  # each further one may cost minutes
            known_error = failures[-1]
            return Measurement.missing(case, Status(known_error.status), known_error.code, str(known_error))
        try:
            here = self._executor.start()
        except Unavailable as error:
            self._unavailable[spec] = error
            return Measurement.missing(case, Status.SKIPPED, error.code, str(error))
        except CaseError as error:
            failures.append(error)
            return Measurement.missing(case, Status(error.status), error.code, str(error))
        failures.clear()
        self.environments[here.env_id] = here.facts
        done = self._executor.execute(case, source, settings, timeout, on_phase)
        if case.device == "cpu":
            return replace(done, threads=spec.threads)
        if done.status in {Status.ERROR, Status.OOM}:
            # After some errors a CUDA context answers every call with the same error, until its process ends; and
            # memory may run out in the middle of a capture, or leave a pool in pieces.
            self._executor.close()
        return _marked(done)

    def close(self) -> None:
        """End whatever is alive."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None


def _marked(done: Measurement) -> Measurement:
    """Return a measurement of a GPU, flagged if the environment made each of its launches wait."""
    waits = done.case.device_type == "cuda" and os.environ.get("CUDA_LAUNCH_BLOCKING", "0") not in {"", "0"}
    return replace(done, flags=(*done.flags, "launch_blocking")) if waits else done


def _pump(stream: IO[str], answers: queue.SimpleQueue[Arrival | None]) -> None:
    """Put every answer of a child into the queue, and None at its end; whatever else it wrote is passed over.

    Each is stamped here, in a thread of its own: whoever takes it out may have been at other work.
    """
    for line in stream:
        at = monotonic()
        if (answer := protocol.read_line(line)) is not None:
            answers.put(Arrival(answer, at))
    answers.put(None)
