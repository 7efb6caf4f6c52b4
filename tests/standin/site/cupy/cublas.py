"""cupy.cublas: BLAS on vectors."""

from __future__ import annotations

import numpy as np

from cupy import _array


def dot(x: _array.ndarray, y: _array.ndarray, out: _array.ndarray | None = None) -> _array.ndarray:
    """Return the sum of x y; ValueError and TypeError as CuPy's."""
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"x must be a 1D array (actual: {x.ndim})")
    if x.size != y.size or x.dtype != y.dtype:
        raise TypeError("x and y must be the same size and dtype")
    if x.dtype.char not in "fd":
        raise TypeError("invalid dtype")
    return _array.launch(np.dot, x, y, out=out)
