"""Blocks of arrays that stay in a core's cache, computed on several host threads.

A NumPy expression writes a temporary array for each of its operations and reads it back for the next one. If the array
is larger than the cache, each of these passes goes through memory. In blocks, all operations run on one part of the
array while it is in the cache, so memory is read and written once. NumPy computes on one thread, but releases the GIL:
the blocks can be shared out among several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import threadpoolctl

from ...sizes import KIB
from ...threads import in_parallel

# Bytes of one array's part in a block. A few such parts fit in an L2 cache of 1 or 2 MiB. Measured on a core with
# 1 MiB: 256 KiB to 1 MiB are within 10 % of each other; with 64 KiB, Python's time per call shows.
BLOCK = 512 * KIB


def in_blocks(threads: int, function: Callable[[slice], Any], length: int, itemsize: int) -> list[Any]:
    """Call function(part) for consecutive parts of an axis, on `threads` threads, and return the results in order.

    length: of the axis. itemsize: bytes that an array has for each entry of the axis. The function must not depend on
    other parts. If it multiplies matrices, BLAS uses one thread for each part.
    """
    step = max(1, BLOCK // itemsize)
    return on_threads(threads, [partial(function, slice(i, i + step)) for i in range(0, length, step)])


def on_threads(threads: int, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run independent tasks on `threads` threads, in each of which BLAS uses one; return their results in order.

    A single task keeps all of BLAS's threads.
    """
    if len(tasks) == 1 or threads == 1:
        return [task() for task in tasks]
    with one_blas_thread(threads):
        return in_parallel(threads, tasks)


@contextmanager
def one_blas_thread(threads: int) -> Iterator[None]:
    """Let BLAS use one thread for each caller, and `threads` again afterwards."""
    libraries = _blas()
    for library in libraries:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library in libraries:
            library.set_num_threads(threads)


@cache
def _blas() -> list[Any]:
    """Return the controllers of the BLAS libraries of this process; finding them takes milliseconds."""
    return [lib for lib in threadpoolctl.ThreadpoolController().lib_controllers if lib.user_api == "blas"]
