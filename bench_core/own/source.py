"""How a worker process gets a function: by the name of its module, which the worker imports.

A function that has no such name (a lambda, a closure, one of an interactive session) is measured in this process, and
its rows are flagged `not_isolated`.
"""

from __future__ import annotations

import ast
import contextlib
import io
import pickle
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path
from typing import Any

from bench_core.errors import UsageError
from bench_core.own.function import Function
from bench_core.scratch import Scratch
from bench_core.text import one_line, printable
from bench_core.timing.sources import Imports, PickledSource, Source
from bench_core.timing.worker_protocol import CHILD


@dataclass(frozen=True, slots=True)
class OnlyHere:
    """A function that no other process can import; why: the reason, for people."""

    function: Function
    why: str

    def workload(self) -> Function:
        return self.function

    def plain(self) -> None:
        return None


def require_no_worker() -> None:
    """Raise UsageError in a worker process: it imports the file of a function, and must not measure."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name == CHILD:
        hint = 'put the call below `if __name__ == "__main__":`'
        raise UsageError(f"measure: called while a worker process imports the file of the function; {hint}")


@contextlib.contextmanager
def source_of(function: Function) -> Iterator[Source]:
    """Yield where a process finds a function; for a worker it is written to a file, until the context ends."""
    why = why_only_here(function)
    if why:
        yield OnlyHere(function, why)
        return
    with contextlib.ExitStack() as until:
        try:
            folder = until.enter_context(Scratch())
            (Path(folder) / "function.pickle").write_bytes(pickle.dumps(function, pickle.HIGHEST_PROTOCOL))
        except OSError as error:
            yield OnlyHere(function, f"no file can be written for a worker process: {error.strerror or error}")
            return
        yield PickledSource(str(Path(folder) / "function.pickle"), Imports.here(), _main())


def why_only_here(function: Function) -> str:
    """Return why no other process can import a function, its reference or what they are made of; "" if one can."""
    for each in function.functions:
        name = getattr(each, "__qualname__", "")
        if "<" in name:
            return f"a worker process cannot import {name}: define the function at the top level of a file"
    try:
        modules = _modules(function.functions)
    except Exception as error:  # noqa: BLE001 - an object of the user may raise anything when it is pickled
        return f"it cannot be sent to a worker process: {printable(one_line(error), 100)}"
    for module in sorted(modules - {"__main__"}):
        if not _is_importable(module):
            return f"a worker process cannot import the module {module}"
    return _why_not_main() if "__main__" in modules else ""


def _modules(functions: Any) -> set[str]:
    """Return the names of the modules that a process needs to read these functions; raises what pickle raises."""
    found: set[str] = set()

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found.add(module)
            return super().find_class(module, name)

    Reader(io.BytesIO(pickle.dumps(functions, pickle.HIGHEST_PROTOCOL))).load()
    return found


def _is_importable(name: str) -> bool:
    """Whether an import in another process, with this sys.path, finds the same file as in this one."""
    path, origin = None, None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        full = ".".join(parts[:end])
        spec = PathFinder.find_spec(full, path)
        if spec is None:
            return any(importer.find_spec(full) for importer in (BuiltinImporter, FrozenImporter))
        path, origin = spec.submodule_search_locations, spec.origin
    here = getattr(sys.modules[name], "__file__", None)
    return here is None or origin is None or Path(here).resolve() == Path(origin).resolve()


def _why_not_main() -> str:
    """Return why no other process can import what runs as `__main__`; "" if one can."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if not file or hasattr(sys, "ps1") or Path(file).name.startswith("<"):  # as "<stdin>"; 3.13 has a file
        return "a worker process cannot import from an interactive session: write the function to a file"
    if Path(file).suffix != ".py" or not _is_guarded(Path(file)):
        return 'a worker process can import a script only if it calls measure below `if __name__ == "__main__":`'
    return ""


def _is_guarded(script: Path) -> bool:
    """Whether a script has a part that only runs when it is not imported, and calls `measure` in no other."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    guards = [node for node in tree.body if isinstance(node, ast.If) and _is_guard(node.test)]
    others = [node for node in tree.body if node not in guards] + [node for guard in guards for node in guard.orelse]
    names = _measuring(tree)
    return bool(guards) and not any(_calls(node, names) for node in others)


def _measuring(tree: ast.Module) -> set[str]:
    """Return the names by which a script calls `measure`, and of its own functions that do."""
    imported = (alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names)
    names = {"measure"} | {alias.asname for alias in imported if alias.name == "measure" and alias.asname}
    functions = (node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return names | {f.name for f in functions if any(_calls(node, names) for node in f.body)}


def _is_guard(test: ast.expr) -> bool:
    text = ast.unparse(test)
    return "__name__" in text and "'__main__'" in text


def _calls(node: ast.AST, names: Collection[str]) -> bool:
    """Whether what runs this node calls a function of one of these names; the body of a definition does not run."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return False
    called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    return called.rpartition(".")[2] in names or any(_calls(part, names) for part in ast.iter_child_nodes(node))


def _main() -> str:
    """Return the name of the module that runs as `__main__`, or the path of the script."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return str(Path(file).resolve()) if file else ""
