"""A stand-in for CuPy over NumPy, for tests on machines without a GPU.

It offers only what CuPy documents (reference: https://docs.cupy.dev, "Comparison Table" and "API
Reference") and refuses what CuPy refuses: host arrays among device arrays, implicit conversion, arguments
that CuPy's functions lack. Results come late (see _gpu.py). To offer another function, look it up there
and add it to one of the lists below or in _signatures.py; tests/standin/test_cupy_api.py compares them with
CuPy itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as _np

from cupy import _array, _gpu, _signatures
from cupy import _core as _core
from cupy import cuda as cuda
from cupy._array import ndarray
from cupy._kernels import ElementwiseKernel as ElementwiseKernel
from cupy._kernels import RawKernel as RawKernel
from cupy._kernels import ReductionKernel as ReductionKernel
from cupy._kernels import fuse as fuse

__version__ = "14.2.0"

_CONSTANTS = """pi e inf nan newaxis bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64
    complex64 complex128 dtype finfo iinfo result_type promote_types can_cast broadcast_shapes"""
_UFUNCS = """add subtract multiply divide true_divide floor_divide remainder negative power square sqrt reciprocal
    exp expm1 log log1p log2 sin cos tanh sinh cosh arctan maximum minimum fmax fmin absolute sign floor ceil rint trunc
    greater greater_equal less less_equal equal not_equal logical_and logical_or logical_not isfinite isnan isinf
    bitwise_and bitwise_or bitwise_xor invert left_shift right_shift matmul logaddexp hypot copysign"""
# cupy.ufunc.at has atomics for these alone.
_WITH_AT = {"add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"}
_WITH_REDUCE = {"add", "multiply"}
_UFUNC_ARGUMENTS = {"out", "casting", "dtype"}
_MATMUL_ARGUMENTS = {"axes", "axis", "keepdims", "casting", "dtype", "signature", "order", "out"}


class ufunc:  # noqa: N801 - CuPy's name
    """A universal function: no `where`; `at` and `reduce` for the few that have them."""

    def __init__(self, name: str, function: Any = None) -> None:
        self.__name__ = name
        self._numpy = function or getattr(_np, name)
        self.nin = getattr(self._numpy, "nin", 1)

    def __call__(self, *args: Any, **kwargs: Any) -> ndarray:
        if len(args) > self.nin:
            args, kwargs = args[: self.nin], {**kwargs, "out": args[self.nin]}
        if wrong := kwargs.keys() - (_MATMUL_ARGUMENTS if self._numpy is _np.matmul else _UFUNC_ARGUMENTS):
            raise TypeError(f"Wrong arguments {wrong}")
        return _array.call(self._numpy, *args, **kwargs)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.__name__ not in _WITH_AT:
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        _array.refuse([indices, b])
        _gpu.gpu().lane.launch(lambda: self._numpy.at(a._now, _array.unwrap(indices), _array.unwrap(b)))

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        if self.__name__ not in _WITH_REDUCE:
            raise NotImplementedError(f"`{self.__name__}.reduce` is not supported yet")
        return _array.launch(self._numpy.reduce, array, axis=axis, dtype=dtype, out=out, keepdims=keepdims)


_KEEP_LAYOUT = {"copy"}


def _offered(text: str, how: Callable[..., Any], source: Any = _np) -> dict[str, Callable[..., Any]]:
    """Return the functions of a list of signatures; `how` calls those that `source` has by the same names."""

    def made(name: str, signature: inspect.Signature) -> Callable[..., Any]:
        layout = {"layout": "K"} if name in _KEEP_LAYOUT else {}

        def offered(*args: Any, **kwargs: Any) -> Any:
            positional, named = _signatures.bound(signature, name, args, kwargs)
            return how(getattr(source, name), *positional, **named, **layout)

        offered.__name__, offered.__signature__ = name, signature
        return offered

    return {name: made(name, signature) for name, signature in _signatures.parsed(text).items()}


for _name in _CONSTANTS.split():
    globals()[_name] = getattr(_np, _name)
for _name in _UFUNCS.split():
    globals()[_name] = ufunc(_name)
globals()["abs"] = globals()["absolute"]
globals().update(_offered(_signatures.FUNCTIONS, _array.launch), **_offered(_signatures.VIEWS, _array.view))
for _name, _method in _offered(_signatures.METHODS, _array.launch).items():
    setattr(ndarray, _name, _method)
for _name, _method in _offered(_signatures.VIEW_METHODS, _array.view, _np.ndarray).items():
    setattr(ndarray, _name, _method)


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str | None = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    """Return a device array from host data, other device arrays or numbers.

    Host data is copied to pinned memory first, unless it lies there, and from there asynchronously in the current
    stream. So the host's array may be changed at once if it is pageable, but not if it is pinned.
    """
    if subok:
        raise NotImplementedError
    if isinstance(obj, ndarray):
        result = _astype(obj, obj.dtype if dtype is None else dtype, order or "K", copy=copy)
        return result[(None,) * (ndmin - result.ndim)] if ndmin > result.ndim else result
    host = _np.array(obj, dtype=dtype, copy=None, ndmin=ndmin)
    _require_supported(host.dtype)
    layout = _layout(host, order or "K")
    result = empty(host.shape, host.dtype, layout)
    if not host.ndim:
        result.fill(host[()])
        return result
    at_once = _gpu.is_pinned(host) and host.flags[f"{layout}_CONTIGUOUS"]
    source = host if at_once else _array.staged(host)
    lane = _gpu.gpu().lane
    lane.copy(lambda: _np.copyto(result._now, source), host.nbytes)
    if blocking:
        lane.synchronize()
    return result


def _layout(host: _np.ndarray, order: str) -> str:
    """Return "C" or "F": "K" and "A" keep F where a host array is contiguous that way alone."""
    return ("F" if host.flags.fnc else "C") if order in "KA" else order


def _require_supported(dtype: Any) -> None:
    """Raise ValueError for a dtype without CUDA code in CuPy, such as the float8 that ml_dtypes gives to NumPy.

    Plain bytes are refused too, which CuPy only keeps and copies: nothing here needs them.
    """
    kind = _np.dtype(dtype)
    if kind.char not in "?bhilqBHILQefdFD" and kind.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {kind}")


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None, blocking: bool = False
) -> ndarray:
    return array(a, dtype, copy, order, blocking=blocking)


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> _np.ndarray:
    """Return a host copy."""
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else _np.asarray(a, order=order)


def _rubbish(dtype: _np.dtype[Any]) -> Any:
    """Return NaN, or the largest number, so that using what nobody wrote shows."""
    if dtype.kind in "fc" or dtype.name == "bfloat16":  # whose kind is "V"
        return _np.nan
    return dtype.kind == "b" or _np.iinfo(dtype).max


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Return an array of rubbish."""
    kind = _np.dtype(dtype)
    _require_supported(kind)
    _gpu.gpu().pool._require(int(_np.prod(shape, dtype=object)) * kind.itemsize)
    return ndarray(_np.full(shape, _rubbish(kind), kind, order=order))


