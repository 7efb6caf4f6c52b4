"""Where the level of a series steps: E-divisive on normal scores, with Student's t-test.

A series is split where the energy distance between what is before and after is largest, and its parts likewise
(E-divisive: Matteson and James, J. Am. Stat. Assoc. 109 (2014) 334-345). Whether a split is a step is decided by
Student's t instead of permutations, at first generously; then the weakest splits are removed until all that remain are
significant between their neighbours. That order finds steps that are near each other (Hunter: Fleming, Kolaczkowski et
al., ICPE 2023, whose successor is Apache Otava).

Other than there, neither sees the values themselves: they see the normal scores of their ranks (van der Waerden 1952),
taken anew among the values that a test is about. So for independent runs the false alarms are the same whatever the
distribution of their noise: normal, log-normal, of heavy tails, with slow outliers. A t-test of normal scores
loses nothing to one of normal values, and gains where tails are heavy (Chernoff and Savage, Ann. Math. Stat. 29 (1958)
972-994). The price: one run cannot be a step, however large, nor can two; FEWEST can.

A p-value is multiplied by the number of places where the step could have been (Bonferroni), and is never below the
probability that independent values happen to be separated perfectly, and where most values are alike that of Fisher's
exact test. So at ALPHA a step needs at least 3 runs on its short side in a series of 19, 4 of 12, 5 of 11 or 6 of 11; a
series of less than 11 runs has no step. At NEW_ALPHA these are 3 of 36, 4 of 14, 5 of 12.

A drift is no step: a straight line must not explain a series better.

What is called at ALPHA, by `python -m tests.native.changes --seed 1`: 1000 series of each kind, 250 of those of 200
runs. Tests repeat a part of it. False steps in a steady series, by the number of runs:

    noise                             12      20      60      200
    normal                            0.010   0.010   0.008   0.012
    Student's t, 3 d.f.               0.011   0.015   0.017   0.016
    log-normal                        0.013   0.010   0.008   0.012
    5 % of runs slow by 10 s.d.       0.011   0.022   0.011   0.000
    not independent: AR(1), 0.3       0.062   0.069   0.186   0.328

Share of planted steps found within 2 runs. In the first two rows the noise has this standard deviation; in the others
it is a unit of the distribution, and that of t is 1.7 times, of log-normal noise 2.2 times as large:

    step at noise, runs               normal  t       log-normal  5 % slow
    5 % at 2 %, 40 + 20               0.976   0.981   0.991       0.989
    10 % at 5 %, 40 + 20              0.920   0.961   0.984       0.988
    5 % at 2 %, 40 + 20               0.976   0.890   0.899       0.916
    10 % at 5 %, 40 + 20              0.920   0.754   0.822       0.833
    3 % at 2 %, 100 + 100             0.820   0.756   0.824       0.748
    10 % at 2 %, last 5 of 60         0.974   0.924   0.776       0.571
    10 % at 2 %, last 3 of 60         0.908   0.539   0.193       0.095
    two of 5 % at 2 %, 20 + 20 + 20   0.950   0.748   0.750       0.776

So at one standard deviation 95 % of steps of 5 % at 2 % and 85 % of those of 10 % at 5 % are found, with at most 0.05
false ones in a steady series, whatever the tails. Not so where runs depend on the runs before them. A drift of 20 % at
2 % over 60 runs is called a step in 6 % of series, one of 5 %, which hardly differs from one, in 39 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, groupby, pairwise
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from bench_core import stats

ALPHA = 0.03  # of a steady series
NEW_ALPHA = 0.02  # of a look for a new regression: there are many looks at a series
RECENT = 10  # runs since the step of a new regression
FEWEST = 3  # values on each side of a step
_WITHIN = 5.5  # of the log-likelihood of the best place of a step: 3.7 are enough for normal noise
_GENEROUS = 0.1  # p-value, of one place, up to which a series is split at first
_MANY = 1000  # values of which any separation is improbable
_BLOCK = 1 << 20  # distances that are in memory at a time

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Change:
    """A step of a series.

    index: of the first value of the new level. earliest, latest: between which, both included, the true index lies
    with a probability of 95 % or more (range_of_step). before, after: the medians of the levels on both sides, each as
    far as the next change, in the unit of the series. p_value: at most this share of steady series of this length has
    a step as clear as this one, anywhere.
    """

    index: int
    earliest: int
    latest: int
    before: float
    after: float
    p_value: float


def change_points(values: Sequence[float], *, alpha: float = ALPHA) -> tuple[Change, ...]:
    """Return the steps of a series of run medians in the order of time.

    alpha: the share of steady series that may have a step by chance.

    Raises ValueError for a value that is not finite, and for an alpha that is not between 0 and 1.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1 or not np.isfinite(series).all():
        raise ValueError("change points are of a list of finite numbers")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: must be between 0 and 1")
    return _Search(series, alpha).changes()


