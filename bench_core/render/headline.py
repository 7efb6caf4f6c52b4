"""The first lines of a comparison: whether a gate failed, which side is better, by how much over what, how sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from bench_core.compare.result import CLAIMS, Comparison, Mean, Result, Verdict, change, words
from bench_core.records import Clock
from bench_core.render.text_table import Table
from bench_core.text import printable
from bench_core.units import counted


def answer(result: Result) -> tuple[str, ...]:
    """Return the gates, the answer for each metric and clock, the best GPU, and the counts of verdicts.

    If the sides have only rows of CPUs in common, the best GPU comes first: it is not in any mean.
    """
    gates = [f"{gate.outcome.upper()} {printable(gate.line, 600)}" for gate in result.gates]
    means, best = list(_of_means(result)), list(_best(result))
    if not result.means and len(result.sides) > 1:
        means.append("No case has a value on every side, so there is no mean over cases.")
    texts = sorted(text for text in lacking(result) if not any(text in gate for gate in gates))
    means += [f"{text[0].upper()}{text[1:]}" for text in texts]
    named = list(_named(result))
    of_cpus = named and all(_is_of_cpus(_cases(mean, result)) for mean in named)
    return (*dict.fromkeys([*gates, *([*best, *means] if of_cpus else [*means, *best])]), verdict_line(result))


def lacking(result: Result) -> frozenset[str]:
    """Return what the answer says that claims need."""
    return frozenset(mean.lacking for mean in _named(result) if mean.lacking)


def rankings(result: Result) -> Iterator[tuple[str, Table]]:
    """Yield a title and a table of all sides, the best first, for each metric and clock.

    There is none of two sides, and none of sides without a common case.
    """
    for (metric, clock), means in _by_kind(result).items():
        if len(means) < 2 or not means[0].is_common:
            continue
        rows = [("1.00x", _short(result.baseline), "baseline", "", "")]
        rows += [(mean.change, _short(mean.side), mean.change, mean.interval, mean.word) for mean in means]
        ratios = [1.0, *(mean.ratio for mean in means)]
        order = sorted(range(len(rows)), key=lambda i: -ratios[i])
        ranked = tuple((str(place), *rows[i][1:]) for place, i in enumerate(order, start=1))
        header = ("", "side", "ratio", f"{100 * result.confidence:g} % interval", "verdict")
        yield f"Ranking by {_kind(metric, clock)}", Table(header, ranked, frozenset({2}))


def verdict_line(result: Result) -> str:
    """Return how many comparisons have each verdict, in one line."""
    identical = [Verdict.IDENTICAL] if result.count(Verdict.IDENTICAL) else []
    shown = (*CLAIMS, Verdict.INDICATED, Verdict.UNCLEAR, *identical)
    line = f"{len(result.compared):,} compared: " + ", ".join(f"{result.count(v):,} {v}" for v in shown)
    valued = {c.key for c in result.comparisons if not c.nowhere}
    nowhere = {c.key for c in result.comparisons} - valued
    counts = {
        "incomparable": result.count(Verdict.INCOMPARABLE),
        "missing": sum(c.verdict is Verdict.MISSING and c.key in valued for c in result.comparisons),
        "without a value on any side": len(nowhere),
        "implausible": len(result.implausible),
    }
    return "; ".join([line, *(f"{count:,} {what}" for what, count in counts.items() if count)])


def _by_kind(result: Result) -> dict[tuple[str, str], list[Mean]]:
    kinds: dict[tuple[str, str], list[Mean]] = {}
    for mean in result.means:
        kinds.setdefault((mean.metric, mean.clock), []).append(mean)
    return kinds


def _named(result: Result) -> Iterator[Mean]:
    """Yield the means that the answer names: the best over common cases, or all if each is over cases of its own."""
    for means in _by_kind(result).values():
        yield from [max(means, key=lambda mean: mean.ratio)] if means[0].is_common else means


def _of_means(result: Result) -> Iterator[str]:
    """Yield for each metric and clock what the best side is, over which cases, and how sure."""
    kinds = _by_kind(result)
    for mean in _named(result):
        yield _place(mean, result, len(kinds[mean.metric, mean.clock])) + _of_mean(mean, result)
    for (metric, clock), means in kinds.items():
        if not means[0].is_common:
            yield _apart(result, means, _kind(metric, clock))


def _apart(result: Result, means: Sequence[Mean], kind: str) -> str:
    """Return why there is no ranking: the sides have no common case, and some none with the baseline."""
    alone = [_short(side) for side in result.sides[1:] if side not in {mean.side for mean in means}]
    have = "has" if len(alone) == 1 else "have"
    none = f"; {' and '.join(alone)} {have} none in common with {_short(result.baseline)}" if alone else ""
    return f"No case has a value on every side, so that the sides are not ranked by {kind}{none}"


def _place(best: Mean, result: Result, contenders: int) -> str:
    if contenders == 1 or not best.is_common or best.verdict is Verdict.UNCLEAR:
        return ""
    first = f"First of {contenders + 1}: "
    return first if best.ratio > 1 else f"{first}{_short(result.baseline)}, the baseline. Next: "


def _of_mean(mean: Mean, result: Result) -> str:
    side, against, mine = _short(mean.side), _short(result.baseline), _cases(mean, result)
    if all(c.verdict is Verdict.IDENTICAL for c in mine):
        return f"{side} and {against} are the same rows"
    cases = f"{mean.cases:,} of {mean.of:,} cases" if mean.of > 1 else "the only case"
    cases += ", all on CPUs" if result.best and _is_of_cpus(mine) else ""
    over = f"{mean.interval}), {'geometric mean over' if mean.cases > 1 else 'in'} {cases}"
    over += f", {_kind(mean.metric, mean.clock)}"
    if mean.verdict is not Verdict.UNCLEAR:
        is_than = f"is {mean.change} than {against}" if " " in mean.change else f"equals {against} to three digits"
        sure = mean.word if mean.verdict is Verdict.INDICATED else f"claimed ({mean.evidence})"
        return f"{side} {is_than} ({over}: {sure}"
    unclear = f"{mean.change} ({over}; {mean.evidence}"
    if claimed := _claimed(mine, against, mean.unit):
        return f"{side} is claimed to be {claimed}; in the mean it is unclear: {unclear}"
    better, worse = words(mean.unit)
    return f"Unclear whether {side} is {better} or {worse} than {against}: {unclear}"


def _cases(mean: Mean, result: Result) -> list[Comparison]:
    """Return the comparisons over which a mean is taken."""
    kind = (mean.side, mean.metric, mean.clock, mean.unit)
    mine = [c for c in result.compared if (c.side, c.key.metric, c.key.clock, c.key.unit) == kind]
    if not mean.is_common:
        return mine
    counts = Counter(c.key for c in result.compared)
    return [c for c in mine if counts[c.key] == len(result.sides) - 1]


def _is_of_cpus(cases: Sequence[Comparison]) -> bool:
    return all(e.row.device_type == "cpu" for c in cases for e in (c.baseline, c.contender) if e)


def _claimed(cases: Sequence[Comparison], against: str, unit: str) -> str:
    """Return in how many cases something is claimed, and how large: "slower than a in 7 of 8 cases (1.2x to 1.3x)"."""
    better, worse = words(unit)
    parts: list[str] = []
    for verdict, word in {
        Verdict.FASTER: f"{better} than",
        Verdict.SLOWER: f"{worse} than",
        Verdict.SAME: "the same as",
    }.items():
        ratios = sorted(
            (c.ratio or 1.0 for c in cases if c.verdict is verdict), key=lambda ratio: max(ratio, 1 / ratio)
        )
        if ratios:
            ends = dict.fromkeys(change(ratio, unit).partition(" ")[0] for ratio in (ratios[0], ratios[-1]))
            size = "" if verdict is Verdict.SAME else f" ({' to '.join(ends)})"
            first = f"{word} {against} in {len(ratios):,} of {counted(len(cases), 'case')}"
            parts.append(f"{word.rpartition(' ')[0]} in {len(ratios):,}{size}" if parts else first + size)
    return " and ".join(parts)


def _kind(metric: str, clock: str) -> str:
    return metric if clock in {"", Clock.WALL} else f"{metric} by the {clock}'s clock"


def _best(result: Result) -> Iterator[str]:
    """Yield how often the best GPU is ahead of the best CPU, by verdicts, and by how much where that is not unclear."""
    by_kind: dict[tuple[str, str], list[Comparison]] = {}
    for best in result.best:
        c = best.comparison
        if c.key.clock in {"", Clock.WALL} and c.ratio is not None:
            by_kind.setdefault((c.key.metric, c.key.unit), []).append(c)
    for (metric, unit), mine in by_kind.items():
        counts = Counter(_standing(c) for c in mine)
        decided = [c for c in mine if _standing(c) in {"ahead", "behind"}]
        shown = ("ahead", "behind", *(["the same"] if counts["the same"] else []), "unclear")
        standing = ", ".join(f"{word} in {counts[word]:,}" for word in shown)
        of = f"{counted(len(mine), 'piece')} of work that both have"
        where = "" if len(decided) == len(mine) else "where ahead or behind "
        how_far = f"; {where}{_how_far(decided, unit)}" if decided else ""
        yield f"The best GPU against the best CPU, {metric}: {standing} of {of}{how_far}"


def _standing(c: Comparison) -> str:
    if c.verdict in {Verdict.SAME, Verdict.IDENTICAL}:
        return "the same"
    if c.verdict is Verdict.UNCLEAR:
        return "unclear"
    return "ahead" if (c.ratio or 1.0) > 1 else "behind"


def _how_far(decided: Sequence[Comparison], unit: str) -> str:
    """Return the range of the changes that are at least indicated, and the weakest step of the ladder among them."""
    ratios = [c.ratio or 1.0 for c in decided]
    ends = dict.fromkeys(change(ratio, unit) for ratio in (min(ratios), max(ratios)))
    middle = f", median {change(median(ratios), unit)}" if len(ratios) > 2 else ""
    indicated = sum(c.verdict is Verdict.INDICATED for c in decided)
    step = "claimed" if not indicated else "indicated" if indicated == len(decided) else f"{indicated:,} only indicated"
    return f"{' to '.join(ends)}{middle} ({step})"


def _short(text: str) -> str:
    return printable(text, 80)
