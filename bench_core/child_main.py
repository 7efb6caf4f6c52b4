"""Where a child process begins: `python -P .../bench_core/child_main.py MODULE ARGUMENT...` (see child_process.py).

It runs MODULE as `python -m MODULE` would, with two differences. The folder that holds this bench_core stands on
sys.path, as late as it can while this copy is the one that is found: no other file in it hides a library. And the
working folder is not on sys.path; for pytest it comes last, because it may hold modules of the user's benchmarks.
pytest also measures on where its output is lost (streams.py).

Nothing of bench_core is imported before the path is right.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_STREAMS = _PACKAGE / "streams.py"


def main(module: str) -> None:
    """Run a module; sys.argv holds its arguments."""
    place(sys.path, str(_PACKAGE.parent))
    if module == "pytest":
        sys.path.append(os.getcwd())  # noqa: PTH109 - a string
    try:
        # Without an import of bench_core: pytest warns of packages whose assertions it can no longer rewrite.
        with runpy.run_path(str(_STREAMS))["guarded"]() if module == "pytest" else contextlib.nullcontext():
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except (ImportError, AttributeError) as error:
        if hidden := shadows(entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry):
            raise ImportError(f"{', '.join(hidden)} in PYTHONPATH: hides a module of Python; rename it") from error
        raise


def place(path: list[str], root: str) -> None:
    """Insert a folder where the first entry has a bench_core, or at the end if none has one."""
    others = (at for at, entry in enumerate(path) if Path(entry, _PACKAGE.name).is_dir())
    path.insert(next(others, len(path)), root)


def shadows(folders: Iterable[str]) -> list[str]:
    """Return the names of files and packages in folders that have the names of modules of Python: "statistics.py".

    An import finds them instead, if their folder precedes the standard library on sys.path.
    """
    found = []
    for folder in folders:
        try:
            entries = sorted(Path(folder).iterdir())
        except OSError:
            continue
        modules = (entry for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").is_file())
        found += [entry.name for entry in modules if entry.stem in sys.stdlib_module_names]
    return found


if __name__ == "__main__":
    main(sys.argv.pop(1))
