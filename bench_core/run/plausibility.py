"""Reject impossible measurements: one that is faster than its device can be gets no value.

The limits of GPUs are those of their datasheets, those of CPUs are computed (machine/cpu_limits.py). For CPUs whose
memory bandwidth is not known, the streams of a run are also compared with each other, once all are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from bench_core import stats
from bench_core.machine import datasheets
from bench_core.machine.cpu_limits import Bound, CpuLimits
from bench_core.records import PARTLY_SPLIT, SPLIT, Cache, Limit, Measurement, Series, Status, Traffic, Traits
from bench_core.results.roofline import cached
from bench_core.results.rows import accountable
from bench_core.results.traits import TraitsOf
from bench_core.units import show

# How far above its datasheet a device may measure: makers state a boost clock that chips exceed (H100 SXM:
# 1.83 GHz stated, 1.98 GHz reached; GeForce boards more), and memory clocks can be raised by hand.
# The margin of three TF32 products for one is smaller, because the operands must also be split.
FLOPS_MARGIN, SPLIT_MARGIN, BANDWIDTH_MARGIN = 1.25, 1.1, 1.1
# A CPU cannot exceed its computed bound, unless its clock was raised by hand above what the kernel reports.
CPU_MARGIN = 1.1
# How far a stream may exceed the best other one of its run, at least and per thread. Per thread: one library uses all
# threads and another one (NumPy) a single one. 4: of 8 arrays that NumPy's triad moves in two passes, with the reads
# before its writes, 3 are counted. 8: caches that a virtual machine does not show are a few times faster than memory.
OWN_BEST_MARGIN, OWN_BEST_MARGIN_PER_THREAD = 8.0, 4.0
# Two streams must be there for this comparison. If they have less than 20 GB/s, their library is slow, not the memory.
_FEWEST_OTHERS, _LEAST_BEST = 2, 20e9

# A rate of a measurement: its amount, the bound, the margin, its unit, and what the reason calls the device.
_Check = tuple[float | None, Bound | None, float, str, str]


def refuse_implausible(done: Measurement, traits: TraitsOf, cpu: CpuLimits) -> Measurement:
    """Return the measurement unchanged, or `invalid` with a reason instead of its values.

    It is `invalid` if its device cannot be that fast (see the margins above), or if `rows.accountable` finds that
    no row can be made of it.
    """
    done = accountable(done)
    reason = done.status is Status.OK and _impossible(done, traits(done.case.work), cpu)
    return _refused(done, reason) if reason else done


def _refused(done: Measurement, reason: str) -> Measurement:
    return replace(done, status=Status.INVALID, reason_code="implausible", reason=reason, series=(), values={})


def _impossible(done: Measurement, traits: Traits, cpu: CpuLimits) -> str:
    checks = _of_cpu(done, traits, cpu) if done.case.device_type == "cpu" else _of_datasheet(done, traits)
    for amount, bound, margin, unit, device in checks:
        for series in done.series:
            if series.metric == "time" and amount and bound and amount / median(series.calm) > margin * bound.rate:
                rate = show(amount / median(series.calm), unit)
                limit = show(bound.rate, unit) + (f": {bound.why}" if bound.why else "")
                return f"{rate} by the {series.clock} clock is more than {device} can do ({limit})"
    return ""


def _of_datasheet(done: Measurement, traits: Traits) -> Iterator[_Check]:
    """Yield the limits by the datasheet of a device, of several together by as many times that."""
    work, name = done.case.work, done.device_name
    ranks = work.ranks if done.case.ranks > 1 else 1
    precision = SPLIT if {SPLIT, PARTLY_SPLIT} & set(done.flags) else work.precision
    flops, bandwidth = datasheets.peak_flops(name, work.dtype, precision), datasheets.peak_bandwidth(name)
    margin = SPLIT_MARGIN if SPLIT in done.flags else FLOPS_MARGIN
    who = f"{ranks} x {name}" if ranks > 1 else name
    yield done.costs.needed_flops, Bound(ranks * flops, "") if flops else None, margin, "FLOP/s", who
    if traits.traffic is not Traffic.CACHES and not _is_cached(done):
        yield done.costs.bytes, Bound(ranks * bandwidth, "") if bandwidth else None, BANDWIDTH_MARGIN, "B/s", who


def _of_cpu(done: Measurement, traits: Traits, cpu: CpuLimits) -> Iterator[_Check]:
    """Yield the limits of a CPU. Main memory limits no cold stream: large caches may hold some of its buffers."""
    work, costs, threads = done.case.work, done.costs, done.case.threads
    flops = cpu.peak_flops(work.dtype, work.precision, threads)
    yield costs.needed_flops, flops, CPU_MARGIN, "FLOP/s", "this CPU"
    if traits.traffic is not Traffic.LINK:
        yield costs.bytes, cpu.peak_transfer(threads), CPU_MARGIN, "B/s", "this CPU"
    if traits.traffic is Traffic.MEMORY and work.cache is Cache.HOT and not _is_cached(done):
        yield costs.bytes, cpu.peak_memory(costs.least_bytes or 0.0), CPU_MARGIN, "B/s", "this CPU"


def _is_cached(done: Measurement) -> bool:
    return cached(";".join(done.flags))


def refuse_beyond_own_best(measurements: Sequence[Measurement], traits: TraitsOf) -> list[Measurement]:
    """Return the measurements of a run in their order, each CPU stream that the others contradict as `invalid`.

    It is `invalid` if the lower end of its bandwidth's interval is above the best other stream with the same setting of
    threads times a margin (see OWN_BEST_MARGIN). The others are the workloads that measure the bandwidth of memory
    (`Traits.measures`), of other backends or, if those have less than two, of all other cases; with less than two,
    nothing is refused. Streams in caches are not compared. All measurements of a refused case are `invalid`.
    """
    streams = [m for m in measurements if _is_stream_of_cpu(m, traits)]
    comparable = [m for m in streams if traits(m.case.work).measures is Limit.BANDWIDTH]
    reasons = {m.case: reason for m in streams if (reason := _beyond(m, comparable))}
    return [_refused(m, reasons[m.case]) if m.case in reasons and m.status is Status.OK else m for m in measurements]


def _is_stream_of_cpu(done: Measurement, traits: TraitsOf) -> bool:
    """Whether a measurement has the bandwidth of a CPU's main memory."""
    if accountable(done).status is not Status.OK or done.case.device_type != "cpu" or _is_cached(done):
        return False
    return bool(traits(done.case.work).is_stream and done.costs.bytes and _timed(done))


