"""The array: NumPy's behaviour, queued, for what CuPy documents and refusing what CuPy refuses."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from cupy import _gpu

# Arguments of NumPy's functions that CuPy's do not have.
_NOT_IN_CUPY = frozenset({"where", "initial", "mode", "like", "subok"})


class ndarray:  # noqa: N801 - CuPy's name
    """An array in the pretended GPU's memory; its values exist once the queue has come to them."""

    __array_priority__ = 100

    def __init__(self, array: np.ndarray | None = None) -> None:
        self._gpu = _gpu.gpu()
        self._array: np.ndarray | None = None
        if array is not None:
            self._settle(array)

    def _settle(self, value: Any) -> None:
        array = np.asarray(value)
        if array.base is None:
            self._gpu.pool.malloc(array)
        self._array = array

    @property
    def _now(self) -> np.ndarray:
        """The values; computes what is queued, but no time passes."""
        if self._array is None:
            self._gpu.flush()
        assert self._array is not None, "the array belongs to a graph that was captured but never launched"
        return self._array

    # Conversions: only on request, and they wait.

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        """Return (or write to `out`) a host copy; `blocking=False` leaves the copy to the queue."""
        if out is None:
            self._gpu.synchronize()
            return np.array(self._now, order=order)
        self._gpu.launch(lambda: np.copyto(out, self._now))
        if blocking:
            self._gpu.synchronize()
        return out

    def set(self, host: np.ndarray, stream: Any = None) -> None:
        """Copy a host array into this one."""
        if host.shape != self.shape or host.dtype != self.dtype:
            raise ValueError("Shape or dtype mismatch.")
        staged = host.copy()
        self._gpu.launch(lambda: np.copyto(self._now, staged))

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())

    def __index__(self) -> int:
        return operator.index(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    # Metadata: known without waiting.

    shape = property(lambda self: self._now.shape)
    dtype = property(lambda self: self._now.dtype)
    ndim = property(lambda self: self._now.ndim)
    size = property(lambda self: self._now.size)
    nbytes = property(lambda self: self._now.nbytes)
    itemsize = property(lambda self: self._now.itemsize)
    strides = property(lambda self: self._now.strides)
    flags = property(lambda self: self._now.flags)
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        return len(self._now)

    # Elements.

    def __getitem__(self, key: Any) -> ndarray:
        basic = all(
            k is None or k is ... or isinstance(k, (int, slice)) for k in (key if isinstance(key, tuple) else [key])
        )
        return (view if basic else launch)(operator.getitem, self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _refuse([value, key])
        if isinstance(value, (list, tuple)):
            raise TypeError(f"Unsupported type {type(value)}")
        self._gpu.launch(lambda: operator.setitem(self._now, unwrap(key), unwrap(value)))

    def fill(self, value: Any) -> None:
        self[...] = value

    # NumPy's functions, called on this array, are CuPy's.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        import cupy

        function = getattr(cupy, ufunc.__name__)
        return (function if method == "__call__" else getattr(function, method))(*args, **kwargs)

    def __array_function__(self, function: Callable[..., Any], _: Any, args: Any, kwargs: Any) -> Any:
        import cupy

        return getattr(cupy, function.__name__)(*args, **kwargs)


def launch(
    function: Callable[..., Any], *args: Any, out: ndarray | None = None, free: bool = False, **kwargs: Any
) -> ndarray:
    """Queue `function` on arrays; return the array that will hold its result. `free`: it takes no time."""
    _refuse([*args, *kwargs.values()])
    if isinstance(out, tuple):
        (out,) = out
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"Output arguments must be cupy.ndarray, not {type(out)}")
    if strange := _NOT_IN_CUPY & kwargs.keys():
        raise TypeError(f"{function.__name__}() got an unexpected keyword argument {min(strange)!r}")
    result = ndarray() if out is None else out

    def operation() -> None:
        target = {} if out is None else {"out": out._now}
        value = function(*unwrap(args), **unwrap(kwargs), **target)
        if out is None:
            result._settle(value)

    if free:
        result._gpu.queue(operation, 0.0)
    else:
        result._gpu.launch(operation)
    return result


def view(function: Callable[..., Any], *args: Any, **kwargs: Any) -> ndarray:
    """Apply a function that touches no values: nothing is launched where the array is there already."""
    _refuse([*args, *kwargs.values()])
    if isinstance(args[0], ndarray) and args[0]._array is None:
        return launch(function, *args, free=True, **kwargs)
    return ndarray(function(*unwrap(args), **unwrap(kwargs)))


def unwrap(value: Any) -> Any:
    """Return `value` with every array in it replaced by its NumPy array."""
    if isinstance(value, ndarray):
        return value._now
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(item) for item in value)
    return {key: unwrap(item) for key, item in value.items()} if isinstance(value, dict) else value


def _refuse(value: Any) -> None:
    """Raise TypeError for host arrays, which CuPy's functions do not take."""
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        for item in value:
            _refuse(item)


def _binary(name: str) -> None:
    """Give the array an operator, its mirror image and its in-place form."""
    ufunc = {"truediv": "true_divide", "floordiv": "floor_divide", "mod": "remainder", "mul": "multiply"}
    ufunc |= {"sub": "subtract", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
    function = getattr(np, ufunc.get(name, name))
    setattr(ndarray, f"__{name}__", lambda self, other: call(function, self, other))
    setattr(ndarray, f"__r{name}__", lambda self, other: call(function, other, self))
    setattr(ndarray, f"__i{name}__", lambda self, other: call(function, self, other, out=self))


def call(function: np.ufunc, *args: Any, **kwargs: Any) -> ndarray:
    """Launch a ufunc; products of float32 in TF32 round their factors first, as tensor cores do."""
    from cupy._core import _routines_linalg

    if function is np.matmul and _routines_linalg.rounds_to_tf32():
        return launch(_routines_linalg.tf32_matmul, *args, **kwargs)
    return launch(function, *args, **kwargs)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _binary(_name)
for _name, _ufunc in {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", lambda self, other, f=_ufunc: call(f, self, other))
for _name, _ufunc in {"neg": np.negative, "abs": np.absolute, "invert": np.invert}.items():
    setattr(ndarray, f"__{_name}__", lambda self, f=_ufunc: call(f, self))
ndarray.__hash__ = None  # as CuPy's: arrays compare elementwise
