"""Does a backend wait for its device when it says so? If not, its times are of the launch alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from time import perf_counter

import numpy as np

from bench_core.backends.base import Backend
from bench_core.workload import Call


@functools.lru_cache(maxsize=1)
def left_over(backend: Backend) -> float | None:
    """Return the seconds of work that `synchronize` did not wait for, None if it waits.

    It is asked once of a backend, by work that takes longer on the device than to launch: products of
    1024 x 1024 in float32.
    """
    backend.set_precision("ieee")
    a = backend.from_host(np.ones((1024, 1024), np.float32))
    backend.to_host(a @ a)  # the library of products is loaded before the proof
    return unfinished(lambda: a @ a, 30, backend)


def unfinished(run: Call, calls: int, backend: Backend, now: Callable[[], float] = perf_counter) -> float | None:
    """Return the seconds of work left over when the backend said that all was done; None if it kept its word.

    run: queues work on the device and returns its result there, an array.

    A copy to the host has to wait for the result. So the first copy after a synchronisation must not
    take longer than the second. If it does, by more than half of what the calls claimed to take, in each
    of three tries, then `synchronize` does not wait.
    """
    least = math.inf
    for _ in range(3):
        backend.synchronize()
        start = now()
        for _ in range(calls):
            result = run()
        backend.synchronize()
        claimed = now()
        backend.to_host(result)
        first_copy = now()
        backend.to_host(result)
        left = (first_copy - claimed) - (now() - first_copy)
        if left < (claimed - start) / 2 + 50e-6:  # a copy's own jitter is tens of microseconds
            return None
        least = min(least, left)
    return least
