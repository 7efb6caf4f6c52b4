"""Binary units of bytes, the notation of sizes in labels, and the sizes of elements."""

from __future__ import annotations

import numpy as np

KIB, MIB = 1 << 10, 1 << 20
# Random numbers that are drawn for a long array, and then repeated. It is prime, so that no two rows of a matrix are
# equal.
PERIOD = 1_000_003
_NOT_IN_NUMPY = {"float8_e4m3fn": 1, "float8_e5m2": 1, "bfloat16": 2}  # sizes of elements in bytes


def size_label(size: int) -> str:
    """Return a number of bytes as whole MiB if it is at least 1 MiB, else as KiB: "256MiB", "4KiB"."""
    return f"{size // MIB}MiB" if size >= MIB else f"{size // KIB}KiB"


def itemsize(dtype: str) -> int:
    """Return the size of an element in bytes, also for formats that NumPy lacks."""
    return _NOT_IN_NUMPY.get(dtype) or np.dtype(dtype).itemsize
