"""The array: NumPy's behaviour, queued, for what CuPy documents and refusing what CuPy refuses."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from cupy import _gpu


class ndarray:  # noqa: N801 - CuPy's name
    """An array in the pretended GPU's memory; its values exist once the queue has come to them."""

    __array_priority__ = 100

    def __init__(self, array: np.ndarray | None = None, gpu: _gpu.Gpu | None = None) -> None:
        self._gpu = gpu or _gpu.gpu()
        self._array: np.ndarray | None = None
        self._ready = 0.0  # when the values that this array was made with are there
        if array is not None:
            self._settle(array)

    def _settle(self, array: np.ndarray) -> None:
        if array.base is None:
            self._gpu.pool._charge(array)
        self._array = array

    @property
    def _now(self) -> np.ndarray:
        """The memory, for an operation whose turn has come. RuntimeError if what makes it has not had its turn."""
        if self._array is None:
            raise RuntimeError(
                "read before it was made: its operation runs later in another stream that nothing orders, "
                "or belongs to a graph that was captured and never launched"
            )
        return self._array

    @property
    def _known(self) -> np.ndarray:
        """The memory, for a look at its shape: computes what leads to it, but no time passes."""
        if self._array is None:
            _gpu.compute(self._ready)
        return self._now

    # Conversions: only on request, and they wait.

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True) -> Any:
        """Return (or write to `out`) a host copy.

        `blocking=False` leaves the copy to the stream if `out` is pinned; into pageable memory the driver copies before
        it returns (CUDA Runtime API, "API synchronization behavior").
        """
        if out is None:
            out = np.empty(self.shape, self.dtype, order=_order(self._known, order))
        _require_target(out, self.shape, self.dtype)
        target, lane = out, self._gpu.lane if stream is None else stream._lane
        end = lane.copy(lambda: np.copyto(target, self._now), self.nbytes)
        if not _gpu.is_pinned(out):
            _gpu.clock.wait_until(end)
        if blocking:
            lane.synchronize()
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        """Copy a host array into this one: asynchronously from pinned memory, else once the stream has come to it."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        lane = self._gpu.lane if stream is None else stream._lane
        if not _gpu.is_pinned(arr):
            # The driver waits for the stream, then copies to a pinned buffer of its own, and returns.
            lane.synchronize()
            arr = staged(arr)
        lane.copy(lambda: np.copyto(self._now, arr), arr.nbytes)

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

    shape = property(lambda self: self._known.shape)
    dtype = property(lambda self: self._known.dtype)
    ndim = property(lambda self: self._known.ndim)
    size = property(lambda self: self._known.size)
    nbytes = property(lambda self: self._known.nbytes)
    itemsize = property(lambda self: self._known.itemsize)
    strides = property(lambda self: self._known.strides)
    flags = property(lambda self: self._known.flags)
    data = property(lambda self: SimpleNamespace(ptr=self._known.ctypes.data))  # what libraries are called with
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        return len(self._known)

    # Elements.

    def __getitem__(self, key: Any) -> ndarray:
        basic = all(
            k is None or k is ... or isinstance(k, (int, slice)) for k in (key if isinstance(key, tuple) else [key])
        )
        return (view if basic else launch)(operator.getitem, self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        refuse([value, key])
        if isinstance(value, (list, tuple)):
            raise TypeError(f"Unsupported type {type(value)}")
        _gpu.gpu().lane.launch(lambda: operator.setitem(self._now, unwrap(key), unwrap(value)))

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
    function: Callable[..., Any],
    *args: Any,
    out: ndarray | None = None,
    seconds: float | None = None,
    layout: str = "C",
    **kwargs: Any,
) -> ndarray:
    """Queue `function` on arrays in the current stream; return the array that will hold its result.

    layout: of a new result. It is C in CuPy, whatever the layout of the arguments; "K" leaves it to the function.
    """
    refuse([*args, *kwargs.values()])
    if isinstance(out, tuple):
        (out,) = out
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"Output arguments must be cupy.ndarray, not {type(out)}")
    result = ndarray() if out is None else out

    def operation() -> None:
        target = {} if out is None else {"out": out._now}
        value = function(*unwrap(args), **unwrap(kwargs), **target)
        if out is None:
            result._settle(np.asarray(value, order=layout))

    end = _gpu.gpu().lane.launch(operation, seconds)
    if out is None:
        result._ready = end
    return result


def view(function: Callable[..., Any], *args: Any, **kwargs: Any) -> ndarray:
    """Apply a function that touches no values: nothing is launched, unless it has to copy.

    Whether it has to is known from the array's strides.
    """
    refuse([*args, *kwargs.values()])
    source = args[0]
    if not isinstance(source, ndarray):
        return ndarray(function(*unwrap(args), **unwrap(kwargs)))
    found = function(source._known, *unwrap(args[1:]), **unwrap(kwargs))
    if found.size and not np.may_share_memory(found, source._known):
        return launch(function, *args, layout="K", **kwargs)
    result = ndarray(found, source._gpu)
    result._ready = source._ready
    return result


def unwrap(value: Any) -> Any:
    """Return `value` with every array in it replaced by its NumPy array."""
    if isinstance(value, ndarray):
        return value._now
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(item) for item in value)
    return {key: unwrap(item) for key, item in value.items()} if isinstance(value, dict) else value


def staged(host: np.ndarray) -> np.ndarray:
    """Return a copy of a host array in memory that the device can read at any time; takes the host's time."""
    _gpu.clock.advance(host.nbytes / _gpu.STAGE_B_S)
    return host.copy(order="K")


