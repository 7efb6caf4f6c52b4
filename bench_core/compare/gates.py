"""The checks of --fail-on: one line for each breached gate."""

from __future__ import annotations

from collections.abc import Sequence

from bench_core.compare.options import CompareOptions
from bench_core.compare.result import SINGLE_RUN, Comparison, Verdict
from bench_core.errors import NothingToCompare
from bench_core.records import Row


def breaches(
    comparisons: Sequence[Comparison], rows: Sequence[Row], implausible: Sequence[str], options: CompareOptions
) -> tuple[str, ...]:
    """Return a line for each breached gate; raises NothingToCompare if the regression gate has no ratio to check."""
    if "regression" in options.fail_on and all(c.ratio is None for c in comparisons):
        raise NothingToCompare("--fail-on regression: no case has a value on both sides, so nothing was checked")
    lines = []
    if "regression" in options.fail_on:
        slower = [c for c in comparisons if is_regression(c, options.threshold)]
        lines += _line("regression", f"slower by {100 * options.threshold:g} % or more", [_name(c) for c in slower])
    if "missing" in options.fail_on:
        lost = [c for c in comparisons if c.ratio is None and c.baseline and c.baseline.ok]
        lines += _line("missing", "no comparable value any more", [_name(c) for c in lost])
    if "invalid" in options.fail_on:
        invalid = [f"{r.machine} {r.workload} {r.size} {r.backend}" for r in rows if r.status == "invalid"]
        lines += _line("invalid", "wrong or implausible", [*invalid, *implausible])
    return tuple(lines)


def is_regression(c: Comparison, threshold: float) -> bool:
    """Return whether a comparison breaches a threshold such as 0.10.

    With several runs per side, the contender must be significantly slower, by at least the threshold. With one
    run per side no test is possible, so the whole widened interval must lie beyond the threshold.
    """
    if c.ratio is None or c.ci_high is None:
        return False
    limit = 1 / (1 + threshold)
    return c.ci_high < limit if c.label == SINGLE_RUN else c.verdict is Verdict.SLOWER and c.ratio <= limit


def blind_spot(comparisons: Sequence[Comparison], options: CompareOptions) -> tuple[str, ...]:
    """Return a note if the regression gate would miss smaller slowdowns because cases have one run per side."""
    single = [c for c in comparisons if c.label == SINGLE_RUN and c.ratio and c.ci_high]
    if "regression" not in options.fail_on or not single:
        return ()
    widest = max((c.ci_high or 1) / (c.ratio or 1) for c in single) * (1 + options.threshold)
    limited = f"{len(single)} cases have one run on a side, where it detects only slowdowns of {widest:.2f}x or more"
    return (f"the regression gate is insensitive: {limited}; use several runs",)


def _line(gate: str, what: str, names: Sequence[str]) -> list[str]:
    cases = "case" if len(names) == 1 else "cases"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{gate}: {len(names)} {cases} {what}: {'; '.join(names[:3])}{more}"] if names else []


def _name(c: Comparison) -> str:
    return f"{c.key.workload} {c.key.size} {c.key.dtype} {c.side}"