def new_regression(
    values: Sequence[float],
    *,
    better: Literal["higher", "lower"],
    alpha: float = NEW_ALPHA,
    recent: int = RECENT,
) -> Change | None:
    """Return the last step of a series if it is for the worse and at most `recent` runs old, else None.

    Meant to be called after every run. A step is seen at the earliest when FEWEST runs have followed it, and only as
    long as the last FEWEST are nearer to the new level: what was mended since is no regression.

    better: which values are better. alpha: as of `change_points`, for one look.

    Raises ValueError as `change_points` does, and if `better` is neither word.
    """
    if better not in {"higher", "lower"}:
        raise ValueError(f"better={better!r}: must be higher or lower")
    found = change_points(values, alpha=alpha)
    if not found or found[-1].index < len(values) - recent:
        return None
    last = found[-1]
    sign = 1 if better == "lower" else -1
    now = float(np.median(values[-FEWEST:]))
    there = sign * now > sign * (last.before + last.after) / 2
    return last if there and sign * last.after > sign * last.before else None


def is_possible(n: int, alpha: float = ALPHA, recent: int | None = None) -> bool:
    """Return whether a series of n values can have a step: even a perfect separation may be too likely.

    recent: of the new level there are at most so many values; None for any number.
    """
    side = n // 2 if recent is None else min(n // 2, recent)
    return side >= FEWEST and (n >= _MANY or (n - 2 * FEWEST + 1) * 2 / math.comb(n, side) <= alpha)


def fewest_runs(alpha: float = ALPHA, recent: int | None = None) -> int:
    """Return the length of the shortest series that can have a step. recent: as of `is_possible`."""
    return next(n for n in count() if is_possible(n, alpha, recent))


