"""Judge the nodes of a fleet by the logarithms of what each run of each node took for each piece of work.

Work is judged in groups: all of it, each family, each piece. In a group

1. the value of every work is taken relative to the fleet: to the median over nodes of the node's median over runs;
2. a run has one score, the weighted lower quartile over the works of the group: three quarters of them took longer.
   What disturbs a run for some seconds makes some works slower and none faster, so the quartile is steadier than the
   median (on a shared computer by half). Quiet works weigh more;
3. a node has one number, the mean of the scores of its runs without the slowest third: one disturbed run of three does
   not move it;
4. a node is slow or fast if its number is out of line with the healthy nodes (outliers.py), by at least `least`, if the
   error of its own runs does not explain that, and if each of its runs (of five or more, all but one in five) differs
   by `least` as well, and so many of the runs of the other nodes do not, that it would hardly have all of these runs if
   runs were dealt to nodes. What disturbs a run makes it slower; a normal distribution does not know that. A node of
   fewer than FEWEST_RUNS runs is not judged: one run says more about its moment than about the node.

Nothing is drawn at random: the same runs have the same verdict.

The false alarms: the p-value that is needed is ALARM_RATE by parts: 15 % are for all work, 75 % are shared by the
families and 10 % by the pieces of work, equally (Bonferroni), and of each part 90 % are for slow nodes. So at most
ALARM_RATE of healthy nodes are called slow or fast in anything, if healthy nodes differ normally or only as their runs
do, however their works depend on each other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from bench_core import stats
from bench_core.diagnosis.outliers import FEWEST, Floats, core, places
from bench_core.diagnosis.result import GroupKind, Standing

ALARM_RATE = 0.01
LEAST = 0.02  # boards of one kind differ by as much
FEWEST_RUNS = 3
FEWEST_NODES = 5
_SHARES: Mapping[GroupKind, float] = {"all": 0.15, "family": 0.75, "work": 0.1}
_OF_SLOW = 0.9
_FLOOR = 0.001  # healthy nodes are assumed to differ by that much at least
_HEAVIEST = 3.0  # weight of a work by that of the median one
QUARTILE = 0.25
_SLOWEST = 3  # runs of which the slowest is left out
_STRAYS = 5  # runs of which one may differ less
_ALMOST = 0.99  # the doubt of a node that is far out, but not surely


@dataclass(frozen=True, slots=True)
class Members:
    """The works of a group, as rows of the array of values."""

    kind: GroupKind
    works: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A node in a group; logarithms. low, high: the interval of `difference`. See result.Finding."""

    difference: float
    low: float
    high: float
    runs: int
    standing: Standing
    doubt: float


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A group: the spread of its healthy nodes, and its nodes by their number; those without values are missing."""

    spread: float
    nodes: Mapping[int, Judged]


def judge(values: Floats, groups: Sequence[Members], least: float = LEAST) -> list[Verdicts]:
    """Return the verdicts of each group.

    values: natural logarithms, larger is slower; axes work, node, run; NaN where there is none, as for nodes with fewer
    runs than others. least: the share by which a node must differ.
    """
    centred = _relative(values)
    quiet = _weights(centred)
    alphas = _alphas(groups)
    return [
        _judge(_scores(centred[list(group.works)], quiet[list(group.works)]), alphas[group.kind], math.log1p(least))
        for group in groups
    ]


def fewest_runs(groups: Sequence[Members], nodes: int) -> dict[GroupKind, int]:
    """Return how many runs of each node are needed for anything to be called slow in a group of each kind.

    With fewer, a node would be dealt the slowest runs of all too often. nodes: FEWEST_NODES or more.
    """
    found = {}
    for kind, alpha in _alphas(groups).items():
        allowed = _of_side(alpha, 1.0)
        found[kind] = next(
            n for n in count(FEWEST_RUNS) if _p_of_runs(np.ones(n), np.zeros((nodes - 1) * n)) <= allowed
        )
    return found


def _alphas(groups: Sequence[Members]) -> dict[GroupKind, float]:
    """Return the p-value that a group of each kind needs, slow and fast together."""
    kinds = [group.kind for group in groups]
    there = {kind: share for kind, share in _SHARES.items() if kind in kinds}
    whole = sum(there.values())
    return {kind: ALARM_RATE * share / whole / kinds.count(kind) for kind, share in there.items()}


def _of_side(alpha: float, difference: float) -> float:
    """Return the one-sided p-value that a slower or a faster node needs."""
    return alpha * (_OF_SLOW if difference > 0 else 1 - _OF_SLOW)


def _relative(values: Floats) -> Floats:
    """Return the values relative to the fleet, work by work."""
    by_node = _median(values, axis=2)
    centred: Floats = values - _median(by_node, axis=1)[:, None, None]
    return centred


def _weights(centred: Floats) -> Floats:
    """Return the weight of each work: the inverse of how far typical runs are from the fleet in it."""
    spread = _median(np.abs(centred).reshape(len(centred), -1), axis=1)
    typical = float(np.nanmedian(spread)) if np.isfinite(spread).any() else 0.0
    weights = np.minimum(typical / np.maximum(spread, 1e-9), _HEAVIEST)
    known: Floats = np.where(np.isfinite(weights) & (weights > 0), weights, 1.0)
    return known


def _scores(centred: Floats, weights: Floats) -> Floats:
    """Return the score of each run; NaN for one that lacks half of the works by weight. Axes: node, run."""
    if len(centred) == 1:
        alone: Floats = centred[0]
        return alone
    order = np.argsort(centred, axis=0)  # NaN last
    ordered = np.take_along_axis(centred, order, axis=0)
    there = np.where(np.isnan(ordered), 0.0, weights[order])
    below = np.cumsum(there, axis=0)
    first = np.argmax(below >= QUARTILE * below[-1], axis=0)
    scores: Floats = np.take_along_axis(ordered, first[None], axis=0)[0]
    return np.where(below[-1] >= weights.sum() / 2, scores, np.nan)


@dataclass(frozen=True, slots=True)
class _Estimated:
    """A node in a group before the runs of others are looked at.

    estimate: its difference, with the error of its own runs. doubt: see result.Finding. runs: the scores of its runs,
    relative to the fleet.
    """

    estimate: stats.Estimate
    doubt: float
    runs: Floats


def _judge(scores: Floats, alpha: float, least: float) -> Verdicts:
    """Judge the nodes of one group by the scores of their runs."""
    spread, nodes = _estimated(scores, alpha, least)
    usual = [node.runs for node in nodes.values() if node.doubt < 1]
    pooled = np.concatenate(usual) if usual else np.array([])
    judged = {}
    for number, node in nodes.items():
        doubt, mean = node.doubt, node.estimate.mean
        if doubt >= 1 and _p_of_runs(node.runs * np.sign(mean), pooled * np.sign(mean)) > _of_side(alpha, mean):
            doubt = _ALMOST
        standing = Standing.FEW if len(node.runs) < FEWEST_RUNS else Standing.ALIKE
        if doubt >= 1:
            standing = Standing.SLOW if mean > 0 else Standing.FAST
        judged[number] = Judged(mean, *node.estimate.interval(), len(node.runs), standing, doubt)
    return Verdicts(spread, judged)


def _estimated(scores: Floats, alpha: float, least: float) -> tuple[float, dict[int, _Estimated]]:
    """Return the spread of the healthy nodes, and each node that has a value; none if no majority is alike."""
    counts = np.isfinite(scores).sum(axis=1)
    numbers = np.array([_number(runs[np.isfinite(runs)]) for runs in scores])
    able = np.flatnonzero(counts >= FEWEST_RUNS)
    healthy = able[core(numbers[able], _FLOOR)] if len(able) >= FEWEST_NODES else able[:0]
    if len(healthy) <= max(FEWEST, len(able) // 2):
        return math.nan, {}
    centre, spread = float(numbers[healthy].mean()), float(numbers[healthy].std(ddof=1))
    places_of = dict(zip(able.tolist(), places(numbers[able], _FLOOR), strict=True))
    variances, typical, freedom = _within(scores)
    nodes = {}
    for node in np.flatnonzero(counts).tolist():
        runs = scores[node][np.isfinite(scores[node])] - centre
        within = math.sqrt(np.fmax(variances[node], typical))
        error = math.hypot(within * _error_of_number(len(runs)), spread / math.sqrt(len(healthy)))
        estimate = stats.Estimate(float(numbers[node]) - centre, error, freedom)
        doubt = 0.0
        if place := places_of.get(node):
            low, high = place.interval(1 - 2 * _of_side(alpha, place.mean))
            doubt = abs(place.mean) / max((high - low) / 2, least)
            if not _all_say_so(runs, estimate, least):
                doubt = min(doubt, _ALMOST)
        nodes[node] = _Estimated(estimate, doubt, runs)
    return spread, nodes


def _all_say_so(runs: Floats, estimate: stats.Estimate, least: float) -> bool:
    """Return whether a node differs by more than the error of its runs, and its runs but a few by `least` each."""
    low, high = estimate.interval()
    if low <= 0 <= high:
        return False
    strays = runs * np.sign(estimate.mean) < least
    return int(strays.sum()) <= len(runs) // _STRAYS


def _p_of_runs(own: Floats, others: Floats) -> float:
    """Return the one-sided p-value of all runs of a node (but a few) being so far up, if runs were dealt to nodes.

    It is exact whatever the distribution of runs (hypergeometric): what disturbs some runs makes them slower, and a
    node can have several of these. own, others: scores; larger is farther from the fleet, to the side of the node.
    """
    strays = len(own) // _STRAYS
    mildest = float(np.sort(own)[strays])
    total, far, needed = (
        len(own) + len(others),
        int((own >= mildest).sum() + (others >= mildest).sum()),
        len(own) - strays,
    )
    ways = sum(math.comb(far, k) * math.comb(total - far, len(own) - k) for k in range(needed, len(own) + 1))
    return ways / math.comb(total, len(own))


def _within(scores: Floats) -> tuple[Floats, float, int]:
    """Return the variance between the runs of each node, that of a typical node, and its degrees of freedom.

    The variance of a node with one run is NaN. Typical is the median of the others, each by the median of a variance
    of as many normal values, which is that of chi-squared (Wilson and Hilferty, Proc. Natl. Acad. Sci. 17 (1931) 684).
    """
    freedom = np.isfinite(scores).sum(axis=1) - 1
    some = freedom > 0
    own = np.full(len(scores), np.nan)
    own[some] = np.nanvar(scores[some], axis=1, ddof=1)
    typical = float(np.median(own[some] / (1 - 2 / (9 * freedom[some])) ** 3))
    return own, typical, int(freedom[some].sum())


def _number(runs: Floats) -> float:
    """Return the number of a node from the scores of its runs, NaN for none."""
    kept = len(runs) - len(runs) // _SLOWEST
    return float(np.sort(runs)[:kept].mean()) if kept else math.nan


def _error_of_number(n: int) -> float:
    """Return the standard error of `_number` of n normal values as a multiple of their standard deviation.

    By simulation 1, 0.707, 0.624, 0.526, 0.464, 0.441 for one to six; this is at most 2 % more.
    """
    return 1 / math.sqrt(n - (n // _SLOWEST) / 2)


def _median(values: Floats, axis: int) -> Floats:
    """Return the median without NaN; NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of slices that are all NaN
        median: Floats = np.nanmedian(values, axis=axis)
    return median
