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

import ast
import contextlib
import importlib
import json
import pickle
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

from bench_core.backends import registry
from bench_core.backends.base import Backend, Selective
from bench_core.errors import CaseError, Unavailable
from bench_core.machine import environment, host
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
from bench_core.workload import Workload

CHILD = "bench_core.timing.worker_child"  # the module that a worker process runs
RANK_CHILD = "bench_core.timing.rank_child"  # that of each process (rank) of a worker on several devices
MARK = "\x1ebench-core "
PHASES = ("build", "check", "wait", "measure", "energy", "recheck")
Message = Mapping[str, Any]


class Source(Protocol):
    """Where a process finds the workload of a case. Workloads themselves are not in messages."""

    def workload(self) -> Workload:
        """Return the workload; raises whatever importing its module raises."""

    def plain(self) -> Message | None:
        """Return this source as plain JSON values; None if the workload exists only in this process."""


@dataclass(frozen=True, slots=True)
class Imports:
    """How a process has found its modules. `Own` finds those of the user by it in another process.

    path: sys.path. own: the modules imported from folders before the standard library, each with its folder.
    """

    path: tuple[str, ...] = ()
    own: tuple[tuple[str, str], ...] = ()

    @classmethod
    def here(cls) -> Imports:
        """Return those of this process."""
        path = tuple(str(Path(entry).absolute()) for entry in sys.path)
        library = str(Path(ast.__file__).parent)
        before = path[: path.index(library)] if library in path else ()
        return cls(path, tuple(loaded_from(before).items()))


@dataclass(frozen=True, slots=True)
class WorkloadSource:
    """The location of a workload for a child process: on a test function of a module below an import root."""

    root: str
    module: str
    function: str
    imports: Imports = Imports()

    def workload(self) -> Workload:
        """Import the module and return the workload that its test function is marked with."""
        if self.module not in sys.modules:
            Own.add(self.imports)
            Own.add(Imports((self.root,), ((self.module.partition(".")[0], self.root),)))
        found: Any = __import__(self.module, fromlist=["_"])
        for name in self.function.split("."):
            found = getattr(found, name)
        workload: Workload = next(mark.args[0] for mark in found.pytestmark if mark.name == "workload")
        return workload

    def plain(self) -> Message:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PickledSource:
    """A workload in a file that the parent has written with pickle, which stores functions by module and name.

    main: what the parent calls `__main__`: the name of a module or the path of a script; "" if it is not needed.
    """

    file: str
    imports: Imports
    main: str = ""

    def workload(self) -> Workload:
        """Return the workload; the modules of its functions are imported, and a script under another name."""
        Own.add(self.imports)
        with Path(self.file).open("rb") as stream:
            workload: Workload = _Unpickler(stream, self.main).load()
        return workload

    def plain(self) -> Message:
        return asdict(self)


class Own:
    """Finds the modules of a user in a process whose sys.path has the user's folders last.

    The parent had them first, as Python and pytest put them. There every library was imported before. In a worker it
    may not be, and a `statistics.py` among the benchmarks would be imported in place of Python's own. So only those
    modules come from these folders first that the parent has imported from there.
    """

    where: ClassVar[dict[str, str]] = {}

    @classmethod
    def add(cls, imports: Imports) -> None:
        """Append folders to sys.path, and find the modules of the user first."""
        sys.path += [folder for folder in imports.path if folder not in sys.path]
        new = {name: folder for name, folder in imports.own if cls.where.get(name) != folder}
        cls.where |= new
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)
        for name in new.keys() & sys.stdlib_module_names & sys.modules.keys():
            # A library of this process has imported Python's own, and keeps it. In the parent none had needed it.
            if Path(new[name]).resolve() != Path(_folder(sys.modules[name])).resolve():
                del sys.modules[name]

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module; see importlib.abc.MetaPathFinder."""
        return PathFinder.find_spec(name, [cls.where[name]], target) if path is None and name in cls.where else None


def loaded_from(folders: Collection[str]) -> dict[str, str]:
    """Return the modules that this process has imported from folders, by name, with the folder of each.

    Parts of packages are left out. A module with the name of one of Python's is here if it is a file of the user.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        if "." not in name and not name.startswith("__") and (folder := _folder(module)) in folders:
            found[name] = folder
    return found


def _folder(module: ModuleType) -> str:
    """Return the folder in which a module or package lies, "" if it is not of a file.

    A namespace package is not: it may lie in several folders, and is found in all of them when they are on sys.path.
    """
    file = getattr(module, "__file__", None)
    return str(Path(file).parents[1 if hasattr(module, "__path__") else 0]) if file else ""


class _Unpickler(pickle.Unpickler):
    """Reads a file of the parent, in whose process `__main__` was another module than in this one."""

    def __init__(self, stream: Any, main: str) -> None:
        super().__init__(stream)
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__":
            module = _import_script(self._main)
        return super().find_class(module, name)


def _import_script(main: str) -> str:
    """Import a script under a name other than `__main__`, so that what it guards does not run; return the name."""
    if not main.endswith(".py"):
        importlib.import_module(main)
        return main
    name = "__bench_core_script__"
    if name not in sys.modules:
        spec = spec_from_file_location(name, main)
        assert spec is not None and spec.loader is not None  # noqa: PT018, S101 - a file that Python has run
        script: ModuleType = module_from_spec(spec)
        sys.modules[name] = script
        spec.loader.exec_module(script)
    return name


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
        threads = case.threads or max(1, host.usable_cores() // case.ranks)  # of each rank
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
    return case_from_json(command["case"]), _read_source(command["source"]), settings


def _read_source(plain: Message) -> Source:
    path, own = plain["imports"]["path"], plain["imports"]["own"]
    imports = Imports(tuple(path), tuple((name, folder) for name, folder in own))
    return (PickledSource if "file" in plain else WorkloadSource)(**{**plain, "imports": imports})


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
