"""A suite of one's own, whose names bench_core has never heard, gets its bound, its charts and its place."""

import ast
import os

import pytest

from bench_core.analysis import figures
from bench_core.analysis.report_data import ReportData
from bench_core.compare import read
from bench_core.records import Limit
from tests.support import ROOT, forked
from tests.support.planned import WORKLOADS

SUITE = """
import numpy as np
import pytest
from bench_core import check
from bench_core.workload import Costs, Kernel, Limit, Traffic, Traits, Workload

SIZES = 1 << 10, 1 << 12, 1 << 14


class Signal(Workload):
    suite = "signal"
    flops, least = 1.0, 24.0

    def works(self, preset, machine):
        return [self.work(str(n), "float64", n=n) for n in SIZES]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(work["n"])}

    def costs(self, work):
        return Costs(self.flops * work["n"], 24.0 * work["n"], self.least * work["n"])

    def kernel(backend, work, host):
        x = backend.from_host(host["x"])
        return Kernel(lambda: x * 2, inputs={"x": x})

    kernels = {"array": {"default": kernel}}

    def error(self, work, host, answer):
        return check.relative_error(answer["out"], 2 * host["x"])


class Filter(Signal):
    name, flops, least = "filter", 40.0, 0.02
    traits = Traits(order=0, measures=Limit.COMPUTE)


class Shift(Signal):
    name = "shift"
    traits = Traits(order=1, headline="bandwidth", measures=Limit.BANDWIDTH, traffic=Traffic.MEMORY)


class Chain(Signal):
    suite, name, flops = "chain", "chained", 2.0
    traits = Traits(order=9)


class Early(Signal):
    suite, name = "early", "early"
    traits = Traits(order=-1)


@pytest.mark.workload(Chain())
def test_chained(measure):
    measure()


@pytest.mark.workload(Shift())
def test_shift(measure):
    measure()


@pytest.mark.workload(Filter())
def test_filter(measure):
    measure()


@pytest.mark.workload(Early())
def test_early(measure):
    measure()
"""
# Strings that are the name of a suite or a workload by chance, by the file in which they mean something else.
OTHERWISE = {
    "records.py": {"memory", "latency", "launch", "scaling"},  # limits, and what bytes cross
    "nvml.py": {"memory"},  # of a card
    "allotment.py": {"memory"},  # a controller of control groups
    "processor.py": {"model"},  # a line of /proc/cpuinfo
    "figures.py": {"memory"},  # the name of a ceiling
    "metrics.py": {"latency"},
    "claims.py": {"latency"},  # the metric
    "sweep_fit.py": {"latency"},
    "evidence.py": {"memory"},  # of a machine
    "fleet.py": {"gather"},  # a command
    "svg.py": {"fill"},
    "theme.py": {"fill"},
    "charts.py": {"fill", "scale"},
    "captions.py": {"scaling"},  # the name of a figure
    "plot.py": {"scaling"},
    "scaling.py": {"scaling"},  # a parameter
    "over_ranks.py": {"scaling"},
    "history.py": {"add"},  # a command
}


@pytest.fixture(scope="module")
def data(installed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "bench_signal.py").write_text(SUITE, encoding="utf-8")
    given = ["bench_signal.py", "-p", "no:cacheprovider", "-p", "no:xdist"]
    given += ["--benchmark-only", "--bench-budget=0.02", "--bench-backends=numpy", "--bench-output=out"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = forked.run(given, folder, clean)
    assert done.returncode == 0, done.stdout
    return ReportData(read([str(folder / "out")]))


def test_it_has_its_share_and_its_bound(data):
    rows = {(row.workload, row.size, row.metric): row for row in data.rows}
    assert "fraction_of_measured_peak" in {metric for workload, _, metric in rows if workload == "filter"}
    assert "bandwidth_of_measured_peak" in {metric for workload, _, metric in rows if workload == "chained"}
    assert "bound_compute" in rows["filter", "1024", "arithmetic_intensity"].flags
    assert "bound_bandwidth" in rows["chained", "1024", "arithmetic_intensity"].flags


def test_it_has_its_charts(data):
    (roof,) = figures.roofs(data)
    assert {point.row.workload for point in roof.points} == {"filter", "shift", "chained", "early"}
    assert (roof.suites, len(roof.peaks), len(roof.bandwidths)) == (("early", "signal", "chain"), 1, 1)
    assert [(ladder.family.workload, ladder.metric) for ladder in figures.ladders(data)] == [("shift", "bandwidth")]
    swept = {sweep.family.workload: sweep.metric for sweep in figures.sweeps(data)}
    assert swept == {"filter": "flop_rate", "chained": "flop_rate", "early": "flop_rate"}


def test_it_has_its_place(data):
    assert [family.workload for family in data.families] == ["early", "filter", "shift", "chained"]
    assert data.traits(data.rows[0]).measures in {*Limit, None}


def strings(path):
    """Yield the strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_bench_core_knows_no_suite_or_workload_by_name():
    """But those of old tables (legacy.py), and what `bench-core noise` runs (noise/cases.py)."""
    names = {workload.suite for workload in WORKLOADS} | {workload.name for workload in WORKLOADS}
    paths = [p for p in (ROOT / "bench_core").rglob("*.py") if p.name != "legacy.py" and p.parent.name != "noise"]
    found = {path.name: names & set(strings(path)) - OTHERWISE.get(path.name, set()) for path in paths}
    assert {name: known for name, known in found.items() if known} == {}
