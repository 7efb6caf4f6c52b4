"""Reject impossible measurements: one that is faster than the datasheet of its device allows gets no value."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from bench_core.machine import datasheets
from bench_core.records import Measurement, Status, Traffic, Traits
from bench_core.results.roofline import PARTLY_SPLIT, SPLIT, cached
from bench_core.results.rows import accountable
from bench_core.results.traits import TraitsOf
from bench_core.units import show

# How far above its datasheet a device may measure: makers state a boost clock that chips exceed (H100 SXM:
# 1.83 GHz stated, 1.98 GHz reached; GeForce boards more), and memory clocks can be raised by hand.
# The margin of three TF32 products for one is smaller, because the operands must also be split.
FLOPS_MARGIN, SPLIT_MARGIN, BANDWIDTH_MARGIN = 1.25, 1.1, 1.1


def refuse_implausible(done: Measurement, traits: TraitsOf) -> Measurement:
    """Return the measurement unchanged, or `invalid` with a reason instead of its values.

    It is `invalid` if its device cannot be that fast (see the margins above), or if `rows.accountable` finds that
    no row can be made of it.
    """
    done = accountable(done)
    reason = done.status is Status.OK and _impossible(done, traits(done.case.work))
    if not reason:
        return done
    return replace(done, status=Status.INVALID, reason_code="implausible", reason=reason, series=(), values={})


def _impossible(done: Measurement, traits: Traits) -> str:
    work, name = done.case.work, done.device_name
    precision = SPLIT if {SPLIT, PARTLY_SPLIT} & set(done.flags) else work.precision
    peak_flops = datasheets.peak_flops(name, work.dtype, precision)
    margin = SPLIT_MARGIN if SPLIT in done.flags else FLOPS_MARGIN
    limits: list[tuple[float | None, float | None, float, str]] = [
        (done.costs.needed_flops, peak_flops, margin, "FLOP/s")
    ]
    if traits.traffic is not Traffic.CACHES and not cached(";".join(done.flags)):
        limits.append((done.costs.bytes, datasheets.peak_bandwidth(name), BANDWIDTH_MARGIN, "B/s"))
    for series in done.series:
        for amount, peak, margin, unit in limits:
            if series.metric == "time" and amount and peak and amount / median(series.seconds) > margin * peak:
                rate = amount / median(series.seconds)
                limit = f"{name} can do ({show(peak, unit)})"
                return f"{show(rate, unit)} by the {series.clock} clock is more than {limit}"
    return ""
