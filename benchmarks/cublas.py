"""Batched products by cuBLAS, called from CuPy without what `cupy.matmul` does around them.

`cupy.matmul` computes batches in IEEE float32 or float64 only, and it first copies every operand that is not
C-contiguous: a transposed matrix of attention scores, or a KV cache of which only the first tokens are used. cuBLAS
itself reads transposed matrices and matrices with gaps between them, multiplies 16-bit formats, and scales the product.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

Array = Any  # a cupy.ndarray

TYPES = {"float16": "CUDA_R_16F", "bfloat16": "CUDA_R_16BF", "float32": "CUDA_R_32F", "float64": "CUDA_R_64F"}


def batched_product(
    cupy: Any, a: Array, b: Array, out: Array | None = None, *, scale: float = 1, tf32: bool = False
) -> Array:
    """Return scale * (a b) (..., m, n) for a (..., m, k) and b (..., k, n), with the same leading axes.

    a, b: float16, bfloat16, float32 or float64, both of one dtype, in any layout; copied only if cuBLAS cannot read it.
    out: C-contiguous, allocated if it is None. Sums are float32, of float64 operands float64. tf32: round float32
    operands to TF32.
    """
    cublas, runtime = cupy.cuda.cublas, cupy.cuda.runtime
    lead, m, n, k = a.shape[:-2], a.shape[-2], b.shape[-1], a.shape[-1]
    out = cupy.empty((*lead, m, n), a.dtype) if out is None else out
    if (a.dtype, b.shape, out.shape) != (b.dtype, (*lead, k, n), (*lead, m, n)) or not out.flags.c_contiguous:
        raise ValueError(f"no product of {a.dtype}{a.shape} and {b.dtype}{b.shape} into {out.shape}")
    wide = a.dtype == np.float64
    compute = cublas.CUBLAS_COMPUTE_64F if wide else cublas.CUBLAS_COMPUTE_32F
    if tf32:
        compute = cublas.CUBLAS_COMPUTE_32F_FAST_TF32
    kind = getattr(runtime, TYPES[a.dtype.name])
    # Read by the call, before it returns: numbers on the host, in the type in which cuBLAS computes.
    alpha, beta = (np.array(number, np.float64 if wide else np.float32) for number in (scale, 0))
    a, b = readable(cupy, a), readable(cupy, b)
    (transpose_a, leading_a, stride_a), (transpose_b, leading_b, stride_b) = _required(a), _required(b)
    # cuBLAS stores matrices column by column. Read so, a row-major matrix is its transpose. C^T = B^T A^T gives the
    # row-major C: the operands change places, and so do m and n.
    cublas.gemmStridedBatchedEx(
        cupy.cuda.Device().cublas_handle, transpose_b, transpose_a, n, m, k, alpha.ctypes.data,
        b.data.ptr, kind, leading_b, stride_b, a.data.ptr, kind, leading_a, stride_a, beta.ctypes.data,
        out.data.ptr, kind, n, m * n, math.prod(lead), compute, cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip
    return out


def readable(cupy: Any, array: Array) -> Array:
    """Return an array of matrices (..., rows, columns) as it is if cuBLAS can read it so, else a C-contiguous copy."""
    return cupy.ascontiguousarray(array) if _layout(array) is None else array


def _required(array: Array) -> tuple[int, int, int]:
    layout = _layout(array)
    assert layout, "a C-contiguous array has a layout"
    return layout


def _layout(array: Array) -> tuple[int, int, int] | None:
    """Return how cuBLAS can read matrices (..., rows, columns), None if it cannot.

    Whether each is stored as its transpose (0 or 1), the elements between the starts of two rows (if transposed: of two
    columns), and those between two matrices.
    """
    strides = [stride // array.itemsize for stride in array.strides]
    (rows, columns), (down, along) = array.shape[-2:], strides[-2:]
    step = _only_stride(array.shape[:-2], strides[:-2])
    if step is None:
        return None
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        return 0, max(down, columns) if rows > 1 else columns, step
    if (down == 1 or rows == 1) and (along >= rows or columns == 1):
        return 1, max(along, rows) if columns > 1 else rows, step
    return None


def _only_stride(shape: tuple[int, ...], strides: list[int]) -> int | None:
    """Return the distance of two neighbours along axes that can be read as one; None if they cannot."""
    axes = [(length, stride) for length, stride in zip(shape, strides, strict=True) if length > 1]
    for (_, outer), (length, inner) in pairwise(axes):
        if outer != length * inner:
            return None
    return axes[-1][1] if axes else 0
