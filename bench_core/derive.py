"""Rows that follow from other rows of the same run: the roofline's, and the fits of sweeps.

They are made once, at the end of a run, when every other row is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench_core import fit, metrics, roofline
from bench_core.metrics import METRICS
from bench_core.model import LAUNCH_BOUND, Cache, Measurement, Row, Run, Scope, Status, Work
from bench_core.stats import CONFIDENCE, Estimate

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
    """Return latency and bandwidth rows for every sweep of the suite `transfer` that has at least three sizes.

    Sizes that a cache holds are left out. The rows of a sweep differ in `size` and the parameter `elements` alone.
    Its work is `<workload>_fit`, whose params name the sizes in bytes, so that machines join where they swept the
    same ones.
    """
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        timed = row.metric == "time" and row.status == Status.OK and row.value and row.bytes
        if row.suite == "transfer" and timed and not roofline.cached(row.flags):
            found.setdefault(_sweep(row), []).append(row)
    return [row for sweep in found.values() for row in _rows(sorted(sweep, key=lambda row: row.bytes or 0.0))]


def _sweep(row: Row) -> tuple[Any, ...]:
    who = (row.run_id, row.backend, row.implementation, row.device, row.threads, row.clock)
    return (*who, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache, _params(row))


def _params(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in metrics.parameters(row).items() if name not in _SWEPT)


def _rows(sweep: Sequence[Row]) -> list[Row]:
    fitted = fit.line([row.bytes or 0.0 for row in sweep], [row.value or 0.0 for row in sweep])
    if fitted is None:
        return []
    first = sweep[0]
    sizes = "+".join(f"{row.bytes:.0f}" for row in sweep)
    params = (*_params(first), ("bytes", sizes))
    name, version = f"{first.workload}_fit", first.workload_version
    place = Scope(first.scope), Cache(first.cache)
    work = Work(first.suite, name, "sweep", first.dtype, params, first.precision, version, *place)
    flags = ["poor_fit"] if fitted.residual > fit.POOR else []
    flags += [LAUNCH_BOUND] if any(map(metrics.is_launch_bound, sweep)) else []
    flags += ["single_run"] if "single_run" in first.flags.split(";") else []
    shared = {name: getattr(first, name) for name in _SHARED}
    shared |= {"case_id": work.case_id, "workload": work.workload, "size": work.size, "params": work.params_text}
    shared |= {"flags": ";".join(flags), "n": len(sweep)}
    return [*_latency(shared, fitted.latency), _bandwidth(shared, fitted.slope)]


def _latency(shared: dict[str, Any], fitted: Estimate) -> list[Row]:
    """Return the latency with its interval cut at zero; no row where the fit goes below it: the sizes are too large."""
    low, high = fitted.interval()
    if fitted.mean <= 0:
        return []
    return [_row("latency", shared, value=fitted.mean, ci_low=max(low, 0.0), ci_high=high, ci_level=CONFIDENCE)]


def _bandwidth(shared: dict[str, Any], slope: Estimate) -> Row:
    """Return the bandwidth, the inverse of the slope: the ends of its interval change places."""
    fast, slow = slope.interval()
    ends: dict[str, Any] = {"ci_low": 1 / slow, "ci_high": 1 / fast if fast > 0 else None, "ci_level": CONFIDENCE}
    return _row("fitted_bandwidth", shared, value=1 / slope.mean, **ends)


def _row(metric: str, shared: dict[str, Any], **columns: Any) -> Row:
    about = METRICS[metric]
    kind: dict[str, Any] = {"metric": about.name, "unit": about.unit, "better": about.better}
    return Row(**shared, **kind, status=Status.OK, **columns)
