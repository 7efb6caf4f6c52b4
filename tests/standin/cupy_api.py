"""What CuPy offers, what the stand-in for it offers, and what the backend and the kernels use: by name and argument."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

# Where names are looked for: modules and what stands for one, and classes.
MODULES = (
    "cupy", "cupy.cuda", "cupy.cuda.runtime", "cupy.cuda.memory", "cupy.cuda.cublas", "cupy.cublas", "cupy._core",
    "cupy._core._routines_linalg", "cupy.lib.stride_tricks", "cupyx", "cupyx.scipy.special",
)  # fmt: skip
CLASSES = (
    "cupy.ndarray", "cupy.ufunc", "cupy.cuda.Device", "cupy.cuda.Event", "cupy.cuda.Stream", "cupy.cuda.Graph",
    "cupy.ElementwiseKernel", "cupy.ReductionKernel", "cupy.RawKernel",
)  # fmt: skip
# Objects whose class has another name than CuPy's, or none: what makes the object here, and the class there.
POOLS = {
    "cupy.get_default_memory_pool()": "cupy.cuda.MemoryPool",
    "cupy.get_default_pinned_memory_pool()": "cupy.cuda.PinnedMemoryPool",
}
_MADE_BY_FUNCTIONS = {"cupy.ndarray", "cupy.ufunc", "cupy.cuda.Graph"}  # and never by their class
_PRIVATE = {"cupy._core": ["_routines_linalg"]}  # what CupyBackend needs besides


@dataclass(frozen=True)
class Offer:
    """A name, as CuPy's users write it, and how it is called; no signature for what is not, or does not tell."""

    name: str
    signature: inspect.Signature | None


@dataclass(frozen=True)
class Call:
    """How something was called: so many arguments by position, these by name."""

    name: str
    positional: int
    named: frozenset[str]


def find(name: str) -> Any:
    """Return what a dotted name stands for; AttributeError if nothing does. Modules are imported."""
    package, *path = name.split(".")
    return reduce(_step, path, import_module(package))


