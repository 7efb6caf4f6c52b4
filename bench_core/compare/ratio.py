"""The ratio of two sides with its interval, and what their runs allow to conclude from it.

All arithmetic is on logarithms, so that "2.00x faster" becomes "2.00x slower" if the sides are swapped.

A claim needs five runs a side. Runs of one machine must also be interleaved pairs: its speed drifts, so that all runs
of one side followed by all runs of the other differ although nothing changed. Runs of two machines cannot be pairs, so
the test assumes that the runs of each vary independently: measured in a row on a machine whose speed changes slowly,
they do not. tests/compare/test_ladder.py simulates all of this.

Where values decided how many processes there are (`bench-core run --precision`), a t test would be repeated until it
succeeds. Pairs are then judged by the median of their ratios, unpaired sides by their medians (sequential.py), and
before the first look nothing is claimed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench_core import sequential, stats
from bench_core.compare.replicates import Replicate, Replicates
from bench_core.compare.result import Method, Support
from bench_core.compare.spread import Spreads
from bench_core.records import Row
from bench_core.stats import Estimate, Moments

FEWEST_RUNS = 5  # of each side, or pairs, for a claim
_LAST_DIGITS = 1e-12  # differences of logarithms up to this are rounding errors


@dataclass(frozen=True, slots=True)
class RatioEstimate:
    """How much better the contender is, as a logarithm, and how that was estimated.

    values: the values of baseline and contender: geometric means over processes, or medians if `sequential`, in the
    unit of the metric.
    support: what the runs allow at most; evidence: their number and kind ("5 pairs"). lacking: what a claim would need,
    with the command that measures it; "" if nothing. assumed: the spread assumed for single runs, with its source.
    one_device: whether all runs of both sides are of one device. identical: whether both sides are the same rows.
    """

    estimate: Estimate | sequential.Median | sequential.Difference
    values: tuple[float, float]
    method: Method
    basis: str
    support: Support
    evidence: str
    lacking: str = ""
    assumed: str = ""
    one_device: bool = False
    identical: bool = False

    @property
    def is_tested(self) -> bool:
        """Whether a test of significance is valid: there are several processes whose errors are independent."""
        return self.method in {Method.PAIRED, Method.WELCH, Method.SEQUENTIAL} and self.support is not Support.NOTHING


def estimate_ratio(
    baseline: Replicates, contender: Replicates, spreads: Spreads, confidence: float = stats.CONFIDENCE
) -> RatioEstimate:
    """Return how much better the contender is. Both sides must have a value. confidence: of its interval."""
    basis = "median" if baseline.summaries or contender.summaries else "p10"
    sign = -1.0 if contender.entry.row.better == "lower" else 1.0
    sides = baseline.moments(basis), contender.moments(basis)
    means, assumed = (sides[0].mean, sides[1].mean), ""
    pairs = _pairs(baseline.replicates, contender.replicates) if basis == "p10" else []
    support, lacking = _support(baseline, contender, sides, pairs)
    estimate: Estimate | sequential.Median | sequential.Difference
    sequence = _of_sequence(baseline, contender, basis, sign, pairs)
    sequence = sequence if sequence and math.isfinite(sequence[0].interval(confidence)[0]) else None
    if sequence is None and support is Support.CLAIM and (baseline.is_sequence or contender.is_sequence):
        support, lacking = Support.INDICATION, _needed_by_sequence(baseline, contender)
    evidence = f"{sides[0].n} against {sides[1].n} runs"
    alike = all(map(_alike, sides))
    if alike and not contender.entry.row.clock:
        method, basis, evidence = Method.EXACT, "value", f"{evidence}, all alike"
        estimate = Estimate(_unrounded(sign * (means[1] - means[0])), 0.0, math.inf)
        support, lacking = _support_of_exact(sides)
    elif sequence:
        method, (estimate, means) = Method.SEQUENTIAL, sequence
        evidence = f"{len(pairs)} pairs" if pairs else evidence
    elif len(pairs) > 1 and not alike:
        method, evidence = Method.PAIRED, f"{len(pairs)} pairs"
        changes = [sign * (b.low - a.low) for a, b in pairs]
        estimate = stats.paired([_unrounded(x) for x in changes])
        first, second = (Moments.of(lows).mean for lows in zip(*((a.low, b.low) for a, b in pairs), strict=True))
        means = first, second
    elif any(m.n == 1 or _alike(m) for m in sides):
        method = Method.SINGLE
        estimate, assumed = _of_single_runs(baseline, contender, sides, sign, spreads)
        if all(m.n == 1 for m in sides):
            evidence = "one run" if pairs else "one run a side"
        if support is Support.CLAIM:
            support, lacking = Support.INDICATION, "values that agree to the last digit count as one run"
    else:
        method = Method.WELCH
        estimate = _unpaired(*sides)
        estimate = Estimate(sign * estimate.mean, estimate.error, estimate.dof)
    values = stats.exponential(means[0]), stats.exponential(means[1])
    one_device = len(baseline.origins | contender.origins) == 1
    return RatioEstimate(estimate, values, method, basis, support, evidence, lacking, assumed, one_device)


def _needed_by_sequence(baseline: Replicates, contender: Replicates) -> str:
    """Return what a claim needs that has to hold whenever measuring ends; the usual interval does not."""
    lone = bool(baseline.summaries or contender.summaries)
    return f"a claim needs {'samples.csv beside the tables' if lone else 'more processes of --precision'}"


def _of_sequence(
    baseline: Replicates,
    contender: Replicates,
    basis: str,
    sign: float,
    pairs: Sequence[tuple[Replicate, Replicate]],
) -> tuple[sequential.Median | sequential.Difference, tuple[float, float]] | None:
    """Return the estimate if values decided how many processes there are, with the medians of both sides.

    None if none did, or if there are too few processes for an interval. Runs of one machine must be pairs.
    """
    if not (baseline.is_sequence or contender.is_sequence) or baseline.summaries or contender.summaries:
        return None
    if len(pairs) >= sequential.FIRST:
        changes = [_unrounded(sign * (b.low - a.low)) for a, b in pairs]
        first, second = (
            sequential.Median(tuple(lows)) for lows in zip(*((a.low, b.low) for a, b in pairs), strict=True)
        )
        return sequential.Median(tuple(changes)), (first.mean, second.mean)
    first, second = (sequential.Median(tuple(sign * x for x in side.values(basis))) for side in (baseline, contender))
    one_machine = len({machine for machine, _ in baseline.origins | contender.origins}) == 1
    if one_machine or min(len(first.values), len(second.values)) < sequential.FIRST:
        return None
    return sequential.Difference(first, second), (sign * first.mean, sign * second.mean)


def _unrounded(change: float) -> float:
    """Return a difference of logarithms, 0.0 for one that is a rounding error."""
    return change if abs(change) > _LAST_DIGITS else 0.0


def _unpaired(first: Moments, second: Moments) -> Estimate:
    """Return the difference of two unpaired sides: Welch's, or a wider one if the numbers of their runs differ.

    With unequal numbers Welch's test relies on the variance of the few runs of one side, which noise that is not normal
    makes too small too often: on a machine with two speeds, five runs against twenty raise a false claim in a third of
    all comparisons (tests/compare/test_ladder.py). So both sides then get the larger variance, and the degrees of
    freedom of the smaller one.
    """
    if first.n == second.n:
        return stats.welch(first, second)
    variance = max(first.variance, second.variance)
    error = math.sqrt(variance / first.n + variance / second.n)
    return Estimate(second.mean - first.mean, error, min(first.n, second.n) - 1)


def _support(
    baseline: Replicates,
    contender: Replicates,
    sides: tuple[Moments, Moments],
    pairs: Sequence[tuple[Replicate, Replicate]],
) -> tuple[Support, str]:
    """Return what the runs of two sides allow at most, and what a claim would need; "" if nothing."""
    first, second = baseline.entry.row, contender.entry.row
    origins, fewest = baseline.origins | contender.origins, min(m.n for m in sides)
    if len(pairs) >= FEWEST_RUNS:
        return Support.CLAIM, ""
    one_machine = len({machine for machine, _ in origins}) == 1
    if len(pairs) > 1 or (pairs and fewest == 1) or (one_machine and len(origins) > 1):
        return Support.INDICATION, f"a claim needs {FEWEST_RUNS} pairs of runs: {_in_turns(first, second)}"
    if one_machine:
        return _support_of_one_device(baseline, contender)
    if fewest >= FEWEST_RUNS:
        return Support.CLAIM, ""
    needed = f"a claim needs {FEWEST_RUNS} runs a side"
    return Support.INDICATION, f"{needed}: bench-core run --runs {FEWEST_RUNS} on each machine"


def _support_of_one_device(baseline: Replicates, contender: Replicates) -> tuple[Support, str]:
    """Return the same for unpaired runs of one device. verdicts.py recognises the copies of a run before it asks."""
    first, second = baseline.entry.row, contender.entry.row
    if _runs(baseline) == _runs(contender):
        if first.clock:
            return Support.INDICATION, "a claim needs samples.csv, without which these runs cannot be paired"
        return Support.INDICATION, "no claim is possible: merged runs keep no values of single runs for this metric"
    unpaired = "these runs of one device did not take turns, so its drift can look like a change"
    named = "; if these are two machines, name them: --bench-machine" if first.machine != second.machine else ""
    return Support.NOTHING, f"{unpaired}; measure in turns: {_in_turns(first, second)}{named}"


def _support_of_exact(sides: tuple[Moments, Moments]) -> tuple[Support, str]:
    """Return the same for values that all runs of a side repeat exactly: they do not drift, so they need no pairs."""
    if min(m.n for m in sides) >= FEWEST_RUNS:
        return Support.CLAIM, ""
    return Support.INDICATION, f"a claim needs {FEWEST_RUNS} runs a side"


def _runs(side: Replicates) -> set[str]:
    return {row.run_id for row in side.entry.rows}


def _in_turns(first: Row, second: Row) -> str:
    """Return the command that measures two sides of one machine in interleaved runs."""
    command = f"bench-core run --runs {FEWEST_RUNS}"
    names = ("backend", "implementation", "device", "threads")
    if any(getattr(first, name) != getattr(second, name) for name in names):
        return command  # each run contains both sides
    return f"{command} --against PYTHON"


def _alike(moments: Moments) -> bool:
    """Return whether there are several processes and their values are equal except for rounding."""
    return moments.n > 1 and moments.squares <= moments.n * _LAST_DIGITS**2


def _of_single_runs(
    baseline: Replicates, contender: Replicates, sides: tuple[Moments, Moments], sign: float, spreads: Spreads
) -> tuple[Estimate, str]:
    """Return the ratio if a side ran only once, and the spread between processes that is assumed for such a side."""
    variances, freedom, means = [], [], []
    words: dict[str, list[str]] = {}
    for side, moments in zip((baseline, contender), sides, strict=True):
        means.append(moments.mean)
        if moments.n > 1 and not _alike(moments):
            variances.append(moments.variance / moments.n)
            freedom.append(float(moments.n - 1))
            continue
        row = side.entry.row
        spread = spreads(row)
        variances.append(side.within**2 + spread.value**2)
        freedom.append(math.inf)
        of = "" if row.clock else " as of times"
        words.setdefault(spread.source, []).append(f"{row.backend} {100 * spread.value:.2g} %{of}")
    assumed = "; ".join(f"{' and '.join(dict.fromkeys(each))} ({source})" for source, each in sorted(words.items()))
    return stats.difference(sign * (means[1] - means[0]), variances, freedom), assumed


def _pairs(first: Sequence[Replicate], second: Sequence[Replicate]) -> list[tuple[Replicate, Replicate]]:
    """Return pairs of processes: those with the same `pair`, otherwise adjacent runs if the two sides alternated.

    Alternation is detected only on one device without labels: labels may name two machines of one model, which did not
    take turns.
    """
    named: list[tuple[Replicate, Replicate]] = []
    if not {r.pair for r in first}.isdisjoint(r.pair for r in second):
        once = [{name for name, n in Counter(r.pair for r in side).items() if n == 1} for side in (first, second)]
        by_name = {r.pair: r for r in first}
        named = [(by_name[r.pair], r) for r in second if r.pair in once[0] & once[1]]
    if named or len({r.origin for r in (*first, *second)}) != 1 or any(r.label for r in (*first, *second)):
        return named
    turns = sorted([(r.started_at, 0, r) for r in first] + [(r.started_at, 1, r) for r in second], key=lambda t: t[:2])
    times = [started_at for started_at, _, _ in turns]
    if len(first) != len(second) or len(set(times)) != len(times):
        return []
    adjacent = [sorted(turns[i : i + 2], key=lambda t: t[1]) for i in range(0, len(turns), 2)]
    took_turns = all([side for _, side, _ in pair] == [0, 1] for pair in adjacent)
    return [(pair[0][2], pair[1][2]) for pair in adjacent] if took_turns else []
