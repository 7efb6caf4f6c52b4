"""Judge the nodes of a fleet by the logarithms of what each run of each node took for each piece of work.

Work is judged in groups: all of it, each family, each piece. In a group

1. the value of every work is taken relative to the fleet: to the median over nodes of the node's median over runs;
2. the size of a difference is a median: that over the node's runs of the weighted median over works. Quiet works weigh
   more. Its interval has the error of the node's own runs and that of the fleet's centre;
3. whether a node is slow is decided by milder numbers: of each run the weighted lower quartile, so that three quarters
   of the work took longer; of the runs the mean without the slowest third. What disturbs a run for some seconds makes
   some works slower and none faster, so these vary less (on a shared computer half as much);
4. a node is slow if this number is out of line with the healthy nodes (outliers.py) by at least `least`, and if its
   size and each of its runs (of five or more, all but one in five) differ by `least` as well. And so many of the runs
   of other nodes do not that it would hardly have all of these runs if runs were dealt to nodes: what disturbs a run
   makes it slower, and a normal distribution does not know that. If this is only unlikely (UNLIKELY), nobody can be
   sure of the node. With fewer than FEWEST_RUNS runs it is not judged: one run says more about its moment than about
   the node;
5. a node is fast if it is slow in the negative of all values.

Nothing is drawn at random: the same runs have the same verdict.

The false alarms: the p-value that is needed is ALARM_RATE by parts: 15 % are for all work, 75 % are shared by the
families and 10 % by the pieces of work, equally (Bonferroni), and of each part 90 % are for slow nodes. So at most
ALARM_RATE of healthy nodes are called slow or fast in anything if they differ normally, or only as their runs do, and
if runs do not depend on each other, however works depend.

By simulation (`python -m tests.native.fleets`; 20 nodes, three runs each): 0.02 to 0.4 % of healthy nodes are called
anything, whether runs are normal, have heavy tails or are disturbed now and then, if the nodes are alike or differ by 1
% normally; 1.0 to 1.3 % if they differ by 1 % with heavy tails (Student's t, 3 degrees of freedom), 2.2 to 2.6 % with
one long tail (exponential). Of nodes of real runs of one core (tests/support/real_runs.csv) that are slow by 5 % in
everything or in one family, 95 to 100 % are found if 1 to 4 of 20 are slow; in the family `latency`, whose runs differ
by 4 %, 38 to 49 %; if healthy nodes differ by 0.5 %, 82 to 100 %, by 1 %, 34 to 71 %.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from bench_core import stats
from bench_core.diagnosis.outliers import Floats, core, places
from bench_core.diagnosis.result import GroupKind, Standing

Integers = np.ndarray[Any, np.dtype[np.intp]]

ALARM_RATE = 0.01
LEAST = 0.02  # boards of one kind differ by as much
FEWEST_RUNS = 3
FEWEST_NODES = 5
MOST_SPREAD = 0.1  # healthy nodes that differ by more are not of one kind
_SHARES: Mapping[GroupKind, float] = {"all": 0.15, "family": 0.75, "work": 0.1}
_OF_SLOW = 0.9
_FLOOR = 0.001  # healthy nodes are assumed to differ by that much at least
_HEAVIEST = 3.0  # weight of a work by that of the median one
_QUARTILE, _MEDIAN = 0.25, 0.5
_SLOWEST = 3  # runs of which the slowest is left out
_STRAYS = 5  # runs of which one may differ less
UNLIKELY = 0.01  # a node with runs that are dealt as rarely as this is not like the fleet either
_ALMOST = 0.99  # the distance of a node that is far out, but is not called anything
_PRIOR = 4  # degrees of freedom for which the variance of a typical node counts


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
    distance: float


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A group: the spread of its healthy nodes, NaN if unknown, and its nodes by their number.

    Those without values are missing. All are if fewer than FEWEST_NODES are able, which have FEWEST_RUNS runs or more,
    or if no majority of these is alike.
    """

    spread: float
    nodes: Mapping[int, Judged]
    able: int


def judge(values: Floats, groups: Sequence[Members], least: float = LEAST) -> list[Verdicts]:
    """Return the verdicts of each group.

    values: natural logarithms, larger is slower; axes work, node, run; NaN where there is none, as for nodes with fewer
    runs than others. least: the share by which a node must differ.
    """
    centred = _relative(values)
    quiet = _weights(centred)
    alphas = _alphas(groups)
    return [
        _judge(centred[list(group.works)], quiet[list(group.works)], alphas[group.kind], math.log1p(least))
        for group in groups
    ]


