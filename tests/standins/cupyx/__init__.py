"""cupyx: what CuPy adds to NumPy's interface."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np


def scatter_add(a: cupy.ndarray, slices: Any, value: Any) -> None:
    cupy.add.at(a, slices, value)


def rsqrt(x: cupy.ndarray, out: cupy.ndarray | None = None) -> cupy.ndarray:
    return cupy.divide(1, cupy.sqrt(x), out=out)


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    return np.empty(shape, dtype, order)


def zeros_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    return np.zeros(shape, dtype, order)


def empty_like_pinned(a: Any, dtype: Any = None) -> np.ndarray:
    return np.empty(a.shape, dtype or a.dtype)


__all__ = ["empty_like_pinned", "empty_pinned", "rsqrt", "scatter_add", "zeros_pinned"]
