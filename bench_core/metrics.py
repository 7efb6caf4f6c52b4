"""METRICS, and how measurements become rows.

A metric is one entry here: its name, base unit, and which way is better. A rate also names its amount
of work: rate = amount / seconds, or / joules. A metric that is measured directly has no formula.

Below METRICS are the facts of a row that several modules show: its headline metric, how bad its status is,
its parameters, and who did the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from bench_core import stats
from bench_core.model import LAUNCH_BOUND, Clock, Costs, Measurement, Row, Run, Series, Status
from bench_core.units import Unit

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity, measured or derived from one that is.

    amount: gives amount(costs) / what `of` measured. share: gives seconds / share(costs).
    """

    name: str
    unit: Unit
    better: Better
    about: str
    amount: Callable[[Costs], float | None] | None = None
    of: Literal["time", "energy"] = "time"
    share: Callable[[Costs], float | None] | None = None


METRICS = {
    m.name: m
    for m in (
        Metric("time", "s", "lower", "one call, synchronised"),
        Metric("flop_rate", "FLOP/s", "higher", "FLOPs by formula / time", lambda c: c.flops),
        Metric("bandwidth", "B/s", "higher", "bytes as STREAM counts them / time", lambda c: c.bytes),
        Metric("sample_rate", "1/s", "higher", "samples / time", lambda c: c.amounts.get("samples")),
        Metric("token_rate", "1/s", "higher", "tokens / time", lambda c: c.amounts.get("tokens")),
        Metric(
            "causal_flop_rate",
            "FLOP/s",
            "higher",
            "FLOPs by formula / time, of attention only the pairs of tokens that a causal mask leaves",
            lambda c: c.amounts.get("causal_flops"),
        ),
        Metric(
            "time_per_output_token",
            "s",
            "lower",
            "(latency - time to first token) / (new tokens - 1): the decode loop alone",
            share=lambda c: c.amounts.get("steps"),
        ),
        Metric("time_to_first_token", "s", "lower", "prompt in, first new token out"),
        Metric("inter_token_latency", "s", "lower", "one new token after another, everything before remembered"),
        Metric("latency", "s", "lower", "the fitted time of moving nothing: a of time = a + bytes / b"),
        Metric("fitted_bandwidth", "B/s", "higher", "the fitted bandwidth without latency: b of time = a + bytes / b"),
        Metric("arithmetic_intensity", "FLOP/B", "higher", "FLOPs / the least bytes that must move"),
        Metric("fraction_of_measured_peak", "1", "higher", "rate / the best product or stream of the run"),
        Metric("fraction_of_datasheet", "1", "higher", "rate / the dense peak of the maker's datasheet"),
        Metric(
            "compile_time",
            "s",
            "lower",
            "compiling (with empty disk caches), or warming up and capturing a graph, and the one call that does so",
        ),
        Metric(
            "load_latency",
            "s",
            "lower",
            "one load whose address the load before it gave, the interpreter's own time included",
            share=lambda c: c.amounts.get("loads"),
        ),
        Metric(
            "first_call",
            "s",
            "lower",
            "the first call, with whatever it loads or plans that no case before it in its process had",
        ),
        Metric(
            "gpu_power",
            "W",
            "lower",
            "board power as reported right after the timed blocks, on many GPUs the mean of 1 s",
        ),
        Metric("energy", "J", "lower", "one call, by the counter of the whole GPU board or of all CPU packages"),
        Metric("flops_per_joule", "FLOP/J", "higher", "FLOPs by formula / energy", lambda c: c.flops, of="energy"),
        Metric("bytes_per_joule", "B/J", "higher", "bytes as STREAM / energy", lambda c: c.bytes, of="energy"),
        Metric(
            "samples_per_joule", "1/J", "higher", "samples / energy", lambda c: c.amounts.get("samples"), of="energy"
        ),
        Metric("tokens_per_joule", "1/J", "higher", "tokens / energy", lambda c: c.amounts.get("tokens"), of="energy"),
        Metric("gpu_temperature", "degC", "lower", "of the GPU's core right after the timed blocks"),
        Metric("gpu_clock", "Hz", "higher", "clock of the multiprocessors right after the timed blocks"),
        Metric(
            "bandwidth_of_measured_peak", "1", "higher", "a model's bytes / time / the best stream of the run: its MBU"
        ),
        Metric("bandwidth_of_datasheet", "1", "higher", "a model's bytes / time / the datasheet's bandwidth: its MBU"),
        Metric(
            "peak_memory", "B", "lower", "the most memory that the case took beyond what was in use before it was built"
        ),
    )
}


