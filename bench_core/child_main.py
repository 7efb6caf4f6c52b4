"""Where a child process begins: `python -P .../bench_core/child_main.py PARENT MODULE ARGUMENT...`.

Its command line is made by child_process.py. PARENT is the id of the process with which it ends, less than 0 for
that of a grandparent (child_process.end_with), 0 for none.

It runs MODULE as `python -m MODULE` would, with two differences. The folder that holds this bench_core stands on
sys.path, as late as it can while this copy is the one that is found: no other file in it hides a library. And the
working folder is not on sys.path; for pytest it comes last, because it may hold modules of the user's benchmarks.
pytest also measures on where its output is lost (streams.py).

Nothing of bench_core is imported before the path is right, and nothing of Python that it has not imported itself.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # instead of an import of typing
if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDER = os.path.dirname(os.path.realpath(__file__))
_ROOT, _NAME = os.path.split(_FOLDER)


def main(parent: int, module: str) -> None:
    """Run a module; sys.argv holds its arguments."""
    place(sys.path, _ROOT)
    if module == "pytest":
        sys.path.append(os.getcwd())
    try:
        import contextlib  # noqa: PLC0415 - the path is right only now
        import runpy  # noqa: PLC0415

        # What follows is loaded without an import of bench_core: pytest warns of what it cannot rewrite any more.
        if parent:
            end_with = runpy.run_path(os.path.join(_FOLDER, "child_process.py"))["end_with"]
            end_with(parent, gently=module == "pytest")  # so that it can write what it has measured
        guarded = contextlib.nullcontext
        if module == "pytest":
            guarded = runpy.run_path(os.path.join(_FOLDER, "streams.py"))["guarded"]
        with guarded():
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception as error:
        name_hiding(error)
        raise


def place(path: list[str], root: str) -> None:
    """Insert a folder where the first entry has a bench_core, or at the end if none has one."""
    others = (at for at, entry in enumerate(path) if os.path.isdir(os.path.join(entry, _NAME)))
    path.insert(next(others, len(path)), root)


def shadows(folders: Iterable[str]) -> list[str]:
    """Return the paths of files and packages in folders that have the names of modules of Python: "./statistics.py".

    An import finds them instead, if their folder precedes the standard library on sys.path.
    """
    found = []
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            path, (stem, suffix) = os.path.join(folder, name), os.path.splitext(name)
            is_module = suffix == ".py" or os.path.isfile(os.path.join(path, "__init__.py"))
            if is_module and stem in sys.stdlib_module_names:
                found.append(path)
    return found


def name_hiding(error: BaseException) -> None:
    """Raise ImportError that names the files for which an import failed, if they hide modules of Python.

    error: why it failed. A file that had no part in it is not named: it may be meant.
    """
    failed = _failed(error)
    before = map(os.path.abspath, sys.path[: _library()])
    found = [path for path in shadows(before) if failed & {path, os.path.join(path, "__init__.py")}]
    if found:
        what = "hides a module" if len(found) == 1 else "hide modules"
        raise ImportError(f"{', '.join(found)}: {what} of Python, rename it ({error})") from error


def _failed(error: BaseException | None) -> set[str | None]:
    """Return the files of the modules that failed themselves, or of which an error says that they lack something."""
    files: set[str | None] = set()
    while error:
        step = error.__traceback__
        while step:
            last, step = step.tb_frame.f_code.co_filename, step.tb_next
            if not step:  # a module that failed itself is in sys.modules no more
                files.add(last)
        name = (getattr(error, "name", None) or "") if isinstance(error, ImportError) else ""
        lacking = (sys.modules.get(name.partition(".")[0]), getattr(error, "obj", None))
        files.update(getattr(module, "__file__", None) for module in lacking)
        error = error.__cause__ or error.__context__
    return files


def _library() -> int:
    """Return where on sys.path the standard library stands, 0 if it does not."""
    library = os.path.dirname(os.__file__)
    return sys.path.index(library) if library in sys.path else 0


if __name__ == "__main__":
    main(int(sys.argv.pop(1)), sys.argv.pop(1))
