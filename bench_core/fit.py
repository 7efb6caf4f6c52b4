"""Latency and bandwidth from a sweep of sizes: the least-squares line through time over bytes.

The model is time = a + bytes / b (Hockney 1994): a is the time of moving nothing, b the bandwidth of very
long moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench_core.stats import Estimate

FEWEST = 3  # sizes: two parameters, and one more to judge them by
POOR = 0.25  # residuals above 25 % of a time flag the fit `poor_fit`


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds at no bytes, seconds per byte, and the largest share by which a point is off the line."""

    latency: Estimate
    slope: Estimate
    residual: float


def line(sizes: Sequence[float], seconds: Sequence[float]) -> Line | None:
    """Return the line of best fit, or None for fewer than three points or a slope that is not positive.

    sizes: bytes. Points are weighted by 1 / seconds^2: the noise of a time is a share of it, and without the
    weights the largest size alone would decide. The estimates have n - 2 degrees of freedom. The latency may
    come out negative where the sizes are too large to show it.
    """
    n = len(sizes)
    if n < FEWEST or min(seconds) <= 0:
        return None
    points = [(1 / t**2, x, t) for x, t in zip(sizes, seconds, strict=True)]
    total = math.fsum(w for w, _, _ in points)
    x_mean = math.fsum(w * x for w, x, _ in points) / total
    t_mean = math.fsum(w * t for w, _, t in points) / total
    spread = math.fsum(w * (x - x_mean) ** 2 for w, x, _ in points)
    slope = math.fsum(w * (x - x_mean) * (t - t_mean) for w, x, t in points) / spread if spread else 0.0
    if slope <= 0:
        return None
    start = t_mean - slope * x_mean
    residuals = [(start + slope * x - t) / t for _, x, t in points]
    variance = math.fsum(r**2 for r in residuals) / (n - 2)
    return Line(
        Estimate(start, math.sqrt(variance * (1 / total + x_mean**2 / spread)), n - 2),
        Estimate(slope, math.sqrt(variance / spread), n - 2),
        max(map(abs, residuals)),
    )
