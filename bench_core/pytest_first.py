"""What pytest loads before any other plugin in a clone, whose folder is the first on sys.path then.

pyproject.toml puts it there, as pytest does to import a conftest.py. A file in it, such as `statistics.py`, would be
imported in place of Python's own. This imports nothing that pytest has not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[1]


class PythonFirst:
    """Finds modules of Python, and not what has their names in the folder of this bench_core."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module; see importlib.abc.MetaPathFinder."""
        if path is not None or name not in sys.stdlib_module_names:
            return None
        return PathFinder.find_spec(name, [entry for entry in sys.path if Path(entry).resolve() != _ROOT], target)


sys.meta_path.insert(0, PythonFirst)
