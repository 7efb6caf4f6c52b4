"""Backends by name: the three built-in ones, and those that other packages register.

A package registers one in the entry-point group `bench_core.backends`; the value is a class that
implements the Protocol of base.py.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from bench_core.backends.base import Backend
from bench_core.errors import UsageError
from bench_core.text import no_such

GROUP = "bench_core.backends"
_BUILT_IN = {
    "numpy": "bench_core.backends.numpy:NumpyBackend",
    "cupy": "bench_core.backends.cupy:CupyBackend",
    "torch": "bench_core.backends.torch:TorchBackend",
}


def names() -> list[str]:
    """Return the names of all backends, the built-in ones first."""
    return list(dict.fromkeys([*_BUILT_IN, *sorted(point.name for point in entry_points(group=GROUP))]))


def load(name: str) -> type[Backend]:
    """Return the class of a backend without importing its library; raises UsageError for an unknown name."""
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        backend: type[Backend] = getattr(import_module(module), attribute)
        return backend
    for point in entry_points(group=GROUP, name=name):
        registered: type[Backend] = point.load()
        return registered
    raise UsageError(no_such("backend", name, names()))
