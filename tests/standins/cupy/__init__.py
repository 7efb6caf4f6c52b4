"""A stand-in for CuPy over NumPy, for tests on machines without a GPU.

It offers only what CuPy documents (reference: https://docs.cupy.dev, "Comparison Table" and "API
Reference") and refuses what CuPy refuses: host arrays among device arrays, implicit conversion, arguments
that CuPy's functions lack. Results come late (see _gpu.py). To offer another function, look it up there
and add its name to one of the lists below.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as _np

from cupy import _array, _gpu
from cupy import _core as _core
from cupy import cublas as cublas
from cupy import cuda as cuda
from cupy._array import ndarray
from cupy._kernels import ElementwiseKernel as ElementwiseKernel
from cupy._kernels import RawKernel as RawKernel
from cupy._kernels import ReductionKernel as ReductionKernel
from cupy._kernels import fuse as fuse

__version__ = "14.0.1"

_CONSTANTS = """pi e inf nan newaxis bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64
    complex64 complex128 dtype finfo iinfo result_type promote_types can_cast broadcast_shapes"""
_UFUNCS = """add subtract multiply divide true_divide floor_divide remainder negative power square sqrt reciprocal
    exp expm1 log log1p log2 sin cos tanh sinh cosh arctan maximum minimum fmax fmin absolute sign floor ceil rint trunc
    greater greater_equal less less_equal equal not_equal logical_and logical_or logical_not isfinite isnan isinf
    bitwise_and bitwise_or bitwise_xor invert left_shift right_shift matmul logaddexp hypot copysign"""
_FUNCTIONS = """dot tensordot vdot inner outer einsum kron sum prod mean var std max min amax amin argmax argmin any all
    cumsum cumprod count_nonzero where clip take take_along_axis concatenate stack vstack hstack repeat tile roll flip
    pad tril triu sort argsort searchsorted bincount nan_to_num around round abs copy ascontiguousarray diff trace"""
_VIEWS = "reshape ravel transpose swapaxes moveaxis expand_dims squeeze broadcast_to atleast_1d atleast_2d diagonal"
_METHODS = "dot sum prod mean var std max min argmax argmin any all cumsum clip take repeat round"
_WITH_AT = {"add", "subtract", "maximum", "minimum"}  # cupy.ufunc.at has atomics for these alone
_WITHOUT_OUT = {"einsum"}  # as NumPy's but for this argument


class ufunc:  # noqa: N801 - CuPy's name
    """A universal function: `out` and `dtype`, no `where`; `at` for the few that have it."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self._numpy = getattr(_np, name)

    def __call__(self, *args: Any, **kwargs: Any) -> ndarray:
        if len(args) > self._numpy.nin:
            args, kwargs = args[: self._numpy.nin], {**kwargs, "out": args[self._numpy.nin]}
        return _array.call(self._numpy, *args, **kwargs)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.__name__ not in _WITH_AT:
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        _array._refuse([indices, b])
        a._gpu.launch(lambda: self._numpy.at(a._now, _array.unwrap(indices), _array.unwrap(b)))

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _array.launch(self._numpy.reduce, array, axis=axis, dtype=dtype, out=out, keepdims=keepdims)


def _function(name: str) -> Callable[..., ndarray]:
    def queued(*args: Any, **kwargs: Any) -> ndarray:
        if name in _WITHOUT_OUT and "out" in kwargs:
            raise TypeError(f"{name}() got an unexpected keyword argument 'out'")
        return _array.launch(getattr(_np, name), *args, **kwargs)

    queued.__name__ = name
    return queued


for _name in _CONSTANTS.split():
    globals()[_name] = getattr(_np, _name)
for _name in _UFUNCS.split():
    globals()[_name] = ufunc(_name)
for _name in _FUNCTIONS.split():
    globals()[_name] = _function(_name)
for _name in _VIEWS.split():
    globals()[_name] = partial(_array.view, getattr(_np, _name))
for _name in _METHODS.split():
    setattr(ndarray, _name, globals()[_name])


