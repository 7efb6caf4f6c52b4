"""Latency and bandwidth from a sweep of sizes: a least-squares fit of time against bytes.

The model is time = a + bytes / b (Hockney 1994). a is the latency in seconds: the time of a transfer of zero bytes.
b is the bandwidth in B/s of very long transfers.

The bytes of a transfer over a link are those of its row. An exchange between ranks has none in the sense of STREAM: its
bytes are those that `bus_bandwidth` counts, so b is the bus bandwidth of very large arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench_core.records import LAUNCH_BOUND, Cache, Row, Scope, Status, Traffic, Work
from bench_core.results import roofline
from bench_core.results.metrics import METRICS
from bench_core.results.traits import FIT, TraitsOf
from bench_core.stats import CONFIDENCE, Estimate

FEWEST = 3  # sizes: one more than the two parameters, to estimate their errors
EXCHANGED = "bus_bandwidth"  # the metric that counts the bytes of an exchange between ranks
POOR = 0.25  # a residual above 25 % of its time flags the fit `poor_fit`
_SHARED = (
    *("run_id", "started_at", "machine", "suite", "workload_version", "dtype", "precision", "backend"),
    *("implementation", "device_type", "device", "threads", "clock", "scope", "cache", "backend_version"),
    *("env_id", "git_commit", "git_dirty", "device_name", "library"),
)

Params = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds at zero bytes, seconds per byte, and the largest relative residual of a point."""

    latency: Estimate
    slope: Estimate
    residual: float


def line(sizes: Sequence[float], seconds: Sequence[float]) -> Line | None:
    """Return the line of best fit, or None for fewer than three points or a slope that is not positive.

    sizes: bytes. Points are weighted by 1 / seconds^2, because noise is proportional to the time; without the weights
    the largest size alone would determine the line. The estimates have n - 2 degrees of freedom. The latency may be
    negative if all sizes are too large to measure it.
    """
    n = len(sizes)
    if n < FEWEST or min(seconds) <= 0:
        return None
    points = [(1 / t**2, x, t) for x, t in zip(sizes, seconds, strict=True)]
    total = math.fsum(w for w, _, _ in points)
    x_mean = math.fsum(w * x for w, x, _ in points) / total
    t_mean = math.fsum(w * t for w, _, t in points) / total
    spread = math.fsum(w * (x - x_mean) ** 2 for w, x, _ in points)
    slope = math.fsum(w * (x - x_mean) * (t - t_mean) for w, x, t in points) / spread if spread else 0.0
    if slope <= 0:
        return None
    start = t_mean - slope * x_mean
    residuals = [(start + slope * x - t) / t for _, x, t in points]
    variance = math.fsum(r**2 for r in residuals) / (n - 2)
    return Line(
        Estimate(start, math.sqrt(variance * (1 / total + x_mean**2 / spread)), n - 2),
        Estimate(slope, math.sqrt(variance / spread), n - 2),
        max(map(abs, residuals)),
    )


def fitted_rows(rows: Iterable[Row], traits: TraitsOf) -> list[Row]:
    """Return latency and bandwidth rows for every sweep of transfers and exchanges with at least three sizes.

    Sizes that fit in a cache, or may fit in one of unknown size, are left out. The rows of a sweep differ only in
    `size` and in the parameters that the bytes are proportional to, such as `elements`. The new rows have the workload
    `<workload>_fit` and list the sizes in bytes in their params. So compare joins two machines only if they measured
    the same sizes.
    """
    rows = [row for row in rows if row.status == Status.OK and row.value]
    exchanged = {_case(row): row.value or 0.0 for row in rows if row.metric == EXCHANGED}
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.metric != "time" or traits(row).traffic is not Traffic.LINK or roofline.cached(row.flags):
            continue
        if not row.bytes and (rate := exchanged.get(_case(row))):
            row = replace(row, bytes=float(round(rate * (row.value or 0.0))))  # noqa: PLW2901 - the same row
        if row.bytes:
            alike.setdefault(_who_and_what(row), []).append(row)
    return [new for group in alike.values() for params, sweep in _sweeps(group).items() for new in _rows(sweep, params)]


