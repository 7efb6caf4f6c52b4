"""Render a comparison for programs: tidy CSV with one line per comparison, or JSON with everything."""

from __future__ import annotations

import json
from typing import Any

from bench_core.compare.result import QUANTITY, WHO, WORK, Comparison, Difference, Entry, Gate, InputFile, Result
from bench_core.results.strict_csv import csv_text

COMPARISON_VERSION = 2  # 1 had no "indicated", "identical" and "evidence", and had "label"
_WORK = ("case_id", *WORK, *QUANTITY)
COLUMNS = (
    *("comparison_version", "baseline", "contender", *_WORK, *(name for name in WHO if name != "device_type")),
    *("baseline_name", "baseline_value", "baseline_ci_low", "baseline_ci_high", "baseline_processes"),
    *("contender_name", "contender_value", "contender_ci_low", "contender_ci_high", "contender_processes"),
    *("ratio", "ci_low", "ci_high", "confidence", "change", "verdict", "evidence", "reason"),
    *("p", "p_adjusted", "method", "basis", "conditions", "doubts"),
)


def as_csv(result: Result) -> str:
    """Return the comparisons as CSV. `ratio` is how many times better the contender is, empty if there is none."""
    return csv_text(COLUMNS, (map(_plain(c).__getitem__, COLUMNS) for c in result.comparisons))


def as_json(result: Result) -> str:
    """Return everything as JSON (ASCII, no NaN); a missing value is null.

    "comparisons" has an object for each case and side, with what the CSV has; "best", the best GPU against the best
    CPU of each work; "means", the geometric means ("cases" of "of" cases; "is_common": whether all sides have them);
    "gates", an object for each gate of --fail-on. "gate" is its word; "outcome" is "failed", "undecided" or "passed";
    "criterion" says what fails; "checked" and "decided" are numbers of cases; "failed" and "undecided" the names of
    such cases; "reason" says why the first of those is undecided; "line" is how the answer shows the gate. "breaches"
    are the lines of the gates that failed, "undecided" is that of an undecided one.
    """
    plain = {
        "comparison_version": COMPARISON_VERSION,
        "baseline": result.baseline,
        "sides": result.sides,
        "columns": result.columns,
        "min_effect": result.min_effect,
        "confidence": result.confidence,
        "sources": [_input_file(file) for file in result.input_files],
        "environment": [_difference(difference) for difference in result.environment],
        "comparisons": [_nested(c) for c in result.comparisons],
        "best": [
            {
                **_nested(best.comparison),
                "gpu_runner_up": _entry(best.gpu_runner_up),
                "cpu_runner_up": _entry(best.cpu_runner_up),
            }
            for best in result.best
        ],
        "means": [{name: getattr(mean, name) for name in (*_MEAN, "is_common", "change")} for mean in result.means],
        "doubts": result.implausible,
        "notes": result.notes,
        "gates": [_gate(gate) for gate in result.gates],
        "breaches": result.breaches,
        "undecided": result.undecided,
    }
    return json.dumps(plain, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


_MEAN = ("side", "metric", "clock", "unit", "ratio", "ci_low", "ci_high", "cases", "of", "verdict", "evidence")
_OWN = (
    *("ratio", "ci_low", "ci_high", "confidence", "change", "verdict", "evidence", "reason"),
    *("p", "p_adjusted", "method"),
)


def _plain(c: Comparison) -> dict[str, Any]:
    """Return a comparison as the cells of its CSV line."""
    flat: dict[str, Any] = {name: c.key.get(name) for name in (*_WORK, *WHO)}
    flat |= {"comparison_version": COMPARISON_VERSION, "baseline": c.against, "contender": c.side}
    flat["workload_version"] = c.key.workload_version
    for side, entry in (("baseline", c.baseline), ("contender", c.contender)):
        for name in ("name", "value", "ci_low", "ci_high", "processes"):
            flat[f"{side}_{name}"] = getattr(entry, name) if entry else None
    flat |= {name: getattr(c, name) for name in (*_OWN, "basis")}
    return flat | {"conditions": "; ".join(map(str, c.conditions)), "doubts": "; ".join(c.implausible)}


def _nested(c: Comparison) -> dict[str, Any]:
    return {
        "side": c.side,
        "against": c.against,
        **{name: getattr(c.key, name) for name in _WORK},
        "who": dict(c.key.who),
        "baseline": _entry(c.baseline),
        "contender": _entry(c.contender),
        **{name: getattr(c, name) for name in (*_OWN, "basis")},
        "conditions": [_difference(difference) for difference in c.conditions],
        "doubts": c.implausible,
    }


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    row = entry.row
    known = ("backend", "implementation", "device", "device_name", "threads", "library", "backend_version")
    return {
        "name": entry.name,
        "machine": entry.machine,
        **{name: getattr(row, name) for name in (*known, "status", "reason_code", "reason")},
        **{name: getattr(entry, name) for name in ("value", "ci_low", "ci_high", "processes", "flags")},
        "run_ids": [r.run_id for r in entry.rows],
    }


def _gate(gate: Gate) -> dict[str, Any]:
    names = ("outcome", "criterion", "checked", "decided", "failed", "undecided", "reason", "line")
    return {"gate": gate.name, **{name: getattr(gate, name) for name in names}}


def _difference(difference: Difference) -> dict[str, Any]:
    return {"name": difference.name, "values": [list(pair) for pair in difference.values]}


def _input_file(file: InputFile) -> dict[str, Any]:
    names = ("path", "label", "machines", "run_ids", "rows", "samples", "environment")
    return {**{name: getattr(file, name) for name in names}, "statuses": dict(file.statuses)}
