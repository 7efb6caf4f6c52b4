"""Rows that follow from other rows of the same run: the roofline's, and the fits of sweeps.

They are made once, at the end of a run, when all rows are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench_core import fit, metrics, roofline
from bench_core.metrics import METRICS
from bench_core.model import Measurement, Row, Run, Status, Work
from bench_core.stats import CONFIDENCE

_SWEPT = frozenset({"elements"})  # params that tell the sizes of a sweep apart
_SHARED = (
    *("run_id", "started_at", "machine", "suite", "workload_version", "dtype", "precision", "backend"),
    *("implementation", "device_type", "device", "threads", "clock", "scope", "cache", "backend_version"),
    *("env_id", "git_commit", "git_dirty", "device_name", "library"),
)


def table_of(run: Run, cases: Iterable[Sequence[Measurement]]) -> list[Row]:
    """Return all rows of a run from the measurements of each case, one per process, and what follows from them."""
    rows = [row for processes in cases for row in metrics.rows(run, processes)]
    return [*rows, *derived(rows)]


def derived(rows: Sequence[Row]) -> list[Row]:
    """Return the rows to add to those of a run."""
    return [*sweeps(rows), *roofline.derived(rows)]


def sweeps(rows: Iterable[Row]) -> list[Row]:
    """Return latency and bandwidth rows for every sweep of transfers that has at least three sizes.

    A sweep is what differs in its size alone. Its work is `<workload>_fit`, whose params name the sizes, so
    that machines join where they swept the same ones.
    """
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.suite == "transfer" and row.metric == "time" and row.status == Status.OK and row.value and row.bytes:
            found.setdefault(_sweep(row), []).append(row)
    return [row for sweep in found.values() for row in _rows(sorted(sweep, key=lambda row: row.bytes or 0.0))]


def _sweep(row: Row) -> tuple[Any, ...]:
    who = (row.run_id, row.backend, row.implementation, row.device, row.threads, row.clock)
    return (*who, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache, _params(row))


def _params(row: Row) -> tuple[tuple[str, str], ...]:
    pairs = (pair.partition("=") for pair in row.params.split(";") if pair)
    return tuple((name, value) for name, _, value in pairs if name not in _SWEPT)


def _rows(sweep: Sequence[Row]) -> list[Row]:
    fitted = fit.line([row.bytes or 0.0 for row in sweep], [row.value or 0.0 for row in sweep])
    if fitted is None:
        return []
    first = sweep[0]
    sizes = "+".join(f"{row.bytes:.0f}" for row in sweep)
    params = (*_params(first), ("bytes", sizes))
    work = Work(
        first.suite, f"{first.workload}_fit", "sweep", first.dtype, params, first.precision, first.workload_version
    )
    flags = ["poor_fit"] if fitted.residual > fit.POOR else []
    flags += ["single_run"] if "single_run" in first.flags.split(";") else []
    shared = {name: getattr(first, name) for name in _SHARED}
    shared |= {"case_id": work.case_id, "workload": work.workload, "size": work.size, "params": work.params_text}
    shared |= {"status": Status.OK, "flags": ";".join(flags), "n": len(sweep), "ci_level": CONFIDENCE}
    low, high = fitted.latency.interval()
    slow, fast = fitted.slope.interval()[::-1]
    return [
        _row("latency", shared, fitted.latency.mean, low, high),
        _row("fitted_bandwidth", shared, 1 / fitted.slope.mean, 1 / slow, 1 / fast if fast > 0 else None),
    ]


def _row(metric: str, shared: dict[str, Any], value: float, low: float, high: float | None) -> Row:
    about = METRICS[metric]
    kind: dict[str, Any] = {"metric": about.name, "unit": about.unit, "better": about.better}
    return Row(**shared, **kind, value=value, ci_low=low, ci_high=high)
