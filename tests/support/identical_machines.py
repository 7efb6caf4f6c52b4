"""Real machines that should not differ, from tests/compare/data: training throughput of H100 machines."""

import csv
from pathlib import Path

from bench_core.records import Case, Clock, Costs, Measurement, Series, Status, Work
from tests.support.tables import reading

DATA = Path(__file__).parents[1] / "compare" / "data" / "identical-machines.csv"


def identical_machines(path=DATA):
    """Return the one run of each machine; `path` may name another file with such columns."""
    with path.open(encoding="utf-8") as file:
        _, *lines = csv.reader(file)
    tables = {}
    for machine, count, workload, rate, *_ in lines:
        done = Measurement(
            Case(Work("train", workload, "amp", "float16", (("gpus", int(count)),)), "torch", "cuda:0"),
            Status.OK,
            costs=Costs(amounts={"samples": 1.0}),
            series=(Series("time", Clock.WALL, (1.0 / float(rate),)),),
            device_name="NVIDIA H100 80GB HBM3",
        )
        tables.setdefault(machine, []).append(done)
    return [reading(measurements, machine) for machine, measurements in tables.items()]
