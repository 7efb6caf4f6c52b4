"""The page is one small file that loads nothing, shows every chart and every reason, and runs no text from files."""

import base64
import hashlib
import html
import json
import random
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from bench_core.analysis import figures
from bench_core.analysis.claims import STATEMENTS
from bench_core.analysis.pooling import pooled
from bench_core.analysis.report_data import ReportData
from bench_core.compare import Reading
from bench_core.errors import TableError
from bench_core.records import Work
from tests.support import imaginary_machines, synthetic, tables
from tests.support.hostile import PAGE_TEXTS
from tests.support.ranks import several_devices
from tests.support.reports import reading_of, row_of, runs_of

pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.report import captions, page

ORDERED = ("answers", "summary", "speedup", "scaling", "ladder", "models", "heatmap", "missing")


@pytest.fixture(scope="module")
def five():
    return page.render(synthetic.readings())


@pytest.fixture(scope="module")
def cpu_only():
    return page.render(synthetic.readings("machine-a"))


def section(text, name):
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]


def test_a_table_given_twice_counts_once():
    rows = synthetic.readings("machine-b")[0].rows
    assert pooled([Reading.of("a.csv", rows), Reading.of("copy.csv", rows)]) == pooled([reading_of(*rows)])
    text = page.render([Reading.of("a.csv", rows), Reading.of("copy.csv", rows)])
    assert f"with {len(rows):,} rows" in text


def test_the_speedup_card_shows_intervals_and_counts_claims_and_indications():
    several = page.cards(ReportData(runs_of(2.0, 0.01)))[1]
    assert several.headline == "1.98x faster in float32"
    assert several.lines[0] == "float32: 1.98x faster (1.96x to 2.00x) over 1 kind, claim."
    assert several.lines[2] == (
        "That is 1.98x faster (1.96x to 2.00x) in matmul float32 · 128: torch against torch, 2 threads."
    )
    assert several.lines[-1] == "1 faster."
    single = page.cards(ReportData(runs_of(9.0, 0.001, runs=1)))[1]
    assert single.lines[-1] == "1 indicated."
    text = page.render(runs_of(9.0, 0.001, runs=1))
    command = '<span class="command">bench-core run --runs 5</span>'
    assert text.lower().count(f"a claim needs 5 pairs of runs: {command}.") == 1
    assert "From 1 result file with" in text


def test_a_card_opens_with_the_fastest_contender_in_the_arithmetic_of_the_most_work():
    """Not with the slow machine that did more work, nor with that of the higher ratio over a slower CPU."""
    both = ("gpt_decode", "gan_generate")
    done = {"base": (4.0, both), "fast": (0.1, both[:1]), "slow": (2.0, both)}
    readings = [
        tables.reading([m for n in names for m in tables.processes([t], Work("model", n, "tiny", "float32"))], machine)
        for machine, (t, names) in done.items()
    ]
    (card,) = [card for card in page.cards(ReportData(readings)) if card.heading == "Machines against base"]
    assert card.headline == "fast: 40.0x faster in float32"
    several = {"old": (400.0, 2.0), "new": (10.0, 1.0)}
    readings = [
        tables.reading([*tables.processes([cpu]), *tables.processes([gpu], device="cuda:0")], name)
        for name, (cpu, gpu) in several.items()
    ]
    assert page.cards(ReportData(readings))[1].headline == "new GPU: 10.0x faster in float32"


def test_means_and_flags_that_a_card_leaves_out_are_counted(monkeypatch):
    monkeypatch.setattr(page, "MOST_FLAGS", 1)
    data = ReportData(synthetic.readings())
    _, gpus, machines, *_, counts = page.cards(data)
    assert sum(" kind" in line and " over " in line for line in gpus.lines) == page.MOST_MEANS
    assert gpus.lines[page.MOST_MEANS] == "5 more means; the ratios of all are below, in the numbers of Speed-up."
    assert machines.lines[page.MOST_MEANS] == "2 more means; the ratios of all are below, in the numbers of Speed-up."
    shown = captions.captioned_figure(data, "speedup")
    of_machines = [line for line in shown.numbers if line[1] == "machine-b" and line[7] == "machine-a"]
    assert len(of_machines) == len(
        [s for s in figures.speedups(data, data.sides[1]) if s.contender.label == "machine-b"]
    )
    assert len(of_machines) > 5
    assert shown.note == "Only in the numbers of the report: each machine relative to machine-a."
    flags = [line for line in counts.lines if " flagged " in line or " more flag" in line]
    assert flags == ["1,267 values flagged single_run", "1 more flag in the full table"]
    ends = [line for line in machines.lines if line.startswith("At ")]
    assert [line.split()[1] for line in ends] == ["best", "worst"]