class _Search:
    """The search for the steps of one series; a part of it is a pair of places, a split three."""

    def __init__(self, series: Floats, alpha: float) -> None:
        self._series = series
        self._alpha = alpha
        self._places = max(1, len(series) - 2 * FEWEST + 1)
        self._known: dict[tuple[int, int, int], float] = {}

    def changes(self) -> tuple[Change, ...]:
        if len(self._series) < 2 * FEWEST:
            return ()
        found = self._without_weakest(self._generous(), self._weak)
        found = self._without_weakest(self._settled(found), self._weak)
        found = self._without_drifts(self._without_weakest(found, self._drifts))
        levels = self._levels(found)
        splits = self._splits(found)
        ranges = [self._range(*split) for split in splits]
        p_values = (min(1.0, self._places * self._p(*split)) for split in splits)
        return tuple(
            Change(place, *around, *both, p)
            for place, around, both, p in zip(found, ranges, pairwise(levels), p_values, strict=True)
        )

    def _ends(self, found: Sequence[int]) -> list[int]:
        return [0, *found, len(self._series)]

    def _levels(self, found: Sequence[int]) -> list[float]:
        return [float(np.median(self._series[a:b])) for a, b in pairwise(self._ends(found))]

    def _splits(self, found: Sequence[int]) -> list[tuple[int, int, int]]:
        """Return each place between its neighbours."""
        ends = self._ends(found)
        return list(zip(ends, ends[1:], ends[2:], strict=False))

    def _generous(self) -> list[int]:
        """Return where the series is split at first."""
        found, parts = [], [(0, len(self._series))]
        while parts:
            start, end = parts.pop()
            if end - start >= 2 * FEWEST:
                place = start + farthest(normal_scores(self._series[start:end]))
                if self._p(start, place, end) <= _GENEROUS:
                    found.append(place)
                    parts += [(start, place), (place, end)]
        return sorted(found)

    def _settled(self, found: Sequence[int]) -> list[int]:
        """Return each place moved to the best one between its neighbours, by values: scores blur where a step is."""
        moved, ends = [0], self._ends(found)
        for place, end in zip(found, ends[2:], strict=True):
            start = moved[-1]
            moved.append(start + farthest(drawn_in(self._series[start:end], [place - start])))
        return moved[1:]

    def _p(self, start: int, place: int, end: int) -> float:
        split = (start, place, end)
        if split not in self._known:
            self._known[split] = p_of_step(self._series[start:end], place - start)
        return self._known[split]

    def _range(self, start: int, place: int, end: int) -> tuple[int, int]:
        earliest, latest = range_of_step(self._series[start:end], place - start)
        return start + earliest, start + latest

    def _weak(self, start: int, place: int, end: int) -> bool:
        return self._places * self._p(start, place, end) > self._alpha

    def _drifts(self, start: int, place: int, end: int) -> bool:
        return self._weak(start, place, end) or is_drift(self._series[start:end], [place - start])

    def _without_weakest(self, found: list[int], fails: Callable[[int, int, int], bool]) -> list[int]:
        """Remove the weakest of the places that fail, one after another: each gives its neighbours more runs."""
        while failed := [split for split in self._splits(found) if fails(*split)]:
            weakest = max(failed, key=lambda split: self._p(*split))
            found = [place for place in found if place != weakest[1]]
        return found

    def _without_drifts(self, found: list[int]) -> list[int]:
        """Remove several steps in one direction, one after another, that a line explains as well."""
        ends, kept = self._ends(found), list[int]()
        levels = self._levels(found)
        for _, group in groupby(range(len(found)), key=lambda i: levels[i + 1] > levels[i]):
            run = list(group)
            start, end = ends[run[0]], ends[run[-1] + 2]
            places = [found[i] for i in run]
            if len(run) == 1 or not is_drift(self._series[start:end], [place - start for place in places]):
                kept += places
        return kept


