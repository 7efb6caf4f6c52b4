"""The answers to the claims (analysis/claims.py) as texts: a few lines for each claim, and the rows behind them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench_core.analysis import figures
from bench_core.analysis.claims import MOVING, Answer, Evidence, answers
from bench_core.analysis.figures import MeanSpeedup
from bench_core.analysis.report_data import ReportData, best_of
from bench_core.analysis.sides import Contender, Kind
from bench_core.compare.ratio import FEWEST_RUNS
from bench_core.compare.result import CLAIMS, Verdict
from bench_core.records import Row, Scope
from bench_core.report.charts import how, value
from bench_core.units import show, significant

MOST_LINES = 6  # of one claim
MOST_CONTENDERS = 2  # of which each has a line of its own; of more, only the fastest has
NOUNS = {"token": "tokens", "tokens": "tokens", "sample": "samples", "samples": "samples"}  # by the start of a metric
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
    headers: tuple[str, ...] = HEADERS
    numbers: list[tuple[str, ...]] = [line for evidence in answer.evidence for line in _numbers(data, evidence)]
    lines = _lines(data, answer)
    if answer.crossed:
        headers = CROSSED
        numbers = [(c.family.label, c.contender.label, c.text) for c in answer.crossed]
        lines = [_crossing(c, several=len(data.gpus) > 1) for c in answer.crossed]
    text, needs = answer.statement.text, answer.statement.needs
    heading = text[0].upper() + text[1:]
    shown = tuple(lines[:MOST_LINES])
    return Answered(heading, "" if lines else needs, shown, len(lines) - len(shown), headers, tuple(numbers))


def how_compared(data: ReportData) -> str:
    """Return what the answers compare with what, and what the words of their verdicts mean."""
    if not data.sides and len(data.contenders) > 1:
        return "Values are medians. Nothing is compared: no piece of work has a value on two of these devices."
    if not data.sides:
        return "Values are medians. Nothing is compared: one backend has values, on one device."
    sides = data.sides[0]
    compared = {
        Kind.GPU: "Each GPU is compared with the fastest CPU row of all these runs.",
        Kind.MACHINE: f"Each machine is compared with {sides.against}, by the fastest row of each.",
        Kind.BACKEND: f"Each backend is compared with {sides.against}, by the fastest row of each.",
    }
    return (
        f"{compared[sides.kind]} Values are medians; ratios are of the p10 of each process, as in bench-core compare. "
        f"A claim rests on {FEWEST_RUNS} pairs of runs, or as many runs of each machine. With fewer, a difference "
        "beyond the spread between processes is indicated, otherwise it is unclear."
    )


def step(verdict: Verdict) -> str:
    """Return the step of the ladder on which a verdict stands."""
    return "claim" if verdict in CLAIMS else str(verdict)


def _crossing(c: figures.Crossover, *, several: bool) -> Line:
    who = f"{c.contender.label} " if several else "GPU "
    verdict = "" if c.row is None else "claim" if c.claimed else str(Verdict.INDICATED)
    return Line(f"{who}{c.text.removesuffix(' (indicated)')}", c.family.label, verdict, "")


def _lines(data: ReportData, answer: Answer) -> list[Line]:
    """Return a line for each metric and arithmetic, those with a ratio first."""
    several = len({(e.metric, e.family.scope) for e in answer.evidence}) > 1
    groups: dict[tuple[str, str, str], list[Evidence]] = {}
    for e in answer.evidence:
        groups.setdefault((e.metric, e.family.scope, e.family.arithmetic), []).append(e)
    compared: list[Line] = []
    alone: list[Line] = []
    for (metric, scope, arithmetic), found in groups.items():
        what = "with the transfer of its data" if scope == Scope.END_TO_END else metric.replace("_", " ")
        of = f"{arithmetic}, {what}" if several else arithmetic
        means = figures.means([s for e in found for s in e.speedups])
        if len(means) > MOST_CONTENDERS:
            means = [max(means, key=lambda mean: mean.ratio)]
        compared += [_compared(data, mean, of) for mean in means]
        if not means:
            rows = [row for e in found for row in e.alone]
            by_work = [[r for r in rows if r.workload == name] for name in dict.fromkeys(row.workload for row in rows)]
            # Two directions of a transfer are two answers; of other work the best is the answer.
            apart = by_work if answer.statement is MOVING else [rows]
            alone += [_alone(data, best_of(group), of, moved=answer.statement is MOVING) for group in apart]
    return [*compared, *alone]


def _compared(data: ReportData, mean: MeanSpeedup, of: str) -> Line:
    first = mean.of[0]
    about = f"{first.family.workload} {first.row.size}: {shown(first.row)} against {shown(first.base)}"
    if data.sides[0].kind is Kind.GPU and first.row.machine != first.base.machine:
        about += f" of {first.base.machine}"
    if len(mean.of) > 1:
        about = f"geometric mean of {len(mean.of)} kinds of work; {about}"
    return Line(f"{_who(data, mean.contender)} {mean.change}", of, step(mean.verdict), about)


def _alone(data: ReportData, row: Row, of: str, *, moved: bool) -> Line:
    """Return a value with nothing to compare it with. moved: whether it is that of a transfer."""
    contender = data.contender(row)
    about = f"{row.workload} {row.size}: {how(row)}" + f" of {row.machine}" * (len(data.machines) > 1)
    if contender and (memory := data.memory(contender)) and moved and row.unit == memory.unit and row.value:
        ratio = significant((memory.value or 0.0) / row.value)
        about += f"; its own memory: {show(memory.value, memory.unit)}, {ratio} times as much"
    elif data.sides:
        only = row.backend if data.sides[0].kind is Kind.BACKEND else _who(data, contender) if contender else row.device
        about += f"; only {only} has a value"
    return Line(shown(row), of, "", about)


def _who(data: ReportData, contender: Contender) -> str:
    """Return the label of a contender, "GPU" for the only GPU of these runs."""
    return "GPU" if contender.is_gpu and len(data.gpus) == 1 else contender.label


def shown(row: Row) -> str:
    """Return the value of a row with its unit, in which tokens and samples are named: "513 k tokens/s"."""
    noun = row.metric.partition("_")[0]
    text = show(row.value, row.unit)
    if noun in NOUNS and row.unit in ("1/s", "1/J"):
        per = row.unit.removeprefix("1")
        return f"{text.removesuffix(per).rstrip()} {NOUNS[noun]}{per}"
    return text


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
