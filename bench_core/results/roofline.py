"""The roofline model: compare each row of a run with the measured ceilings (Williams, Waterman and Patterson 2009).

Ceilings are per device, host thread count and clock: the fastest matrix product of each format, and the fastest stream
that is measured hot on arrays of at least four times the last-level cache. A row shows as much as its interval
supports: the lower end of a rate (`supported`). One fast block on a noisy machine is then no ceiling for all others.

Rows get their share of these ceilings, their share of the datasheet if it lists the device, and the limit that bounds
them. No share is above 1. A row whose interval includes the ceiling has the share 1, flagged `at_ceiling`. A row whose
whole interval is above the ceiling shows that the ceiling is wrong: it has no share and is flagged itself.

FLOPs are those that the result needs: causal attention counts only the pairs of tokens that the mask keeps. The full
count, which `flop_rate` has by convention, would credit a kernel with work that it did not do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench_core.machine import datasheets
from bench_core.records import (
    CACHE_UNKNOWN,
    COLD_AS_HOT,
    FITS,
    NEAR_CACHE,
    PARTLY_SPLIT,
    SPLIT,
    Cache,
    Limit,
    Row,
    Status,
    Traffic,
)
from bench_core.results.columns import Coded, Column, Numbers
from bench_core.results.metrics import METRICS
from bench_core.results.schema import STATISTICS
from bench_core.results.traits import TraitsOf

AT_CEILING = "at_ceiling"  # a share of 1, cut off: the interval of the rate includes its ceiling
ABOVE_CEILING, ABOVE_DATASHEET = "above_ceiling", "above_datasheet"  # a rate whose whole interval is above it
# Metrics of shares, with the flag that a rate gets instead of a share if it is above that ceiling.
SHARES = {
    "fraction_of_measured_peak": ABOVE_CEILING,
    "fraction_of_datasheet": ABOVE_DATASHEET,
    "bandwidth_of_measured_peak": ABOVE_CEILING,
    "bandwidth_of_datasheet": ABOVE_DATASHEET,
}

MUCH_LARGER = 4  # factor between two sizes of arrays; the usual sizes for memory differ by less, or by far more

Place = tuple[str, str, str, int | None, str]  # run, device, its name, threads, clock
Format = tuple[str, str]  # dtype and precision of arithmetic
_Side = tuple[str, str, str, str, int | None, str, str]  # run, device, backend, implementation, threads, clock, case


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The rows that measure the limits of a place. What they support are the numbers.

    products: by dtype and precision. stream: None if memory was not measured. launches: by backend.
    """

    products: dict[Format, Row] = field(default_factory=dict)
    stream: Row | None = None
    launches: dict[str, Row] = field(default_factory=dict)

    @property
    def bandwidth(self) -> float | None:
        """The B/s of memory; None if not measured."""
        return supported(self.stream) if self.stream else None

    def flops(self, row: Row) -> float | None:
        """Return the FLOP/s of the format in which a row was computed; None if not measured."""
        product = self.products.get(_format(row))
        return supported(product) if product else None

    def launch(self, backend: str) -> float:
        """Return the seconds of one launch; 0 if not measured."""
        return supported(self.launches[backend]) if backend in self.launches else 0.0


def interval(row: Row) -> tuple[float, float]:
    """Return the interval of a row with a value: of its median if known, else from p10 to p90, else the value twice."""
    value = row.value or 0.0
    low, high = (row.p10 if row.ci_low is None else row.ci_low), (row.p90 if row.ci_high is None else row.ci_high)
    return value if low is None else low, value if high is None else high


def supported(row: Row) -> float:
    """Return what a row with a value shows for certain: the worse end of its `interval`.

    It is the lower end of a rate, and the upper end of a time.
    """
    low, high = interval(row)
    return high if row.better == "lower" else low


def ceilings(rows: Iterable[Row], traits: TraitsOf) -> dict[Place, Ceilings]:
    """Return the measured ceilings of every place that has a row."""
    places: dict[Place, list[Row]] = {}
    for row in rows:
        places.setdefault(place(row), []).append(row)
    return {where: highest(here, traits) for where, here in places.items()}


def highest(rows: Iterable[Row], traits: TraitsOf) -> Ceilings:
    """Return the rows that measure a limit and support the most: the highest rate, the shortest time of a launch.

    A stream in memory does not count if the same library streamed over far larger arrays by the same operation
    (MUCH_LARGER): where a machine has more cache than it reports, smaller arrays fit in it.
    """
    best: dict[Limit, dict[Any, Row]] = {limit: {} for limit in Limit}
    measured = [(limit, row) for row in rows if (limit := measured_limit(row, traits))]
    largest: dict[tuple[str, str], float] = {}
    for row in (row for limit, row in measured if limit is Limit.BANDWIDTH):
        largest[row.backend, row.workload] = max(row.bytes or 0.0, largest.get((row.backend, row.workload), 0.0))
    for limit, row in measured:
        if limit is Limit.BANDWIDTH and (row.bytes or 0.0) * MUCH_LARGER <= largest[row.backend, row.workload]:
            continue
        key = {Limit.COMPUTE: _format(row), Limit.BANDWIDTH: "", Limit.LATENCY: row.backend}[limit]
        rank = min if limit is Limit.LATENCY else max
        best[limit][key] = rank(best[limit].get(key, row), row, key=supported)
    return Ceilings(best[Limit.COMPUTE], best[Limit.BANDWIDTH].get(""), best[Limit.LATENCY])


