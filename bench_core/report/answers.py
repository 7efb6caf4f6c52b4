"""The answers to the claims (analysis/claims.py) as texts: a few lines for each claim, and the rows behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench_core.analysis import claims, figures, over_ranks
from bench_core.analysis.claims import MOVING, Answer, Evidence, answers
from bench_core.analysis.families import Family
from bench_core.analysis.figures import MeanSpeedup, Speedup
from bench_core.analysis.report_data import ReportData, best_of
from bench_core.analysis.sides import Contender, Kind
from bench_core.compare.ratio import FEWEST_RUNS
from bench_core.compare.result import CLAIMS, Verdict
from bench_core.records import Row, Scope
from bench_core.report.charts import how, value
from bench_core.results.scaling import STRONG
from bench_core.text import printable
from bench_core.units import counted, show, significant

MOST_LINES = 6  # of one claim
MOST_CONTENDERS = 2  # of which each has a line of its own; of more, only the fastest has
NOUNS = {"token": "tokens", "tokens": "tokens", "sample": "samples", "samples": "samples"}  # by the start of a metric
HEADERS = (
    *("Work", "Metric", "Size", "Side", "Median (interval)", "Compared value", "Implementation", "Device"),
    *("Ratio", "Interval of the ratio", "Verdict"),
)
CROSSED = ("Work", "GPU", "Crossover")
SCALED = (
    *("Work", "Scaling", "Side", "Ranks", "Efficiency (interval)", "Speed-up (interval)", "Time of one call"),
    *("Exposed communication", "Implementation", "Device"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One number that answers a claim.

    of: the arithmetic, and the metric if there are several. verdict: its step on the ladder; "" if nothing is compared.
    """

    value: str
    of: str
    verdict: str
    about: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A claim with its answer. needs: what is missing if there is none.

    headers, numbers: the rows on which the lines rest, as a table. caption: that of the table, which says what the
    lines leave out.
    """

    heading: str
    needs: str
    lines: tuple[Line, ...]
    caption: str
    headers: tuple[str, ...]
    numbers: tuple[tuple[str, ...], ...]


def answered(data: ReportData) -> list[Answered]:
    """Return all claims with their answers, in a fixed order."""
    return [_answered(data, answer) for answer in answers(data)]


def of_each_workload(data: ReportData) -> list[Answered]:
    """Return the numbers of every workload, for runs that answer no claim."""
    return [_answered(data, answer) for answer in claims.of_each_workload(data)]


def _answered(data: ReportData, answer: Answer) -> Answered:
    headers: tuple[str, ...] = HEADERS
    numbers: list[tuple[str, ...]] = [line for evidence in answer.evidence for line in _numbers(data, evidence)]
    lines = _lines(data, answer)
    if answer.crossed:
        headers = CROSSED
        numbers = [(c.family.label, c.contender.label, c.text) for c in answer.crossed]
        lines = [_crossing(c, several=len(data.gpus) > 1) for c in answer.crossed]
    if answer.scaled:
        headers = SCALED
        points = [(s, curve, row) for s in answer.scaled for curve in s.curves for _, row in curve.points]
        numbers = [scaling_numbers(data, s, curve, row) for s, curve, row in points]
        lines = [_scaled(data, s, curve) for s in answer.scaled for curve in over_ranks.best_of_each_target(s.curves)]
    text, needs = answer.statement.text, answer.statement.needs
    heading = text[0].upper() + text[1:] if needs else text
    shown = tuple(lines[:MOST_LINES])
    caption = _caption(data, answer, len(lines) - len(shown))
    filled = [place for place in range(len(headers)) if any(line[place] for line in numbers)]
    table = [tuple(line[place] for place in filled) for line in (headers, *numbers)]
    return Answered(heading, "" if lines else needs, shown, caption, table[0], tuple(table[1:]))


def _caption(data: ReportData, answer: Answer, left: int) -> str:
    """Return the caption of the rows behind an answer. left: how many lines are not shown."""
    caption = f"and {left} more; " * bool(left) + "the rows behind it"
    contenders = {s.contender for e in answer.evidence for s in e.speedups}
    if len(contenders) > MOST_CONTENDERS:
        kind = _kind(data)
        caption += f", of all {len(contenders) + (kind is not Kind.GPU)} {kind}s"
    groups = [found for found in _groups(answer).values() if any(e.speedups for e in found)]
    if lonely := sum(not e.speedups for found in groups for e in found):
        caption += f", and {counted(lonely, 'kind')} of work that one side alone has"
    return caption


def how_compared(data: ReportData) -> str:
    """Return what the answers compare with what, and what the words of their verdicts mean."""
    if not data.sides:
        alone = "one backend has values, on one device"
        if len(data.contenders) > 1 or len({row.backend for row in data.rows if row.has_value}) > 1:
            alone = f"no piece of work has a value on two of these {'devices' if data.contenders[1:] else 'backends'}"
        return f"Values are medians. No sides are compared: {alone}."
    sides = data.sides[0]
    elsewhere = " (where that has none, the fastest of the machine that is named)" if len(data.machines) > 1 else ""
    compared = {
        Kind.GPU: f"Each GPU is compared with the fastest CPU row of its own machine{elsewhere}.",
        Kind.MACHINE: f"Each machine is compared with {sides.against}, by the fastest row of each.",
        Kind.BACKEND: f"Each backend is compared with {sides.against}, by the fastest row of each.",
    }
    return (
        f"{compared[sides.kind]} Ratios, and the values beside them, are {figures.of_which(data)}; other values are "
        "medians. A difference beyond the spread between processes (for a single run an assumed one) is indicated, any "
        f"other is unclear; neither is a claim. {_of_claims(data)}"
    )


def _of_claims(data: ReportData) -> str:
    """Return what these runs lack for claims, or if nothing, on what claims rest."""
    found = (c for sides in data.sides for pairs in data.compared(sides).values() for _, c in pairs)
    lacking = dict.fromkeys(c.lacking for c in found if c.lacking)
    needed = "; for other ratios ".join(lacking)
    needed = needed or f"a claim rests on {FEWEST_RUNS} pairs of runs, or as many runs of each machine"
    return f"{needed[0].upper()}{needed[1:]}."


def step(verdict: Verdict) -> str:
    """Return the step of the ladder on which a verdict stands."""
    return "claim" if verdict in CLAIMS else str(verdict)


def _crossing(c: figures.Crossover, *, several: bool) -> Line:
    who = f"{c.contender.label} " if several else "GPU "
    verdict = "" if c.row is None else "claim" if c.claimed else str(Verdict.INDICATED)
    return Line(f"{who}{c.text.removesuffix(' (indicated)')}", c.family.label, verdict, "")


def _scaled(data: ReportData, s: over_ranks.Scaling, curve: over_ranks.Curve) -> Line:
    """Return how well a work scales to the most ranks that it was measured on."""
    row = curve.last
    shared = data.same(row, over_ranks.EFFICIENCY)
    said = f"{significant(row.value or 0.0)}x" if s.kind == STRONG else f"{significant(100 * (row.value or 0.0))} %"
    about = f"{s.work} on {row.ranks} ranks of {curve.contender.label} ({how(row)})"
    about += f": {over_ranks.percent(shared)} of {row.ranks} times one"
    time, exposed = data.same(row, "time"), data.same(row, "exposed_communication")
    if exposed.metric != row.metric:
        about += f"; exchanging adds {value(exposed)} to a call of {show(time.value, time.unit)}"
    return Line(said, f"{s.kind} scaling", "", about)


def scaling_numbers(data: ReportData, s: over_ranks.Scaling, curve: over_ranks.Curve, row: Row) -> tuple[str, ...]:
    """Return the cells of SCALED for one point of a curve."""
    texts = [
        value(there) if there.metric == metric else ""
        for metric in (over_ranks.EFFICIENCY, "speedup", "time", "exposed_communication")
        for there in [data.same(row, metric)]
    ]
    return (s.work, s.kind, curve.contender.label, f"{row.ranks}", *texts, how(row), _device(row))


def _lines(data: ReportData, answer: Answer) -> list[Line]:
    """Return a line for each metric and arithmetic, those with a ratio first; if there is none, for each work."""
    several = len({(e.metric, e.family.scope) for e in answer.evidence}) > 1
    compared: list[Line] = []
    alone: list[Line] = []
    for (metric, scope, arithmetic), found in _groups(answer).items():
        what = "with the transfer of its data" if scope == Scope.END_TO_END else metric.replace("_", " ")
        of = f"{arithmetic}, {what}" if several else arithmetic
        means = figures.means([s for e in found for s in e.speedups])
        among = len({mean.contender for mean in means})
        if among > MOST_CONTENDERS:
            means = [figures.fastest(means)]
        compared += [_compared(data, mean, of, among) for mean in means]
        by_work: dict[str, list[Evidence]] = {}
        for e in [] if means else found:
            by_work.setdefault(e.family.name, []).append(e)
        alone += [_alone(data, same, of, moved=answer.statement is MOVING) for same in by_work.values()]
    return [*compared, *alone]


def _groups(answer: Answer) -> dict[tuple[str, str, str], list[Evidence]]:
    """Return what is put into one mean, by metric, scope and arithmetic."""
    groups: dict[tuple[str, str, str], list[Evidence]] = {}
    for e in answer.evidence:
        groups.setdefault((e.metric, e.family.scope, e.family.arithmetic), []).append(e)
    return groups


def _compared(data: ReportData, mean: MeanSpeedup, of: str, among: int) -> Line:
    """Return a mean with the ratio that is nearest to it. among: of how many contenders it may be the fastest."""
    s = mean.example
    base, own = s.values
    where = _work(data, s.family, s.row)
    if len(mean.of) > 1:
        where = f"geometric mean of {len(mean.of)} kinds of work; for example {where}, {s.comparison.change}"
    about = f"{where}: {_shown(own, s.row)}{_form(data, s.row)} against {_shown(base, s.base)}{_form(data, s.base)}"
    if _kind(data) is Kind.GPU and not mean.is_at_home:
        about += f" of {mean.base_machine}"
    if among > MOST_CONTENDERS:
        about = f"the fastest of {among}; {about}"
    return Line(f"{_who(data, mean.contender)} {mean.change}", of, step(mean.verdict), about)


def _alone(data: ReportData, found: Sequence[Evidence], of: str, *, moved: bool) -> Line:
    """Return the best row of a work with nothing to compare it with. moved: whether it is that of a transfer."""
    row = best_of([row for e in found for row in e.alone])
    (evidence, *_) = [e for e in found if row in e.alone]
    contender = data.contender(row)
    about = f"{_work(data, evidence.family, row)}: {how(row)}"
    if contender and len(data.contenders) > 1 and (len(evidence.alone) > 1 or (moved and len(data.gpus) > 1)):
        about += f" on {_who(data, contender)}"
    if contender and (memory := data.memory(contender)) and moved and row.unit == memory.unit and row.value:
        ratio = significant((memory.value or 0.0) / row.value)
        about += f"; its own memory: {show(memory.value, memory.unit)}, {ratio} times as much"
    elif data.sides and not moved:
        about += f"; {_why_alone(data, evidence.alone)}"
    return Line(_shown(row.value, row), of, "", about)


def _why_alone(data: ReportData, rows: Sequence[Row]) -> str:
    """Return which side has no value in a case, and of how many that have one the best is shown."""
    sides, (first, *others) = data.sides[0], rows
    holders = {sides.side(row) for row in rows}
    if not others:
        who = data.contender(first)
        return f"only {first.backend if sides.kind is Kind.BACKEND or not who else _who(data, who)} has a value"
    why = f"{sides.against} has no value"
    if sides.kind is Kind.GPU:
        why = "no GPU has a value" if holders == {sides.against} else "no CPU has a value"
    if sides.against in holders and len(holders) > 1:
        why = "they count this work in different ways"
    return f"the best of {len(rows)}; {why}"


def _work(data: ReportData, family: Family, row: Row) -> str:
    """Return a work with its size, and what its name is short for."""
    short_for = printable(data.traits(family).short_for)
    words = [family.name, f"({short_for})" * bool(short_for), row.size, family.variant]
    return " ".join(filter(None, words))


def _form(data: ReportData, row: Row) -> str:
    """Return who did the work, unless that is the plain form of a library."""
    if row.implementation == "default":
        return ""
    return f" ({row.implementation if _kind(data) is Kind.BACKEND else row.who})"


def _kind(data: ReportData) -> Kind:
    """Return what is compared; GPUs if no sides are: with themselves, by data that is there or must be moved."""
    return data.sides[0].kind if data.sides else Kind.GPU


def _who(data: ReportData, contender: Contender) -> str:
    """Return the label of a contender, "GPU" for the only GPU of these runs."""
    is_only = contender.is_gpu and not contender.backend and len(data.gpus) == 1
    return "GPU" if is_only else contender.label


def _shown(amount: float | None, row: Row) -> str:
    """Return a value in the metric of a row with its unit, in which tokens and samples are named: "513 k tokens/s"."""
    noun = row.metric.partition("_")[0]
    text = show(amount, row.unit)
    if noun in NOUNS and row.unit in ("1/s", "1/J"):
        per = row.unit.removeprefix("1")
        return f"{text.removesuffix(per).rstrip()} {NOUNS[noun]}{per}"
    return text


def _numbers(data: ReportData, evidence: Evidence) -> Iterable[tuple[str, ...]]:
    """Yield the rows behind an answer: of the comparisons with one machine the baseline first."""
    work = evidence.family.label, evidence.metric.replace("_", " ")
    by_base: dict[str, list[Speedup]] = {}
    for s in evidence.speedups:
        by_base.setdefault(s.base.machine, []).append(s)
    for several in by_base.values():
        base = several[0].base
        at = show(several[0].values[0], base.unit)
        yield (*work, base.size, several[0].against, value(base), at, how(base), _device(base), "baseline", "", "")
        for s in several:
            c, at = s.comparison, show(s.values[1], s.row.unit)
            side = s.contender.label, value(s.row), at, how(s.row), _device(s.row)
            yield (*work, s.row.size, *side, c.change, c.interval, c.word)
    for row in evidence.alone:
        who = contender.label if (contender := data.contender(row)) else ""
        who = row.backend if _kind(data) is Kind.BACKEND else who
        yield (*work, row.size, who, value(row), "", how(row), _device(row), "", "", "")


def _device(row: Row) -> str:
    return " ".join(filter(None, (row.machine, row.device)))