def _who(row: Row) -> tuple[Any, ...]:
    return (row.run_id, row.backend, row.implementation, row.device, row.threads, row.clock)


def _case(row: Row) -> tuple[Any, ...]:
    return (*_who(row), row.case_id)


def _who_and_what(row: Row) -> tuple[Any, ...]:
    what = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope, row.cache)
    return (*_who(row), *what, row.parameters.get("ranks"))  # of which the bytes are no multiple


def _sweeps(rows: Sequence[Row]) -> dict[Params, list[Row]]:
    """Return the rows of each sweep, the smallest first, by the parameters that all of them share."""
    swept = {name for name in rows[0].parameters if _is_swept(name, rows)}
    found: dict[Params, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.bytes or 0.0):
        params = tuple((name, value) for name, value in row.parameters.items() if name not in swept)
        found.setdefault(params, []).append(row)
    return found


def _is_swept(name: str, rows: Sequence[Row]) -> bool:
    """Return whether a parameter differs between rows, and the bytes of all rows are proportional to it."""
    texts = [row.parameters.get(name, "") for row in rows]
    try:
        ratios = [(row.bytes or 0.0) / float(text) for row, text in zip(rows, texts, strict=True)]
    except (ValueError, ZeroDivisionError):
        return False
    return len(set(texts)) > 1 and max(ratios) - min(ratios) <= 1e-9 * abs(ratios[0])


def _rows(sweep: Sequence[Row], known: Params) -> list[Row]:
    fitted = line([row.bytes or 0.0 for row in sweep], [row.value or 0.0 for row in sweep])
    if fitted is None:
        return []
    first = sweep[0]
    sizes = "+".join(f"{row.bytes:.0f}" for row in sweep)
    params = (*known, ("bytes", sizes))
    name, version = f"{first.workload}{FIT}", first.workload_version
    place = Scope(first.scope), Cache(first.cache)
    work = Work(first.suite, name, "sweep", first.dtype, params, first.precision, version, *place)
    flags = ["poor_fit"] if fitted.residual > POOR else []
    flags += [LAUNCH_BOUND] if any(row.is_launch_bound for row in sweep) else []
    flags += ["single_run"] if "single_run" in first.flags.split(";") else []
    shared = {name: getattr(first, name) for name in _SHARED}
    shared |= {"case_id": work.case_id, "workload": work.workload, "size": work.size, "params": work.params_text}
    shared |= {"flags": ";".join(flags), "n": len(sweep)}
    return [*_latency(shared, fitted.latency), _bandwidth(shared, fitted.slope)]


def _latency(shared: dict[str, Any], fitted: Estimate) -> list[Row]:
    """Return the row of the latency, its interval clamped at zero; no row if the latency itself is not positive."""
    low, high = fitted.interval()
    if fitted.mean <= 0:
        return []
    return [_row("latency", shared, value=fitted.mean, ci_low=max(low, 0.0), ci_high=high, ci_level=CONFIDENCE)]


def _bandwidth(shared: dict[str, Any], slope: Estimate) -> Row:
    """Return the row of the bandwidth, the inverse of the slope; the ends of the interval change places."""
    fast, slow = slope.interval()
    ends: dict[str, Any] = {"ci_low": 1 / slow, "ci_high": 1 / fast if fast > 0 else None, "ci_level": CONFIDENCE}
    return _row("fitted_bandwidth", shared, value=1 / slope.mean, **ends)


def _row(metric: str, shared: dict[str, Any], **columns: Any) -> Row:
    about = METRICS[metric]
    kind: dict[str, Any] = {"metric": about.name, "unit": about.unit, "better": about.better}
    return Row(**shared, **kind, status=Status.OK, **columns)