def measured_limit(row: Row, traits: TraitsOf) -> Limit | None:
    """Return which limit of its device a row measures: FLOP/s of arithmetic, B/s of memory or seconds of a launch.

    Return None for all other rows. Only hot streams over arrays beyond all caches measure memory: a hot array that has
    no flag of `cached` is known to be that large, while what a cold stream reads is only assumed to have left the
    cache. Launch-bound FLOP/s and B/s measure the host, not the device. What nothing has checked measures no limit.
    """
    is_other = row.is_across_ranks or row.is_unchecked  # several devices are no ceiling of one
    limit = None if is_other else traits(row).measures
    if limit is None or row.metric != _MEASURED_BY[limit] or not row.has_value or supported(row) <= 0:
        return None
    if limit is not Limit.LATENCY and row.is_launch_bound:
        return None
    return None if limit is Limit.BANDWIDTH and not in_memory(row) else limit


_MEASURED_BY = {Limit.COMPUTE: "flop_rate", Limit.BANDWIDTH: "bandwidth", Limit.LATENCY: "time"}


def in_memory(row: Row) -> bool:
    """Whether the arrays of a row are known to lie in main memory: hot, and at least four times the largest cache."""
    return row.cache == Cache.HOT and not cached(row.flags)


def place(row: Row) -> Place:
    """Return the key of the ceilings that apply to a row."""
    return (row.run_id, row.device, row.device_name, row.threads, row.clock)


def cached(flags: str) -> bool:
    """Whether the flags of a row say that its arrays fit in a cache, nearly or probably do, or that none is known."""
    return fits(flags) or not {NEAR_CACHE, CACHE_UNKNOWN, COLD_AS_HOT}.isdisjoint(flags.split(";"))


def fits(flags: str) -> bool:
    """Whether the flags of a row say that its arrays fit in a cache."""
    return any(word.startswith(FITS) for word in flags.split(";"))


def flagged(row: Row, *words: str) -> Row:
    """Return the row with these flags after its own."""
    return replace(row, flags=";".join(dict.fromkeys(filter(None, [*row.flags.split(";"), *words])))) if words else row


def _format(row: Row) -> Format:
    """Return the dtype and precision in which all or most products of a row were computed."""
    dtype, precision = datasheets.computed_in(row.dtype, row.precision)
    return (dtype, SPLIT if SPLIT in row.flags.split(";") else precision)


def judged(rows: Sequence[Row], traits: TraitsOf) -> tuple[list[Row], list[Row]]:
    """Return the rows, flagged if they are above a ceiling, and the rows to add.

    These are the shares of each rate and, for each work with FLOPs and bytes, its arithmetic intensity, flagged with
    its limit. Shares have the flags that the rate had before: the two ceilings of a rate are judged independently.
    """
    found = ceilings(rows, traits)
    good = [row for row in rows if row.status == Status.OK and row.value is not None]
    full = {_side(row): row for row in good if row.metric == "flop_rate"}
    causal = {_side(row): row for row in good if row.metric == "causal_flop_rate"}
    same, new = [], []
    for row in rows:
        shares = {} if row.metric == "flop_rate" and _side(row) in causal else _shares(row, found[place(row)], traits)
        same.append(flagged(row, *(above for above, share in shares.items() if share is None)))
        new += [share for share in shares.values() if share]
    for row in good:
        if row.metric == "time" and row.clock == "wall" and row.flops and row.least_bytes:
            flops = row.flops * needed_share(causal.get(_side(row)), full.get(_side(row)))
            new.append(_intensity(row, flops / row.least_bytes, bound(row, flops, found[place(row)])))
    return same, new


def needed_share(causal: Row | None, full: Row | None) -> float:
    """Return the fraction of its FLOPs that a case needs: below 1.0 with a causal mask, computed from its two rates."""
    return causal.value / full.value if causal and full and causal.value and full.value else 1.0


def _side(row: Row) -> _Side:
    return (row.run_id, row.device, row.backend, row.implementation, row.threads, row.clock, row.case_id)


def _shares(row: Row, here: Ceilings, traits: TraitsOf) -> Mapping[str, Row | None]:
    """Return the shares of a rate by the flag that it gets instead if the share is None: above that ceiling.

    There are at most two: of the measured ceiling and of the datasheet, if these are known.
    """
    names = "fraction_of_measured_peak", "fraction_of_datasheet"
    if row.metric == "bandwidth" and not traits(row).is_stream:  # models and other work: their MBU
        names = "bandwidth_of_measured_peak", "bandwidth_of_datasheet"
    known = zip(names, _peaks(row, here, traits), strict=True)
    return {SHARES[name]: _share(row, name, peak) for name, peak in known if peak}


