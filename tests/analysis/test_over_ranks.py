"""Curves over ranks: one line for each implementation of each target, and nothing of single devices among them."""

from dataclasses import replace

import pytest

from bench_core import stats
from bench_core.analysis import figures, over_ranks
from bench_core.analysis.report_data import ReportData
from bench_core.analysis.sides import Kind
from bench_core.records import Fact
from bench_core.report.charts import looks, ranks_chart, value
from bench_core.results.run_files import RunFiles
from tests.support import tables
from tests.support.ranks import LINK, across, several_devices


@pytest.fixture(name="data", scope="module")
def data_of_a_run():
    return ReportData([several_devices()])


def test_each_work_has_a_panel_and_each_implementation_a_line(data):
    weak, strong = sorted(over_ranks.scalings(data), key=lambda s: s.metric)
    assert (weak.title, weak.metric) == ("train_together float32 tiny · weak scaling", "parallel_efficiency")
    assert (strong.title, strong.metric) == ("train_together float32 tiny · strong scaling", "speedup")
    values = {c.label: [(x, row.value) for x, row in c.points] for c in weak.curves}
    assert values == {
        "torch ddp": [(2, pytest.approx(0.9)), (4, pytest.approx(0.81))],
        "torch fsdp": [(2, pytest.approx(0.8)), (4, pytest.approx(0.64))],
    }
    assert {c.label: c.last.value for c in strong.curves} == {
        "torch ddp": pytest.approx(4 * 0.64),
        "torch fsdp": pytest.approx(4 * 0.49),
    }


@pytest.mark.parametrize(
    ("level", "shown"), [(0.5, False), (0.9375, False), (stats.CONFIDENCE, True), (0.99, True), (None, True)]
)
def test_an_interval_of_less_than_the_usual_confidence_is_neither_shown_nor_drawn(level, shown):
    """As that of the quotient of two ranges of two blocks."""
    reading = several_devices("a")
    known = {"value": 0.9, "ci_low": 0.85, "ci_high": 0.95, "ci_level": level}
    rows = [replace(row, **known) if row.metric == over_ranks.EFFICIENCY else row for row in reading.rows]
    data = ReportData([replace(reading, rows=rows)])
    weak = next(s for s in over_ranks.scalings(data) if s.kind == "weak")
    row = weak.curves[0].last
    assert (row.ci_low, row.ci_high, row.ci_level) == (0.85, 0.95, level)
    assert over_ranks.percent(row) == "90.0 %" + " (85.0 % to 95.0 %)" * shown
    assert value(row) == "0.900" + " (0.850 to 0.950)" * shown
    points = ranks_chart(weak, looks(c.label for c in weak.curves), [weak])["datasets"]["points"]
    drawn = {(d["low"], d["high"]) for d in points if d["x"] > 1}
    assert drawn == ({(0.85, 0.95)} if shown else {(None, None)})


def test_an_exchange_has_a_line_for_each_number_of_ranks_and_the_rate_of_the_link(data):
    (panel,) = over_ranks.exchanges(data)
    assert {c.label: [x for x, _ in c.points] for c in panel.curves} == {
        f"{ranks} ranks": [4096, 65536, 1 << 22] for ranks in (2, 4)
    }
    assert panel.curves[-1].last.value == pytest.approx(LINK / 2)
    assert [(link.rate, link.source) for link in panel.links] == [(LINK, "datasheet of a link")]


@pytest.mark.parametrize("fact", [Fact(reason="no driver"), Fact("fast"), Fact(0.0), Fact(-1.0), None])
def test_without_a_rate_in_the_facts_no_link_is_drawn(fact):
    facts = {} if fact is None else {"ranks.link_bandwidth": fact}
    (panel,) = over_ranks.exchanges(ReportData([replace(several_devices(), files=RunFiles(facts=facts))]))
    assert panel.links == ()


def test_the_link_may_be_a_fact_of_the_worker():
    reading = several_devices(link=0)
    rows = [replace(row, env_id="e_1") for row in reading.rows]
    known = {
        "e_1": {"ranks.link_bandwidth": Fact(5e10, "PCIe")},
        "e_2": {"ranks.link_bandwidth": Fact(1e9, "of another")},
    }
    data = ReportData([replace(reading, rows=rows, files=RunFiles(worker_facts=known))])
    assert [link.rate for link in over_ranks.exchanges(data)[0].links] == [5e10]


def test_two_machines_have_lines_of_their_own():
    data = ReportData([several_devices("a"), several_devices("b", 2, "cuda:x2")])
    weak = next(s for s in over_ranks.scalings(data) if s.kind == "weak")
    assert {(c.label, c.last.ranks) for c in weak.curves} == {
        *((f"a GPU x4 torch {name}", 4) for name in ("ddp", "fsdp")),
        *((f"b GPU x2 torch {name}", 2) for name in ("ddp", "fsdp")),
    }


def test_work_of_one_device_has_no_curve_over_ranks():
    data = ReportData([tables.reading(tables.processes([1.0, 1.1]))])
    assert not over_ranks.scalings(data)
    assert not over_ranks.exchanges(data)


def test_several_devices_are_in_no_figure_of_single_ones():
    """Of a run with a CPU, a GPU and four GPUs together, which did what the CPU did in two parts."""
    single = [m for device, t in (("cpu", 1.0), ("cuda:0", 0.1)) for m in tables.processes([t], device=device)]
    parts = [across((9.0, 9.1, 9.2), n, device="cpu:x2", size="tiny", implementation="ddp") for n in (1, 2)]
    data = ReportData([several_devices(others=[*single, *parts])])
    assert [c.label for c in data.contenders] == ["CPU", "CPU x2", "GPU", "GPU x4"]
    assert [c.label for c in data.gpus] == ["GPU"]
    (sides,) = data.sides
    assert (sides.kind, [c.label for c in sides.contenders]) == (Kind.GPU, ["GPU"])
    assert {s.family.workload for s in figures.speedups(data)} == {"matmul"}
    assert not any(c.is_several for c in data.drawn)
    works = [c.family for c in figures.crossovers(data)] + [s.family for s in figures.sweeps(data)]
    works += [rate.family for rate in figures.model_rates(data)]
    assert not any(family.across_ranks for family in works)
    assert {cell.line for cell in figures.heat(data)} == {"matmul float32 · 64"}
    assert not any(cell.column.is_several for cell in figures.heat(data))


def test_machines_are_compared_on_equal_ranks():
    data = ReportData([several_devices("a"), several_devices("b", 2, "cuda:x2")])
    (sides,) = data.sides
    assert sides.kind is Kind.MACHINE
    assert {s.row.ranks for s in figures.speedups(data)} == {1, 2}
    assert all(s.row.ranks == s.base.ranks for s in figures.speedups(data))