def fewest_runs(groups: Sequence[Members], nodes: int) -> dict[GroupKind, int]:
    """Return how many runs of each node are needed for one of them to be called slow in a group of each kind.

    With fewer, a node would be dealt the slowest runs of all too often. With several slow nodes, and for fast ones, it
    can take more. nodes: FEWEST_NODES or more.
    """
    found = {}
    for kind, alpha in _alphas(groups).items():
        allowed = alpha * _OF_SLOW
        found[kind] = next(
            n for n in count(FEWEST_RUNS) if _p_of_runs(np.ones(n), np.zeros((nodes - 1) * n)) <= allowed
        )
    return found


def enough_runs(nodes: int) -> int:
    """Return how many runs of each node are enough for one of them to be called slow in all work, whatever that is.

    nodes: FEWEST_NODES or more, of one kind.
    """
    return fewest_runs([Members(kind, ()) for kind in _SHARES], nodes)["all"]


def _alphas(groups: Sequence[Members]) -> dict[GroupKind, float]:
    """Return the p-value that a group of each kind needs, slow and fast together."""
    kinds = [group.kind for group in groups]
    there = {kind: share for kind, share in _SHARES.items() if kind in kinds}
    whole = sum(there.values())
    return {kind: ALARM_RATE * share / whole / kinds.count(kind) for kind, share in there.items()}


# ---------------------------------------------------------------- scores of runs


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


def _scores(centred: Floats, weights: Floats, quantile: float) -> Floats:
    """Return the weighted quantile over works of each run; NaN for one that lacks half of them by weight.

    Axes of the result: node, run.
    """
    if len(centred) == 1:
        alone: Floats = centred[0]
        return alone
    order = np.argsort(centred, axis=0)  # NaN last
    ordered = np.take_along_axis(centred, order, axis=0)
    there = np.where(np.isnan(ordered), 0.0, weights[order])
    below = np.cumsum(there, axis=0)
    first = np.argmax(below >= quantile * below[-1], axis=0)
    found = np.take_along_axis(ordered, first[None], axis=0)[0]
    scores: Floats = np.where(below[-1] >= weights.sum() / 2, found, np.nan)
    return scores


