"""The checks of --fail-on: which cases breach a gate, and on which it cannot decide."""

from __future__ import annotations

from collections.abc import Sequence

from bench_core.compare.labels import label, label_fields, row_name
from bench_core.compare.options import CompareOptions
from bench_core.compare.result import CLAIMS, Comparison, Gate, Outcome, Support, Verdict
from bench_core.errors import NothingToCompare
from bench_core.records import Status
from bench_core.results.table import Table


def judged(
    comparisons: Sequence[Comparison], tables: Sequence[Table], implausible: Sequence[str], options: CompareOptions
) -> tuple[Gate, ...]:
    """Return the outcome of each gate of the options, those that failed first.

    Raises NothingToCompare if there is no case to check for a regression.
    """
    found = []
    if "regression" in options.fail_on:
        found.append(_regression([c for c in comparisons if c.ratio is not None], options))
    if "missing" in options.fail_on:
        had = [c for c in comparisons if c.baseline and c.baseline.ok]
        names = _names(had, options.rows)
        lost = tuple(names[id(c)] for c in had if c.ratio is None)
        found.append(Gate("missing", "without a comparable value any more", len(had), lost))
    if "invalid" in options.fail_on:
        are_invalid = (table.only(table.mask("status", Status.INVALID.__eq__)) for table in tables)
        invalid = tuple(row_name(row) for rows in are_invalid for row in rows)
        found.append(Gate("invalid", "wrong or implausible", sum(map(len, tables)), (*invalid, *implausible)))
    outcomes = list(Outcome)
    found.sort(key=lambda gate: (outcomes.index(gate.outcome), options.fail_on.index(gate.name)))
    return tuple(found)


def _regression(compared: Sequence[Comparison], options: CompareOptions) -> Gate:
    """Return the outcome of the gate "regression".

    The claim that a case is not slower by the threshold is enough: its interval need not be as narrow as for `same`.
    """
    if not compared:
        raise NothingToCompare("--fail-on regression: no case has a value on both sides, so nothing was checked")
    names, threshold = _names(compared, options.rows), options.threshold
    slower = tuple(names[id(c)] for c in compared if is_regression(c, threshold))
    left = [c for c in compared if not _is_decided(c, threshold)]
    undecided = tuple(names[id(c)] for c in left)
    reason = left[0].reason if left else ""
    return Gate("regression", f"slower by {100 * threshold:g} % or more", len(compared), slower, undecided, reason)


def is_regression(c: Comparison, threshold: float) -> bool:
    """Return whether a case breaches a threshold such as 0.10: it is claimed to be slower, by at least that much."""
    return c.ratio is not None and c.verdict is Verdict.SLOWER and c.ratio <= 1 / (1 + threshold)


def _is_decided(c: Comparison, threshold: float) -> bool:
    """Return whether a case is claimed to be faster, slower or the same, or its interval excludes the threshold."""
    excludes = (
        c.support is Support.CLAIM and c.verdict is not Verdict.IDENTICAL and (c.ci_low or 0) > 1 / (1 + threshold)
    )
    return c.verdict in CLAIMS or excludes


def _names(comparisons: Sequence[Comparison], chosen: Sequence[str]) -> dict[int, str]:
    """Return the name of each comparison by its id: what tells the cases apart, and the side if there are several."""
    fields, _ = label_fields([c.key for c in comparisons], chosen)
    several = len({c.side for c in comparisons}) > 1
    return {id(c): label(c.key, fields) + f" on {c.side}" * several for c in comparisons}
