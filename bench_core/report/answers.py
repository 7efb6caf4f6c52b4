"""The answers to the claims (analysis/claims.py) as texts: a few lines for each claim, and the rows behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench_core.analysis import figures
from bench_core.analysis.claims import Answer, Evidence, answers
from bench_core.analysis.figures import MeanSpeedup
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Kind
from bench_core.compare.ratio import FEWEST_RUNS
from bench_core.compare.result import CLAIMS, Verdict
from bench_core.records import Row, Scope
from bench_core.report.charts import how, value
from bench_core.units import show

MOST_LINES = 6  # of one claim
MOST_CONTENDERS = 2  # of which each has a line of its own; of more, only the fastest has
HEADERS = ("Work", "Size", "Side", "Value (interval)", "By", "Device", "Result", "Interval", "Verdict")
CROSSED = ("Work", "GPU", "Result")


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
    """A claim with its answer. needs: what is missing if there is none. left: how many lines are left out.

    headers, numbers: the rows on which the lines rest, as a table.
    """

    heading: str
    needs: str
    lines: tuple[Line, ...]
    left: int
    headers: tuple[str, ...]
    numbers: tuple[tuple[str, ...], ...]


def answered(data: ReportData) -> list[Answered]:
    """Return all claims with their answers, in a fixed order."""
    return [_answered(data, answer) for answer in answers(data)]


def _answered(data: ReportData, answer: Answer) -> Answered:
    if answer.crossed:
        lines = [_crossing(c, several=len(data.gpus) > 1) for c in answer.crossed]
        numbers = [(c.family.label, c.contender.label, c.text) for c in answer.crossed]
        headers = CROSSED
    else:
        metrics = {(e.metric, e.family.scope) for e in answer.evidence}
        lines = _lines(answer.evidence, named=len(metrics) > 1)
        numbers = [line for evidence in answer.evidence for line in _numbers(data, evidence)]
        headers = HEADERS
    text, needs = answer.statement.text, answer.statement.needs
    heading = text[0].upper() + text[1:]
    shown = tuple(lines[:MOST_LINES])
    return Answered(heading, "" if lines else needs, shown, len(lines) - len(shown), headers, tuple(numbers))


def how_compared(data: ReportData) -> str:
    """Return what the answers compare with what, and what the words of their verdicts mean."""
    if not data.sides:
        return "There is nothing to compare with: one device with one backend was measured."
    sides = data.sides[0]
    compared = {
        Kind.GPU: "Each GPU is compared with the fastest CPU row of all these runs.",
        Kind.MACHINE: f"Each machine is compared with {sides.against}, by the fastest row of each.",
        Kind.BACKEND: f"Each backend is compared with {sides.against}, by the fastest row of each.",
    }
    return (
        f"{compared[sides.kind]} A claim rests on {FEWEST_RUNS} pairs of runs, or as many runs of each machine. With fewer"
        ", a difference beyond the spread between processes is indicated, otherwise it is unclear."
    )


def step(verdict: Verdict) -> str:
    """Return the step of the ladder on which a verdict stands."""
    return "claim" if verdict in CLAIMS else str(verdict)


def _crossing(c: figures.Crossover, *, several: bool) -> Line:
    who = f"{c.contender.label} " if several else "GPU "
    verdict = "" if c.row is None else "claim" if c.claimed else str(Verdict.INDICATED)
    return Line(f"{who}{c.text.removesuffix(' (indicated)')}", c.family.label, verdict, "")


def _lines(evidence: Sequence[Evidence], *, named: bool) -> list[Line]:
    """Return a line for each metric and arithmetic. named: whether the lines name the metric."""
    groups: dict[tuple[str, str, str], list[Evidence]] = {}
    for e in evidence:
        groups.setdefault((e.metric, e.family.scope, e.family.arithmetic), []).append(e)
    lines: list[Line] = []
    for (metric, scope, arithmetic), several in groups.items():
        what = "with the transfer of its data" if scope == Scope.END_TO_END else metric.replace("_", " ")
        of = f"{arithmetic}, {what}" if named else arithmetic
        means = figures.means([s for e in several for s in e.speedups])
        if len(means) > MOST_CONTENDERS:
            means = [max(means, key=lambda mean: mean.ratio)]
        lines += [_compared(mean, of) for mean in means]
        if not means:
            lines.append(_alone([(e, row) for e in several for row in e.alone], of))
    return lines


def _compared(mean: MeanSpeedup, of: str) -> Line:
    first = mean.of[0]
    sides = " against ".join(show(row.value, row.unit) for row in (first.row, first.base))
    about = f"{first.family.workload} {first.row.size}: {sides}"
    if len(mean.of) > 1:
        about = f"geometric mean of {len(mean.of)} kinds of work; {about}"
    return Line(f"{mean.contender.label} {mean.change}", of, step(mean.verdict), about)


def _alone(found: Sequence[tuple[Evidence, Row]], of: str) -> Line:
    sign = 1.0 if found[0][1].better == "lower" else -1.0
    _, row = min(found, key=lambda item: sign * (item[1].value or 0.0))
    return Line(show(row.value, row.unit), of, "", f"{row.workload} {row.size}: {how(row)}; nothing to compare with")


def _numbers(data: ReportData, evidence: Evidence) -> Iterable[tuple[str, ...]]:
    """Yield the rows behind an answer: of each comparison the baseline first."""
    label = evidence.family.label
    for s in evidence.speedups[:1]:
        yield (label, s.base.size, s.against, value(s.base), how(s.base), _device(s.base), "baseline", "", "")
    for s in evidence.speedups:
        c = s.comparison
        yield (
            label,
            s.row.size,
            s.contender.label,
            value(s.row),
            how(s.row),
            _device(s.row),
            c.change,
            c.interval,
            c.word,
        )
    for row in evidence.alone:
        contender = data.contender(row)
        yield (label, row.size, contender.label if contender else "", value(row), how(row), _device(row), "", "", "")


def _device(row: Row) -> str:
    return " ".join(filter(None, (row.machine, row.device)))