def _timed(done: Measurement) -> Series | None:
    return next((series for series in done.series if series.metric == "time"), None)


def _beyond(done: Measurement, comparable: Sequence[Measurement]) -> str:
    """Return why a stream cannot be as fast as it is, compared with the others with its threads; "" if it can."""
    here = [m for m in comparable if m.case != done.case and m.case.threads == done.case.threads]
    foreign = [m for m in here if m.case.backend != done.case.backend]
    others = foreign if len({m.case for m in foreign}) >= _FEWEST_OTHERS else here
    if len({m.case for m in others}) < _FEWEST_OTHERS:
        return ""
    best = max(others, key=_bandwidth)
    threads = max(m.threads_used or 1 for m in (done, *others))
    margin = max(OWN_BEST_MARGIN, OWN_BEST_MARGIN_PER_THREAD * threads)
    rate, reached, limit = _bandwidth(done, lower=True), _bandwidth(best), max(_bandwidth(best), _LEAST_BEST)
    if rate <= margin * limit:
        return ""
    beyond = f"{show(rate, 'B/s')} is more than {margin:g} times {show(limit, 'B/s')}"
    other = f"{best.case.work.workload} {best.case.label} with {show(reached, 'B/s')}"
    return f"{beyond}; the best other stream of the run is {other}"


def _bandwidth(done: Measurement, *, lower: bool = False) -> float:
    """Return the bandwidth of a stream by the median of its time, in B/s; lower: the lower end of its interval."""
    timed = _timed(done)
    assert timed is not None  # noqa: S101 - a stream has a time
    summary = stats.summarise(timed.calm)
    return (done.costs.bytes or 0.0) / (summary.ci_high if lower else summary.median)