def test_best_worst_and_counts_are_of_all_work_also_of_that_which_tests_no_claim():
    times = {"gpt_decode": 4.0, "own": 0.25}
    works = {name: Work("model", name, "tiny", "float32") for name in times}
    done = [m for of in works.values() for m in tables.processes([1.0], of)]
    done += [m for name, t in times.items() for m in tables.processes([1 / t], works[name], backend="torch")]
    card = page.cards(ReportData([tables.reading(done)]))[1]
    assert card.headline == "4.00x faster in float32"
    assert card.lines[-4].endswith(" Best, worst and counts are of all 2 ratios, also of other work.")
    best, worst, counts = card.lines[-3:]
    assert best.startswith("At best 4.00x faster, indicated (")
    assert worst.startswith("At worst 4.00x slower, indicated (")
    assert counts == "2 indicated."


def test_work_that_tests_no_claim_stays_in_front_when_its_sizes_have_a_crossover():
    done = [
        m
        for size, cpu, gpu in (("1000", 1.0, 2.0), ("2000", 4.0, 2.0))
        for device, t in (("cpu", cpu), ("cuda:0", gpu))
        for m in tables.processes([t], Work("own", "gelu", size, "float32"), device=device, flops=float(size))
    ]
    first = section(page.render([tables.reading(done)]), "answers")
    before, _, folded = first.partition("<details>\n<summary>Why generative AI needs GPUs: 11 claims")
    assert re.findall(r"<h[23]>(.*?)</h[23]>", before) == ["What was measured", "gelu", "Scaling up"]
    assert "<strong>GPU wins from 2000</strong>" in before
    assert "Not measured here" not in before
    assert folded.count("Not measured here") == 11
    assert "<h3>Scaling up</h3>" not in folded


def test_a_run_of_work_that_tests_no_claim_opens_with_that_work(cpu_only):
    of = Work("own", "gelu", "1000", "float32")
    done = [m for backend, t in (("numpy", 1.0), ("torch", 4.0)) for m in tables.processes([t], of, backend=backend)]
    first = section(page.render([tables.reading(done)]), "answers")
    before, _, folded = first.partition("<details>\n<summary>Why generative AI needs GPUs: 12 claims")
    assert re.findall(r"<h[23]>(.*?)</h[23]>", before) == ["What was measured", "gelu"]
    assert "<strong>torch 4.00x slower</strong>" in before
    assert "Not measured here" not in before
    assert folded.count("Not measured here") == 12
    assert "What was measured" not in cpu_only


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
    assert len(charts) == 1 + 4 + 10 + 2 + 7 + 1 + (1 + 7 + 1)  # the last nine are for phones
    for chart in charts:
        root = ET.fromstring(chart)
        assert root[0].text
        assert root[1].text
        assert len(list(root.iter())) > 20
    ids = re.findall(r'\bid="([^"]*)"', five)
    assert len([i for i in ids if i != "legend-hatch"]) == len({i for i in ids if i != "legend-hatch"})


def test_a_legend_of_bars_is_as_pale_as_the_bars_of_its_device(five):
    models = section(five, "models")
    legend = re.findall(r'<rect [^>]*fill="(#\w+)" opacity="([\d.]+)" /></g></svg><span>([^:<]*)', models)
    bars = re.findall(r'<path [^>]*fill="(#\w+)" opacity="([\d.]+)"', models)
    assert {look[:2] for look in legend} == set(bars)
    pale = [name for _, opacity, name in legend if opacity != "0.85"]
    assert pale == [f"machine-{letter} CPU" if letter != "a" else "machine-a" for letter in "abcde"]


