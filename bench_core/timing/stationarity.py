"""Are the calls of a series alike? Two signs that they are not, judged from their seconds alone.

Each asks for an effect and for proof. The effect: more than 5 %. The proof: calls that are alike, in whatever order,
show a rank statistic as large less than once in two thousand series, whatever the distribution of their seconds
(normal, skewed or of two speeds). Quartiles that do not overlap would be no proof: those of three against three are
apart by chance in every third series.

Noise that comes in stretches is told from a trend only if the series is many stretches long. Otherwise its calls do get
slower or faster, and that is what the flag says.

What neither sees: work left out in every third call, or in calls at random; a change that was over before the first
block (warm-up), or that comes and goes within the series.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import combinations
from statistics import median

CHANGE = 0.05  # share of a call's time
_RARE = 3.5  # standard deviations of a normal statistic: beyond them, on either side, lies one in two thousand
_PIECES = 30  # a trend is looked for among so many values at most: every pair of them is compared
_FEWEST, _TIMES = 3, 2.0  # so few calls of a kind are enough where each takes twice as long as any of the other kind


def has_trend(seconds: Sequence[float]) -> bool:
    """Whether calls get slower or faster, in seconds of undisturbed blocks in order, by more than 5 % over all of them.

    By how much is estimated from the medians of the first and the last third, whose centres lie two thirds of the
    series apart. The rank statistic is Mann's (Kendall's tau of seconds and order; Mann 1945) of the medians of up to
    30 pieces: in longer series a piece is longer than most stretches of noise. Of fewer than nine blocks no order is
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
    """Whether every second call differs from its neighbours by more than 5 % of the slower kind, in seconds.

    The rank statistic is Wilcoxon's (1945), which is rare enough from nine against nine on. So that long calls, of
    which there are fewer, are not let off: three against three are enough where each of one kind takes twice as long as
    any of the other.
    """
    if min(len(odd), len(even)) < _FEWEST:
        return False
    medians = median(odd), median(even)
    if abs(medians[0] - medians[1]) <= CHANGE * max(medians):
        return False
    far = min(odd) > _TIMES * max(even) or min(even) > _TIMES * max(odd)
    return far or abs(_rank_score(odd, even)) > _RARE


def _tau_score(values: Sequence[float]) -> float:
    """Return how many more pairs rise than fall, in standard deviations of that of values in random order.

    Ties only make it smaller.
    """
    n = len(values)
    rising = sum((a < b) - (a > b) for a, b in combinations(values, 2))
    return rising / math.sqrt(max(1, n * (n - 1) * (2 * n + 5)) / 18)


def _rank_score(first: Sequence[float], second: Sequence[float]) -> float:
    """Return by how much the first group's ranks are above those of random order, in standard deviations.

    Ties only make it smaller.
    """
    ordered = sorted(second)
    above = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in first) / 2
    pairs = len(first) * len(second)
    return (above - pairs / 2) / math.sqrt(pairs * (len(first) + len(second) + 1) / 12)