_HEADLINES = ("token_rate", "sample_rate", "flop_rate", "bandwidth")

_WORST_FIRST = (
    *(Status.CRASHED, Status.TIMEOUT, Status.OOM, Status.ERROR, Status.INVALID, Status.INTERRUPTED),
    *(Status.UNSUPPORTED, Status.SKIPPED, Status.OK),
)


def headline(suite: str, there: Collection[str]) -> str:
    """Return which of the metrics that are there shows a piece of work best: a rate, or "time" without one.

    The work of the suite `memory` is shown by its bandwidth: its FLOPs are few by design.
    """
    rates = ("bandwidth",) if suite == "memory" else _HEADLINES
    return next((name for name in rates if name in there), "time")


def severity(status: str) -> int:
    """Return the place of a status among all, the worst first: where several could be told, the first is."""
    return _WORST_FIRST.index(Status(status))


def is_launch_bound(row: Row) -> bool:
    """Whether a row's time, by whichever clock, is the host's: it tells nothing of what the device can do."""
    return LAUNCH_BOUND in row.flags.split(";")


def parameters(row: Row) -> dict[str, str]:
    """Return a row's parameters by name."""
    return {name: value for name, _, value in (pair.partition("=") for pair in row.params.split(";") if pair)}


def who(row: Row) -> str:
    """Return who did the work on its device: "torch", "numpy tuned"."""
    return row.backend if row.implementation == "default" else f"{row.backend} {row.implementation}"


def needed_flops(costs: Costs) -> float | None:
    """Return the FLOPs that no kernel can avoid: of attention only the pairs that a causal mask leaves."""
    return costs.amounts.get("causal_flops", costs.flops)


def accountable(done: Measurement) -> Measurement:
    """Return a measurement as it is, or one with a reason in its place if no row can be made of it.

    That is `error` for a probe or value whose name is not in METRICS, and `invalid` for a sample of 0 s, from
    which no rate follows, or a number that is not finite.
    """
    unknown = sorted({*(series.metric for series in done.series), *done.values} - METRICS.keys())
    if unknown:
        reason = f"{', '.join(unknown)}: not among METRICS in bench_core/metrics.py"
        return _without_values(done, Status.ERROR, "unknown_metric", reason)
    for series in done.series:
        if not series.seconds or not all(0 < seconds < math.inf for seconds in series.seconds):
            reason = f"{series.metric} by the {series.clock} clock: not every sample is a time above 0 s"
            return _without_values(done, Status.INVALID, "no_time", reason)
    strange = [name for name, value in done.values.items() if not math.isfinite(value)]
    if strange:
        return _without_values(done, Status.INVALID, "no_number", f"{', '.join(strange)}: not a finite number")
    return done


def _without_values(done: Measurement, status: Status, code: str, reason: str) -> Measurement:
    return replace(done, status=status, reason_code=code, reason=reason, series=(), values={})


def rows(run: Run, processes: Sequence[Measurement]) -> Iterator[Row]:
    """Yield the rows of one case from its measurements, one per process.

    One row a metric, clock included; a case without any value yields one row that says why. An answer that was
    wrong in one process is not right in the others by more than luck: the case has no value then.
    """
    processes = [accountable(m) for m in processes]
    wrong = [m for m in processes if m.status is Status.INVALID]
    good = [] if wrong else [m for m in processes if m.status is Status.OK]
    if good:  # what is said of the answer is the worst of it
        good[0] = replace(good[0], rel_error=max((m.rel_error for m in good if m.rel_error is not None), default=None))
    # If no process has a value, the row gets the worst of their statuses.
    told = (wrong or good or sorted(processes, key=lambda m: severity(m.status)))[0]
    # If other processes ended differently, add a flag; their rows are kept.
    others = [f"{m.status}_in_a_process" for m in processes if m.status is not told.status]
    if not good:
        yield _row(run, told, METRICS["time"], clock="wall", flags=_flags([*others, *told.flags]))
        return
    # A process may lack a series or a value that the first one has, or have one more.
    series: dict[tuple[str, Clock], list[Series]] = {}
    for one in (s for m in good for s in m.series):
        series.setdefault((one.metric, one.clock), []).append(one)
    for same in series.values():
        yield from _series_rows(run, good, same, others)
    for name in dict.fromkeys(name for m in good for name in m.values):
        values = [m.values[name] for m in good if name in m.values]
        flags = _flags([*others, *good[0].flags], processes=len(values))
        statistics = _statistics([[v] for v in values])
        yield _row(run, good[0], METRICS[name], clock="", flags=flags, **statistics)
        yield from _rates(run, good[0], name, statistics, clock="", flags=flags)