def test_every_status_is_said_in_words(five):
    missing = section(five, "missing")
    for status in ("skipped", "unsupported", "oom", "timeout", "error", "crashed", "invalid", "interrupted"):
        assert f'<span class="status">{status}</span>' in missing
    assert "34.0 TB/s is above what the device can do" in missing


def test_results_above_their_ceiling_are_counted_in_the_summary_and_below_the_roofline():
    rows = list(synthetic.readings("machine-b")[0].rows)
    rates = [i for i, row in enumerate(rows) if row.metric == "bandwidth" and row.device_type == "cuda" and row.value]
    for i, words in zip(rates[::2], ("above_ceiling", "above_ceiling;above_datasheet"), strict=False):
        rows[i] = replace(rows[i], flags=f"{rows[i].flags};{words}")
    reading = reading_of(*rows)
    lines = page.cards(ReportData([reading]))[-1].lines
    assert lines[-2:] == ("2 results flagged above_ceiling", "1 result flagged above_datasheet")
    roofline = html.unescape(section(page.render([reading]), "roofline"))
    said = "2 results above a ceiling measured in the same run (above_ceiling); 1 result above the datasheet"
    assert f"With all of their interval: {said} (above_datasheet). They have no share of it." in roofline
    assert "With all of their interval" not in page.render(synthetic.readings("machine-b"))


def test_without_a_gpu_backends_stand_side_by_side_and_no_section_is_empty(cpu_only):
    assert "torch against numpy" in section(cpu_only, "summary")
    assert "Speed of each backend relative to numpy" in section(cpu_only, "speedup")
    assert "<svg" in section(cpu_only, "speedup")
    assert "No GPU" not in cpu_only
    for name in re.findall(r'<section id="([^"]*)"', cpu_only)[2:]:
        assert re.search("<(svg|table|article)", section(cpu_only, name)), name


def test_the_page_opens_with_the_claims_of_the_readme(five, cpu_only):
    assert re.findall(r'<section id="([^"]*)"', five)[:2] == ["answers", "summary"]
    headings = re.findall(r"<h3>(.*?)</h3>", section(five, "answers"))
    assert headings == re.findall(r"<h3>(.*?)</h3>", section(cpu_only, "answers"))
    assert [html.unescape(heading).lower() for heading in headings] == [s.text.lower() for s in STATEMENTS]
    assert "Not measured here: needs several sizes on a GPU and a CPU of one machine" in section(cpu_only, "answers")
    assert "Not measured here: needs several sizes" not in section(five, "answers")


def test_the_page_is_the_same_for_every_order_of_measuring(cpu_only):
    (reading,) = synthetic.readings("machine-a")
    rows = list(reading.rows)
    random.Random(0).shuffle(rows)
    again = page.render([replace(reading, rows=tuple(rows))])
    assert [section(again, name) for name in ORDERED] == [section(cpu_only, name) for name in ORDERED]


def test_two_machines_without_a_gpu_are_compared_at_the_top():
    readings = [imaginary_machines.machine(name, speed, gpu=False) for name, speed in (("old", 1.0), ("new", 2.5))]
    text = page.render(readings)
    answers = section(text, "answers")
    assert "Each machine is compared with old" in answers
    assert re.search(r"<strong>new 2.50x faster</strong> <span>float32</span> <span[^>]*>claim<", answers)
    assert "new against old" in section(text, "summary")


def test_a_run_before_and_one_after_a_parameter_was_added_are_not_paired():
    older = imaginary_machines.machine("old", 1.0, gpu=False)
    newer = imaginary_machines.machine("new", 2.0, gpu=False)
    rows = [replace(row, params=f"{row.params};layout=nn", case_id=f"{row.case_id}n") for row in newer.rows]
    data = ReportData([older, replace(newer, rows=tuple(rows))])
    assert [family.label for family in data.families] == ["matmul float32", "matmul float32 layout=nn"]
    assert [sides.kind for sides in data.sides] == []
    text = page.render(data.readings)
    assert "faster" not in section(text, "answers").replace("Size from which the GPU is faster", "")
    assert text.count("layout=nn") > 2


