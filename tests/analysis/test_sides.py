"""What is compared with what: GPUs with the best CPU, machines with the first, or backends with NumPy."""

import pytest

from bench_core.analysis import figures
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Kind
from tests.support import synthetic, tables


def cpu(machine, factor, backend="torch", **known):
    """Return five runs of two sizes on a CPU, `factor` times as fast as the first."""
    times = [t / factor for t in (1.00, 1.01, 0.99, 1.02, 0.98)]
    done = [m for size in ("64", "128") for m in tables.processes(times, tables.work(size), backend=backend, **known)]
    return tables.reading(done, machine)


def kinds(readings):
    return [(sides.kind, sides.against, [c.label for c in sides.contenders]) for sides in ReportData(readings).sides]


def test_gpus_are_compared_with_cpus_and_machines_with_each_other():
    assert kinds(synthetic.readings("machine-b")) == [(Kind.GPU, "the best CPU", ["GPU"])]
    assert kinds(synthetic.readings("machine-a", "machine-b")) == [
        (Kind.GPU, "the best CPU", ["machine-b GPU"]),
        (Kind.MACHINE, "machine-a", ["machine-b"]),
    ]


def test_without_a_gpu_two_machines_are_compared_by_the_fastest_row_of_each():
    readings = [cpu("old", 1.0), cpu("old", 0.5, "numpy"), cpu("new", 3.0)]
    assert kinds(readings) == [(Kind.MACHINE, "old", ["new"])]
    (s,) = figures.speedups(ReportData(readings))
    assert (s.ratio, s.comparison.verdict) == (pytest.approx(3.0), "faster")
    assert (s.row.machine, s.base.machine, s.base.backend, s.row.size) == ("new", "old", "torch", "128")


def test_without_a_gpu_the_backends_of_one_machine_are_compared_with_numpy():
    readings = [cpu("box", 1.0, "torch"), cpu("box", 2.0, "numpy"), cpu("box", 4.0, "another")]
    assert kinds(readings) == [(Kind.BACKEND, "numpy", ["another", "torch"])]
    ratios = {s.contender.label: s.ratio for s in figures.speedups(ReportData(readings))}
    assert ratios == pytest.approx({"another": 2.0, "torch": 0.5})


def test_a_gpu_and_a_cpu_without_common_work_are_not_compared_and_their_machines_neither():
    apart = [cpu("a", 1.0), tables.reading(tables.processes((1.0,), tables.GPT, device="cuda:0"), "b")]
    assert kinds(apart) == []
    assert figures.speedups(ReportData(apart)) == []


def test_a_mean_is_of_one_arithmetic():
    """A chip has other units for each: bfloat16 396x says nothing about float32 10x."""
    found = figures.speedups(ReportData(synthetic.readings("machine-b")))
    means = figures.means(found)
    assert [mean.arithmetic for mean in means] == list(dict.fromkeys(s.family.arithmetic for s in found))
    for mean in means:
        ratios = [s.ratio for s in found if s.family.arithmetic == mean.arithmetic]
        assert [s.ratio for s in mean.of] == ratios
        assert min(ratios) * 0.999 <= mean.ratio <= max(ratios) * 1.001
        assert mean.low < mean.ratio < mean.high
