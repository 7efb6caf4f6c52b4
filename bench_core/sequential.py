"""Intervals and tests of a median that stay valid whenever measuring stops, whatever made it stop.

Each value is of one process. Of independent values with median m, the signs of x - m are fair coins, so their sum S
after n values is a symmetric random walk, whatever the distribution: log-normal, skewed, of two speeds. The interval
from the k-th smallest to the k-th largest value misses m exactly if |S| >= n - 2k + 2 (the sign test: Conover,
Practical Nonparametric Statistics, 3rd ed., section 3.4). Values are looked at only at LOOKS. The limits of |S| at all
looks are chosen together, so that the walk reaches any of them with a probability of at most 5 %: a repeated
significance test (Armitage, McPherson and Rowe, J. R. Statist. Soc. A 132 (1969) 235-244) with the same |S| / sqrt(n)
at each look (Pocock, Biometrika 64 (1977) 191-199). That probability is computed exactly, by carrying the distribution
of the walk from look to look. As it is of all looks together, an interval is valid at whichever look measuring ends
(repeated confidence intervals: Jennison and Turnbull, J. R. Statist. Soc. B 51 (1989) 305-361).

Equal values are allowed: they make intervals wider and p larger than needed, never the opposite. Only independence is
assumed: where a machine drifts, the values of one process say something of the next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Self

from bench_core import stats

# Numbers of values at which they are looked at. Of 250 schedules that grow by about 1.4, this has some of the narrowest
# intervals: the limits are whole numbers, and these waste little of the 5 %. Six values alone would use 3 % of it.
LOOKS = (7, 10, 14, 21, 32, 48)
FIRST, LAST = LOOKS[0], LOOKS[-1]


def look(n: int) -> int:
    """Return the last look at or before n values, 0 if there is none."""
    place = bisect_right(LOOKS, n)
    return LOOKS[place - 1] if place else 0


def next_look(n: int) -> int | None:
    """Return the first look after n values, None after the last."""
    place = bisect_right(LOOKS, n)
    return LOOKS[place] if place < len(LOOKS) else None


def interval(values: Sequence[float], confidence: float = stats.CONFIDENCE) -> tuple[float, float] | None:
    """Return an interval for the median of values in the order of their measurement; None before the first look.

    It is that of the last look. What the intervals of all looks have in common would be narrower, and as valid before
    it is seen; but measuring would stop more often just when that is narrow by chance. Values after a look count at the
    next one. Also None if `confidence` is so high that even the smallest and the largest value do not have it.
    """
    looked = [(n, limit) for n, limit in zip(LOOKS, boundary(confidence), strict=True) if n <= len(values)]
    return _between(values[: looked[-1][0]], looked[-1][1]) if looked else None


def between_processes(values: Sequence[float], *, in_sequence: bool) -> tuple[float, float] | None:
    """Return the interval of what several processes found, one value each; None if there is none yet.

    It is Student's t interval of their logarithms, the whole range if a value has none. in_sequence: whether the values
    decided how many there are; it is then `interval`.
    """
    if in_sequence:
        return interval(values)
    return stats.log_mean_interval(values) if min(values) > 0 else (min(values), max(values))


def p_of_zero(values: Sequence[float]) -> float:
    """Return the p-value of "the median is zero", which is valid whenever measuring stops; 1.0 before the first look.

    It is the probability that the walk reaches, at any of the looks, the largest |S| / sqrt(n) seen so far.
    """
    return _reached(max((_trend(values[:n]) / math.sqrt(n) for n in LOOKS if n <= len(values)), default=0.0))


@dataclass(frozen=True, slots=True)
class Median:
    """The median of values in the order of their measurement, as an estimate of a logarithm of a ratio.

    mean: their median, which takes the place of the mean of a `stats.Estimate`.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return stats.quantile(sorted(self.values), 0.5)

    def interval(self, confidence: float = stats.CONFIDENCE) -> tuple[float, float]:
        """Return the interval, infinite if there is none; it contains `mean`."""
        low, high = interval(self.values, confidence) or (-math.inf, math.inf)
        return min(low, self.mean), max(high, self.mean)

    def p(self) -> float:
        """Return the p-value of "the median is zero"."""
        return p_of_zero(self.values)

    def shifted(self, by: float) -> Self:
        """Return the estimate of what is larger by a known number."""
        return replace(self, values=tuple(value + by for value in self.values))


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of the medians of two sides that are not paired, second - first, as `Median` is.

    Half of the error is given to each side, so the interval is from one end of one side's to the other end of the
    other's (Bonferroni).
    """

    first: Median
    second: Median

    @property
    def mean(self) -> float:
        return self.second.mean - self.first.mean

    def interval(self, confidence: float = stats.CONFIDENCE) -> tuple[float, float]:
        """Return the interval, infinite if a side has none."""
        (a, b), (c, d) = (side.interval(1 - (1 - confidence) / 2) for side in (self.first, self.second))
        return c - b, d - a

    def p(self) -> float:
        """Return the p-value of "the medians are equal": twice that of the narrowest intervals that lie apart."""
        sides = [(side.values[: look(len(side.values))], look(len(side.values))) for side in (self.first, self.second)]
        if not all(n for _, n in sides):
            return 1.0
        for z in reversed(_distances()):
            first, second = (_between(values, _limit(n, z)) for values, n in sides)
            if first and second and (first[1] < second[0] or second[1] < first[0]):
                return min(1.0, 2 * _reached(z))
        return 1.0

    def shifted(self, by: float) -> Self:
        """Return the estimate of what is larger by a known number."""
        return replace(self, second=self.second.shifted(by))


def _between(values: Sequence[float], limit: int) -> tuple[float, float] | None:
    """Return the interval that misses the median if the walk reaches `limit`; None if n values cannot."""
    n = len(values)
    k = (n - limit) // 2 + 1
    ordered = sorted(values)
    return (ordered[k - 1], ordered[n - k]) if k >= 1 else None


def _trend(values: Sequence[float]) -> int:
    """Return |S| for a median of zero. A value of zero counts against the trend, which no fair coin does less often."""
    below, above = sum(value <= 0 for value in values), sum(value >= 0 for value in values)
    return max(len(values) - 2 * below, len(values) - 2 * above, 0)


def crossing(limits: Sequence[int]) -> float:
    """Return the probability that a symmetric random walk reaches the limit of |S| at any of the looks."""
    walk, reached = defaultdict(float, {0: 1.0}), 0.0
    for (before, n), limit in zip(pairwise((0, *LOOKS)), limits, strict=True):
        for _ in range(n - before):
            step = defaultdict[int, float](float)
            for s, share in walk.items():
                step[s - 1] += share / 2
                step[s + 1] += share / 2
            walk = step
        reached += math.fsum(walk.pop(s) for s in list(walk) if abs(s) >= limit)
    return reached


@lru_cache(maxsize=64)
def boundary(confidence: float = stats.CONFIDENCE) -> tuple[int, ...]:
    """Return the limit of |S| at each look, n + 2 where it cannot be reached.

    It is the smallest |S| / sqrt(n) that all looks can have together. What whole numbers leave of the error is spent at
    the earliest looks, at which most values end.
    """
    error = 1 - confidence
    z = next((z for z in _distances() if _reached(z) <= error), math.inf)
    limits = [_limit(n, z) for n in LOOKS]
    for i, limit in enumerate(limits):
        lower = [*limits[:i], limit - 2, *limits[i + 1 :]]
        if limit > 2 and crossing(lower) <= error:
            limits = lower
    return tuple(limits)


@lru_cache(maxsize=1)
def _distances() -> tuple[float, ...]:
    """Return every |S| / sqrt(n) that there is at a look, the smallest first."""
    return tuple(sorted({s / math.sqrt(n) for n in LOOKS for s in range(n % 2, n + 1, 2)}))


@lru_cache(maxsize=1024)
def _reached(z: float) -> float:
    """Return the probability that |S| / sqrt(n) is z or more at any look."""
    return min(1.0, crossing([_limit(n, z) for n in LOOKS]))


def _limit(n: int, z: float) -> int:
    """Return the smallest |S| of n steps that is at least z sqrt(n), n + 2 if there is none."""
    return next((s for s in range(n % 2, n + 1, 2) if s >= z * math.sqrt(n) - 1e-9), n + 2)