def test_rows_without_any_value_still_make_a_page():
    lost = [r for r in synthetic.readings("machine-a")[0].rows if r.status != "ok"]
    text = page.render([Reading.of("a.csv", lost)])
    assert "No case has a value in these runs." in section(text, "not-drawn")
    assert "0 of 153 cases have a value" in text


def test_an_environment_says_what_differs_and_what_is_not_known(five):
    shown = section(five, "environment")
    assert "6 facts differ between these runs" in shown
    assert "unknown: cpufreq is not there" in shown
    assert "64.0 GB" in shown


def test_hostile_texts_stay_texts():
    reading = synthetic.readings("machine-b")[0]
    names = ("machine", "device_name", "reason", "workload", "size", "backend", "flags", "run_id")
    rows = [
        replace(row, **dict.fromkeys(names, text), case_id=f"{row.case_id}{i}")
        for i, text in enumerate(PAGE_TEXTS)
        for row in reading.rows[:40]
    ]
    text = page.render([replace(reading, rows=tuple(rows))], title=PAGE_TEXTS[0])
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
    assert f"This page contains 100 of {rows} rows" in text
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


def test_no_rows_are_an_error():
    with pytest.raises(TableError, match="no rows"):
        page.render([Reading.of("empty.csv", [])])


def two_machines(**changed):
    """Two tables with values of three sizes, in the second of which these numbers of every row are others."""
    sizes = [tables.work(size) for size in ("64", "128", "256")]
    a, b = (tables.reading([m for of in sizes for m in tables.processes([t], of)], n) for n, t in (("a", 1), ("b", 2)))
    return [a, replace(b, rows=tuple(replace(row, **changed) for row in b.rows))]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"value": -1.0}, "b cpu has no value in any of 3 cases (3 invalid: the value -1 is not positive)."),
        ({"value": 5e-324}, "(3 invalid: the value 4.94066e-324 is beyond any quantity)."),
        ({"value": 1e308}, "(3 invalid: the value 1e+308 is beyond any quantity)."),
        ({"p10": 1e100}, "x slower in float32"),
        ({"ci_low": -1.0, "ci_high": 1e308, "least_bytes": -1.0}, "2.00x slower in float32"),
        ({"flops": 999.0}, "because compare keeps it apart, 6 rows: flops 1000000.0 against 999.0."),
    ],
    ids=str,
)
def test_any_number_in_a_table_is_a_value_of_the_page_or_a_reason_on_it(changed, said):
    """A value that is not positive has no place on a logarithmic axis, and once ended the page in a traceback."""
    assert said in html.unescape(page.render(two_machines(**changed)))


def test_a_case_with_one_value_has_a_value_whatever_its_other_rows_hold():
    rows = tables.reading(tables.processes([1.0])).rows
    spoilt = [replace(row, value=-1.0) if row.metric == "flop_rate" else row for row in rows]
    assert [row.metric for row in ReportData([reading_of(*spoilt)]).rows if not row.has_value] == ["flop_rate"]
    assert page.cards(ReportData([reading_of(*spoilt)]))[-1].headline == "1 of 1 case has a value"


def test_a_table_of_other_quantities_alone_is_refused_with_the_reason():
    row = replace(row_of(metric="time", status="ok", clock="wall"), unit="ms")
    with pytest.raises(TableError, match="compare keeps it apart, 1 value: time in ms instead of s"):
        page.render([reading_of(row)])


def test_a_run_of_devices_together_alone_opens_with_their_work():
    reading = several_devices()
    exchanged = reading.only(reading.rows.mask("workload", "swap".__eq__))
    first = section(page.render([exchanged]), "answers")
    assert re.findall(r"<h[23]>(.*?)</h[23]>", first.partition("<details>\n<summary>Why")[0]) == [
        "What was measured",
        "swap",
    ]
    assert "<strong>225 GB/s</strong>" in first


def test_a_page_has_the_figures_of_devices_together_only_if_there_are_any(five):
    together = page.render([several_devices()])
    assert [name for name in ("ranks", "exchange") if section(together, name).count("<figure")] == ["ranks", "exchange"]
    assert 'id="ranks"' not in five
