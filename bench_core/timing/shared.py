"""What several processes of a run would compute again: inputs and references, kept in files of a folder of the run.

The implementations and backends of a work have the same inputs and the same references. The first process that needs
one writes it down, if that is worth it, and the others read it. Every reader gets a copy of its own, so a kernel that
writes to its inputs spoils nobody else's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

import bench_core.workload
from bench_core import check
from bench_core.workload import Workload

Made = TypeVar("Made")

WORTH_S = 0.02  # seconds; what is made faster is not kept
LARGEST, MOST = 32 << 20, 512 << 20  # bytes of a file and of all files: the folder may be in memory
_SHARE_OF_DISK = 0.25  # of what is free there; workers and the user need it as well
_SUFFIX = ".pickle"
_DIGEST = 32  # bytes of the SHA-256 before the value
_MOST_FILES = 1000  # Python files whose contents are the code of a workload
_CHECKS = (check.__file__, bench_core.workload.__file__)


class Shared:
    """The files of one run, as seen by one process. folder: of the run; "" for none: then everything is made.

    A key names the work, the seed and the draw. The code that makes the value and what its author has set in the
    workload are part of the file's name, so that the two sides of a comparison share nothing that they would compute
    differently. To share is only a saving: whatever goes wrong with a file, the value is made.
    """

    def __init__(self, folder: str = "", workload: Workload | None = None) -> None:
        self._folder = Path(folder) if folder else None
        self._workload = workload
        self._code, self._state = "", b""
        if folder and workload:
            with contextlib.suppress(OSError):
                self._state = _pickled(workload)
                self._code = _digest(_code_of(workload), self._state)

    def get(self, key: str, make: Callable[[], Made]) -> Made:
        """Return what `make` returns, or what another process has kept of it; raises what `make` raises."""
        if self._folder is None or not self._code:
            return make()
        file = self._folder / (_digest(self._code.encode(), key.encode()) + _SUFFIX)
        with contextlib.suppress(Exception):
            kept: Made = _read(file)
            return kept
        begin = perf_counter()
        made = make()
        worth = perf_counter() - begin >= WORTH_S
        # Others would miss what `make` has noted in the workload.
        if worth and _is_plain(made) and _pickled(self._workload) == self._state:
            with contextlib.suppress(Exception):
                _keep(file, made)
        return made


def _read(file: Path) -> Any:
    """Return the value in a file; raises an error of any kind if there is none, or if it is damaged."""
    whole = file.read_bytes()
    data = whole[_DIGEST:]
    if hashlib.sha256(data).digest() != whole[:_DIGEST]:
        raise ValueError(f"{file.name}: damaged")
    return pickle.loads(data)  # noqa: S301 - written by a process of this run


def _keep(file: Path, made: object) -> None:
    """Write a value to a new file in one step, unless there is too much. Raises an error of any kind."""
    if _size(made) > LARGEST:
        return  # before all of it is copied
    data = pickle.dumps(made, pickle.HIGHEST_PROTOCOL)
    kept = sum(each.stat().st_size for each in file.parent.iterdir())
    free = shutil.disk_usage(file.parent).free
    if len(data) > LARGEST or kept + len(data) > MOST or len(data) > _SHARE_OF_DISK * free:
        return
    part = file.with_suffix(f".{os.getpid()}")
    try:
        part.write_bytes(hashlib.sha256(data).digest() + data)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)  # half of it: the disk is full


def _is_plain(value: object) -> bool:
    """Return whether a value is made of arrays, numbers and texts, which come back from a file as they were."""
    if isinstance(value, np.ndarray):
        return type(value) is np.ndarray and not value.dtype.hasobject
    if type(value) in {list, tuple}:
        return all(map(_is_plain, value))  # type: ignore[call-overload]
    if type(value) is dict:
        return all(map(_is_plain, (*value.keys(), *value.values())))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {each.name for each in dataclasses.fields(value)}
        noted = vars(value).keys() if hasattr(value, "__dict__") else named
        return noted <= named and all(_is_plain(getattr(value, name)) for name in named)
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic))


def _size(value: object) -> int:
    """Return the bytes of the arrays in a plain value."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(_size(getattr(value, each.name)) for each in dataclasses.fields(value))
    return 0


def _digest(*parts: bytes) -> str:
    if not all(parts):
        return ""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _pickled(workload: Workload | None) -> bytes:
    """Return a workload as pickle writes it, with what its author has set in it; empty if pickle cannot."""
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
