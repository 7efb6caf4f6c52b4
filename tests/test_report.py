"""What a report is made of: rows made safe, contenders, figures, the packed table and the page around them."""

import base64
import hashlib
import html
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from bench_core import report
from bench_core.cli import app
from bench_core.compare import Reading, compare
from bench_core.errors import TableError, UsageError
from bench_core.report import axes, figures, rowtable, sources, theme
from bench_core.report.records import clean, cleaned, pooled, size_number
from bench_core.report.study import Contender, Study
from bench_core.units import show
from tests import synthetic, tables
from tests.properties import given, st

pytest.importorskip("altair", reason="charts need the extra `report`")
pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.report import page

HOSTILE = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 2</script>",
    "<img src=x onerror='window.pwned = 3'>",
    '"><svg onload="window.pwned = 4">',
    '=HYPERLINK("http://192.0.2.1/","x")',
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x1b[0m\x00\u202eesrever",
    "]]><!-- --><![CDATA[",
)


@pytest.fixture(scope="module")
def everything():
    return Study(synthetic.readings())


@pytest.fixture(scope="module")
def five():
    return page.render(synthetic.readings())


@pytest.fixture(scope="module")
def cpu_only():
    return page.render(synthetic.readings("machine-a"))


def row_of(label="machine-b", **wanted):
    rows = synthetic.readings(label)[0].rows
    return next(r for r in rows if all(getattr(r, name) == value for name, value in wanted.items()))


def section(text, name):
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]


# ---------------------------------------------------------------- records


@given(st.text(max_size=400))
def test_a_cleaned_text_is_one_line_without_invisible_characters(text):
    shown = clean(text)
    assert len(shown) <= 300
    assert "\n" not in shown
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in shown)


def test_escapes_are_spelt_out_and_plain_texts_left_alone():
    assert clean("\x1b[31mred\x00\u202e") == r"\x1b[31mred\x00\u202e"
    assert clean("NVIDIA H100 80GB · 2 µm") == "NVIDIA H100 80GB · 2 µm"


def test_cleaning_leaves_numbers_and_good_rows_as_they_are():
    rows = synthetic.readings("machine-b")[0].rows
    assert tuple(cleaned(rows)) == rows
    assert cleaned([replace(rows[0], reason="\x1b[1m")])[0].reason == r"\x1b[1m"


def reading_of(*rows):
    return Reading.of("results.csv", rows)


def test_runs_of_one_machine_are_pooled_into_their_median_with_an_interval_over_runs():
    row = row_of(metric="time", status="ok", clock="wall")
    runs = [replace(row, run_id=f"r{i}", value=value, flags=f) for i, (value, f) in enumerate(FLAGGED)]
    (one,) = pooled([reading_of(*runs)])
    assert one.value == pytest.approx(2.0)
    assert one.ci_low < 2.0 < one.ci_high
    assert (one.processes, one.flags) == (3, "drift;steal;not_steady")
    assert (one.n, one.p10, one.max) == (None, None, None)


FLAGGED = ((1.0, "single_run;drift"), (4.0, "steal;single_run"), (2.0, "single_run;not_steady"))


def test_a_table_given_twice_counts_once():
    rows = synthetic.readings("machine-b")[0].rows
    assert pooled([Reading.of("a.csv", rows), Reading.of("copy.csv", rows)]) == pooled([reading_of(*rows)])
    text = page.render([Reading.of("a.csv", rows), Reading.of("copy.csv", rows)])
    assert f"with {len(rows):,} rows" in text


def test_a_merged_run_and_a_lone_one_have_the_value_and_interval_that_compare_gives_them():
    """Three processes and one more are four: their median is 1.5, whoever asks."""
    readings = [
        tables.reading(tables.processes((1.0, 1.0, 2.0)), run_id="merged"),
        tables.reading(tables.processes((2.0,)), run_id="alone"),
        tables.reading(tables.processes((3.0,)), "b"),
    ]
    compared = compare(readings).comparisons[0].baseline
    shown = Study(readings).best(Contender("a", "cpu", "a CPU", "The cpu of all"), tables.work().case_id)
    assert compared.value == pytest.approx(1.5)
    assert (shown.value, shown.ci_low, shown.ci_high) == (compared.value, compared.ci_low, compared.ci_high)
    assert shown.processes == 4