def normal_scores(values: Floats) -> Floats:
    """Return for each value the normal quantile of its rank; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2
    quantile = NormalDist().inv_cdf
    return np.array([quantile(rank) for rank in (ranks / (len(values) + 1)).tolist()])


def farthest(x: Floats) -> int:
    """Return the split of at least 2 * FEWEST values into two parts of the largest energy distance."""
    n = len(x)
    before, every = np.empty(n), np.empty(n)  # sums of the distances of each value to those before it, and to all
    rows = max(1, _BLOCK // n)
    for first in range(0, n, rows):
        distances = np.abs(x[first : first + rows, None] - x)
        every[first : first + rows] = distances.sum(axis=1)
        before[first : first + rows] = np.tril(distances, first).sum(axis=1)
    left = np.arange(FEWEST, n - FEWEST + 1)
    right = n - left
    within_left = np.cumsum(before)[left - 1]
    between = np.cumsum(every)[left - 1] - 2 * within_left
    within_right = before.sum() - within_left - between
    means = between / (left * right), within_left / (left * (left - 1)), within_right / (right * (right - 1))
    return int(left[np.argmax(left * right / n * (means[0] - means[1] - means[2]))])


def p_of_step(values: Floats, place: int) -> float:
    """Return the two-sided p-value of a step at a place that was known beforehand.

    It is that of Student's t-test of normal scores, but at least the probability of a perfect separation.
    """
    n = len(values)
    scores = normal_scores(values)
    difference = float(scores[place:].mean() - scores[:place].mean())
    between = difference**2 * place * (n - place) / n
    total = float(((scores - scores.mean()) ** 2).sum())
    within = total - between if between < (1 - 1e-12) * total else 0.0
    error = math.sqrt(within / (n - 2) * n / (place * (n - place)))
    separated = _p_of_separation(values, place) if n < _MANY else 0.0
    return max(separated, stats.Estimate(difference if total else 0.0, error, n - 2).p())


def _p_of_separation(values: Floats, place: int) -> float:
    """Return the two-sided probability that independent values are separated perfectly at a place.

    Where most of them are one value, it is that of the others being on one side as unevenly as they are (Fisher's exact
    test): of values without noise two that are alike are separated by far, and mean no more than two others.
    """
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if 2 * counts.max() <= n:
        return 2 / math.comb(n, place)
    others = values != distinct[counts.argmax()]
    k, side = int(others.sum()), n - place
    there = int(others[place:].sum())
    if there * n < k * side:
        there, side = k - there, place
    tail = sum(math.comb(side, i) * math.comb(n - side, k - i) for i in range(there, min(side, k) + 1))
    return min(1.0, 2 * tail / math.comb(n, k))


def range_of_step(values: Floats, place: int) -> tuple[int, int]:
    """Return the first and the last place where a step may be that was found at a place.

    They are those that explain the values nearly as well: whose log-likelihood is at most _WITHIN less, for normal
    noise of a standard deviation that the best place leaves. Outliers are drawn in. With normal noise that set contains
    the place of a large step with a probability of about (1 - exp(-_WITHIN)) ** 2 (Siegmund, Int. Stat. Rev. 56 (1988)
    31-48). With heavy tails it is less, and by that _WITHIN was chosen. By `python -m tests.native.changes`, five kinds
    of steps: 0.996 to 1.0 for normal noise, 0.976 to 1.0 for Student's t of 3 degrees of freedom, 0.959 to 0.984 for
    log-normal noise, 0.914 to 0.981 where 5 % of runs are slow by 10 standard deviations: the least of a new level of 5
    runs. A step of 5 % at 2 % noise has a range of 4 runs, 8 with heavy tails.
    """
    x = drawn_in(values, [place])
    n = len(x)
    left = np.arange(1, n)
    sums = np.cumsum(x - x.mean())[:-1]
    explained = sums**2 * n / (left * (n - left))
    best = max(float(explained[place - 1]), float(explained[FEWEST - 1 : n - FEWEST].max()))
    noise = max(float(((x - x.mean()) ** 2).sum()) - best, 0.0) / (n - 2)
    likely = left[best - explained <= 2 * _WITHIN * noise]
    return int(likely.min(initial=place)), int(likely.max(initial=place))


def is_drift(values: Floats, places: Sequence[int]) -> bool:
    """Tell whether a line explains values about as well as steps at some places.

    By least squares, with outliers drawn in: ranks would hide how sharp a large step is. Steps have more
    parameters than a line, and their places were chosen: they must explain more by 1 variance of the noise, and by 4
    for each step after the first.
    """
    drawn = drawn_in(values, places)
    levels = np.split(drawn, places)
    n, mean = len(drawn), drawn.mean()
    by_steps = sum(len(level) * (level.mean() - mean) ** 2 for level in levels)
    times = np.arange(n) - (n - 1) / 2
    by_line = (times @ (drawn - mean)) ** 2 / (times @ times)
    noise = (((drawn - mean) ** 2).sum() - by_steps) / max(1, n - len(places) - 1)
    return bool(by_steps - by_line < (4 * len(places) - 3) * noise)


def drawn_in(values: Floats, places: Sequence[int]) -> Floats:
    """Return values with those drawn in that are more than 3 standard deviations beyond the levels between places.

    Levels are medians; the standard deviation is estimated by the median deviation from them.
    """
    levels = np.split(values, places)
    medians = [float(np.median(level)) for level in levels]
    deviations = [np.abs(level - median) for level, median in zip(levels, medians, strict=True)]
    reach = 3 * 1.4826 * float(np.median(np.concatenate(deviations)))
    return np.clip(values, min(medians) - reach, max(medians) + reach)
