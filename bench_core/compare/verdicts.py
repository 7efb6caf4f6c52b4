"""Judge pairs of entries: missing, incomparable, or a ratio with interval and verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench_core import stats
from bench_core.compare.conditions import row_conditions
from bench_core.compare.ratio import RatioEstimate, estimate_ratio
from bench_core.compare.replicates import Replicates
from bench_core.compare.result import SINGLE_RUN, Comparison, Entry, Key, Method, Verdict
from bench_core.records import Row


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides of one key, not yet judged; None if a side has no row."""

    key: Key
    side: str
    against: str
    baseline: Replicates | None
    contender: Replicates | None
    differs: tuple[str, ...] = ()  # the fields of the work that differ between the two


def judge(pairs: Sequence[Pair], min_effect: float, confidence: float) -> list[Comparison]:
    """Return the comparisons of all pairs, in the same order; p-values are adjusted for multiple testing."""
    estimates = [_estimate(pair) for pair in pairs]
    p_values = [found.estimate.p() if found and found.tested else None for found in estimates]
    adjusted = iter(stats.benjamini_hochberg([p for p in p_values if p is not None]))
    tests = sum(p is not None for p in p_values)
    comparisons = []
    for pair, found, p in zip(pairs, estimates, p_values, strict=True):
        if found is None:
            comparisons.append(_without_ratio(pair))
            continue
        tested = replace(_with_ratio(pair, found, confidence), p=p, p_adjusted=None if p is None else next(adjusted))
        verdict, reason = _verdict(tested, found, min_effect, tests)
        comparisons.append(replace(tested, verdict=verdict, reason=reason))
    return comparisons


def _estimate(pair: Pair) -> RatioEstimate | None:
    """Return the ratio of a pair, None unless there are two comparable values."""
    if not (pair.baseline and pair.contender and pair.baseline.entry.ok and pair.contender.entry.ok):
        return None
    return None if _unequal(pair) else estimate_ratio(pair.baseline, pair.contender)


def _without_ratio(pair: Pair) -> Comparison:
    first, second = (side.entry if side else None for side in (pair.baseline, pair.contender))
    sides = ((pair.against, first), (pair.side, second))
    absent = [(side, _absence(entry)) for side, entry in sides if entry is None or not entry.ok]
    reasons = [f"{side}: {why}" for side, why in absent]
    if len({why for _, why in absent}) == 1:
        reasons = [f"{' and '.join(side for side, _ in absent)}: {absent[0][1]}"]
    verdict = Verdict.MISSING if reasons else Verdict.INCOMPARABLE
    reason = "; ".join(reasons) or f"not the same work: {_unequal(pair)}"
    return Comparison(pair.key, pair.side, pair.against, first, second, verdict, reason)


def _absence(entry: Entry | None) -> str:
    """Return why an entry has no value, from the status and reason of its row."""
    if entry is None:
        return "not measured"
    row = entry.row
    if row.status == "ok":
        return "no value" if row.value is None else f"the value {row.value:g} is not positive"
    return ": ".join(word for word in (row.status, row.reason or row.reason_code) if word)


def _unequal(pair: Pair) -> str:
    """Return how two entries with the same key differ in their work; "" if they do not."""
    if pair.baseline is None or pair.contender is None:
        return ""
    first, second = pair.baseline.entry.row, pair.contender.entry.row
    # The cost formulas are part of the work: rates from different formulas are different quantities.
    names = pair.differs or tuple(name for name in ("flops", "bytes") if _both_differ(first, second, name))
    return ", ".join(f"{name} {getattr(first, name)!s} against {getattr(second, name)!s}" for name in names)


def _both_differ(first: Row, second: Row, name: str) -> bool:
    a, b = getattr(first, name), getattr(second, name)
    return a is not None and b is not None and not math.isclose(a, b, rel_tol=1e-9)


def _with_ratio(pair: Pair, found: RatioEstimate, confidence: float) -> Comparison:
    assert pair.baseline is not None  # noqa: S101 - _estimate returns None otherwise
    assert pair.contender is not None  # noqa: S101 - _estimate returns None otherwise
    first, second = pair.baseline.entry, pair.contender.entry
    logs = (found.estimate.mean, *found.estimate.interval(confidence))
    ratio, low, high = map(stats.exponential, logs)
    return Comparison(
        pair.key,
        pair.side,
        pair.against,
        first,
        second,
        Verdict.UNCLEAR,
        "",
        label=SINGLE_RUN if found.method is Method.SINGLE else "",
        ratio=ratio,
        ci_low=low,
        ci_high=high,
        confidence=confidence,
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


def _verdict(c: Comparison, found: RatioEstimate, min_effect: float, tests: int) -> tuple[Verdict, str]:
    """Return the verdict on a ratio with its interval, and the reason."""
    if c.baseline and c.contender and _same_run(c.baseline, c.contender):
        return Verdict.SAME, "the same run on both sides"
    change, low, high = (math.log(x) for x in (c.ratio or 1.0, c.ci_low or 1.0, c.ci_high or 1.0))
    excludes_one = low > 0 or high < 0
    if found.method is Method.SINGLE:
        beyond = "beyond the spread assumed between processes, but " if excludes_one else ""
        return Verdict.UNCLEAR, f"{beyond}one run on a side supports no claim ({found.label})"
    least, alpha = math.log1p(min_effect), 1 - c.confidence
    significant = change != 0 if c.p_adjusted is None else c.p_adjusted <= alpha
    if significant and abs(change) >= least:
        return (Verdict.FASTER if change > 0 else Verdict.SLOWER), _support(c, found)
    if max(abs(low), abs(high)) <= least:
        return Verdict.SAME, f"the whole interval lies within {100 * min_effect:g} % of 1.00x ({found.label})"
    why = "the interval includes 1.00x"
    if significant:
        why = f"significant, but the estimated change is below {100 * min_effect:g} %"
    elif excludes_one:
        why = f"adjusted p {c.p_adjusted:.2g} over {tests} tests is above {alpha:.2g}"
    return Verdict.UNCLEAR, "; ".join([f"{why} ({found.label})", *([found.caveat] if found.caveat else [])])


def _same_run(first: Entry, second: Entry) -> bool:
    """Return whether both sides are copies of the same rows; the machine label is ignored."""
    if [row.run_id for row in first.rows] != [row.run_id for row in second.rows]:
        return False
    return all(replace(a, machine=b.machine) == b for a, b in zip(first.rows, second.rows, strict=True))


def _support(c: Comparison, found: RatioEstimate) -> str:
    """Return the evidence for a claim, and its limits."""
    p = "" if c.p_adjusted is None else f", adjusted p {c.p_adjusted:.2g}"
    first, second = (entry.row for entry in (c.baseline, c.contender) if entry)
    notes = [found.caveat] if found.caveat else []
    if first.machine != second.machine and found.method is Method.WELCH:
        if found.one_machine:
            notes.append("one machine, or two of one model: the tables do not distinguish them")
        elif first.device_name == second.device_name != "":
            notes.append(
                f"both are {first.device_name}: the difference is between these two machines, not between models"
            )
    return "; ".join([f"{found.label}{p}", *notes])
