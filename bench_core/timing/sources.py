"""Where a process finds the workload of a case: by import, or in a file of the process that has it.

The modules of the user are found as the parent has found them, but none of Python's own is hidden by them.
"""

from __future__ import annotations

import ast
import importlib
import pickle
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

from bench_core.workload import Workload


class Source(Protocol):
    """Where a process finds the workload of a case. Workloads themselves are not in messages."""

    def workload(self) -> Workload:
        """Return the workload; raises whatever importing its module raises."""

    def plain(self) -> Mapping[str, Any] | None:
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

    def plain(self) -> Mapping[str, Any]:
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

    def plain(self) -> Mapping[str, Any]:
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


def read_source(plain: Mapping[str, Any]) -> Source:
    """Return the source of which `Source.plain` has returned this."""
    path, own = plain["imports"]["path"], plain["imports"]["own"]
    imports = Imports(tuple(path), tuple((name, folder) for name, folder in own))
    return (PickledSource if "file" in plain else WorkloadSource)(**{**plain, "imports": imports})
