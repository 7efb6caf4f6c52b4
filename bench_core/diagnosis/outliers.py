"""Which of N numbers are out of line with the others, however many are.

Each number is that of a node. Most nodes are healthy, and their numbers are nearly normal; some are not. A node is
judged against the healthy ones without itself, by Student's t for one new value of a normal sample (a prediction
interval). Which nodes are healthy is found by clipping: the median and the median absolute deviation, which up to half
of the nodes cannot move far (Hampel, J. Am. Stat. Assoc. 69 (1974) 383-393), then mean and standard deviation of what
is within CUT of them, until nothing changes.

Clipping makes the standard deviation of normal numbers too small, so it is multiplied by what that takes away. Of few
numbers, normal ones are often clipped that are not far out; the error of a prediction is wider by a factor for that,
which was simulated: 120,000 normal numbers of each size, p-values from 0.001 to 0.01 (`python -m tests.native.fleets`).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from bench_core import stats

CUT = 2.5  # standard deviations within which a number is one of the healthy
FEWEST = 3  # healthy numbers besides the one that is judged
_WIDER = ((5, 2.0), (8, 1.75), (12, 1.6), (16, 1.45), (20, 1.25), (30, 1.11), (50, 1.05), (100, 1.02))  # by size
_TO_SIGMA = 1 / NormalDist().inv_cdf(0.75)  # of a median absolute deviation
_ROUNDS = 20  # of clipping; it ends after two to four as a rule, and could alternate

Floats = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def places(values: Floats, floor: float = 0.0) -> list[stats.Estimate | None]:
    """Return how far each number is from the centre of the healthy others, with the error of a healthy number.

    None for a number with fewer than FEWEST healthy others. values: at least one, all finite. floor: the least standard
    deviation that is assumed, in their unit: where numbers agree exactly, any other would be out of line.
    """
    healthy = core(values, floor)
    return [_place(values, i, healthy, floor) for i in range(len(values))]


def core(values: Floats, floor: float = 0.0) -> Mask:
    """Return which numbers are healthy."""
    centre = float(np.median(values))
    spread = _TO_SIGMA * float(np.median(np.abs(values - centre)))
    kept = np.zeros(len(values), np.bool_)
    for _ in range(_ROUNDS):
        within = np.abs(values - centre) <= CUT * max(spread, floor)
        if (within == kept).all():
            break
        kept = within
        centre = float(values[kept].mean())
        spread = _spread(values[kept])
    return kept


def _spread(healthy: Floats) -> float:
    """Return the standard deviation of numbers that were clipped."""
    return _UNCLIPPED * float(healthy.std(ddof=1)) if len(healthy) > 1 else 0.0


def _place(values: Floats, i: int, healthy: Mask, floor: float) -> stats.Estimate | None:
    others = healthy.copy()
    others[i] = False
    n = int(others.sum())
    if n < FEWEST:
        return None
    error = max(_spread(values[others]) * _wider(len(values)), floor) * math.sqrt(1 + 1 / n)
    return stats.Estimate(float(values[i] - values[others].mean()), error, n - 1)


def _wider(size: int) -> float:
    """Return by what the error of a prediction is multiplied for numbers that may have been clipped by chance."""
    sizes, factors = zip(*reversed(_WIDER), strict=True)
    return float(np.interp(1 / size, [1 / n for n in sizes], factors))


def _unclipped() -> float:
    """Return by what the standard deviation of normal numbers within CUT must be multiplied."""
    normal = NormalDist()
    return 1 / math.sqrt(1 - 2 * CUT * normal.pdf(CUT) / (2 * normal.cdf(CUT) - 1))


_UNCLIPPED = _unclipped()