def _step(owner: Any, name: str) -> Any:
    if not hasattr(owner, name) and isinstance(owner, ModuleType):
        try:
            return import_module(f"{owner.__name__}.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"{owner.__name__} has no {name}") from error
    return getattr(owner, name)


def offers() -> list[Offer]:
    """Return everything that the `cupy` which is importable now offers: meant for the stand-in."""
    found = [Offer(f"{path}.{name}", signature(value)) for path in MODULES for name, value in public(path)]
    found = [Offer(offer.name, None) if offer.name in _MADE_BY_FUNCTIONS else offer for offer in found]
    found += [Offer(f"{path}.{name}", signature(value)) for path in CLASSES for name, value in members(find(path))]
    for pool, path in POOLS.items():
        made = type(find(pool.removesuffix("()"))())
        found += [Offer(f"{path}.{name}", signature(value)) for name, value in members(made)]
    return found


def public(path: str) -> Iterator[tuple[str, Any]]:
    """Yield the names of a module that are its own or NumPy's; not what it imported for itself."""
    owner = find(path)
    for name, value in vars(owner).items():
        foreign = getattr(value, "__module__", None) in {"typing", "collections.abc", "types", "__future__"}
        if isinstance(value, ModuleType):
            if f"{path}.{name}" in MODULES or name in _PRIVATE.get(path, ()):
                yield name, value
        elif not name.startswith("_") and not foreign and value is not np:
            yield name, value


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a class that its users may touch."""
    for name, value in vars(owner).items():
        if not name.startswith("_") or (name == "__call__" and owner.__name__ != "ufunc"):
            yield name, value


def signature(value: Any) -> inspect.Signature | None:
    """Return how something is called: as Python knows it, else as the first line of its documentation states it.

    None for what is not called, and for universal functions, which take arguments in ways of their own.
    """
    is_ufunc = type(value).__name__ == "ufunc"
    if is_ufunc or isinstance(value, (property, ModuleType)) or not callable(getattr(value, "__func__", value)):
        return None
    try:
        return _plain(inspect.signature(value))
    except (TypeError, ValueError):
        return documented(value.__doc__ or "")


def documented(doc: str) -> inspect.Signature | None:
    r"""Return the signature that a text begins with: `name(self, str x, y=None, \*, bint z=False) -> type`."""
    begin = re.match(r"\s*[\w.]+\((.*?)\)\s*(?:->.*)?$", doc.splitlines()[0] if doc else "")
    if not begin:
        return None
    text = begin[1].replace("\\*", "*")
    text = re.sub(r"(^|, )(?:\w+ )+(?=\w+)", r"\1", text)  # the types of C
    scope: dict[str, Any] = {}
    exec(f"def f({text}): ...", scope)
    return _plain(inspect.signature(scope["f"]))


def _plain(found: inspect.Signature) -> inspect.Signature:
    """Return a signature without `self` and annotations."""
    kept = [p.replace(annotation=p.empty) for i, p in enumerate(found.parameters.values()) if i or p.name != "self"]
    return inspect.Signature(kept)


def beyond(offer: inspect.Signature, real: inspect.Signature, doc: str) -> list[str]:
    """Return what an offer allows that the real thing does not: parameters, places, defaults, leaving things out.

    doc: the documentation of the real thing, which names what goes through its `**kwargs`.
    """
    theirs = real.parameters
    kinds = {p.kind for p in theirs.values()}
    by_position = [p.name for p in theirs.values() if p.kind in _POSITIONAL]
    wrong = []
    for place, mine in enumerate(offer.parameters.values()):
        same = theirs.get(mine.name)
        if mine.kind in {mine.VAR_POSITIONAL, mine.VAR_KEYWORD}:
            wrong += [] if mine.kind in kinds else [f"takes any {mine}"]
        elif same is None:
            through = mine.kind is mine.KEYWORD_ONLY and mine.VAR_KEYWORD in kinds and mine.name in doc
            wrong += [] if through or mine.kind is mine.POSITIONAL_ONLY else [f"{mine.name} is unknown"]
        elif (
            mine.kind in _POSITIONAL
            and mine.VAR_POSITIONAL not in kinds
            and by_position[place : place + 1] != [mine.name]
        ):
            wrong.append(f"{mine.name} stands elsewhere")
        elif mine.default is not mine.empty and repr(mine.default) != repr(same.default):
            wrong.append(f"{mine.name} is {same.default} by default, not {mine.default}")
    needed = {n for n, p in theirs.items() if p.default is p.empty and p.kind in _NEEDED}
    return wrong + [f"{name} is needed" for name in needed - set(offer.parameters)]


_POSITIONAL = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
_NEEDED = {*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY}


@contextmanager
def recorded() -> Iterator[set[Call]]:
    """Note every call of what the stand-in offers, until the end. It must be the `cupy` that is importable now."""
    calls: set[Call] = set()
    undo = [_watch(path, name, value, calls) for path in MODULES for name, value in [*public(path)]]
    undo += [_watch(path, name, value, calls) for path in CLASSES for name, value in [*members(find(path))]]
    undo += [_watch(path, "__init__", find(path).__init__, calls) for path in CLASSES if path not in _MADE_BY_FUNCTIONS]
    try:
        yield calls
    finally:
        for back in undo:
            back()


def _watch(path: str, name: str, value: Any, calls: set[Call]) -> Any:
    owner, is_class = find(path), path in CLASSES
    if isinstance(value, type) or not callable(value) or (is_class and isinstance(value, (staticmethod, property))):
        return lambda: None
    watched = Watched(path if name == "__init__" else f"{path}.{name}", value, calls)
    setattr(owner, name, watched.as_method() if is_class else watched)
    return lambda: setattr(owner, name, value)


class Watched:
    """A function that notes how it is called; its attributes are those of what it stands for."""

    def __init__(self, name: str, value: Any, calls: set[Call]) -> None:
        self._name, self._value, self._calls = name, value, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._calls.add(Call(self._name, len(args), frozenset(kwargs)))
        return self._value(*args, **kwargs)

    def as_method(self) -> Any:
        def method(this: Any, *args: Any, **kwargs: Any) -> Any:
            self._calls.add(Call(self._name, len(args), frozenset(kwargs)))
            return self._value(this, *args, **kwargs)

        return method


def refused(call: Call, real: inspect.Signature, doc: str) -> str | None:
    """Return why the real thing would not be called so, None if it would."""
    try:
        real.bind(*[None] * call.positional, **dict.fromkeys(call.named))
    except TypeError as error:
        return f"{call.name}: {error}"
    passed = {p.name for p in real.parameters.values() if p.kind is not p.VAR_KEYWORD}
    unknown = [name for name in call.named - passed if not re.search(rf"\b{name}\b", doc)]
    return f"{call.name}: nothing is known of {unknown}" if unknown else None
