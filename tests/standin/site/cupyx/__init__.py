"""cupyx: what CuPy adds to NumPy's interface."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
from cupy import _gpu


def scatter_add(a: cupy.ndarray, slices: Any, value: Any) -> None:
    cupy.add.at(a, slices, value)


rsqrt = cupy.ufunc("rsqrt", lambda x, **kwargs: np.divide(1, np.sqrt(x), **kwargs))


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    return _gpu.pin(np.empty(shape, dtype, order))


def zeros_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    return _gpu.pin(np.zeros(shape, dtype, order))


def empty_like_pinned(a: Any, dtype: Any = None, order: str = "K", subok: None = None, shape: Any = None) -> np.ndarray:
    like = a._known if isinstance(a, cupy.ndarray) else a
    return _gpu.pin(np.empty_like(like, dtype, order, subok=False, shape=shape))


__all__ = ["empty_like_pinned", "empty_pinned", "rsqrt", "scatter_add", "zeros_pinned"]