def refuse(value: Any) -> None:
    """Raise TypeError for host arrays, which CuPy's functions do not take."""
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        for item in value:
            refuse(item)


def _order(array: np.ndarray, order: str) -> str:
    """Return "C" or "F" for an order that may be "A": F only for what is contiguous that way alone."""
    if order.upper() not in {"C", "F", "A"}:
        raise ValueError(f"unsupported order: {order}")
    return ("F" if array.flags.f_contiguous else "C") if order.upper() == "A" else order.upper()


def _require_target(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
    if out.dtype != dtype:
        raise TypeError(f"{out.dtype} array cannot be obtained from {dtype} array")
    if out.shape != shape:
        raise ValueError(f"Shape mismatch. Expected shape: {shape}, actual shape: {out.shape}")
    if not (out.flags.c_contiguous or out.flags.f_contiguous):
        raise RuntimeError("`out` cannot be specified when copying to non-contiguous ndarray")


def _binary(name: str) -> None:
    """Give the array an operator, its mirror image and its in-place form."""
    ufunc = {"truediv": "true_divide", "floordiv": "floor_divide", "mod": "remainder", "mul": "multiply"}
    ufunc |= {"sub": "subtract", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
    function = getattr(np, ufunc.get(name, name))
    setattr(ndarray, f"__{name}__", lambda self, other: call(function, self, other))
    setattr(ndarray, f"__r{name}__", lambda self, other: call(function, other, self))
    setattr(ndarray, f"__i{name}__", lambda self, other: call(function, self, other, out=self))


def call(function: np.ufunc, *args: Any, **kwargs: Any) -> ndarray:
    """Launch a ufunc; products are CuPy's."""
    from cupy._core import _routines_linalg

    return launch(_routines_linalg._matmul if function is np.matmul else function, *args, **kwargs)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _binary(_name)
for _name, _ufunc in {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", lambda self, other, f=_ufunc: call(f, self, other))
for _name, _ufunc in {"neg": np.negative, "abs": np.absolute, "invert": np.invert}.items():
    setattr(ndarray, f"__{_name}__", lambda self, f=_ufunc: call(f, self))
ndarray.__hash__ = None  # as CuPy's: arrays compare elementwise
