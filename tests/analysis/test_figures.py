"""Speedups, crossovers, rooflines, model rates and heat maps follow from the rows, and from the best of them."""

from dataclasses import replace

import pytest

from bench_core.analysis import figures
from bench_core.analysis.report_data import ReportData
from bench_core.compare import Reading, compare
from bench_core.records import Traits
from bench_core.results import roofline
from bench_core.results.run_files import RunFiles
from bench_core.results.traits import TraitsOf
from tests.support import synthetic
from tests.support.reports import data_of_all_machines, row_of, runs_of  # noqa: F401 - a fixture


def test_a_speedup_is_against_the_best_cpu_of_its_machine_and_names_both_rows(everything):
    s = next(
        s for s in figures.speedups(everything) if s.family.label == "matmul float32" and "c GPU" in s.contender.label
    )
    assert s.base.machine == "machine-c"
    assert s.values[0] / s.values[1] == pytest.approx(s.ratio)
    assert s.base.backend == "torch"
    assert s.row.size == s.base.size == "4096"
    assert s.ratio == pytest.approx(s.base.value / s.row.value, rel=0.1)
    assert s.low < s.ratio < s.high
    assert s.comparison.method == "single-run"


@pytest.mark.parametrize(
    ("factor", "spread", "verdict"),
    [(2.0, 0.001, "faster"), (1.02, 0.001, "same"), (1.02, 0.1, "unclear"), (0.5, 0.001, "slower")],
)
def test_the_report_and_compare_come_to_the_same_verdict_and_interval(factor, spread, verdict):
    readings = runs_of(factor, spread)
    (shown,) = figures.speedups(ReportData(readings))
    judged = next(b.comparison for b in compare(readings).best if b.comparison.key.size == "128")
    assert shown.comparison.verdict == judged.verdict == verdict
    assert shown.comparison.interval == judged.interval
    assert shown.comparison.p_adjusted == judged.p_adjusted


def sweep_of(cpu_seconds, gpu_seconds):
    cpu = row_of(workload="matmul", dtype="float32", device="cpu", backend="torch", metric="time", status="ok")
    gpu = row_of(workload="matmul", dtype="float32", device="cuda:0", backend="torch", metric="time", clock="wall")
    pairs = list(zip((128, 256, 512), cpu_seconds, gpu_seconds, strict=True))
    rows = [
        replace(
            row, size=str(n), case_id=f"c_{n}", value=seconds, p10=seconds, ci_low=seconds, ci_high=seconds, flops=n**3
        )
        for n, *both in pairs
        for row, seconds in zip((cpu, gpu), both, strict=True)
    ]
    data = ReportData([Reading.of("x", rows)])
    ((family, _),) = data.families.items()
    (crossover,) = figures.crossovers_of(data, family)
    return crossover


@pytest.mark.parametrize(
    ("cpu", "gpu", "text"),
    [
        ((1.0, 2.0, 4.0), (2.0, 1.0, 1.0), "wins from 256 (indicated)"),
        ((1.0, 2.0, 4.0), (0.5, 1.0, 1.0), "wins at every size measured (indicated)"),
        ((1.0, 2.0, 4.0), (2.0, 3.0, 5.0), "not shown to win at any size"),
        ((1.0, 2.0, 4.0), (0.5, 3.0, 1.0), "wins from 512 (indicated)"),
        ((1.0, 2.0, 4.0), (0.5, 1.0, 4.0), "not shown to win at any size"),
    ],
)
def test_the_crossover_is_the_size_from_which_on_the_gpu_wins_for_good(cpu, gpu, text):
    assert sweep_of(cpu, gpu).text == text


def test_sizes_that_are_variants_of_one_have_no_crossover():
    gpu = row_of(workload="matmul", dtype="float32", device="cuda:0", metric="time", clock="wall", status="ok")
    sides = (gpu, replace(gpu, device="cpu", device_type="cpu"))
    rows = [
        replace(row, size=f"4096-{data}", params=f"data={data}", case_id=f"c_{data}")
        for row in sides
        for data in ("zeros", "normal")
    ]
    data = ReportData([Reading.of("x", rows)])
    assert len(data.families) == 1
    assert figures.crossovers(data) == []


def test_crossovers_beyond_the_most_that_are_shown_are_counted():
    data = ReportData(synthetic.readings("machine-b"))
    lines = figures.crossover_lines(data, most=1)
    assert lines == ["matmul float64: wins from 256 (indicated)", "and 2 more kinds of work"]


