"""The checks of --fail-on: one line for each breached gate, and why a gate could not decide."""

from __future__ import annotations

from collections.abc import Sequence

from bench_core.compare.options import CompareOptions
from bench_core.compare.result import CLAIMS, Comparison, Support, Verdict
from bench_core.errors import NothingToCompare
from bench_core.records import Row


def breaches(
    comparisons: Sequence[Comparison], rows: Sequence[Row], implausible: Sequence[str], options: CompareOptions
) -> tuple[str, ...]:
    """Return a line for each breached gate; raises NothingToCompare if there is nothing to check for a regression."""
    lines = []
    if "regression" in options.fail_on:
        if not any(c.ratio is not None for c in comparisons):
            raise NothingToCompare("--fail-on regression: no case has a value on both sides, so nothing was checked")
        slower = [c for c in comparisons if is_regression(c, options.threshold)]
        lines += _line("regression", f"slower by {100 * options.threshold:g} % or more", [_name(c) for c in slower])
    if "missing" in options.fail_on:
        lost = [c for c in comparisons if c.ratio is None and c.baseline and c.baseline.ok]
        lines += _line("missing", "no comparable value any more", [_name(c) for c in lost])
    if "invalid" in options.fail_on:
        invalid = [f"{r.machine} {r.workload} {r.size} {r.backend}" for r in rows if r.status == "invalid"]
        lines += _line("invalid", "wrong or implausible", [*invalid, *implausible])
    return tuple(lines)


def _is_decided(c: Comparison, threshold: float) -> bool:
    """Return whether a case is claimed to be faster, slower or the same, or its interval excludes the threshold."""
    excludes = (
        c.support is Support.CLAIM and c.verdict is not Verdict.IDENTICAL and (c.ci_low or 0) > 1 / (1 + threshold)
    )
    return c.verdict in CLAIMS or excludes


def is_regression(c: Comparison, threshold: float) -> bool:
    """Return whether a case breaches a threshold such as 0.10: it is claimed to be slower, by at least that much."""
    return c.ratio is not None and c.verdict is Verdict.SLOWER and c.ratio <= 1 / (1 + threshold)


def undecided(comparisons: Sequence[Comparison], options: CompareOptions) -> str:
    """Return why the regression gate neither passes nor fails, "" if it does: no case supports a claim.

    The claim that a case is not slower by the threshold is enough: its interval need not be as narrow as for `same`.
    """
    left, compared = _left(comparisons, options)
    return f"regression: no case supports a claim: {left[0].reason}" if left and len(left) == compared else ""


def undecided_cases(comparisons: Sequence[Comparison], options: CompareOptions) -> tuple[str, ...]:
    """Return a line with the number of cases on which the regression gate could not decide, if it did on others."""
    left, compared = _left(comparisons, options)
    if not left or len(left) == compared:
        return ()
    return (f"the regression gate could not decide {len(left)} of {compared} cases: {left[0].reason}",)


def _left(comparisons: Sequence[Comparison], options: CompareOptions) -> tuple[list[Comparison], int]:
    """Return the cases on which the regression gate cannot decide, and the number of those that were compared."""
    compared = [c for c in comparisons if c.ratio is not None and "regression" in options.fail_on]
    return [c for c in compared if not _is_decided(c, options.threshold)], len(compared)


def _line(gate: str, what: str, names: Sequence[str]) -> list[str]:
    cases = "case" if len(names) == 1 else "cases"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{gate}: {len(names)} {cases} {what}: {'; '.join(names[:3])}{more}"] if names else []


def _name(c: Comparison) -> str:
    return f"{c.key.workload} {c.key.size} {c.key.dtype} {c.side}"
