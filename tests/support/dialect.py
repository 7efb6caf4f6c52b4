"""A backend named "other" that speaks the dialect `array`, and notes what the kernels of benchmarks/ use of it.

It is NumPy, seen by the kernels through a namespace and an array class that take notes. What bench_core itself does
with arrays is not noted, nor what NumPy calls inside.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

import numpy as np

from bench_core.backends.numpy import NumpyBackend
from tests.support import ROOT

KERNELS = str(ROOT / "benchmarks")
BINARY = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}  # fmt: skip
OPERATORS = {f"__{name}__": sign for name, sign in BINARY.items()}
OPERATORS |= {f"__r{name}__": sign for name, sign in BINARY.items()}
OPERATORS |= {f"__i{name}__": f"{sign}=" for name, sign in BINARY.items()}
OPERATORS |= {"__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">=", "__eq__": "==", "__ne__": "!="}
OPERATORS |= {"__neg__": "-a", "__pos__": "+a", "__invert__": "~a", "__abs__": "abs(a)", "__len__": "len(a)"}
OPERATORS |= {"__float__": "float(a)", "__int__": "int(a)", "__bool__": "bool(a)", "__iter__": "for x in a"}

USED: set[str] = set()  # by all that was noted since the start of the process


def by_a_kernel(depth: int = 2) -> bool:
    """Whether the code that called the caller of this function is of benchmarks/."""
    return sys._getframe(depth).f_code.co_filename.startswith(KERNELS)


def called(name: str, named: Any) -> None:
    """Note a call with the names of its keyword arguments: `sum`, `sum(axis=)`, `sum(keepdims=)`."""
    USED.update([name, *(f"{name}({argument}=)" for argument in named)])


def noted(result: Any) -> Any:
    """Return a result with its arrays as those that take notes."""
    if isinstance(result, (list, tuple)):
        return type(result)(noted(item) for item in result)
    return result.view(Array) if type(result) is np.ndarray else result


def bare(value: Any) -> Any:
    """Return a value with NumPy's own arrays in place of those that take notes."""
    if isinstance(value, (list, tuple)):
        return type(value)(bare(item) for item in value)
    return value.view(np.ndarray) if isinstance(value, Array) else value


class Namespace:
    """NumPy, or a module in it, as `xp`."""

    def __init__(self, module: ModuleType, path: str = "xp") -> None:
        self._module, self._path = module, path

    def __getattr__(self, name: str) -> Any:
        value, path = getattr(self._module, name), f"{self._path}.{name}"
        if isinstance(value, ModuleType):
            return Namespace(value, path)
        if isinstance(value, type) or not callable(value):
            USED.add(path)
            return value
        return Function(value, path)


class Function:
    """A function of NumPy's. The result goes to `out`, which ufuncs take behind their inputs too."""

    def __init__(self, function: Any, path: str) -> None:
        self._function, self._path = function, path

    def __getattr__(self, name: str) -> Any:
        return Function(getattr(self._function, name), f"{self._path}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = ["out"] if len(args) > getattr(self._function, "nin", len(args)) else []
        called(self._path, [*kwargs, *out])
        target = kwargs.get("out") if not out else args[-1]
        result = self._function(*bare(args), **{name: bare(value) for name, value in kwargs.items()})
        return noted(result) if target is None else target


class Array(np.ndarray):
    """An array that notes what kernels do with it."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not by_a_kernel():
            return value
        if name == "__setitem__":  # its name is for a call to come, with a key that is known only then
            return functools.partial(_assigned, self)
        if not callable(value):
            USED.add(f"a.{name}")
            return value

        def method(*args: Any, **kwargs: Any) -> Any:
            called(f"a.{name}", kwargs)
            return value(*args, **kwargs)

        return method

    def __getitem__(self, key: Any) -> Any:
        if by_a_kernel():
            USED.update(f"a[{kind}]" for kind in kinds(key))
        return super().__getitem__(bare(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        if by_a_kernel():
            USED.update(f"a[{kind}] = x" for kind in kinds(key))
        super().__setitem__(bare(key), value)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        if by_a_kernel():
            USED.add(f"np.{ufunc.__name__}(a)")
        out = kwargs.pop("out", None)
        kwargs |= {"out": bare(out)} if out else {}
        result = getattr(ufunc, method)(*bare(args), **kwargs)
        return out[0] if out else noted(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if by_a_kernel():
            USED.add(f"np.{function.__name__}(a)")
        return super().__array_function__(function, types, args, kwargs)


def _assigned(array: Array, key: Any, value: Any) -> None:
    USED.update(f"a[{kind}] = x" for kind in kinds(key))
    np.ndarray.__setitem__(array, bare(key), value)


def kinds(key: Any) -> set[str]:
    """Return what a key is made of, in words of the documentation."""
    words = {bool: "mask", int: "0", slice: "0:1", type(None): "None", type(...): "..."}

    def kind(part: Any) -> str:
        if isinstance(part, np.ndarray):
            return "mask" if part.dtype == bool else "index array"
        return "0" if isinstance(part, np.integer) else words[type(part)]

    return {kind(part) for part in (key if isinstance(key, tuple) else (key,))}


def _operator(name: str, sign: str) -> Any:
    plain = getattr(np.ndarray, name)

    def operate(self: Array, *args: Any) -> Any:
        if by_a_kernel():
            USED.add(sign)
        return plain(self, *args)

    return operate


for _name, _sign in OPERATORS.items():
    if hasattr(np.ndarray, _name):
        setattr(Array, _name, _operator(_name, _sign))
Array.__hash__ = None  # type: ignore[assignment] - as that of every array


class OtherBackend(NumpyBackend):
    """A plug-in's backend: no kernel is of its name."""

    name = "other"
    xp = Namespace(np)

    def from_host(self, array: np.ndarray, dtype: str | None = None) -> Any:
        return super().from_host(array, dtype).view(Array)

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(array).view(np.ndarray)
