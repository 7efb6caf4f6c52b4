"""What several processes of a run would compute again: inputs and references, kept in files of a folder of the run.

The implementations and backends of a work have the same inputs and the same references. The first process that needs
one writes it down, if that is worth it, and the others read it. Every reader gets a copy of its own, so a kernel that
writes to its inputs spoils nobody else's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import numpy as np

import bench_core.workload
from bench_core import check
from bench_core.workload import Workload

Made = TypeVar("Made")

WORTH_S = 0.02  # seconds; what is made faster is not kept
LARGEST, MOST = 32 << 20, 512 << 20  # bytes of a file and of all files: the folder may be in memory
_SUFFIX = ".pickle"
_MOST_FILES = 1000  # Python files whose contents are the code of a workload
_CHECKS = (check.__file__, bench_core.workload.__file__)


class Shared:
    """The files of one run, as seen by one process. folder: of the run; "" for none: then everything is made.

    A key names the work, the seed and the draw. The code that makes the value is part of the file's name, so that
    the two sides of a comparison share nothing that they would compute differently.
    """

    def __init__(self, folder: str = "", workload: Workload | None = None) -> None:
        self._folder = Path(folder) if folder else None
        self._code = ""
        if folder and workload:
            with contextlib.suppress(OSError):
                self._code = _digest(_code_of(workload), _plain(workload))

    def get(self, key: str, make: Callable[[], Made]) -> Made:
        """Return what `make` returns, or what another process has kept of it; raises what `make` raises."""
        if self._folder is None or not self._code:
            return make()
        file = self._folder / (_digest(self._code.encode(), key.encode()) + _SUFFIX)
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError):
            kept: Made = pickle.loads(file.read_bytes())  # noqa: S301 - written by a process of this run
            return kept
        begin = perf_counter()
        made = make()
        if perf_counter() - begin >= WORTH_S:
            _keep(file, made)
        return made


def _keep(file: Path, made: object) -> None:
    """Write a value to a new file in one step, if it is not too large. Raises nothing: it is only a saving."""
    if isinstance(made, Mapping) and sum(getattr(array, "nbytes", 0) for array in made.values()) > LARGEST:
        return  # before all of it is copied
    with contextlib.suppress(OSError, pickle.PicklingError, AttributeError, TypeError):
        data = pickle.dumps(made, pickle.HIGHEST_PROTOCOL)
        kept = sum(each.stat().st_size for each in file.parent.glob(f"*{_SUFFIX}"))
        if len(data) <= LARGEST and kept + len(data) <= MOST:
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(data)
            part.replace(file)


def _digest(*parts: bytes) -> str:
    if not all(parts):
        return ""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _plain(workload: Workload) -> bytes:
    """Return a workload with what its author has set in it, as bytes; none if it cannot be written down."""
    try:
        return pickle.dumps(workload, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - whatever its author has put into it
        return b""


def _code_of(workload: Workload) -> bytes:
    """Return what tells the code by which a workload makes its arrays; none if that cannot be known.

    It is not the code that is loaded, which differs between backends, but the Python files of the package that the
    workload is from, or of the folder if it is from no package, those of the checks, and which libraries there are.
    """
    module = sys.modules.get(type(workload).__module__)
    file = getattr(module, "__file__", None)
    if not file or type(workload).__module__ == "__main__":
        return b""
    depth = type(workload).__module__.count(".")
    folder = Path(file).parents[max(0, depth - 1)]
    files = sorted(folder.rglob("*.py") if depth else folder.glob("*.py"))
    if len(files) > _MOST_FILES:
        return b""
    texts = [hashlib.sha256(each.read_bytes()).hexdigest() for each in (*files, *map(Path, _CHECKS))]
    return "\n".join([sys.prefix, sys.version, np.__version__, *texts]).encode()