# ---------------------------------------------------------------- one group


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The size of the difference of each node that has one, and how much healthy nodes differ."""

    of: Mapping[int, stats.Estimate]
    spread: float


@dataclass(frozen=True, slots=True)
class _Side:
    """Nodes in a group, looked at for being slow. distances: see result.Finding. unsure: whom more runs could tell."""

    distances: Mapping[int, float]
    unsure: frozenset[int]


def _judge(centred: Floats, weights: Floats, alpha: float, least: float) -> Verdicts:
    """Judge the nodes of one group."""
    middles = _scores(centred, weights, _MEDIAN)
    sizes = _sizes(middles)
    slow = _side(centred, weights, sizes, alpha * _OF_SLOW, least)
    fast = _side(-centred, weights, _mirrored(sizes), alpha * (1 - _OF_SLOW), least)
    counts = np.isfinite(middles).sum(axis=1).tolist()
    able = sum(count >= FEWEST_RUNS for count in counts)
    if sizes is None or slow is None or fast is None:
        return Verdicts(math.nan, {}, able)
    nodes = {}
    for node, estimate in sizes.of.items():
        distances = {Standing.SLOW: slow.distances.get(node, 0.0), Standing.FAST: fast.distances.get(node, 0.0)}
        standing = max(distances, key=distances.__getitem__)
        distance = distances[standing]
        if distance < 1:
            standing = Standing.UNSURE if node in slow.unsure | fast.unsure else Standing.ALIKE
        if counts[node] < FEWEST_RUNS:
            standing = Standing.FEW
        nodes[node] = Judged(estimate.mean, *estimate.interval(), counts[node], standing, distance)
    return Verdicts(sizes.spread, nodes, able)


def _mirrored(sizes: _Sizes | None) -> _Sizes | None:
    """Return the sizes of the negatives."""
    if sizes is None:
        return None
    return _Sizes({n: stats.Estimate(-e.mean, e.error, e.dof) for n, e in sizes.of.items()}, sizes.spread)


def _healthy(numbers: Floats, counts: Integers) -> Integers | None:
    """Return the healthy nodes by number; None if too few can be judged, or if no majority of them is alike."""
    able = np.flatnonzero((counts >= FEWEST_RUNS) & np.isfinite(numbers))
    if len(able) < FEWEST_NODES:
        return None
    healthy = able[core(numbers[able], _FLOOR)]
    is_majority = len(healthy) > len(able) // 2
    return healthy if is_majority and float(numbers[healthy].std(ddof=1)) <= MOST_SPREAD else None


def _sizes(scores: Floats) -> _Sizes | None:
    """Return the sizes of the differences by the scores of runs; None if they cannot be told."""
    counts = np.isfinite(scores).sum(axis=1)
    numbers = _median(scores, axis=1)
    healthy = _healthy(numbers, counts)
    if healthy is None:
        return None
    centre, spread = float(numbers[healthy].mean()), float(numbers[healthy].std(ddof=1))
    variances, freedom = _within(scores)
    found = {}
    for node in np.flatnonzero(counts).tolist():
        own = math.sqrt(variances[node]) * _error_of_median(counts[node])
        error = math.hypot(own, spread / math.sqrt(len(healthy)))
        found[node] = stats.Estimate(float(numbers[node]) - centre, error, freedom[node])
    return _Sizes(found, spread)


def _side(centred: Floats, weights: Floats, sizes: _Sizes | None, alpha: float, least: float) -> _Side | None:
    """Return which nodes are slow, and how far they are from that; None if nobody can tell. alpha: one-sided."""
    scores = _scores(centred, weights, _QUARTILE)
    counts = np.isfinite(scores).sum(axis=1)
    numbers = np.array([_number(runs[np.isfinite(runs)]) for runs in scores])
    healthy = _healthy(numbers, counts)
    if healthy is None or sizes is None:
        return None
    able = np.flatnonzero(counts >= FEWEST_RUNS)
    centre = float(numbers[healthy].mean())
    distances, runs = {}, {}
    for node, place in zip(able.tolist(), places(numbers[able], _FLOOR), strict=True):
        runs[node] = scores[node][np.isfinite(scores[node])] - centre
        if place is not None and place.mean > 0:
            low, high = place.interval(1 - 2 * alpha)
            far, size = place.mean / max((high - low) / 2, least), sizes.of[node].mean
            is_said = _all_say_so(runs[node], size, least)
            distances[node] = far if is_said else max(0.0, min(far, size / least, _ALMOST))
    return _dealt(distances, runs, alpha)


def _dealt(distances: dict[int, float], runs: Mapping[int, Floats], alpha: float) -> _Side:
    """Return the same, where those whose runs may have been dealt to them by chance are not called slow."""
    usual = [own for node, own in runs.items() if distances.get(node, 0.0) < 1]
    others = np.concatenate(usual) if usual else np.array([])
    unsure = set()
    for node in [node for node, distance in distances.items() if distance >= 1]:
        chance = _p_of_runs(runs[node], others)
        if chance > alpha:
            distances[node] = _ALMOST
            if chance <= UNLIKELY:
                unsure.add(node)
    return _Side(distances, frozenset(unsure))


def _all_say_so(runs: Floats, size: float, least: float) -> bool:
    """Return whether a node differs by `least` in size, and its runs but a few as well."""
    return size >= least and int((runs < least).sum()) <= len(runs) // _STRAYS


def _p_of_runs(own: Floats, others: Floats) -> float:
    """Return the one-sided p-value of all runs of a node (but a few) being so far up, if runs were dealt to nodes.

    It is that of the hypergeometric distribution, whatever the distribution of runs: what disturbs some runs makes them
    slower, and a node can have several of these. own, others: scores; larger is farther from the fleet.
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


def _within(scores: Floats) -> tuple[Floats, Floats]:
    """Return the variance between the runs of each node, and its degrees of freedom.

    That of a node alone, of three runs, says little, and nodes may differ in it. So it is drawn to that of a typical
    node, which counts as _PRIOR degrees of freedom (as Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004), article 3). The
    typical one is the median over nodes, each by the median of a variance of as many normal values (chi-squared: Wilson
    and Hilferty, Proc. Natl. Acad. Sci. 17 (1931) 684).
    """
    freedom = np.maximum(np.isfinite(scores).sum(axis=1) - 1, 0)
    some = freedom > 0
    own = np.zeros(len(scores))
    own[some] = np.nanvar(scores[some], axis=1, ddof=1)
    typical = float(np.median(own[some] / (1 - 2 / (9 * freedom[some])) ** 3))
    drawn: Floats = (_PRIOR * typical + freedom * own) / (_PRIOR + freedom)
    return drawn, (_PRIOR + freedom).astype(np.float64)


def _number(runs: Floats) -> float:
    """Return the number of a node from the scores of its runs, NaN for none: the mean without the slowest third."""
    kept = len(runs) - len(runs) // _SLOWEST
    return float(np.sort(runs)[:kept].mean()) if kept else math.nan


def _error_of_median(n: int) -> float:
    """Return the standard error of the median of n normal values as a multiple of their standard deviation.

    Exact are 1, 0.707, 0.670, 0.546, 0.536 for one to five (order statistics); this is 1, 0.793, 0.670, 0.591, 0.534.
    """
    return math.sqrt(math.pi / 2 / (n + 0.5)) if n > 1 else 1.0


def _median(values: Floats, axis: int) -> Floats:
    """Return the median without NaN; NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of slices that are all NaN
        median: Floats = np.nanmedian(values, axis=axis)
    return median
