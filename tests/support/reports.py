"""What tests of reports share: the data of all imaginary machines, single rows of them, and runs of a known speedup."""

import pytest

from bench_core.analysis.report_data import ReportData
from bench_core.compare import Reading
from tests.support import synthetic, tables


@pytest.fixture(name="everything", scope="module")
def data_of_all_machines():
    """Return what there is to show of all five machines."""
    return ReportData(synthetic.readings())


def row_of(label="machine-b", **wanted):
    """Return the first row of an imaginary machine whose columns have these values."""
    rows = synthetic.readings(label)[0].rows
    return next(r for r in rows if all(getattr(r, name) == value for name, value in wanted.items()))


def reading_of(*rows):
    """Return these rows as if they had been read from one file."""
    return Reading.of("results.csv", rows)


def runs_of(gpu_factor, spread, runs=5):
    """Return tables in which a GPU is `gpu_factor` times as fast as the CPU, on two sizes, `spread` between runs."""
    sizes = [tables.work(size) for size in ("64", "128")]
    return [
        tables.reading(
            [
                tables.measured([t * 0.99, t, t * 1.01], of, device=device, backend="torch", flops=float(of.size) ** 3)
                for of in sizes
                for device, t in (("cpu", 1 + spread * i), ("cuda:0", (1 + spread * (i + i % 3)) / gpu_factor))
            ],
            run_id=f"run-{i}",
            started_at=f"2001-01-0{i + 1}T00:00:00+00:00",
        )
        for i in range(runs)
    ]