def _peaks(row: Row, here: Ceilings, traits: TraitsOf) -> tuple[float | None, float | None]:
    """Return the measured peak and that of the datasheet for a rate; None where it is unknown or does not apply.

    The ceiling of bandwidth is that of main memory. So bandwidths of links and of arrays in a cache get no share.
    Nor do FLOP rates in two formats, which have no single peak, and FLOP rates of streams, which are low by design.
    """
    about = traits(row)
    if not row.has_value:
        return None, None
    if row.metric in {"flop_rate", "causal_flop_rate"}:
        if about.is_stream or PARTLY_SPLIT in row.flags.split(";"):
            return None, None
        return here.flops(row), _of_all(row, datasheets.peak_flops(row.device_name, *_format(row)))
    if row.metric == "bandwidth" and about.traffic is not Traffic.LINK and not cached(row.flags):
        return here.bandwidth, _of_all(row, datasheets.peak_bandwidth(row.device_name))
    return None, None


def _of_all(row: Row, peak: float | None) -> float | None:
    """Return what the devices of a row can do together, each of which can do `peak`."""
    return row.ranks * peak if peak else None


def _share(row: Row, metric: str, peak: float) -> Row | None:
    """Return a rate as a share of its peak, no column of which is above 1; None if all of its interval is above it."""
    share = cut_off({name: x / peak for name in STATISTICS if (x := getattr(row, name)) is not None})
    if share is None:
        return None
    return flagged(replace(row, **_named(metric), **share), *([AT_CEILING] if (row.value or 0.0) / peak > 1 else []))


def cut_off(columns: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the known columns of a share with those above 1 cut off at 1; None if all of its interval is above 1.

    The standard deviation is then that of other numbers, and is left out.
    """
    value = columns.get("value", 0.0)
    if value > 1 and columns.get("ci_low", columns.get("p10", value)) > 1:
        return None
    share: dict[str, Any] = {name: min(1.0, x) for name, x in columns.items()}
    return share | {"std": None} if any(x > 1 for x in columns.values()) else share


def cut_shares(columns: dict[str, Column]) -> int:
    """Cut off shares above 1 in a table of an earlier version, and return their number.

    columns: those of the table, by name; changed ones replace them. Early tables took the highest median as the
    ceiling, from a cache too. A share that `cut_off` leaves out has no value, and the flag that its rate would have
    now.
    """
    metric, statistics = columns["metric"], {name: columns[name] for name in STATISTICS}
    numbers = {name: column.array.copy() for name, column in statistics.items() if isinstance(column, Numbers)}
    assert isinstance(metric, Coded)  # noqa: S101 - a column of texts
    above = metric.mask(SHARES.__contains__) & np.any([array > 1 for array in numbers.values()], axis=0)
    if not above.any():
        return 0
    metrics: list[str] = metric.cells()
    flags: list[Any] = columns["flags"].cells()
    for i in np.flatnonzero(above).tolist():
        own = {name: x for name, array in numbers.items() if not math.isnan(x := float(array[i]))}
        share = cut_off(own)
        word = SHARES[metrics[i]] if share is None else AT_CEILING if own.get("value", 0.0) > 1 else ""
        for name in own:
            numbers[name][i] = None if share is None else share[name]
        flags[i] = ";".join(filter(None, [flags[i], word]))
    columns |= {name: Numbers(array) for name, array in numbers.items()} | {"flags": Coded.of(flags)}
    return int(above.sum())


def _intensity(row: Row, value: float, limit: Limit | None) -> Row:
    statistics = ("n", "processes", "inner_loops", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")
    nothing: dict[str, Any] = dict.fromkeys((*statistics, "ci_low", "ci_high", "ci_level"))
    intensity = replace(row, **nothing, **_named("arithmetic_intensity"), clock="", value=value)
    return flagged(intensity, *([f"bound_{limit}"] if limit else []))


def _named(metric: str) -> dict[str, Any]:
    about = METRICS[metric]
    return {"metric": about.name, "unit": about.unit, "better": about.better}


def bound(row: Row, flops: float, here: Ceilings) -> Limit | None:
    """Return the limit that bounds a row by the roofline model; None if a ceiling is missing.

    The shortest possible time is the larger of flops / peak and least bytes / bandwidth. If one launch takes longer
    than that, the limit is the latency.
    """
    peak, bandwidth = here.flops(row), here.bandwidth
    if not (peak and bandwidth and row.least_bytes):
        return None
    compute, transport = flops / peak, row.least_bytes / bandwidth
    if max(compute, transport) < here.launch(row.backend):
        return Limit.LATENCY
    return Limit.COMPUTE if compute >= transport else Limit.BANDWIDTH
