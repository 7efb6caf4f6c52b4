"""The executors of a run: worker processes, or this process, started and replaced as the cases need them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

from bench_core.backends import registry
from bench_core.backends.base import Backend
from bench_core.errors import CaseError, Unavailable, Unsupported
from bench_core.records import NOT_TRIED, Case, Facts, Measurement, Part, Status
from bench_core.timing import parent_clock
from bench_core.timing.case import OnPhase, Settings, run_case
from bench_core.timing.ranks_worker import RanksWorker
from bench_core.timing.sources import Source
from bench_core.timing.worker import Executor, Worker
from bench_core.timing.worker_protocol import ProcessEnvironment, WorkerSpec, process_environment

_STARTS = 2  # number of failed starts after which no process of the same WorkerSpec is started


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
        if self.spec.ranks > 1:
            reason = f"{self.spec.device} needs a process for each device: leave --bench-isolation on"
            raise Unavailable("needs_isolation", reason)
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
        self._make: Callable[[WorkerSpec], Executor] = _process if isolated else InProcess
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
        if case.device_type == "cpu":
            return replace(done, threads=spec.threads * case.work.ranks)
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


def _process(spec: WorkerSpec) -> Executor:
    """Return a child process, or on several devices a child for each."""
    return RanksWorker(spec) if spec.ranks > 1 else Worker(spec)


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
