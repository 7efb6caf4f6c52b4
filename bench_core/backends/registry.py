"""Backends by name: the built-in ones, and those that other packages register.

A package registers one in the entry-point group `bench_core.backends`; the value is a class that
implements the Protocol of base.py.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from bench_core.backends.base import Backend
from bench_core.errors import Unavailable, UsageError
from bench_core.machine.privacy import scrub
from bench_core.text import no_such, printable

GROUP = "bench_core.backends"
_BUILT_IN = {
    "numpy": "bench_core.backends.numpy:NumpyBackend",
    "cupy": "bench_core.backends.cupy:CupyBackend",
    "torch": "bench_core.backends.torch:TorchBackend",
    "jax": "bench_core.backends.jax:JaxBackend",
}
_NEEDED = ("dialect", "devices_expected", "devices", "environ")  # asked of a class before its library is imported


def names() -> list[str]:
    """Return the names of all backends, the built-in ones first."""
    return list(dict.fromkeys([*_BUILT_IN, *sorted(_registered(tuple(sys.path)))]))


@functools.cache
def _registered(path: tuple[str, ...]) -> dict[str, EntryPoint]:  # noqa: ARG001 - where entry_points looks
    """Return the backends of other packages on a path. Looked up once: it reads a file of every installed package."""
    return {point.name: point for point in reversed(tuple(entry_points(group=GROUP)))}


def require(name: str) -> None:
    """Raise UsageError for a name that no backend has."""
    if name not in _BUILT_IN and name not in names():
        raise UsageError(no_such("backend", name, names()))


def load(name: str) -> type[Backend]:
    """Return the class of a backend without importing its library.

    Raises UsageError for an unknown name, and Unavailable for a package whose class cannot be imported or is no
    backend: that is one backend less, and nothing more.
    """
    require(name)
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        backend: type[Backend] = getattr(import_module(module), attribute)
        return backend
    point = _registered(tuple(sys.path))[name]
    try:
        registered: type[Backend] = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a package of the user may raise anything
        what = printable(scrub(f"{type(error).__name__}: {error}"))
        raise Unavailable("import_failed", f"{point.value} of the backend {name} cannot be imported: {what}") from None
    if missing := [part for part in _NEEDED if not hasattr(registered, part)]:
        raise Unavailable("no_backend", f"{point.value} of the backend {name} lacks {', '.join(missing)}")
    return registered