def array(
    obj: Any, dtype: Any = None, copy: bool = True, order: str = "K", subok: bool = False, ndmin: int = 0
) -> ndarray:
    """Return a device array from host data, other device arrays or numbers."""
    if isinstance(obj, ndarray):
        same = not copy and dtype in (None, obj.dtype)
        return obj if same else _array.launch(_np.array, obj, dtype=dtype, order=order)
    _gpu.clock.advance(_gpu.LAUNCH_S)
    host = _np.array(obj, dtype=dtype, order=order, ndmin=ndmin)
    _require_supported(host.dtype)
    return ndarray(host)


def _require_supported(dtype: Any) -> None:
    """Raise ValueError for a dtype without CUDA code in CuPy, such as the float8 that ml_dtypes gives to NumPy."""
    kind = _np.dtype(dtype)
    if kind.char not in "?bhilqBHILQefdFD" and kind.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {kind}")


def asarray(a: Any, dtype: Any = None, order: str = "K") -> ndarray:
    return array(a, dtype, copy=False, order=order)


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> _np.ndarray:
    """Return a host copy; waits."""
    return a.get(stream, order, out, blocking) if isinstance(a, ndarray) else _np.asarray(a, order=order)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Return an array of rubbish: NaN, or the largest number, so that using it shows."""
    kind = _np.dtype(dtype)
    _require_supported(kind)
    rubbish = _np.nan if kind.kind in "fc" else (kind.kind == "b" or _np.iinfo(kind).max)
    return ndarray(_np.full(shape, rubbish, kind, order=order))


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    result = empty(shape, dtype or _np.asarray(fill_value).dtype, order)
    result.fill(fill_value)
    return result


zeros = lambda shape, dtype=float, order="C": full(shape, 0, dtype, order)  # noqa: E731
ones = lambda shape, dtype=float, order="C": full(shape, 1, dtype, order)  # noqa: E731
empty_like = lambda a, dtype=None: empty(a.shape, dtype or a.dtype)  # noqa: E731
zeros_like = lambda a, dtype=None: zeros(a.shape, dtype or a.dtype)  # noqa: E731
ones_like = lambda a, dtype=None: ones(a.shape, dtype or a.dtype)  # noqa: E731
full_like = lambda a, value, dtype=None: full(a.shape, value, dtype or a.dtype)  # noqa: E731
arange = lambda *args, dtype=None: array(_np.arange(*args, dtype=dtype))  # noqa: E731
linspace = lambda *args, **kwargs: array(_np.linspace(*args, **kwargs))  # noqa: E731
eye = lambda *args, **kwargs: array(_np.eye(*args, **kwargs))  # noqa: E731


def copyto(dst: ndarray, src: Any, casting: str = "same_kind") -> None:
    _array._refuse([src])
    dst._gpu.launch(lambda: _np.copyto(dst._now, _array.unwrap(src), casting=casting))


def split(ary: ndarray, indices_or_sections: Any, axis: int = 0) -> list[ndarray]:
    return [ndarray(part) for part in _np.split(ary._now, indices_or_sections, axis)]


def allclose(a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08) -> ndarray:
    return _array.launch(_np.allclose, a, b, rtol=rtol, atol=atol)


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
    self: ndarray, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
) -> ndarray:
    _require_supported(dtype)
    if not copy and self.dtype == _np.dtype(dtype):
        return self
    return _array.launch(lambda a: a.astype(dtype, order=order), self)


def _axes(name: str) -> Callable[..., ndarray]:
    return lambda self, *args, **kwargs: _array.view(lambda a: getattr(a, name)(*args, **kwargs), self)


ndarray.astype = _astype
ndarray.copy = lambda self, order="C": _array.launch(lambda a: a.copy(order), self)
ndarray.flatten = lambda self, order="C": _array.launch(lambda a: a.flatten(order), self)
for _name in ("reshape", "ravel", "transpose", "swapaxes", "squeeze", "view"):
    setattr(ndarray, _name, _axes(_name))


class lib:  # noqa: N801 - CuPy's name
    class stride_tricks:  # noqa: N801
        as_strided = staticmethod(partial(_array.view, _np.lib.stride_tricks.as_strided))


def __getattr__(name: str) -> Any:
    raise AttributeError(f"the stand-in has no cupy.{name}: if CuPy documents it, add it to {__name__}/__init__.py")
