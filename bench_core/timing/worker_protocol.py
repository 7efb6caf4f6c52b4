"""The messages between a worker process and its parent: one JSON object per line.

    worker.py, the parent                            worker_child.py, the child
    start_command: backend, device, threads    ->
                                               <-    ready_answer: its environment, or unavailable_answer
    case_command: case, source, settings       ->
                                               <-    phase_answer, for each of PHASES
                                               <-    measurement_answer

Commands go to the child's standard input. Answers come on its original standard output, each after MARK, so that the
output of a library is not mistaken for an answer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench_core.backends import registry
from bench_core.backends.base import Backend, Selective
from bench_core.errors import CaseError, Unavailable
from bench_core.machine import allotment, environment
from bench_core.records import (
    Case,
    Fact,
    Facts,
    Measurement,
    case_from_json,
    count_of_devices,
    measurement_from_json,
    to_json,
)
from bench_core.timing.case import Settings
from bench_core.timing.sampling import Durations
from bench_core.timing.sources import Source, read_source

CHILD = "bench_core.timing.worker_child"  # the module that a worker process runs
RANK_CHILD = "bench_core.timing.rank_child"  # that of each process (rank) of a worker on several devices
MARK = "\x1ebench-core "
PHASES = ("build", "check", "wait", "measure", "energy", "recheck")
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The settings that all cases of one process share: everything that is fixed before its library is imported."""

    backend: str
    device: str
    threads: int
    environ: tuple[tuple[str, str], ...]

    @property
    def ranks(self) -> int:
        return count_of_devices(self.device)

    @classmethod
    def of(cls, case: Case) -> WorkerSpec:
        """Return the spec of the process that a case needs."""
        threads = case.threads or max(1, allotment.usable_cores() // case.ranks)  # of each rank
        backend = registry.load(case.backend)
        environ = dict(backend.environ(threads, case.implementation))
        if isinstance(backend, Selective):
            environ |= backend.environ_for(case.device)
        return cls(case.backend, case.device, threads, tuple(sorted(environ.items())))


@dataclass(frozen=True, slots=True)
class ProcessEnvironment:
    """The environment that a ready process reported: its id and its facts."""

    env_id: str
    facts: Facts
    processes: tuple[int, ...] = ()  # the ids of the ranks, where there are several


def process_environment(backend: Backend) -> ProcessEnvironment:
    """Return the facts of this process and its backend, and their hash."""
    facts = environment.worker_environment(backend.device_uuid, backend.facts())
    return ProcessEnvironment(environment.env_id(facts), facts)


class MalformedAnswer(CaseError):
    """A child gave an invalid answer: a library wrote into its channel, or its memory is corrupted."""

    def __init__(self, where: str) -> None:
        super().__init__("bad_answer", f"the worker gave an invalid answer {where}")


# ---------------------------------------------------------------- messages of the parent


def start_command(spec: WorkerSpec) -> Message:
    """Return the command to prepare a backend; the rest of the spec is in the child's environment."""
    return {"do": "start", "backend": spec.backend, "device": spec.device, "threads": spec.threads}


def case_command(case: Case, source: Source, settings: Settings) -> Message:
    """Return the command to run a case."""
    return {"do": "case", "case": to_json(case), "source": source.plain(), "settings": asdict(settings)}


def read_case_command(command: Message) -> tuple[Case, Source, Settings]:
    """Return the arguments that `case_command` was called with."""
    plain = command["settings"]
    settings = Settings(**{**plain, "durations": Durations(**plain["durations"])})
    return case_from_json(command["case"]), read_source(command["source"]), settings


# ---------------------------------------------------------------- messages of the child


def ready_answer(here: ProcessEnvironment) -> Message:
    """Return the answer to `start_command` if the process is ready."""
    return {"env_id": here.env_id, "facts": to_json(here.facts), "processes": list(here.processes)}


def unavailable_answer(error: Unavailable) -> Message:
    """Return the answer to `start_command` if the backend is not available."""
    return {"unavailable": error.code, "reason": str(error)}


def read_start_answer(answer: Message) -> ProcessEnvironment:
    """Return the environment in an answer; raises Unavailable if the backend is not available, or MalformedAnswer."""
    if "unavailable" in answer:
        raise Unavailable(str(answer["unavailable"]), str(answer.get("reason")))
    try:
        facts = {name: Fact(**fact) for name, fact in answer["facts"].items()}
        processes = tuple(map(int, answer.get("processes", ())))
        return ProcessEnvironment(str(answer["env_id"]), facts, processes)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MalformedAnswer("while starting") from None


def phase_answer(phase: str) -> Message:
    """Return the answer that announces the beginning of one of PHASES."""
    return {"phase": phase}


def measurement_answer(done: Measurement) -> Message:
    """Return the last answer to `case_command`."""
    return {"measurement": to_json(done)}


def read_measurement_answer(answer: Message, case: Case, where: str) -> Measurement:
    """Return the measurement of `case` in an answer; raises MalformedAnswer if there is none."""
    try:
        done = measurement_from_json(answer["measurement"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MalformedAnswer(where) from None
    if done.case != case:
        raise MalformedAnswer(where)
    return done


def marked_line(answer: Message) -> str:
    """Return an answer as a line of output, with MARK."""
    return MARK + json.dumps(answer, allow_nan=False) + "\n"


def read_line(line: str) -> dict[str, Any] | None:
    """Return the answer in a line; None if there is none."""
    _, mark, plain = line.rpartition(MARK)  # the output of a library may precede the mark
    with contextlib.suppress(ValueError, RecursionError):  # half a line: the child died while it wrote
        if mark and isinstance(answer := json.loads(plain, parse_constant=_refuse), dict):
            return answer
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
