"""Test whether the calls of a series were alike: two tests, for a trend and for alternation, on their seconds alone.

Each requires an effect and evidence. The effect: more than 5 %. The evidence: a rank statistic that is exceeded in less
than one of 2000 series of calls that are alike, whatever the distribution of their seconds (normal, skewed or bimodal).
Quartiles that do not overlap would be no evidence: those of three against three calls are apart by chance in every
third series.

Noise that comes in stretches is distinguished from a trend only if the series is many stretches long. Otherwise its
calls do get slower or faster, and that is what the flag says.

Neither test detects work left out in every third call, or in random calls; a change that ended before the first block
(warm-up), or that comes and goes within the series.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import combinations
from statistics import median

CHANGE = 0.05  # share of a call's time
_RARE = 3.5  # standard deviations that a normal statistic exceeds, in either direction, once in 2000
_PIECES = 30  # a trend is computed from at most this many values, because it compares every pair of them
_FEWEST, _TIMES = 3, 2.0  # three calls of a kind are enough if each takes twice as long as any of the other kind


def has_trend(seconds: Sequence[float]) -> bool:
    """Return whether calls get slower or faster by more than 5 % over the series. seconds: undisturbed blocks in order.

    The change is estimated from the medians of the first and the last third, whose centres are two thirds of the
    series apart. The rank statistic is Mann's (Kendall's tau of seconds and order; Mann 1945), of the medians of up to
    30 pieces: in a long series a piece is longer than most stretches of noise. With fewer than nine blocks, no order is
    rare enough.
    """
    n = len(seconds)
    third = n // 3
    if not third:
        return False
    first, last = seconds[:third], seconds[-third:]
    change = abs(median(last) - median(first)) * n / (n - third)
    if change <= CHANGE * median(seconds):
        return False
    size = math.ceil(n / _PIECES)
    return abs(_tau_score([median(seconds[i : i + size]) for i in range(0, n - size + 1, size)])) > _RARE


def alternates(odd: Sequence[float], even: Sequence[float]) -> bool:
    """Return whether every second call differs from its neighbours by more than 5 % of the slower kind.

    odd, even: seconds of the calls with odd and with even numbers.

    The rank statistic is Wilcoxon's (1945), which can be rare enough from nine against nine calls on. There are fewer
    long calls, so three against three are enough if each of one kind takes twice as long as any of the other.
    """
    if min(len(odd), len(even)) < _FEWEST:
        return False
    medians = median(odd), median(even)
    if abs(medians[0] - medians[1]) <= CHANGE * max(medians):
        return False
    far = min(odd) > _TIMES * max(even) or min(even) > _TIMES * max(odd)
    return far or abs(_rank_score(odd, even)) > _RARE


def _tau_score(values: Sequence[float]) -> float:
    """Return rising minus falling pairs, in standard deviations of that number for values in random order.

    Ties only make it smaller.
    """
    n = len(values)
    rising = sum((a < b) - (a > b) for a, b in combinations(values, 2))
    return rising / math.sqrt(max(1, n * (n - 1) * (2 * n + 5)) / 18)


def _rank_score(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the excess of the first group's ranks over those in random order, in standard deviations.

    Ties only make it smaller.
    """
    ordered = sorted(second)
    above = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in first) / 2
    pairs = len(first) * len(second)
    return (above - pairs / 2) / math.sqrt(pairs * (len(first) + len(second) + 1) / 12)
