"""Pure functions on floats: quantiles, confidence intervals, means and tests.

Blocks of one process are correlated, so an interval over them describes only that process. compare/verdicts.py
decides what may be claimed from several processes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Self

CONFIDENCE = 0.95


def _special() -> Any:
    """Return scipy.special, imported on demand: it loads an OpenBLAS, whose threads must not run in a worker."""
    from scipy import special  # noqa: PLC0415

    return special


@dataclass(frozen=True, slots=True)
class Summary:
    """Order statistics of a sample, in the sample's own unit. `std` is None for one value.

    ci_low, ci_high: a confidence interval of the median. ci_level: its confidence, which is below the requested one if
    there are few values.
    """

    n: int
    mean: float
    std: float | None
    min: float
    p10: float
    p25: float
    median: float
    p75: float
    p90: float
    max: float
    ci_low: float
    ci_high: float
    ci_level: float


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the q-quantile of sorted values, linear between neighbours (Hyndman and Fan's type 7)."""
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median_interval(ordered: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return a distribution-free confidence interval for the median of sorted values.

    The order statistics (x_k, x_n+1-k) with the largest k whose binomial coverage is at least
    `confidence`; the whole range if n is too small for any (n < 6 at 0.95).
    Source: Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2.
    """
    n = len(ordered)
    tail, k = 0.0, 0
    while k < n // 2:
        # The binomial coefficient itself overflows beyond n = 1029.
        tail += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        if 2 * tail > 1 - confidence:
            break
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def summarise(values: Sequence[float], confidence: float = CONFIDENCE) -> Summary:
    """Return the summary of at least one finite value.

    Raises ValueError for an empty sample or a value that is not finite.
    """
    if not values or not all(math.isfinite(v) for v in values):
        raise ValueError(f"cannot summarise {len(values)} values: all must be finite, and there must be one")
    ordered = sorted(values)
    n = len(ordered)
    mean = math.fsum(ordered) / n
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in ordered) / (n - 1)) if n > 1 else None
    low, high = median_interval(ordered, confidence)
    # No interval covers the median more often than the whole range does: 50 % for n = 2, 93.75 % for n = 5.
    level = min(confidence, 1 - 2.0 ** (1 - n))
    p10, p25, median, p75, p90 = (quantile(ordered, q) for q in (0.1, 0.25, 0.5, 0.75, 0.9))
    return Summary(n, mean, std, ordered[0], p10, p25, median, p75, p90, ordered[-1], low, high, level)


def relative_half_width(values: Sequence[float], confidence: float = CONFIDENCE) -> float:
    """Return half the width of the median's confidence interval, relative to the median; inf for a median <= 0.

    Uses the normal approximation to the median's error from the interquartile range,
    1.25 * IQR / (1.35 * sqrt(n)) (McGill, Tukey and Larsen 1978), because order statistics are too
    coarse for a stopping rule at n = 10.
    """
    ordered = sorted(values)
    median = quantile(ordered, 0.5)
    if median <= 0:
        return math.inf
    spread = quantile(ordered, 0.75) - quantile(ordered, 0.25)
    return normal_quantile(0.5 + confidence / 2) * 1.25 * spread / (1.35 * math.sqrt(len(ordered))) / median


def geometric_mean(ratios: Sequence[float]) -> float:
    """Return the geometric mean of positive ratios; raises ValueError for none or for one <= 0."""
    if not ratios or min(ratios) <= 0:
        raise ValueError("the geometric mean needs at least one ratio, all of them positive")
    return math.exp(math.fsum(math.log(r) for r in ratios) / len(ratios))


def log_mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Student's t interval for the mean of the logarithms of at least two positive values, as ratios."""
    low, high = paired([math.log(v) for v in values]).interval(confidence)
    return exponential(low), exponential(high)


def exponential(logarithm: float) -> float:
    """Return exp(logarithm), with the logarithm limited to [-700, 700], so that the result is a finite float."""
    return math.exp(max(-700.0, min(logarithm, 700.0)))


@dataclass(frozen=True, slots=True)
class Moments:
    """The size, mean and sum of squared deviations of a sample of logarithms.

    They suffice for every t test. The sum of two Moments is that of the pooled sample.
    """

    n: int
    mean: float
    squares: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Moments:
        """Return the moments of at least one value."""
        if len(values) == 1:
            return cls(1, values[0], 0.0)
        mean = math.fsum(values) / len(values)
        return cls(len(values), mean, math.fsum((v - mean) ** 2 for v in values))

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        mean = (self.n * self.mean + other.n * other.mean) / n
        between = self.n * (self.mean - mean) ** 2 + other.n * (other.mean - mean) ** 2
        return Moments(n, mean, self.squares + other.squares + between)

    @property
    def variance(self) -> float:
        """The sample variance (denominator n - 1); at least two values are required."""
        return self.squares / (self.n - 1)


@functools.lru_cache(maxsize=1 << 12)
def _quantile(dof: float, tail: float) -> float:
    """Return a quantile of Student's t, for infinite `dof` of the normal distribution."""
    return NormalDist().inv_cdf(tail) if math.isinf(dof) else float(_special().stdtrit(dof, tail))


def normal_quantile(tail: float) -> float:
    """Return a quantile of the standard normal distribution."""
    return _quantile(math.inf, tail)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error and degrees of freedom; `dof` is infinite if the error is known beforehand."""

    mean: float
    error: float
    dof: float

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return Student's t interval; for infinite `dof` the normal one."""
        t = _quantile(self.dof, 0.5 + confidence / 2)
        return self.mean - t * self.error, self.mean + t * self.error

    def shifted(self, by: float) -> Self:
        """Return the estimate of what is larger by a known number."""
        return replace(self, mean=self.mean + by)

    def p(self) -> float:
        """Return the two-sided p-value of "the mean is zero"."""
        if self.error == 0:
            return 0.0 if self.mean else 1.0
        return 2 * float(_special().stdtr(self.dof, -abs(self.mean) / self.error))


def paired(differences: Sequence[float]) -> Estimate:
    """Return the mean of at least two paired differences (Student 1908)."""
    moments = Moments.of(differences)
    return Estimate(moments.mean, math.sqrt(moments.variance / moments.n), moments.n - 1)


def welch(first: Moments, second: Moments) -> Estimate:
    """Return the difference of means, second - first, of two samples with different variances.

    Degrees of freedom by Welch (1947) and Satterthwaite (1946).
    """
    parts = [m.variance / m.n for m in (first, second)]
    freedom = [m.n - 1 for m in (first, second)]
    return difference(second.mean - first.mean, parts, freedom)


def difference(mean: float, variances: Sequence[float], freedom: Sequence[float]) -> Estimate:
    """Return an estimate from the variances of its independent parts, each with its degrees of freedom."""
    total = math.fsum(variances)
    share = math.fsum(v**2 / dof for v, dof in zip(variances, freedom, strict=True))
    return Estimate(mean, math.sqrt(total), total**2 / share if share > 0 else math.inf)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values in the given order; rejecting those <= q keeps the false discovery rate at q.

    Source: Benjamini and Hochberg, J. R. Statist. Soc. B 57 (1995) 289-300.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    adjusted = [1.0] * len(p_values)
    least = 1.0
    for above, i in enumerate(order):
        least = min(least, p_values[i] * len(p_values) / (len(p_values) - above))
        adjusted[i] = least
    return adjusted