def test_tables_that_contradict_each_other_make_no_report():
    row = row_of(metric="time", status="ok", clock="wall")
    with pytest.raises(TableError, match="two different rows"):
        pooled([reading_of(row), reading_of(replace(row, value=9.0))])


def test_a_run_without_a_value_counts_only_where_no_run_has_one():
    row = row_of(metric="time", status="ok", clock="wall")
    lost = replace(row, run_id="other", value=None, status="oom")
    assert pooled([reading_of(lost, row)]) == [row]
    assert pooled([reading_of(lost)]) == [lost]


def test_of_runs_that_failed_the_worst_is_told():
    row = row_of(metric="time", status="ok", clock="wall")
    ends = [replace(row, run_id=status, value=None, status=status) for status in ("skipped", "crashed", "oom")]
    assert [r.status for r in pooled([reading_of(*ends)])] == ["crashed"]


def test_pooled_rows_stand_in_the_order_of_the_tables():
    rows = synthetic.readings("machine-a")[0].rows
    known = [(row.case_id, row.backend, row.device) for row in pooled([reading_of(*rows)])]
    assert list(dict.fromkeys(known)) == list(dict.fromkeys((r.case_id, r.backend, r.device) for r in rows))


@pytest.mark.parametrize(
    ("size", "number"),
    [("2048", 2048.0), ("64KiB", 65536.0), ("2MiB", 2.0**21), ("1.5GiB", 1.5 * 2**30), ("64x64", None), ("", None)],
)
def test_a_size_is_a_number_or_it_is_not(size, number):
    assert size_number(size) == number


# ---------------------------------------------------------------- axes


@given(
    st.lists(st.floats(1e-9, 1e18), min_size=1, max_size=5),
    st.sampled_from(["s", "FLOP/s", "B/s", "1/s", "x", "n", "bytes", "FLOP/B"]),
)
def test_ticks_lie_on_the_axis_and_each_has_a_label(values, unit):
    axis = axes.log_axis(values, unit)
    assert axis.low < min(values) <= max(values) < axis.high
    assert 1 <= len(axis.ticks) <= axes.MOST_TICKS
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert all(axis.labels)
    assert len(axis.labels) == len(axis.ticks)


def test_labels_carry_scaled_units():
    assert axes.log_axis([2e9, 5e11], "FLOP/s").labels[:2] == ("3 GFLOP/s", "10 GFLOP/s")
    assert axes.log_axis([2.0**14, 2.0**20], "bytes").labels[:2] == ("16 KiB", "32 KiB")


# ---------------------------------------------------------------- study


def test_contenders_are_devices_with_a_value_and_the_others_are_told_with_their_reason(everything):
    labels = [c.label for c in everything.contenders]
    assert labels[:3] == ["machine-a CPU", "machine-b CPU", "machine-b GPU"]
    assert "machine-d GPU 1" in labels
    assert everything.silent == ["machine-a cuda has no value in any of 120 cases (120 skipped: no device)."]


def test_one_machine_needs_no_name_on_its_contenders():
    assert [c.label for c in Study(synthetic.readings("machine-b")).contenders] == ["CPU", "GPU"]


def test_parameters_that_follow_from_the_size_make_no_family_and_a_layout_does():
    row = row_of(workload="matmul", size="512", dtype="float32", metric="time", status="ok")
    nt = replace(row, params="layout=nt;n=512", case_id="c_1")
    nn = replace(row, params="layout=nn;n=512", case_id="c_2")
    assert [f.label for f in Study([Reading.of("x", [row])]).families] == ["matmul float32"]
    labels = {f.label for f in Study([Reading.of("x", [nn, nt])]).families}
    assert labels == {"matmul float32 layout=nn", "matmul float32 layout=nt"}


def test_sizes_of_a_family_are_in_the_order_of_their_numbers(everything):
    family = next(f for f in everything.families if f.workload == "matmul" and f.dtype == "float32")
    assert list(everything.cases(family)) == [str(n) for n in synthetic.MATMUL_SIZES]


def test_the_device_clock_is_never_compared(everything):
    for family in everything.families:
        for case_id in everything.cases(family).values():
            rows = [everything.best(c, case_id) for c in everything.contenders]
            assert all(row.clock == "wall" for row in rows if row)


# ---------------------------------------------------------------- figures


