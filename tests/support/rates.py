"""Measurements of a known amount of work in known seconds, and the shares and bounds that follow from them."""

from bench_core.records import Cache, Case, Clock, Costs, Measurement, Run, Series, Status, Work
from bench_core.results import roofline
from bench_core.results.rows import rows_of_case, rows_of_run
from bench_core.results.traits import TraitsOf
from tests.support.limits import H100

RUN = Run("run-a", "2001-01-01T00:00:00+00:00", "a")
# Memory-efficient attention in float32 on compute capability 8.0 and newer: 494.5 / 3 = 165 TFLOP/s on an H100, where
# the datasheet's float32 is 67.
ATTENTION = {"device": "cuda:0", "name": H100, "threads": None, "backend": "torch", "flags": ("3xtf32",)}


def measured(
    suite, workload, seconds, *, flops=None, bytes_=None, least=None, dtype="float32", precision="ieee",
    device="cpu", name="Some CPU", threads=2, clock=Clock.WALL, flags=(), backend="numpy", causal=None, params=(),
    size="1", cache=Cache.HOT,
):  # fmt: skip
    """Return the measurement of this work done in so many seconds: three blocks alike, or blocks of these seconds."""
    work = Work(suite, workload, size, dtype, params, precision, cache=cache)
    case = Case(work, backend, device, threads=threads)
    amounts = {"causal_flops": causal} if causal else {}
    costs = Costs(flops, bytes_, least if least is not None else bytes_, amounts)
    blocks = seconds if isinstance(seconds, tuple) else (seconds,) * 3
    series = (Series("time", clock, blocks),)
    return Measurement(case, Status.OK, costs=costs, series=series, device_name=name, threads=threads, flags=flags)


def table(*measurements):
    """Return the rows of these measurements."""
    return [row for m in measurements for row in rows_of_case(RUN, [m])]


def completed(*measurements):
    """Return all rows of a run of these measurements, with what follows from them."""
    return rows_of_run(RUN, [[m] for m in measurements], TraitsOf())


def derived(*measurements):
    """Return the rows that follow from these measurements, by workload, backend, metric and clock."""
    _, new = roofline.judged(table(*measurements), TraitsOf())
    return {(r.workload, r.backend, r.metric, r.clock): r for r in new}


MATMUL = measured("matmul", "matmul", 1.0, flops=100.0, least=1.0)  # 100 FLOP/s