def test_a_sweep_over_one_parameter_is_drawn_over_that_parameter():
    row = row_of(workload="gpt_train", dtype="float32", device="cpu", backend="torch", metric="time", status="ok")
    batches = [replace(row, size=f"4L-b{b}", params=f"batch={b};layers=4", case_id=f"c_{b}") for b in (1, 4, 16)]
    (sweep,) = figures.sweeps(ReportData([Reading.of("x", batches)]))
    assert sweep.x_kind == "batch"
    assert [p.x for p in sweep.points] == [1.0, 4.0, 16.0]


def test_ceilings_are_the_best_rows_and_products_of_zeros_are_none_of_them():
    data = ReportData(synthetic.readings("machine-b"))
    roof = next(r for r in figures.roofs(data) if r.contender.is_gpu)
    known = ("cuda:0", "float64", "flop_rate", "wall")
    best = max(r.ci_low for r in data.rows if (r.device, r.dtype, r.metric, r.clock) == known)
    assert next(c for c in roof.peaks if c.label == "float64").value == best
    zeros = [
        replace(r, case_id=f"{r.case_id}0", workload="matmul_data", value=r.value and r.value * 9) for r in data.rows
    ]
    (with_zeros,) = [
        r for r in figures.roofs(ReportData([Reading.of("x", [*data.rows, *zeros])])) if r.contender.is_gpu
    ]
    assert {c.label: c.value for c in with_zeros.peaks} == {c.label: c.value for c in roof.peaks}


def test_causal_attention_stands_in_the_roofline_with_what_its_mask_leaves():
    row = row_of(suite="matmul", device="cuda:0", dtype="float32", metric="flop_rate", clock="wall", status="ok")
    attention = {"suite": "model", "workload": "attention", "size": "b4", "params": "", "case_id": "c_attention"}
    full = replace(row, flops=80.0, least_bytes=4.0, value=8e9, **attention)
    causal = replace(full, metric="causal_flop_rate", value=5e9)
    rows = [*synthetic.readings("machine-b")[0].rows, full, causal]
    roof = next(r for r in figures.roofs(ReportData([Reading.of("x", rows)])) if r.contender.is_gpu)
    (point,) = [p for p in roof.points if p.row.workload == "attention"]
    assert (point.x, point.row.value) == (80.0 / 4.0 * 5 / 8, 5e9)


def test_a_device_with_a_datasheet_has_promised_ceilings_apart_and_any_other_has_none():
    rows = synthetic.readings("machine-c")[0].rows
    known = [replace(row, device_name="NVIDIA H200") if row.device == "cuda:0" else row for row in rows]
    cpu, gpu = figures.roofs(ReportData([Reading.of("x", known)]))
    promised = {c.label: c.value for c in gpu.ceilings if not c.measured}
    assert promised["bfloat16"] == 989.5e12
    assert promised["memory"] == 4.8e12
    assert all("datasheet" in c.source for c in gpu.ceilings if not c.measured)
    assert all(c.measured for c in cpu.ceilings)


def test_the_bandwidth_ceiling_is_not_that_of_a_cache():
    data = ReportData(synthetic.readings("machine-c"))
    roof = figures.roofs(data)[0]
    cached = max(
        r.value for r in data.rows if r.device == "cpu" and r.metric == "bandwidth" and "near_cache" in r.flags
    )
    assert roof.bandwidths[0].value < cached / 2
    only = [r for r in data.rows if r.suite != "memory" or "near_cache" in r.flags]
    assert figures.roofs(ReportData([Reading.of("x", only)]))[0].bandwidths[0].label == "triad in a cache"
    planted = [replace(r, flags=f"{r.flags};unchecked") if r.suite == "memory" else r for r in only]
    assert figures.roofs(ReportData([Reading.of("x", planted)])) == []
    unknown = [replace(r, flags=r.flags.replace("near_cache", "cache_unknown")) for r in only]
    (first, *_) = figures.roofs(ReportData([Reading.of("x", unknown)]))
    assert first.bandwidths[0].label == "triad in caches of unknown size"


def test_the_roofline_has_the_ceilings_of_which_the_table_has_shares():
    """A cold stream, a stream in a cache and a wide interval are faster, and are in neither."""
    rows = synthetic.readings("machine-c")[0].rows
    copy = row_of("machine-c", device="cpu", workload="copy", metric="bandwidth", backend="torch", size="1048576KiB")
    cold = replace(copy, case_id="c_cold", cache="cold", value=9e12, ci_low=9e12, ci_high=9e12)
    wide = replace(copy, case_id="c_wide", size="2GiB", value=9e12, ci_low=1e9, ci_high=9e13)
    rows = [*rows, cold, wide]
    shown = figures.roofs(ReportData([Reading.of("x", rows)]))
    tables = {(where[1], where[4]): it for where, it in roofline.ceilings(rows, TraitsOf()).items() if it.products}
    assert len(shown) == 2
    for roof in shown:
        of_table = tables[roof.contender.device, "wall"]
        assert [c.value for c in roof.bandwidths if c.measured] == [of_table.bandwidth]
        products = sorted(roofline.supported(row) for row in of_table.products.values())
        assert sorted(c.value for c in roof.peaks if c.measured) == products


