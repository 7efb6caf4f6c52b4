"""Which calls would take a CPU so long that they are not begun.

CPUs without instructions for a format compute it element by element, up to thousands of times slower than the next
wider one, and what a GPU does in a moment can take a CPU minutes in any format.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from bench_core.workload import Backend, TooSlow

LONGEST_CALL_S = 3.0  # longest predicted call
_SIDE = 256  # of the matrices of `product_rate`


def require_short(seconds: float, call: str) -> None:
    """Raise TooSlow if `call` is predicted to take longer than LONGEST_CALL_S."""
    if seconds > LONGEST_CALL_S:
        raise TooSlow(f"{call} would take about {seconds:.0f} s on this CPU")


def product_rate(backend: Backend, dtype: str) -> float:
    """Return the FLOP/s of a product of two small matrices in a format: the better of two, since the first is cold."""
    square = backend.from_host(np.ones((_SIDE, _SIDE), np.float32), dtype)
    times = []
    for _ in range(2):
        start = perf_counter()
        square @ square
        times.append(perf_counter() - start)
    return 2.0 * _SIDE**3 / min(times)
