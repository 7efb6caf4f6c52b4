"""Puts the stand-ins for GPU libraries in place, for this process or for a child."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from bench_core.backends import cupy as backend

FOLDER = Path(__file__).parent / "site"
# They hold nothing that a test could change, and their import is the longest: it is not repeated.
_STATELESS = ("cupy._cuda_c", "cupy._signatures")
_kept: dict[str, ModuleType] = {}


@contextmanager
def cupy_module(gpus: int = 1) -> Iterator[ModuleType]:
    """Yield the stand-in for CuPy, importable as `cupy` until the end, its devices idle at time zero."""
    with _importable({"cupy", "cupyx"}):
        sys.modules.update(_kept)
        module = import_module("cupy")
        _kept.update({name: sys.modules[name] for name in _STATELESS})
        module._gpu.reset(gpus)
        yield module


@contextmanager
def pynvml_module() -> Iterator[ModuleType]:
    """Yield the stand-in for nvidia-ml-py, importable as `pynvml` until the end, with its usual devices."""
    with _importable({"pynvml"}):
        yield import_module("pynvml")


@contextmanager
def _importable(packages: set[str]) -> Iterator[None]:
    def forget() -> dict[str, ModuleType]:
        backend._cupy.cache_clear()
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}

    before = forget()
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        forget()
        sys.modules.update(before)


def environ(**variables: str) -> dict[str, str]:
    """Return this process's environment with the stand-ins in front, for a worker or a probe."""
    path = os.pathsep.join(filter(None, [str(FOLDER), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "STANDIN_EAGER": "1", **variables}
