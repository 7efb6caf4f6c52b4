"""The first lines of a comparison: which side is better, by how much over what, how sure, and whether a gate failed."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench_core.compare.result import CLAIMS, Mean, Result, Verdict, change, words
from bench_core.records import Clock
from bench_core.render.text_table import Table
from bench_core.text import printable


def answer(result: Result) -> tuple[str, ...]:
    """Return the answer for each metric and clock, then the best GPU, the counts of verdicts, and the gates."""
    lines = list(_of_means(result))
    if not lines and len(result.sides) > 1:
        lines = ["No case has a value on every side, so there is no mean over cases."]
    return (*lines, *_best(result), verdict_line(result), *_gates(result))


def rankings(result: Result) -> Iterator[tuple[str, Table]]:
    """Yield a title and a table of all sides, the best first, for each metric and clock; nothing for two sides."""
    for (metric, clock), means in _by_kind(result).items():
        if len(means) < 2:
            continue
        rows = [("1.00x", _short(result.baseline), "baseline", "", "")]
        rows += [(mean.change, _short(mean.side), mean.change, mean.interval, mean.word) for mean in means]
        ratios = [1.0, *(mean.ratio for mean in means)]
        order = sorted(range(len(rows)), key=lambda i: -ratios[i])
        ranked = tuple((str(place), *rows[i][1:]) for place, i in enumerate(order, start=1))
        header = ("", "side", "change", f"{100 * result.confidence:g} % interval", "verdict")
        yield f"Ranking by {_kind(metric, clock)}", Table(header, ranked, frozenset({2}))


def verdict_line(result: Result) -> str:
    """Return how many comparisons have each verdict, in one line."""
    identical = [Verdict.IDENTICAL] if result.count(Verdict.IDENTICAL) else []
    shown = (*CLAIMS, Verdict.INDICATED, Verdict.UNCLEAR, *identical)
    line = f"{len(result.compared):,} compared: " + ", ".join(f"{result.count(v):,} {v}" for v in shown)
    nowhere = sum(c.nowhere for c in result.unmatched)
    counts = {
        "incomparable": result.count(Verdict.INCOMPARABLE),
        "missing": result.count(Verdict.MISSING) - nowhere,
        "without a value on any side": nowhere,
        "implausible": len(result.implausible),
    }
    return "; ".join([line, *(f"{count:,} {what}" for what, count in counts.items() if count)])


def _by_kind(result: Result) -> dict[tuple[str, str], list[Mean]]:
    kinds: dict[tuple[str, str], list[Mean]] = {}
    for mean in result.means:
        kinds.setdefault((mean.metric, mean.clock), []).append(mean)
    return kinds


def _of_means(result: Result) -> Iterator[str]:
    """Yield for each metric and clock what the best side is, over which cases, how sure, and what a claim needs."""
    for (metric, clock), means in _by_kind(result).items():
        best = max(means, key=lambda mean: mean.ratio)
        yield _place(best, result, len(means)) + _of_mean(best, result.baseline, _kind(metric, clock))
        if best.lacking:
            yield f"{best.lacking[0].upper()}{best.lacking[1:]}"


def _place(best: Mean, result: Result, contenders: int) -> str:
    if contenders == 1:
        return ""
    first = f"First of {contenders + 1}: "
    return first if best.ratio > 1 else f"{first}{_short(result.baseline)}, the baseline. Next: "


def _of_mean(mean: Mean, baseline: str, kind: str) -> str:
    side, against = _short(mean.side), _short(baseline)
    cases = f"{mean.cases:,} of {mean.of:,} cases" if mean.of > 1 else "the only case"
    over = f"{mean.interval}), {'geometric mean over' if mean.cases > 1 else 'in'} {cases}, {kind}"
    if mean.verdict is Verdict.UNCLEAR:
        better, _ = words(mean.unit)
        return f"Unclear whether {side} is {better} than {against}: {mean.change} ({over}; {mean.evidence}"
    is_than = f"is {mean.change} than" if " " in mean.change else "equals to three digits"
    sure = mean.word if mean.verdict is Verdict.INDICATED else f"claimed ({mean.evidence})"
    return f"{side} {is_than} {against} ({over}: {sure}"


def _kind(metric: str, clock: str) -> str:
    return metric if clock in {"", Clock.WALL} else f"{metric} by the {clock}'s clock"


def _best(result: Result) -> Iterator[str]:
    """Yield how much better the best GPU is than the best CPU, where both have a value."""
    by_kind: dict[tuple[str, str], list[float]] = {}
    for best in result.best:
        c = best.comparison
        if c.key.clock in {"", Clock.WALL} and c.ratio is not None:
            by_kind.setdefault((c.key.metric, c.key.unit), []).append(c.ratio)
    for (metric, unit), ratios in by_kind.items():
        ahead = sum(ratio > 1 for ratio in ratios)
        ends = dict.fromkeys(change(ratio, unit) for ratio in (min(ratios), max(ratios)))
        middle = f", median {change(median(ratios), unit)}" if len(ratios) > 2 else ""
        yield (
            f"The best GPU is ahead of the best CPU in {ahead:,} of {len(ratios):,} pieces of work that both have: "
            f"{' to '.join(ends)}{middle}, {metric}"
        )


def _gates(result: Result) -> tuple[str, ...]:
    """Return a line for each gate that failed or could not decide, and one for those that passed."""
    lines = [f"FAILED {printable(line)}" for line in result.breaches]
    lines += [f"UNDECIDED {printable(result.undecided)}"] if result.undecided else []
    named = {line.split()[1].rstrip(":") for line in lines}
    passed = [gate for gate in result.gates if gate not in named]
    lines += [f"PASSED {', '.join(passed)}"] if passed else []
    return (*lines, *(printable(line[0].upper() + line[1:]) for line in result.undecided_cases))


def _short(text: str) -> str:
    return printable(text, 80)
