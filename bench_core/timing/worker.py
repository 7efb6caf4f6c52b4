"""Worker processes: one per backend, device, thread count and environment, replaced when it dies.

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
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import IO, Any, NamedTuple, Protocol

from bench_core import child_process
from bench_core.backends import registry
from bench_core.backends.base import Backend
from bench_core.errors import CaseError, Unavailable, Unsupported
from bench_core.machine import host
from bench_core.machine.privacy import scrub
from bench_core.records import NOT_TRIED, Case, Facts, Measurement, Part, Status
from bench_core.scratch import Scratch
from bench_core.timing import parent_clock
from bench_core.timing import worker_protocol as protocol
from bench_core.timing.case import OnPhase, Settings, run_case
from bench_core.timing.worker_protocol import ProcessEnvironment, Source, WorkerSpec, process_environment

START_TIMEOUT = 120.0  # seconds; a cold import of a GPU library from a network disk is slow
_TAIL = 1 << 16  # bytes at the end of a dead child's output that are searched for its last line
# Coverage reads these variables at the start of a process, and would trace a kernel line by line while it is timed.
_TRACERS = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")  # tempfile of Python, and libraries on every system, read one of them
_STARTS = 2  # number of failed starts after which no process of the same WorkerSpec is started


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
        self._log, self._scratch = _log_and_scratch()
        self._process = subprocess.Popen(
            child_process.command(protocol.CHILD, parent=os.getpid()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environ(self.spec, self._scratch.name if self._scratch else ""),
            text=True,
            encoding="utf-8",
            errors="replace",
            **child_process.apart(),  # Ctrl-C reaches only the parent, which then ends the child
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        self._send(protocol.start_command(self.spec))
        arrived = self._receive(monotonic() + START_TIMEOUT)
        if arrived is None:
            late = f"the worker did not start within {START_TIMEOUT:.0f} s"
            reason = late if self._timed_out else self._last_words("while starting")
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
            self._kill()
            reason = f"no result within {timeout:g} s, stopped in {phase}"
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
        assert self._process is not None and self._log is not None  # noqa: PT018, S101
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it has closed its channel but still runs
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
        child_process.kill(process)
        for stream in (process.stdin, process.stdout, self._log):
            with contextlib.suppress(OSError):
                if stream:
                    stream.close()
        if self._scratch:  # what a child that was killed could not remove
            self._scratch.cleanup()


def _log_and_scratch() -> tuple[IO[bytes], Scratch | None]:
    """Return a file for the output of a child, and a folder for its temporary files.

    Where no temporary folder can be written to, the output is discarded, and the child has to see for itself.
    """
    try:
        return tempfile.TemporaryFile(), Scratch()
    except OSError:
        return Path(os.devnull).open("w+b"), None


class InProcess:
    """An Executor in this process: no timeout, and a crash ends the run.

    It is for use with a profiler or debugger, and for a function that no other process can import. Its measurements
    are flagged `not_isolated`: the libraries of all backends share one process and the environment in which it was
    started. There is no second clock, so a clock that a kernel has patched is not detected.
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
        source: Source,
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
        """Do nothing: there is no child to end."""


def _require_environ(case: Case, threads: int) -> None:
    """Raise Unsupported if this process lacks an environment variable that the implementation needs.

    It must be set before the library is imported. Otherwise, the default implementation would be measured
    under the name of this one.
    """
    environ = registry.load(case.backend).environ
    common = environ(threads, "default")
    for name, value in environ(threads, case.implementation).items():
        if common.get(name) != value != os.environ.get(name):
            reason = f"{case.implementation} needs {name}={value} before its library is imported: leave isolation on"
            raise Unsupported("needs_isolation", reason)


class Workers:
    """The executors of a run. At most one is alive, because an idle worker still holds memory and may spin threads."""

    def __init__(self, *, isolated: bool) -> None:
        self._make: Callable[[WorkerSpec], Executor] = Worker if isolated else InProcess
        self._executor: Executor | None = None
        self._made_by: Callable[[WorkerSpec], Executor] = self._make
        self._unavailable: dict[WorkerSpec, Unavailable] = {}
        self._failed_starts: dict[WorkerSpec, list[CaseError]] = {}
        self.environments: dict[str, Facts] = {}

    def dispatch(
        self, case: Case, source: Source, settings: Settings, timeout: float, on_phase: OnPhase
    ) -> Measurement:
        """Run a case and return its Measurement; start or replace the worker if necessary."""
        begin = perf_counter()
        done = self._dispatched(case, source, settings, timeout, on_phase)
        return _accounted(done, perf_counter() - begin)

    def _dispatched(
        self, case: Case, source: Source, settings: Settings, timeout: float, on_phase: OnPhase
    ) -> Measurement:
        spec = WorkerSpec.of(case)
        make = InProcess if source.plain() is None else self._make
        if self._executor is None or self._executor.spec != spec or self._made_by is not make:
            self.close()
            self._executor, self._made_by = make(spec), make
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
        done = _executed(self._executor, case, source, settings, timeout, on_phase)
        if case.device == "cpu":
            return replace(done, threads=spec.threads)
        if done.status in {Status.ERROR, Status.OOM}:
            # After some errors a CUDA context answers every call with the same error, until its process ends; and
            # memory may run out in the middle of a capture, or leave a pool in pieces.
            self._executor.close()
        return _marked(done)

    def close(self) -> None:
        """End the executor that is alive, if any."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None


def _executed(
    executor: Executor, case: Case, source: Source, settings: Settings, timeout: float, on_phase: OnPhase
) -> Measurement:
    """Run a case, and once more if its times contradict the clock of this process.

    Where other work uses all cores, an answer can be late by more than is allowed for. A clock that a kernel has
    patched is found out again.
    """
    begin = perf_counter()
    done = executor.execute(case, source, settings, timeout, on_phase)
    if done.reason_code == parent_clock.CODE:
        lost = perf_counter() - begin
        done = executor.execute(case, source, settings, timeout, on_phase)
        done = replace(done, spent={**done.spent, Part.LOST: lost})
    return done


def _accounted(done: Measurement, total: float) -> Measurement:
    """Return a measurement with what its case spent outside of `run_case`. total: seconds of the case.

    That is the start of its process, what that imports, and messages. If the process hung or died, all is lost.
    """
    before = done.spent.get(Part.LOST, 0.0)  # in a first try
    rest = max(0.0, total - done.elapsed_s - before)
    if done.spent.keys() <= {Part.LOST} and done.status not in NOT_TRIED:
        return replace(done, spent={Part.LOST: rest + before})
    return replace(done, spent={Part.STARTING: rest, **done.spent})


def _marked(done: Measurement) -> Measurement:
    """Return a GPU's measurement, flagged `launch_blocking` if the environment made each launch wait."""
    waits = done.case.device_type == "cuda" and os.environ.get("CUDA_LAUNCH_BLOCKING", "0") not in {"", "0"}
    return replace(done, flags=(*done.flags, "launch_blocking")) if waits else done


def _pump(stream: IO[str], answers: queue.SimpleQueue[Arrival | None]) -> None:
    """Put every answer of a child into the queue, and None at the end of its output; ignore all other lines.

    This thread records the time of arrival, because the reader of the queue may be busy at that moment.
    """
    for line in stream:
        at = monotonic()
        if (answer := protocol.read_line(line)) is not None:
            answers.put(Arrival(answer, at))
    answers.put(None)
