"""The answers in words: a number with its unit, the step of its verdict, the work that it is of, and its rows."""

from dataclasses import replace

import pytest

from bench_core.analysis.report_data import ReportData
from bench_core.records import Costs, Work
from tests.support import synthetic, tables
from tests.support.reports import runs_of

pytest.importorskip("altair", reason="charts need the extra `report`")

from bench_core.report import answers
from bench_core.report.answers import HEADERS, Line, answered, how_compared


def by_heading(readings):
    return {answer.heading: answer for answer in answered(ReportData(readings))}


def test_a_ratio_has_its_step_and_its_rows_the_baseline_first():
    (line,) = by_heading(runs_of(2.0, 0.01))["Parallel arithmetic decides"].lines
    assert line.value == "GPU 1.98x faster"
    assert (line.of, line.verdict) == ("float32", "claim")
    assert line.about == "matmul 128: 4.07 MFLOP/s against 2.06 MFLOP/s"
    base, contender = by_heading(runs_of(2.0, 0.01))["Parallel arithmetic decides"].numbers
    assert dict(zip(HEADERS, base, strict=True))["Result"] == "baseline"
    shown = dict(zip(HEADERS, contender, strict=True))
    assert (shown["Side"], shown["By"], shown["Device"]) == ("GPU", "torch", "a cuda:0")
    assert (shown["Result"], shown["Interval"], shown["Verdict"]) == ("1.98x faster", "1.96x to 2.00x", "faster")


def test_one_run_a_side_is_indicated_and_of_several_gpus_the_fastest_has_the_line():
    lines = by_heading(synthetic.readings())["Parallel arithmetic decides"].lines
    assert all(line.value.startswith("machine-c GPU ") and line.verdict == "indicated" for line in lines[:3])


def test_rates_name_what_they_count_and_what_has_no_other_side_says_so():
    one = tables.reading(tables.tokens([0.1]))
    (line,) = by_heading([one])["Inference: token by token"].lines
    assert line == Line("1.00 k tokens/s", "float32", "", "gpt_decode tiny: numpy, 2 threads")
    both = [*tables.tokens([0.1], device="cuda:0"), *tables.processes([1.0]), *tables.processes([1.0], device="cuda:0")]
    (line,) = by_heading([tables.reading(both)])["Inference: token by token"].lines
    assert line.about == "gpt_decode tiny: numpy; only GPU has a value"


def test_both_directions_of_a_transfer_are_shown_beside_the_memory_of_the_device():
    rates = {("memory", "triad"): 2e12, ("transfer", "h2d"): 5e10, ("transfer", "d2h"): 4e10}
    done = [
        replace(m, costs=Costs(bytes=rate))
        for (suite, name), rate in rates.items()
        for m in tables.processes([1.0], Work(suite, name, "1MiB", "float32"), device="cuda:0", backend="torch")
    ]
    found = by_heading([tables.reading(done)])["Moving data to the device takes time"].lines
    assert [line.value for line in found] == ["40.0 GB/s", "50.0 GB/s"]
    assert found[1].about == "h2d 1MiB: torch; its own memory: 2.00 TB/s, 40.0 times as much"


def test_lines_beyond_the_most_are_counted(monkeypatch):
    monkeypatch.setattr(answers, "MOST_LINES", 2)
    found = by_heading(synthetic.readings("machine-b"))["Parallel arithmetic decides"]
    assert (len(found.lines), found.left, len(found.numbers)) == (2, 2, 7)


def test_what_is_compared_is_said():
    assert how_compared(ReportData(synthetic.readings("machine-b"))).startswith("Each GPU is compared with the fastest")
    assert how_compared(ReportData(synthetic.readings("machine-a"))).startswith("Each backend is compared with numpy")
    alone = tables.reading(tables.processes([1.0]))
    assert how_compared(ReportData([alone])).endswith("one backend has values, on one device.")
    other = tables.reading(tables.tokens([1.0]), "b")
    assert how_compared(ReportData([alone, other])).endswith("no piece of work has a value on two of these devices.")