def test_a_speedup_is_against_the_best_cpu_of_all_runs_and_names_both_rows(everything):
    s = next(
        s for s in figures.speedups(everything) if s.family.label == "matmul float32" and "c GPU" in s.contender.label
    )
    assert s.cpu.machine == "machine-c"
    assert s.cpu.backend == "torch"
    assert s.gpu.size == s.cpu.size == "4096"
    assert s.ratio == pytest.approx(s.cpu.value / s.gpu.value, rel=0.1)
    assert s.low < s.ratio < s.high
    assert s.comparison.label == "single-run"


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


@pytest.mark.parametrize(
    ("factor", "spread", "verdict"),
    [(2.0, 0.001, "faster"), (1.02, 0.001, "same"), (1.02, 0.1, "unclear"), (0.5, 0.001, "slower")],
)
def test_the_report_and_compare_come_to_the_same_verdict_and_interval(factor, spread, verdict):
    readings = runs_of(factor, spread)
    (shown,) = figures.speedups(Study(readings))
    judged = next(b.comparison for b in compare(readings).best if b.comparison.key.size == "128")
    assert shown.comparison.verdict == judged.verdict == verdict
    assert shown.comparison.interval == judged.interval
    assert shown.comparison.p_adjusted == judged.p_adjusted


def test_the_card_shows_intervals_and_says_where_there_is_no_claim():
    several = page.cards(Study(runs_of(2.0, 0.01)))[1]
    assert several.headline == "1.98x faster"
    assert several.lines[0] == (
        "Geometric mean (1.96x to 2.00x) over 1 of 1 kinds of work, each at its largest common size."
    )
    assert several.lines[1] == (
        "Most: 1.98x faster (1.96x to 2.00x) at matmul float32 · 128. a cuda:0 torch against a cpu torch, 2 threads."
    )
    assert not [line for line in several.lines if "claim" in line]
    single = page.cards(Study(runs_of(2.0, 0.001, runs=1)))[1]
    assert single.lines[-1] == "One run a side: these ratios support no claim."


def sweep_of(cpu_seconds, gpu_seconds):
    cpu = row_of(workload="matmul", dtype="float32", device="cpu", backend="torch", metric="time", status="ok")
    gpu = row_of(workload="matmul", dtype="float32", device="cuda:0", backend="torch", metric="time", clock="wall")
    pairs = list(zip((128, 256, 512), cpu_seconds, gpu_seconds, strict=True))
    rows = [
        replace(row, size=str(n), case_id=f"c_{n}", value=seconds, ci_low=seconds, ci_high=seconds, flops=n**3)
        for n, *both in pairs
        for row, seconds in zip((cpu, gpu), both, strict=True)
    ]
    study = Study([Reading.of("x", rows)])
    ((family, _),) = study.families.items()
    (crossover,) = figures.crossovers_of(study, family)
    return crossover


