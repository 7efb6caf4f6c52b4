"""The ratio of two sides with its interval, from the processes of each.

All arithmetic is on logarithms, so that "2.00x faster" becomes "2.00x slower" if the sides are swapped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench_core import stats
from bench_core.compare.replicates import Replicate, Replicates
from bench_core.compare.result import Method
from bench_core.stats import Estimate, Moments

# Assumed spread between processes if a side ran once, as a standard deviation of logarithms. Measured for this
# project: 1 % for NumPy on a quiet machine, 9 % for GPU frameworks, 8 to 10 % for all on a shared virtual machine.
SPREAD = 0.09
_LAST_DIGITS = 1e-12  # differences of logarithms up to this are rounding errors


@dataclass(frozen=True, slots=True)
class RatioEstimate:
    """How much better the contender is, as a logarithm, and how that was estimated.

    values: the values of baseline and contender: geometric means over processes, in the unit of the metric.
    label: number and kind of the runs ("5 pairs of runs"). tested: whether a significance test is valid.
    caveat: another explanation of a difference, "" for none. one_machine: whether all runs of both sides have the
    same origin; labels are ignored.
    """

    estimate: Estimate
    values: tuple[float, float]
    method: Method
    basis: str
    label: str
    tested: bool
    caveat: str = ""
    one_machine: bool = False


def estimate_ratio(baseline: Replicates, contender: Replicates) -> RatioEstimate:
    """Return how much better the contender is. Both sides must have a value."""
    basis = "median" if baseline.summaries or contender.summaries else "p10"
    sign = -1.0 if contender.entry.row.better == "lower" else 1.0
    sides = baseline.moments(basis), contender.moments(basis)
    values = stats.exponential(sides[0].mean), stats.exponential(sides[1].mean)
    counts = f"{sides[0].n} against {sides[1].n} runs"
    timed = bool(contender.entry.row.clock)
    if not timed and all(map(_alike, sides)):
        exact = Estimate(sign * (sides[1].mean - sides[0].mean), 0.0, math.inf)
        return RatioEstimate(exact, values, Method.EXACT, "value", f"{counts}, all alike", tested=False)
    # Timings that agree to the last digit are copies of one run, so they count as one.
    if any(m.n == 1 or (timed and _alike(m)) for m in sides):
        return RatioEstimate(
            _of_single_runs(baseline, contender, basis, sign), values, Method.SINGLE, basis, counts, tested=False
        )
    one_machine = len({r.origin for r in (*baseline.replicates, *contender.replicates)}) == 1
    pairs = _pairs(baseline.replicates, contender.replicates) if basis == "p10" else []
    if len(pairs) > 1:
        changes = [sign * (b.low - a.low) for a, b in pairs]
        estimate = stats.paired([x if abs(x) > _LAST_DIGITS else 0.0 for x in changes])
        first, second = (Moments.of(lows).mean for lows in zip(*((a.low, b.low) for a, b in pairs), strict=True))
        values = stats.exponential(first), stats.exponential(second)
        counts = f"{len(pairs)} pairs of runs"
        return RatioEstimate(estimate, values, Method.PAIRED, "p10", counts, tested=True, one_machine=one_machine)
    estimate = stats.welch(*sides)
    estimate = Estimate(sign * estimate.mean, estimate.error, estimate.dof)
    caveat = "the runs are not in pairs: machine drift can look like a change" if one_machine else ""
    return RatioEstimate(
        estimate, values, Method.WELCH, basis, counts, tested=True, caveat=caveat, one_machine=one_machine
    )


def _alike(moments: Moments) -> bool:
    """Return whether there are several processes and their values are equal except for rounding."""
    return moments.n > 1 and moments.squares <= moments.n * _LAST_DIGITS**2


def _of_single_runs(baseline: Replicates, contender: Replicates, basis: str, sign: float) -> Estimate:
    """Return the ratio if a side ran only once: for that side, the spread between processes is assumed."""
    variances, freedom = [], []
    means = []
    for side in (baseline, contender):
        moments = side.moments(basis)
        means.append(moments.mean)
        assumed = moments.n == 1 or _alike(moments)
        variances.append(side.within**2 + SPREAD**2 if assumed else moments.variance / moments.n)
        freedom.append(math.inf if assumed else moments.n - 1)
    return stats.difference(sign * (means[1] - means[0]), variances, freedom)


def _pairs(first: Sequence[Replicate], second: Sequence[Replicate]) -> list[tuple[Replicate, Replicate]]:
    """Return pairs of processes: those with the same `pair`, otherwise adjacent runs if the two sides alternated.

    Alternation is detected only without labels: labels may name two machines of one model, which did not take turns.
    """
    by_name = {r.pair: r for r in first}
    named = [(by_name[r.pair], r) for r in second if r.pair in by_name]
    if named or {(r.origin, r.label) for r in (*first, *second)} != {(first[0].origin, "")}:
        return named
    turns = sorted([(r.started_at, 0, r) for r in first] + [(r.started_at, 1, r) for r in second], key=lambda t: t[:2])
    times = [started_at for started_at, _, _ in turns]
    if len(first) != len(second) or len(set(times)) != len(times):
        return []
    adjacent = [sorted(turns[i : i + 2], key=lambda t: t[1]) for i in range(0, len(turns), 2)]
    took_turns = all([side for _, side, _ in pair] == [0, 1] for pair in adjacent)
    return [(pair[0][2], pair[1][2]) for pair in adjacent] if took_turns else []
