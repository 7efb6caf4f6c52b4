"""Convert measurements to rows: the rows of a case, and those of a run with the rows derived from them.

What depends on other rows of a run (a share of a ceiling, the fit of a sweep, some flags) is computed once, at the end,
when all other rows exist.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from bench_core import sequential, stats
from bench_core.records import COLD_AS_HOT, SEQUENTIAL, Clock, Measurement, Row, Run, Series, Status, severity
from bench_core.results import roofline
from bench_core.results.coldness import with_cold_as_hot
from bench_core.results.metrics import METRICS, Metric
from bench_core.results.scaling import scaled_rows
from bench_core.results.sweep_fit import fitted_rows
from bench_core.results.traits import TraitsOf


def rows_of_run(run: Run, cases: Iterable[Sequence[Measurement]], traits: TraitsOf) -> list[Row]:
    """Return all rows of a run, derived rows included. `cases`: the measurements of each case, one per process."""
    known = [[accountable(m) for m in processes] for processes in cases]
    by_case = [(processes, list(rows_of_case(run, processes))) for processes in known]
    return [*completed([row for _, rows in by_case for row in rows], traits), *scaled_rows(by_case)]


def completed(rows: Sequence[Row], traits: TraitsOf) -> list[Row]:
    """Return the rows of all cases with what follows from other rows of their run.

    Rows get the flags of FROM_OTHER_ROWS. Rows are added for the fits of sweeps, and for shares and bounds by the
    roofline.
    """
    rows, by_roofline = roofline.judged(with_cold_as_hot(rows, traits), traits)
    return [*rows, *fitted_rows(rows, traits), *by_roofline]


# Flags of measured rows that `completed` sets, so that no Measurement has them.
FROM_OTHER_ROWS = (roofline.ABOVE_CEILING, roofline.ABOVE_DATASHEET, COLD_AS_HOT)


def count_from_other_rows(rows: Iterable[Row]) -> Counter[str]:
    """Return the number of results with each flag of FROM_OTHER_ROWS: cases of a run on one backend and device."""
    found = {(word, row.run_id, row.identity) for row in rows for word in row.flags.split(";")}
    return Counter(word for word, *_ in found if word in FROM_OTHER_ROWS)


def accountable(done: Measurement) -> Measurement:
    """Return the measurement, or one without values if no rows can be made from it.

    The status is then `error` for a probe or value whose name is not in METRICS, and `invalid` for a sample of 0 s,
    which allows no rate, or a value that is not finite. The reason gives the names.
    """
    unknown = sorted({*(series.metric for series in done.series), *done.values} - METRICS.keys())
    if unknown:
        reason = f"{', '.join(unknown)}: not among METRICS in bench_core/results/metrics.py"
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


def rows_of_case(run: Run, processes: Sequence[Measurement]) -> Iterator[Row]:
    """Yield the rows of one case from its measurements, one per process.

    There is one row per metric and clock. A case without any value yields one row with the reason. If the answer was
    wrong in one process, the case has no value: in the other processes it may be right only by chance.
    """
    processes = [accountable(m) for m in processes]
    wrong = [m for m in processes if m.status is Status.INVALID]
    good = [] if wrong else [m for m in processes if m.status is Status.OK]
    if good:  # the row gets the largest error of all processes
        good[0] = replace(good[0], rel_error=max((m.rel_error for m in good if m.rel_error is not None), default=None))
    # If no process has a value, the row gets the worst of their statuses.
    shown = (wrong or good or sorted(processes, key=lambda m: severity(m.status)))[0]
    # If other processes ended differently, add a flag; their rows are kept.
    others = [f"{m.status}_in_a_process" for m in processes if m.status is not shown.status]
    if not good:
        yield _row(run, shown, METRICS["time"], clock="wall", flags=_flags([*others, *shown.flags]))
        return
    # Processes may differ in which series and values they have.
    series: dict[tuple[str, Clock], list[tuple[Measurement, Series]]] = {}
    for m in good:
        for one in m.series:
            series.setdefault((one.metric, one.clock), []).append((m, one))
    for (name, clock), found in series.items():
        words = [*others, *(w for m in good for w in m.flags), *(w for _, one in found for w in one.flags)]
        known = {"clock": clock, "inner_loops": found[0][1].inner_loops}
        yield from _metric_rows(run, good[0], name, [(m, one.calm) for m, one in found], words, **known)
    for name in dict.fromkeys(name for m in good for name in m.values):
        observed = [(m, (m.values[name],)) for m in good if name in m.values]
        yield from _metric_rows(run, good[0], name, observed, [*others, *good[0].flags], clock="")


def _metric_rows(
    run: Run,
    first: Measurement,
    name: str,
    found: Sequence[tuple[Measurement, Sequence[float]]],
    words: Sequence[str],
    **known: Any,
) -> Iterator[Row]:
    """Yield the row of the measured metric `name`, and those of all metrics whose `Formula.lead` it is.

    first: the measurement whose case, status and library the rows show. found: the samples of each process that has
    any. The other terms of a formula come from the same process as the samples; a process that lacks one of them is
    left out of that row.
    """
    sequence = SEQUENTIAL in words
    statistics = statistics_of([samples for _, samples in found], sequence=sequence)
    yield _row(run, first, METRICS[name], flags=_flags(words, processes=len(found)), **known, **statistics)
    for metric in METRICS.values():
        if metric.formula is None or metric.formula.lead.name != name:
            continue
        parts = [(metric.formula.factors(first.costs, m.values), samples) for m, samples in found]
        complete = [(*factors, samples) for factors, samples in parts if factors and min(samples) > 0]
        if complete:
            flags = _flags(words, processes=len(complete))
            derived = _derived(complete, falls=metric.formula.falls, sequence=sequence)
            yield _row(run, first, metric, flags=flags, **known, **derived)


def _derived(parts: Sequence[tuple[float, float, Sequence[float]]], *, falls: bool, sequence: bool) -> dict[str, Any]:
    """Return the statistics of the formula above * x / below, or above / (below * x) if `falls`.

    parts[process]: above, below and the samples x, all above zero. The mean is the sum of all dividends divided by the
    sum of all divisors: for a rate, total work divided by total time.
    """
    if falls:  # the quantiles are those of the divisor, scaled to the work of the first process
        work = parts[0][0]
        divisors = [[below * x * (work / above) for x in samples] for above, below, samples in parts]
        statistics = _rate(work, statistics_of(divisors, sequence=sequence))
    else:
        dividends = [[above * x / below for x in samples] for above, below, samples in parts]
        statistics = statistics_of(dividends, sequence=sequence)
    if len({above if falls else below for above, below, _ in parts}) > 1:
        dividend = math.fsum(above if falls else above * x for above, _, samples in parts for x in samples)
        divisor = math.fsum(below * x if falls else below for _, below, samples in parts for x in samples)
        statistics["mean"] = dividend / divisor
    return statistics


def statistics_of(samples: Sequence[Sequence[float]], *, sequence: bool) -> dict[str, Any]:
    """Return the statistical columns for samples[process][block].

    Quantiles are over the blocks of all processes. With one process, `value` is the median of its blocks, with the
    confidence interval of that median. With several processes, which are the replicates, `value` is the median of
    their medians, and the interval is Student's t interval of the logarithms of these medians. In a `sequence`, whose
    values decided how many processes there are, it is that of sequential.py; before the first look there is none.
    """
    pooled = asdict(stats.summarise([s for process in samples for s in process]))
    columns = {name: pooled[name] for name in ("n", "mean", "std", "min", "p10", "p25", "p75", "p90", "max")}
    columns |= {"value": pooled["median"], "processes": len(samples)}
    if len(samples) > 1:
        medians = [stats.summarise(process).median for process in samples]
        columns["value"] = value = stats.quantile(sorted(medians), 0.5)
        if ends := sequential.between_processes(medians, in_sequence=sequence):
            columns |= {"ci_low": min(ends[0], value), "ci_high": max(ends[1], value), "ci_level": stats.CONFIDENCE}
    elif pooled["n"] > 1 and not sequence:
        columns |= {name: pooled[name] for name in ("ci_low", "ci_high", "ci_level")}
    return columns


def _rate(amount: float, per: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of amount / x from those of x: quantiles change places, the mean is amount / mean(x)."""
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
        placement=m.placement,
        **columns,
    )