def _series_rows(run: Run, good: Sequence[Measurement], series: Sequence[Series], failed: list[str]) -> Iterator[Row]:
    """Yield the rows of one metric under one clock: a series from each process that has it."""
    first, samples = series[0], [s.seconds for s in series]
    words = [*failed, *(w for m in good for w in m.flags), *(w for s in series for w in s.flags)]
    flags = _flags(words, processes=len(series))
    known = {"clock": first.clock, "flags": flags, "inner_loops": first.inner_loops}
    yield _row(run, good[0], METRICS[first.metric], **known, **_statistics(samples))
    if first.metric != "time":
        return
    yield from _rates(run, good[0], "time", _statistics(samples), **known)
    for metric in METRICS.values():
        share = metric.share(good[0].costs) if metric.share else None
        if share:
            parts = [[seconds / share for seconds in process] for process in samples]
            yield _row(run, good[0], metric, **known, **_statistics(parts))


def _rates(run: Run, m: Measurement, of: str, statistics: dict[str, Any], **known: Any) -> Iterator[Row]:
    """Yield the rows of all metrics that divide an amount of work by what was measured: by `of`, time or energy."""
    for metric in METRICS.values():
        amount = metric.amount(m.costs) if metric.amount and metric.of == of else None
        if amount:
            yield _row(run, m, metric, **known, **_rate(amount, statistics))


def _statistics(samples: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return the statistical columns for samples[process][block].

    Quantiles are over all blocks. With one process `value` is their median and the interval is that of
    the median within the process; with more, `value` is the median of the process medians and the
    interval is Student's t on their logarithms: processes are the replicates.
    """
    pooled = asdict(stats.summarise([s for process in samples for s in process]))
    columns = {name: pooled[name] for name in ("n", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")}
    columns |= {"value": pooled["median"], "processes": len(samples)}
    if len(samples) > 1:
        medians = [stats.summarise(process).median for process in samples]
        low, high = stats.log_mean_interval(medians) if min(medians) > 0 else (min(medians), max(medians))
        value = stats.quantile(sorted(medians), 0.5)
        columns |= {"value": value, "ci_low": min(low, value), "ci_high": max(high, value)}
        columns["ci_level"] = stats.CONFIDENCE
    elif pooled["n"] > 1:
        columns |= {name: pooled[name] for name in ("ci_low", "ci_high", "ci_level")}
    return columns


def _rate(amount: float, per: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of amount / time (or energy): quantiles swap ends, the mean is total over total."""
    swap = {"value": "value", "mean": "mean", "min": "max", "p10": "p90", "p25": "p75", "p75": "p25"}
    swap |= {"p90": "p10", "max": "min", "ci_low": "ci_high", "ci_high": "ci_low"}
    rate = {to: amount / per[of] for to, of in swap.items() if of in per}
    if per["std"] is not None:
        rate["std"] = rate["mean"] * per["std"] / per["mean"]  # first order in std / mean
    return {name: per[name] for name in ("n", "processes", "ci_level") if name in per} | rate


def _flags(words: Sequence[str], processes: int = 0) -> str:
    single = ["single_run"] if processes == 1 else []
    return ";".join(dict.fromkeys([*words, *single]))


def _row(run: Run, m: Measurement, metric: Metric, **columns: Any) -> Row:
    case, work = m.case, m.case.work
    finite_error = m.rel_error if m.rel_error is not None and math.isfinite(m.rel_error) else None
    return Row(
        run_id=run.run_id,
        started_at=run.started_at,
        machine=run.machine,
        case_id=work.case_id,
        suite=work.suite,
        workload=work.workload,
        workload_version=work.version,
        size=work.size,
        dtype=work.dtype,
        precision=work.precision,
        params=work.params_text,
        backend=case.backend,
        implementation=case.implementation,
        device_type=case.device_type,
        device=case.device,
        threads=m.threads_used,
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        scope=work.scope,
        cache=work.cache,
        flops=m.costs.flops,
        bytes=m.costs.bytes,
        status=m.status,
        reason_code=m.reason_code,
        reason=m.reason,
        rel_error=finite_error,
        backend_version=m.backend_version,
        env_id=m.env_id,
        git_commit=run.git_commit,
        git_dirty=run.git_dirty,
        device_name=m.device_name,
        library=m.library,
        least_bytes=m.costs.least_bytes,
        **columns,
    )
