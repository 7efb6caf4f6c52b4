"""cupy.cuda.cublas: the library's own interface, with pointers and column-major matrices."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from cupy import _gpu
from cupy._core import _routines_linalg

# From library_types.h and cublas_api.h.
_DATA_TYPES = {"CUDA_R_32F": 0, "CUDA_R_64F": 1, "CUDA_R_16F": 2, "CUDA_R_16BF": 14}
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 70, 77
CUBLAS_GEMM_DEFAULT = -1
_HANDLE = 1


def getVersion(handle: int) -> int:  # noqa: N802 - CuPy's name
    return 130002


def gemmStridedBatchedEx(  # noqa: N802, PLR0917 - CuPy's
    handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, A: int, Atype: int, lda: int,  # noqa: N803
    strideA: int, B: int, Btype: int, ldb: int, strideB: int, beta: int, C: int, Ctype: int, ldc: int, strideC: int,  # noqa: N803
    batchCount: int, computeType: int, algo: int,  # noqa: N803
) -> None:  # fmt: skip
    """C = alpha op(A) op(B) + beta C for every matrix, all stored column by column; C (m, n), op(A) (m, k)."""
    wide = Atype == _DATA_TYPES["CUDA_R_64F"]
    tf32 = computeType == CUBLAS_COMPUTE_32F_FAST_TF32
    _require(handle == _HANDLE and Atype == Btype == Ctype and algo == CUBLAS_GEMM_DEFAULT)
    _require(computeType == CUBLAS_COMPUTE_64F if wide else computeType == CUBLAS_COMPUTE_32F or tf32)
    _require(not tf32 or Atype == _DATA_TYPES["CUDA_R_32F"])
    _require(lda >= max(1, k if transa else m) and ldb >= max(1, n if transb else k) and ldc >= max(1, m))
    scale, keep = (_host_number(pointer, wide=wide) for pointer in (alpha, beta))
    a, b = (_matrices(pointer, kind, leading, step, batchCount, (rows, columns))
            for pointer, kind, leading, step, rows, columns in (
                (A, Atype, lda, strideA, *((k, m) if transa else (m, k))),
                (B, Btype, ldb, strideB, *((n, k) if transb else (k, n)))))  # fmt: skip
    c = _matrices(C, Ctype, ldc, strideC, batchCount, (m, n))

    def multiply() -> None:
        left, right = (each.swapaxes(-1, -2) if turned else each for each, turned in ((a, transa), (b, transb)))
        if tf32:
            left, right = _routines_linalg._rounded(left), _routines_linalg._rounded(right)
        sums = left.dtype if wide else np.dtype(np.float32)  # 16-bit factors are exact in it
        product = scale * (left.astype(sums) @ right.astype(sums))
        c[...] = (product + keep * c.astype(sums) if keep else product).astype(c.dtype)

    _gpu.gpu().lane.launch(multiply)


def _require(condition: bool) -> None:
    if not condition:
        raise RuntimeError("CUBLAS_STATUS_INVALID_VALUE")


def _host_number(pointer: int, *, wide: bool) -> Any:
    return (ctypes.c_double if wide else ctypes.c_float).from_address(pointer).value


def _dtype(kind: int) -> np.dtype[Any]:
    name = {number: name for name, number in _DATA_TYPES.items()}[kind]
    if name == "CUDA_R_16BF":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(f"f{int(name[-3:-1]) // 8}")


def _matrices(pointer: int, kind: int, leading: int, step: int, count: int, shape: tuple[int, int]) -> np.ndarray:
    """Return column-major matrices in the memory that a pointer leads to; all of them must lie in one array."""
    owner, dtype = _gpu.gpu().pool._owner(pointer), _dtype(kind)
    rows, columns = shape
    last = (count - 1) * step + (columns - 1) * leading + rows
    start = pointer - owner.ctypes.data
    if start + last * dtype.itemsize > owner.nbytes:
        raise MemoryError("cudaErrorIllegalAddress: the matrices reach beyond their array")
    strides = (step * dtype.itemsize, dtype.itemsize, leading * dtype.itemsize)
    flat = owner.reshape(-1, order="A").view(np.uint8).view()  # the whole allocation, as bytes
    return np.ndarray((count, rows, columns), dtype, flat, start, strides)
