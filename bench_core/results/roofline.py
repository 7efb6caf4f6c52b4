"""The roofline model: compare each row of a run with the measured ceilings (Williams, Waterman and Patterson 2009).

Ceilings are per device, host thread count and clock: the fastest matrix product of each format, and the fastest stream
on arrays that do not fit in a cache. Rows get their fraction of these ceilings, their fraction of the datasheet if it
lists the device, and the limit that bounds them.

FLOPs are those that the result needs: causal attention counts only the pairs of tokens that the mask keeps. The full
count, which `flop_rate` has by convention, would credit a kernel with work that it did not do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench_core.machine import datasheets
from bench_core.records import Limit, Row, Status, Traffic
from bench_core.results.metrics import METRICS
from bench_core.results.traits import TraitsOf

CACHED = ("fits_", "near_cache")  # flags of arrays that are read wholly or partly from a cache
# Flags of "ieee" work whose float32 products were all (SPLIT) or partly computed as three TF32 products each (see
# datasheets.py).
SPLIT, PARTLY_SPLIT = datasheets.THREE_TF32, f"partly_{datasheets.THREE_TF32}"

Place = tuple[str, str, str, int | None, str]  # run, device, its name, threads, clock
_Side = tuple[str, str, str, str, int | None, str, str]  # run, device, backend, implementation, threads, clock, case


@dataclass(slots=True)
class Ceilings:
    """The best rows of a place: FLOP/s by dtype and precision, B/s, and the seconds of one launch by backend."""

    flops: dict[tuple[str, str], float] = field(default_factory=dict)
    bandwidth: float | None = None
    launch: dict[str, float] = field(default_factory=dict)


def ceilings(rows: Iterable[Row], traits: TraitsOf) -> dict[Place, Ceilings]:
    """Return the measured ceilings of every place that has a row with a value."""
    found: dict[Place, Ceilings] = {}
    for row in rows:
        if row.value is None or row.status != Status.OK:
            continue
        here = found.setdefault(place(row), Ceilings())
        limit = measured_limit(row, traits)
        if limit is Limit.BANDWIDTH:
            here.bandwidth = max(row.value, here.bandwidth or 0.0)
        elif limit is Limit.COMPUTE:
            key = _format(row)
            here.flops[key] = max(row.value, here.flops.get(key, 0.0))
        elif limit is Limit.LATENCY:
            here.launch[row.backend] = min(row.value, here.launch.get(row.backend, row.value))
    return found


def measured_limit(row: Row, traits: TraitsOf) -> Limit | None:
    """Return which limit of its device a row measures: FLOP/s of arithmetic, B/s of memory or seconds of a launch.

    Return None for all other rows. The B/s of arrays in a cache do not measure memory. Launch-bound FLOP/s and B/s
    measure the host, not the device.
    """
    limit = traits(row).measures
    if limit is None or row.metric != _MEASURED_BY[limit]:
        return None
    if limit is not Limit.LATENCY and row.is_launch_bound:
        return None
    return None if limit is Limit.BANDWIDTH and cached(row.flags) else limit


_MEASURED_BY = {Limit.COMPUTE: "flop_rate", Limit.BANDWIDTH: "bandwidth", Limit.LATENCY: "time"}


def place(row: Row) -> Place:
    """Return the key of the ceilings that apply to a row."""
    return (row.run_id, row.device, row.device_name, row.threads, row.clock)


def cached(flags: str) -> bool:
    """Whether the flags of a row say that its arrays fit in a cache or nearly do."""
    return any(word.startswith(CACHED) for word in flags.split(";"))


def _format(row: Row) -> tuple[str, str]:
    """Return the dtype and precision in which all or most products of a row were computed."""
    dtype, precision = datasheets.computed_in(row.dtype, row.precision)
    return (dtype, SPLIT if SPLIT in row.flags.split(";") else precision)


def roofline_rows(rows: Sequence[Row], traits: TraitsOf) -> list[Row]:
    """Return the rows to add: two fractions of each rate, and the arithmetic intensity flagged with its limit."""
    found = ceilings(rows, traits)
    good = [row for row in rows if row.status == Status.OK and row.value is not None]
    full = {_side(row): row for row in good if row.metric == "flop_rate"}
    causal = {_side(row): row for row in good if row.metric == "causal_flop_rate"}
    new = [
        share
        for row in good
        if not (row.metric == "flop_rate" and _side(row) in causal)
        for share in _shares(row, found[place(row)], traits)
    ]
    for row in good:
        if row.metric == "time" and row.clock == "wall" and row.flops and row.least_bytes:
            flops = row.flops * needed_share(causal.get(_side(row)), full.get(_side(row)))
            new.append(_intensity(row, flops / row.least_bytes, bound(row, flops, found[place(row)])))
    return new


def needed_share(causal: Row | None, full: Row | None) -> float:
    """Return the fraction of its FLOPs that a case needs: below 1.0 with a causal mask, computed from its two rates."""
    return causal.value / full.value if causal and full and causal.value and full.value else 1.0


def _side(row: Row) -> _Side:
    return (row.run_id, row.device, row.backend, row.implementation, row.threads, row.clock, row.case_id)


def _shares(row: Row, here: Ceilings, traits: TraitsOf) -> list[Row]:
    """Return the rows of a rate as fractions of the measured peak and of the datasheet, if these are known.

    The ceiling of bandwidth is that of main memory. So bandwidths of links and of arrays in a cache get no fraction.
    Nor do FLOP rates in two formats, which have no single peak, and FLOP rates of streams, which are low by design.
    """
    about = traits(row)
    if row.metric in {"flop_rate", "causal_flop_rate"}:
        if about.is_stream or PARTLY_SPLIT in row.flags.split(";"):
            return []
        peaks = here.flops.get(_format(row)), datasheets.peak_flops(row.device_name, *_format(row))
    elif row.metric == "bandwidth" and about.traffic is not Traffic.LINK and not cached(row.flags):
        peaks = here.bandwidth, datasheets.peak_bandwidth(row.device_name)
    else:
        return []
    names = "fraction_of_measured_peak", "fraction_of_datasheet"
    if row.metric == "bandwidth" and not about.is_stream:  # models and other work: their MBU
        names = "bandwidth_of_measured_peak", "bandwidth_of_datasheet"
    return [_scaled(row, name, peak) for name, peak in zip(names, peaks, strict=True) if peak]


def _scaled(row: Row, metric: str, peak: float) -> Row:
    columns = ("value", "ci_low", "ci_high", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
    known: dict[str, Any] = {name: getattr(row, name) for name in columns}
    scaled: dict[str, Any] = {name: v if v is None else v / peak for name, v in known.items()}
    return replace(row, **_named(metric), **scaled)


def _intensity(row: Row, value: float, limit: Limit | None) -> Row:
    statistics = ("n", "processes", "inner_loops", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
    nothing: dict[str, Any] = dict.fromkeys((*statistics, "ci_low", "ci_high", "ci_level"))
    flags = ";".join(filter(None, [row.flags, limit and f"bound_{limit}"]))
    return replace(row, **nothing, **_named("arithmetic_intensity"), clock="", value=value, flags=flags)


def _named(metric: str) -> dict[str, Any]:
    about = METRICS[metric]
    return {"metric": about.name, "unit": about.unit, "better": about.better}


def bound(row: Row, flops: float, here: Ceilings) -> Limit | None:
    """Return the limit that bounds a row by the roofline model; None if a ceiling is missing.

    The shortest possible time is the larger of flops / peak and least bytes / bandwidth. If one launch takes longer
    than that, the limit is the latency.
    """
    peak = here.flops.get(_format(row))
    if not (peak and here.bandwidth and row.least_bytes):
        return None
    compute, transport = flops / peak, row.least_bytes / here.bandwidth
    if max(compute, transport) < here.launch.get(row.backend, 0.0):
        return Limit.LATENCY
    return Limit.COMPUTE if compute >= transport else Limit.BANDWIDTH
