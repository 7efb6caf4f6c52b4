"""Judge pairs of entries: missing, incomparable, or a ratio with interval and verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from bench_core import stats
from bench_core.compare.conditions import NOT_MEASURED, row_conditions
from bench_core.compare.ratio import RatioEstimate, estimate_ratio
from bench_core.compare.replicates import Replicates
from bench_core.compare.result import Comparison, Entry, Key, Method, Support, Verdict, contrast, unlike_costs
from bench_core.compare.result import change as change_of
from bench_core.compare.spread import Spreads
from bench_core.results.schema import COLUMNS
from bench_core.stats import Estimate


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides of one key, not yet judged; None if a side has no row.

    differs: the fields of the work that differ between the two. worth: a factor of the ratio, such as how much more an
    hour of the baseline costs. otherwise: what a side without a row has instead, by another clock or in another suite.
    """

    key: Key
    side: str
    against: str
    baseline: Replicates | None
    contender: Replicates | None
    differs: tuple[str, ...] = ()
    worth: float = 1.0
    otherwise: str = ""


def judge(pairs: Sequence[Pair], min_effect: float, confidence: float, spreads: Spreads) -> list[Comparison]:
    """Return the comparisons of all pairs, in the same order.

    p-values are adjusted for the number of pairs whose runs allow a claim. An indication is not adjusted.
    """
    estimates = [_estimate(pair, spreads, confidence) for pair in pairs]
    tested = {i: found for i, found in enumerate(estimates) if found and found.is_tested}
    p = {i: found.estimate.p() for i, found in tested.items()}
    claimable = [i for i, found in tested.items() if found.support is Support.CLAIM]
    adjusted = dict(zip(claimable, stats.benjamini_hochberg([p[i] for i in claimable]), strict=True))
    comparisons = []
    for i, (pair, found) in enumerate(zip(pairs, estimates, strict=True)):
        if found is None:
            comparisons.append(_without_ratio(pair))
            continue
        logs = (found.estimate.mean, *found.estimate.interval(confidence))
        ratio, low, high = map(stats.exponential, logs)
        numbers = _Numbers(ratio, low, high, confidence, p.get(i), adjusted.get(i))
        verdict, reason = _verdict(pair, found, numbers, min_effect, len(claimable))
        comparisons.append(_with_ratio(pair, found, numbers, verdict, reason))
    return comparisons


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of a Comparison, before there is a verdict on them."""

    ratio: float
    ci_low: float
    ci_high: float
    confidence: float
    p: float | None
    p_adjusted: float | None


def _estimate(pair: Pair, spreads: Spreads, confidence: float) -> RatioEstimate | None:
    """Return the ratio of a pair, None unless there are two comparable values."""
    if not (pair.baseline and pair.contender and pair.baseline.entry.ok and pair.contender.entry.ok):
        return None
    if _unequal(pair):
        return None
    found = estimate_ratio(pair.baseline, pair.contender, spreads, confidence)
    shared = _shared_rows(pair.baseline.entry, pair.contender.entry)
    known = Estimate(math.log(pair.worth), 0.0, math.inf)
    if shared == len(pair.baseline.entry.rows) == len(pair.contender.entry.rows):
        evidence = "the same rows"
        return RatioEstimate(
            known, found.values, Method.EXACT, found.basis, Support.CLAIM, evidence, one_device=True, identical=True
        )
    if shared:
        found = replace(found, support=Support.NOTHING, lacking=f"{shared} runs are on both sides: each belongs to one")
    if found.support is Support.CLAIM and _is_imported(pair.baseline.entry, pair.contender.entry):
        found = replace(found, support=Support.INDICATION, lacking=_OF_IMPORTED)
    return replace(found, estimate=found.estimate.shifted(known.mean)) if known.mean else found


_OF_IMPORTED = "no claim is possible: other programs measured it, and this suite has not checked it"


def _is_imported(*entries: Entry) -> bool:
    return any(row.is_imported for entry in entries for row in entry.rows)


def _without_ratio(pair: Pair) -> Comparison:
    first, second = (side.entry if side else None for side in (pair.baseline, pair.contender))
    sides = ((pair.against, first), (pair.side, second))
    without_row = pair.otherwise or NOT_MEASURED
    absent = tuple(
        (side, entry.row.absence if entry else without_row) for side, entry in sides if not (entry and entry.ok)
    )
    reasons = [f"{side}: {why}" for side, why in absent]
    if len({why for _, why in absent}) == 1:
        reasons = [f"{' and '.join(side for side, _ in absent)}: {absent[0][1]}"]
    verdict = Verdict.MISSING if reasons else Verdict.INCOMPARABLE
    reason = "; ".join(reasons) or f"not the same work: {_unequal(pair)}"
    return Comparison(pair.key, pair.side, pair.against, first, second, verdict, reason, absences=absent)


def _unequal(pair: Pair) -> str:
    """Return how two entries with the same key differ in their work; "" if they do not."""
    if pair.baseline is None or pair.contender is None:
        return ""
    first, second = pair.baseline.entry.row, pair.contender.entry.row
    return contrast(first, second, pair.differs or unlike_costs(first, second))


def _with_ratio(pair: Pair, found: RatioEstimate, numbers: _Numbers, verdict: Verdict, reason: str) -> Comparison:
    assert pair.baseline is not None  # noqa: S101 - _estimate returns None otherwise
    assert pair.contender is not None  # noqa: S101 - _estimate returns None otherwise
    first, second = pair.baseline.entry, pair.contender.entry
    return Comparison(
        pair.key,
        pair.side,
        pair.against,
        first,
        second,
        verdict,
        reason,
        support=found.support,
        evidence=found.evidence,
        lacking=found.lacking,
        ratio=numbers.ratio,
        ci_low=numbers.ci_low,
        ci_high=numbers.ci_high,
        confidence=numbers.confidence,
        p=numbers.p,
        p_adjusted=numbers.p_adjusted,
        method=found.method,
        basis=_BASIS[found.basis],
        values=found.values,
        conditions=row_conditions(first, second),
    )


_BASIS = {
    "p10": "p10 of each process",
    "median": "median of each process, from the table's interval",
    "value": "the value of each process",
}


def _verdict(pair: Pair, found: RatioEstimate, numbers: _Numbers, min_effect: float, tests: int) -> tuple[Verdict, str]:
    """Return the verdict on a ratio with its interval, and the reason."""
    if found.identical and numbers.ratio == 1.0:
        return Verdict.IDENTICAL, "both sides are the same rows"
    change, low, high = map(math.log, (numbers.ratio, numbers.ci_low, numbers.ci_high))
    is_beyond = low > 0 or high < 0  # the spread between processes
    least, alpha = math.log1p(min_effect), 1 - numbers.confidence
    is_sure = change != 0 if numbers.p_adjusted is None else numbers.p_adjusted <= alpha
    if found.support is Support.CLAIM:
        if is_sure and abs(change) >= least:
            return (Verdict.FASTER if change > 0 else Verdict.SLOWER), _grounds(pair, found, numbers)
        if max(abs(low), abs(high)) <= least:
            return Verdict.SAME, f"the whole interval lies within {100 * min_effect:g} % of 1.00x ({found.evidence})"
    limits = _limits(found, numbers, tests)
    if found.support is Support.NOTHING:
        return Verdict.UNCLEAR, limits
    if is_beyond and abs(change) >= least:
        size = change_of(numbers.ratio, pair.key.unit)
        return Verdict.INDICATED, "; ".join([f"indicated: {size} ({found.evidence})", *filter(None, [limits])])
    why = f"the estimated change is below {100 * min_effect:g} %" if is_beyond else "the interval includes 1.00x"
    return Verdict.UNCLEAR, "; ".join([f"{why} ({found.evidence})", *filter(None, [found.lacking]), *_assumed(found)])


def verdict_of_mean(interval: tuple[float, float, float], support: Support, min_effect: float) -> Verdict:
    """Return the verdict on a geometric mean of ratios. interval: the mean and its ends; support: the least of any."""
    ratio, low, high = interval
    is_beyond = (low > 1 or high < 1) and max(ratio, 1 / ratio) >= 1 + min_effect
    if support is Support.NOTHING or not is_beyond:
        return Verdict.UNCLEAR
    if support is Support.INDICATION:
        return Verdict.INDICATED
    return Verdict.FASTER if ratio > 1 else Verdict.SLOWER


def _limits(found: RatioEstimate, numbers: _Numbers, tests: int) -> str:
    """Return why a difference is not claimed, and what a claim would need."""
    notes = [found.lacking] if found.lacking else []
    if numbers.p_adjusted is not None:
        notes.append(f"adjusted p {numbers.p_adjusted:.2g} over {tests} tests is above {1 - numbers.confidence:.2g}")
    return "; ".join([*notes, *_assumed(found)])


def _assumed(found: RatioEstimate) -> list[str]:
    return [f"assumed spread of processes: {found.assumed}"] if found.assumed else []


def _shared_rows(first: Entry, second: Entry) -> int:
    """Return how many rows are on both sides; the machine label is ignored."""
    by_run = {row.run_id: row for row in second.rows}
    pairs = ((row, by_run[row.run_id]) for row in first.rows if row.run_id in by_run)
    return sum(a.value == b.value and _but_machine(a) == _but_machine(b) for a, b in pairs)


_but_machine = attrgetter(*(name for name in COLUMNS if name != "machine"))


def _grounds(pair: Pair, found: RatioEstimate, numbers: _Numbers) -> str:
    """Return the evidence for a claim, and its limits."""
    p = "" if numbers.p_adjusted is None else f", adjusted p {numbers.p_adjusted:.2g}"
    first, second = (side.entry.row for side in (pair.baseline, pair.contender) if side)
    notes = []
    if not found.one_device and first.machine != second.machine and first.device_name == second.device_name != "":
        notes = [f"both are {first.device_name}: the difference is between these two machines, not between models"]
    return "; ".join([f"{found.evidence}{p}", *notes])
