"""Limits for calls that would take a CPU too long; they are not started.

A CPU without instructions for a format computes it element by element, up to thousands of times slower than the next
wider format. And in any format, a CPU can need minutes for a call that a GPU finishes in milliseconds.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from bench_core.workload import Backend, TooSlow, finish

LONGEST_CALL_S = 3.0  # longest predicted time of a call, in seconds
_SIDE = 256  # rows and columns of the matrices in `product_rate`
_RUNS = 5  # products per measurement of a rate; one that is disturbed must not make a format look slower than float32


def require_short(seconds: float, call: str) -> None:
    """Raise TooSlow if `call` is predicted to take longer than LONGEST_CALL_S."""
    if seconds > LONGEST_CALL_S:
        raise TooSlow(f"{call} would take about {seconds:.0f} s on this CPU")


def product_rate(backend: Backend, dtype: str) -> float:
    """Return the FLOP/s of a product of two small matrices in a format: the fastest of _RUNS runs, the first cold."""
    square = backend.from_host(np.ones((_SIDE, _SIDE), np.float32), dtype)
    times = []
    for _ in range(_RUNS):
        start = perf_counter()
        finish(backend, square @ square)
        times.append(perf_counter() - start)
    return 2.0 * _SIDE**3 / min(times)