def test_launch_bound_times_of_a_gpu_make_no_roofline():
    rows = synthetic.readings("machine-b")[0].rows
    starved = [replace(r, flags="launch_bound") if r.device_type == "cuda" and r.value else r for r in rows]
    assert any(roof.contender.is_gpu for roof in figures.roofs(ReportData([Reading.of("x", rows)])))
    assert not any(roof.contender.is_gpu for roof in figures.roofs(ReportData([Reading.of("x", starved)])))


def test_a_model_that_did_not_run_keeps_its_place_with_its_reason(everything):
    rates = [r for r in figures.model_rates(everything) if r.family.workload == "cnn_train"]
    lost = [r for r in rates if r.contender.label == "machine-b GPU"]
    assert {r.row.status for r in lost} == {"oom"}
    assert len({r.contender for r in rates}) == len(everything.contenders)


def test_heat_map_and_model_rates_show_one_size_the_largest_that_the_most_have_finished(everything):
    cells = figures.heat(everything)
    rates = figures.model_rates(everything)
    assert {f"{r.family.label} · {r.row.size}" for r in rates} <= {c.line for c in cells}
    (family,) = [f for f in everything.families if f.label == "matmul float64"]
    finished = {size: len(everything.holders(case, "time")) for size, case in everything.cases(family).items()}
    assert finished["8192"] < finished["4096"] == finished["128"]
    assert [c.row.size for c in cells if c.line == "matmul float64 · 4096" and c.row] == ["4096"] * finished["4096"]


def test_without_a_gpu_the_backends_of_one_machine_have_lines_of_their_own():
    data = ReportData(synthetic.readings("machine-a"))
    assert [c.label for c in data.drawn] == ["numpy", "torch"]
    points = [p for s in (*figures.sweeps(data), *figures.ladders(data)) for p in s.points]
    drawn = [(p.contender, p.row) for p in points] + [(r.contender, r.row) for r in figures.model_rates(data)]
    assert {(c.label, row.backend) for c, row in drawn} == {("numpy", "numpy"), ("torch", "torch")}
    (cpu,) = data.contenders
    case_id = points[0].row.case_id
    of_both = [row for row in data.of(cpu) if row.case_id == case_id and row.metric == "time"]
    assert {data.best(c, case_id) for c in data.drawn} == set(of_both)
    assert data.best(cpu, case_id) == min(of_both, key=lambda row: row.value)
    several = ReportData(synthetic.readings("machine-a", "machine-b"))
    assert several.drawn == several.contenders


def test_cells_of_the_heat_map_hold_a_share_or_a_reason(everything):
    cells = figures.heat(everything)
    assert len(cells) == len(everything.families) * len(everything.contenders)
    for line in {c.line for c in cells}:
        assert max(c.share for c in cells if c.line == line and c.share is not None) == 1.0
    words = {c.word for c in cells if c.share is None}
    assert {"oom", "unsupported", "crashed"} <= words
    assert all(c.row.reason for c in cells if c.share is None and c.row)


def test_the_lowest_is_the_best_of_a_line_whose_headline_is_better_low():
    known = {"suite": "matmul", "workload": "own", "metric": "first_call", "unit": "s", "better": "lower", "clock": ""}
    pairs = ((row_of(device="cpu", metric="time", status="ok"), 4.0), (row_of(device="cuda:0", metric="time"), 1.0))
    rows = [replace(row, case_id="c_own", size="1", params="", value=value, **known) for row, value in pairs]
    about = {"traits": TraitsOf({("matmul", "own"): Traits(headline="first_call")}).to_json()}
    cells = figures.heat(ReportData([Reading.of("x", rows, files=RunFiles(about=about))]))
    assert sorted(cell.share for cell in cells) == [0.25, 1.0]


def test_the_heat_map_of_few_contenders_has_a_column_for_each_backend():
    columns = dict.fromkeys(c.column.label for c in figures.heat(ReportData(synthetic.readings("machine-a"))))
    assert list(columns) == ["numpy", "torch"]
    columns = dict.fromkeys(c.column.label for c in figures.heat(ReportData(synthetic.readings("machine-b"))))
    assert list(columns) == ["CPU numpy", "CPU torch", "GPU cupy", "GPU torch"]