@pytest.mark.parametrize(
    ("cpu", "gpu", "text"),
    [
        ((1.0, 2.0, 4.0), (2.0, 1.0, 1.0), "wins from 256"),
        ((1.0, 2.0, 4.0), (0.5, 1.0, 1.0), "wins at every size measured"),
        ((1.0, 2.0, 4.0), (2.0, 3.0, 5.0), "never wins at the sizes measured"),
        ((1.0, 2.0, 4.0), (0.5, 3.0, 1.0), "wins from 512"),
        ((1.0, 2.0, 4.0), (0.5, 1.0, 4.0), "never wins at the sizes measured"),
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
    study = Study([Reading.of("x", rows)])
    assert len(study.families) == 1
    assert figures.crossovers(study) == []


def test_many_crossovers_are_cut_with_their_number():
    study = Study(synthetic.readings("machine-b"))
    lines = figures.crossover_lines(study, most=1)
    assert lines == ["matmul float64: wins from 256", "and 2 more kinds of work"]


def test_a_sweep_over_one_parameter_is_drawn_over_that_parameter():
    row = row_of(workload="gpt_train", dtype="float32", device="cpu", backend="torch", metric="time", status="ok")
    batches = [replace(row, size=f"4L-b{b}", params=f"batch={b};layers=4", case_id=f"c_{b}") for b in (1, 4, 16)]
    (sweep,) = figures.sweeps(Study([Reading.of("x", batches)]))
    assert sweep.x_kind == "batch"
    assert [p.x for p in sweep.points] == [1.0, 4.0, 16.0]


def test_ceilings_are_the_best_rows_and_products_of_zeros_are_none_of_them():
    study = Study(synthetic.readings("machine-b"))
    roof = next(r for r in figures.roofs(study) if r.contender.is_gpu)
    known = ("cuda:0", "float64", "flop_rate", "wall")
    best = max(r.value for r in study.rows if (r.device, r.dtype, r.metric, r.clock) == known)
    assert next(c for c in roof.peaks if c.label == "float64").value == best
    zeros = [
        replace(r, case_id=f"{r.case_id}0", params="data=zeros", value=r.value and r.value * 9) for r in study.rows
    ]
    (with_zeros,) = [r for r in figures.roofs(Study([Reading.of("x", [*study.rows, *zeros])])) if r.contender.is_gpu]
    assert {c.label: c.value for c in with_zeros.peaks} == {c.label: c.value for c in roof.peaks}


def test_causal_attention_stands_in_the_roofline_with_what_its_mask_leaves():
    row = row_of(suite="matmul", device="cuda:0", dtype="float32", metric="flop_rate", clock="wall", status="ok")
    attention = {"suite": "model", "workload": "attention", "size": "b4", "params": "", "case_id": "c_attention"}
    full = replace(row, flops=80.0, least_bytes=4.0, value=8e9, **attention)
    causal = replace(full, metric="causal_flop_rate", value=5e9)
    rows = [*synthetic.readings("machine-b")[0].rows, full, causal]
    roof = next(r for r in figures.roofs(Study([Reading.of("x", rows)])) if r.contender.is_gpu)
    (point,) = [p for p in roof.points if p.row.workload == "attention"]
    assert (point.x, point.row.value) == (80.0 / 4.0 * 5 / 8, 5e9)


def test_a_device_of_the_datasheets_has_its_promises_apart_and_any_other_has_none():
    rows = synthetic.readings("machine-c")[0].rows
    known = [replace(row, device_name="NVIDIA H200") if row.device == "cuda:0" else row for row in rows]
    cpu, gpu = figures.roofs(Study([Reading.of("x", known)]))
    promised = {c.label: c.value for c in gpu.ceilings if not c.measured}
    assert promised["bfloat16"] == 989.5e12
    assert promised["memory"] == 4.8e12
    assert all("datasheet" in c.source for c in gpu.ceilings if not c.measured)
    assert all(c.measured for c in cpu.ceilings)


def test_the_bandwidth_ceiling_is_not_that_of_a_cache():
    study = Study(synthetic.readings("machine-c"))
    roof = figures.roofs(study)[0]
    cached = max(
        r.value for r in study.rows if r.device == "cpu" and r.metric == "bandwidth" and "near_cache" in r.flags
    )
    assert roof.bandwidths[0].value < cached / 2
    only = [r for r in study.rows if r.suite != "memory" or "near_cache" in r.flags]
    assert figures.roofs(Study([Reading.of("x", only)]))[0].bandwidths[0].label == "copy in a cache"


def test_times_that_are_the_host_s_draw_no_roof():
    rows = synthetic.readings("machine-b")[0].rows
    starved = [replace(r, flags="launch_bound") if r.device_type == "cuda" and r.value else r for r in rows]
    assert any(roof.contender.is_gpu for roof in figures.roofs(Study([Reading.of("x", rows)])))
    assert not any(roof.contender.is_gpu for roof in figures.roofs(Study([Reading.of("x", starved)])))


def test_a_model_that_did_not_run_keeps_its_place_with_its_reason(everything):
    rates = [r for r in figures.model_rates(everything) if r.family.workload == "cnn_train"]
    lost = [r for r in rates if r.contender.label == "machine-b GPU"]
    assert {r.row.status for r in lost} == {"oom"}
    assert len({r.contender for r in rates}) == len(everything.contenders)


def test_cells_of_the_heat_map_hold_a_share_or_a_reason(everything):
    cells = figures.heat(everything)
    assert len(cells) == len(everything.families) * len(everything.contenders)
    for line in {c.line for c in cells}:
        assert max(c.share for c in cells if c.line == line and c.share is not None) == 1.0
    words = {c.word for c in cells if c.share is None}
    assert {"oom", "unsupported", "timeout", "crashed"} <= words
    assert all(c.row.reason for c in cells if c.share is None and c.row)


def test_few_contenders_show_their_backends():
    columns = dict.fromkeys(c.column.label for c in figures.heat(Study(synthetic.readings("machine-a"))))
    assert list(columns) == ["CPU numpy", "CPU torch"]


# ---------------------------------------------------------------- colours


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colors", [theme.LIGHT, theme.DARK])
def test_colours_keep_the_contrast_that_wcag_asks_for(colors):
    """4.5 : 1 for texts, 3 : 1 for marks (WCAG 2.2, 1.4.3 and 1.4.11)."""
    for name in ("ink", "muted", "series0"):
        assert contrast(colors[name], colors["surface"]) >= 4.5
    for i in range(6):
        assert contrast(colors[f"series{i}"], colors["surface"]) >= 3
    for i in range(5):
        ink = colors["heat_paper" if i >= 3 else "heat_ink"]
        assert contrast(ink, colors[f"heat{i}"]) >= 4.5
    assert contrast(colors["ink"], colors["faint"]) >= 4.5


def test_every_colour_stands_once_so_that_dark_rules_cannot_clash():
    assert len(set(theme.LIGHT.values())) == len(theme.LIGHT)
    assert set(theme.LIGHT) == set(theme.DARK)


# ---------------------------------------------------------------- the packed table


def test_the_packed_table_holds_every_row_and_sorts_by_value():
    rows = synthetic.readings("machine-b")[0].rows
    columns = {c["title"]: c for c in json.loads(rowtable.pack(rows))}
    value = columns["Value"]
    texts = [value["words"][code] for code in value["codes"]]
    assert texts == [show(r.value, r.unit) if r.status == "ok" else "" for r in rows]
    timed = sorted((r.value, code) for r, code in zip(rows, value["codes"], strict=True) if r.unit == "s" and code)
    assert [code for _, code in timed] == sorted(code for _, code in timed)
    sizes = columns["Size"]["words"]
    assert sizes.index("256") < sizes.index("1024") < sizes.index("16KiB") < sizes.index("64KiB")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_the_packed_table_can_end_a_script_element(text):
    row = replace(row_of(status="ok"), machine=text, reason=text, workload=text)
    packed = rowtable.pack([row])
    assert not set("<>&") & set(packed)
    assert text in json.loads(packed)[0]["words"]


# ---------------------------------------------------------------- the page


def test_the_page_is_one_small_file_that_asks_for_nothing(five):
    assert len(five.encode()) < 2_000_000
    addresses = set(re.findall(r"https?://[^\s\"'<>)]*", five))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a namespace, not an address
    assert not re.search(r"\bstyle=|\son\w+=|@import|url\((?!#)", five)


@pytest.mark.parametrize(("element", "directive"), [("style", "style-src"), ("script", "script-src")])
def test_the_policy_names_the_hash_of_the_only_style_and_the_only_script(five, element, directive):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', five)[1])
    (inside,) = re.findall(rf"<{element}>(.*?)</{element}>", five, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")


def test_every_chart_is_drawn_with_a_title_and_a_description(five):
    charts = re.findall(r'<div class="chart">(<svg.*?</svg>)</div>', five, re.DOTALL)
    assert len(charts) == 1 + 4 + 10 + 2 + 7 + 1
    for chart in charts:
        root = ET.fromstring(chart)
        assert root[0].text
        assert root[1].text
        assert len(list(root.iter())) > 20
    ids = re.findall(r'\bid="([^"]*)"', five)
    assert len([i for i in ids if i != "legend-hatch"]) == len({i for i in ids if i != "legend-hatch"})


def test_every_status_is_said_in_words(five):
    missing = section(five, "missing")
    for status in ("skipped", "unsupported", "oom", "timeout", "error", "crashed", "invalid", "interrupted"):
        assert f'<span class="status">{status}</span>' in missing
    assert "34.0 TB/s is above what the device can do" in missing


def test_without_a_gpu_a_sentence_stands_in_place_of_charts(cpu_only):
    assert "<svg" not in section(cpu_only, "speedup")
    assert "No GPU was measured in these runs" in section(cpu_only, "speedup")
    assert section(cpu_only, "summary").count("No GPU measured in these runs.") == 2
    assert "<svg" in section(cpu_only, "ladder")


def test_rows_without_any_value_still_make_a_page():
    lost = [r for r in synthetic.readings("machine-a")[0].rows if r.status != "ok"]
    text = page.render([Reading.of("a.csv", lost)])
    assert "No case has a value in these runs." in text
    assert "0 of 153 cases have a value" in text


def test_an_environment_says_what_differs_and_what_is_not_known(five):
    shown = section(five, "environment")
    assert "6 facts differ between these runs" in shown
    assert "unknown: cpufreq is not there" in shown
    assert "64.0 GB" in shown


def test_provenance_quotes_what_it_offers_to_run():
    reading = synthetic.readings("machine-a")[0]
    hostile = replace(reading, sidecar=replace(reading.sidecar, about={"options": {"backends": ["x; rm -rf ~"]}}))
    assert sources.source(hostile).command.endswith("pytest --benchmark-only --bench-backends='x; rm -rf ~'")


def test_merged_runs_are_measured_again_by_the_command_that_merges():
    reading = synthetic.readings("machine-a")[0]
    about = {"options": {"preset": "quick", "seed": 3}, "processes": [{"process": i} for i in range(5)], "seed": 7}
    merged = replace(reading, sidecar=replace(reading.sidecar, about=about))
    command = sources.source(merged).command.splitlines()[-1]
    assert command == "bench-core run --runs 5 --seed 7 --bench-preset=quick --bench-seed=3"


def test_a_table_without_its_sidecar_says_so(tmp_path):
    path = synthetic.write(tmp_path, synthetic.MACHINES[0])
    (path / "run.json").unlink()
    output = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(path), "-o", str(output), "--filter", "workload == 'copy'"])
    assert result.exit_code == 0, result.output
    text = output.read_text(encoding="utf-8")
    assert "nothing is known of their environments" in text
    assert str(tmp_path) not in text


def test_hostile_texts_stay_texts():
    reading = synthetic.readings("machine-b")[0]
    names = ("machine", "device_name", "reason", "workload", "size", "backend", "flags", "run_id")
    rows = [
        replace(row, **dict.fromkeys(names, text), case_id=f"{row.case_id}{i}")
        for i, text in enumerate(HOSTILE)
        for row in reading.rows[:40]
    ]
    text = page.render([replace(reading, rows=tuple(rows))], title=HOSTILE[0])
    assert text.count("<script") == 2
    assert "<img" not in text
    assert "onload=" not in re.sub(r"&#34;|&lt;svg onload=|\\u003csvg onload=|\\\"", "", text)
    assert "&lt;script&gt;window.pwned = 1&lt;/script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_page_without_room_holds_fewer_rows_and_says_so(monkeypatch):
    readings = synthetic.readings("machine-a")
    rows = len(readings[0].rows)
    full = page.render(readings)
    monkeypatch.setattr(page, "_fewer", lambda count: [count, 100])
    monkeypatch.setattr(page, "MOST_BYTES", len(full.encode()) - 1000)
    text = page.render(readings)
    assert f"This page has room for 100 of {rows} rows" in text
    (packed,) = re.findall(r'id="rows">(.*?)</script>', text)
    assert len(json.loads(packed)[0]["codes"]) == 100


def test_ten_thousand_rows_fit():
    machine = synthetic.MACHINES[1]
    readings = [synthetic.reading(machine, f"2001-01-02T00-00-{i:02}Z-quick") for i in range(11)]
    rows = sum(len(r.rows) for r in readings)
    assert rows > 10_000
    text = page.render(readings)
    assert len(text.encode()) < 2_000_000
    assert f"with {rows:,} rows" in text
    assert "This page has room" not in text


# ---------------------------------------------------------------- the command


def test_a_missing_library_is_one_line_with_what_to_run(monkeypatch):
    monkeypatch.setattr(report, "NEEDED", {"no_such_module": "vl-convert-python"})
    with pytest.raises(UsageError, match=r"what is not here: python -m pip install vl-convert-python$"):
        report.require_extra()


def test_a_table_that_cannot_be_read_ends_with_one_line_and_3(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path / "nothing.csv"), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 3
    assert len(result.output.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_no_rows_are_an_error():
    with pytest.raises(TableError, match="no rows"):
        page.render([Reading.of("empty.csv", [])])
