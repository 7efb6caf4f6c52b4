"""Compute types: how float32 products are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np

COMPUTE_TYPE_DEFAULT = 1
COMPUTE_TYPE_TF32 = 7

_chosen = {"float32": COMPUTE_TYPE_DEFAULT}


def set_compute_type(dtype: Any, compute_type: int) -> None:
    _chosen[np.dtype(dtype).name] = compute_type


def _rounds_to_tf32() -> bool:
    return _chosen["float32"] == COMPUTE_TYPE_TF32


def _matmul(a: np.ndarray, b: np.ndarray, **kwargs: Any) -> np.ndarray:
    """Multiply; in TF32 with the factors rounded to its 10 bits of mantissa, where they are float32.

    Batches are not rounded: CuPy's matmul asks cuBLAS for IEEE arithmetic where a factor has three dimensions.
    The product has the type of its factors, of bfloat16 too, which NumPy widens.
    """
    if _rounds_to_tf32() and max(a.ndim, b.ndim) <= 2:
        a, b = _rounded(a), _rounded(b)
    product = np.matmul(a, b, **kwargs)
    return product if kwargs else product.astype(np.promote_types(a.dtype, b.dtype), copy=False)


def _rounded(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