def empty_like(prototype: ndarray, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None) -> Any:
    """Return an array of rubbish that lies in memory as `prototype` does."""
    if subok is not None:
        raise TypeError("subok is not supported yet")
    kind = prototype.dtype if dtype is None else _np.dtype(dtype)
    _require_supported(kind)
    like = _np.empty_like(prototype._known, kind, order, subok=False, shape=shape)
    like.fill(_rubbish(kind))
    return ndarray(like)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    result = empty(shape, dtype or _np.asarray(fill_value).dtype, order)
    result.fill(fill_value)
    return result


def full_like(
    a: ndarray, fill_value: Any, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None
) -> ndarray:
    result = empty_like(a, dtype, order, subok, shape)
    result.fill(fill_value)
    return result


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 0, dtype, order)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 1, dtype, order)


def zeros_like(a: ndarray, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None) -> ndarray:
    return full_like(a, 0, dtype, order, subok, shape)


def ones_like(a: ndarray, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None) -> ndarray:
    return full_like(a, 1, dtype, order, subok, shape)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    return _array.launch(lambda: _np.arange(*((start,) if stop is None else (start, stop, step)), dtype=dtype))


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> ndarray:
    if retstep:
        raise NotImplementedError("the stand-in's linspace tells no step")
    return _array.launch(lambda: _np.linspace(start, stop, num, endpoint=endpoint, dtype=dtype, axis=axis))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float, order: str = "C") -> ndarray:  # noqa: N803
    return _array.launch(lambda: _np.eye(N, M, k, dtype, order), layout="K")


def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    _array.refuse([src, where])
    mask = True if where is None else where
    operation = lambda: _np.copyto(dst._now, _array.unwrap(src), casting=casting, where=_array.unwrap(mask))  # noqa: E731
    _gpu.gpu().lane.launch(operation)


def split(ary: ndarray, indices_or_sections: Any, axis: int = 0) -> list[ndarray]:
    parts = len(_np.split(ary._known, indices_or_sections, axis))
    cut = lambda array, part: _np.split(array, indices_or_sections, axis)[part]  # noqa: E731
    return [_array.view(cut, ary, part) for part in range(parts)]


def get_array_module(*args: Any) -> Any:
    import cupy

    return cupy if any(isinstance(a, ndarray) for a in args) else _np


def get_default_memory_pool() -> _gpu.Pool:
    return _gpu.gpu().pool


class _PinnedPool:
    free_all_blocks = staticmethod(lambda: None)
    n_free_blocks = staticmethod(lambda: 0)


get_default_pinned_memory_pool = _PinnedPool


def _astype(
    self: ndarray, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool | None = True
) -> ndarray:
    """Return a copy in another type, laid out as the array is for order "K"; the array itself if nothing changes."""
    _require_supported(dtype)
    flags = self.flags
    kept = {"C": flags.c_contiguous, "F": flags.f_contiguous}.get(order.upper(), True)
    if not copy and kept and self.dtype == _np.dtype(dtype):
        return self
    return _array.launch(lambda a: a.astype(dtype, order=order), self, layout="K")


def _copy(self: ndarray, order: str = "C") -> ndarray:
    return _array.launch(lambda a: a.copy(order), self, layout="K")


def _flatten(self: ndarray, order: str = "C") -> ndarray:
    return _array.launch(lambda a: a.flatten(order), self)


ndarray.astype, ndarray.copy, ndarray.flatten = _astype, _copy, _flatten


class lib:  # noqa: N801 - CuPy's name
    class stride_tricks:  # noqa: N801
        @staticmethod
        def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
            return _array.view(_np.lib.stride_tricks.as_strided, x, shape, strides)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"the stand-in has no cupy.{name}: if CuPy documents it, add it to {__name__}/__init__.py")
