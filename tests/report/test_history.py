"""A report of many runs says when each series stepped or broke, and with what; one of few runs says nothing."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from bench_core.analysis.report_data import ReportData
from bench_core.records import Fact
from tests.support import over_time, tables
from tests.support.hostile import PAGE_TEXTS
from tests.support.reports import runs_of

pytest.importorskip("vl_convert", reason="charts need the extra `report`")

from bench_core.report import history, page

SLOW = over_time.CASES[3:4]  # NumPy's products of 4096, which have a step


@pytest.fixture(scope="module")
def readings():
    laptop = [case for case in over_time.CASES if case[2] == "cpu"]
    return [*over_time.runs(44), *over_time.runs(9, machine="laptop", cases=laptop)]


@pytest.fixture(scope="module")
def found(readings):
    return history.over_time(ReportData(readings))


@pytest.fixture(scope="module")
def text(readings):
    return page.render(readings)


def lines(found):
    return {(work.heading, line.name): line for work in found.works for line in work.lines}


def section(text):
    return re.search(r'<section id="over-time">.*?</section>', text, re.DOTALL)[0]


def pages(text):
    return dict(re.findall(r'<section id="series-(\w+)" class="of-series">(.*?)</section>', text, re.DOTALL))


def shown(markup):
    """Return a part of the page as text."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def test_each_series_has_a_line_below_its_work_in_the_order_of_the_report(found):
    assert [work.heading for work in found.works] == ["matmul float32", "gpt_decode float32"]
    names = [line.name for line in found.works[0].lines]
    assert names[:6] == [
        "512 · desk · numpy · cpu · 2 threads",
        "512 · desk · torch · cpu · 2 threads",
        "512 · desk · torch · cuda:0",
        "512 · laptop · numpy · cpu · 2 threads",
        "512 · laptop · torch · cpu · 2 threads",
        "4096 · desk · numpy · cpu · 2 threads",
    ]
    assert len(lines(found)) == 13


def test_a_planted_step_and_a_planted_break_stand_in_the_right_series_with_what_changed(found):
    told = {name: line.events for (_, name), line in lines(found).items() if line.events}
    assert set(told) == {
        "512 · desk · torch · cuda:0",
        "4096 · desk · numpy · cpu · 2 threads",
        "4096 · desk · torch · cuda:0",
        "124M · desk · torch · cpu · 2 threads",
        "124M · desk · torch · cuda:0",
    }
    ((kind, words),) = told["4096 · desk · numpy · cpu · 2 threads"]
    assert (kind, words) == ("worse", "+25.1 % on 2001-03-22, commit 060606060 on both sides")
    ((kind, words),) = told["124M · desk · torch · cpu · 2 threads"]
    assert (kind, words) == ("better", "-17.1 % on 2001-02-18, commits 030303030..040404040")
    ((kind, words),) = told["4096 · desk · torch · cuda:0"]
    assert (kind, words) == ("break", "break 2001-04-23: gpu.driver 580.95 → 590.48, -7.0 %")


def test_the_section_says_how_many_steps_are_by_chance(found):
    assert found.about == "13 series of 9 to 44 runs: 2 steps and 3 breaks."
    assert "at least 3 runs on each side, in a part of at least 11." in found.how
    # 8 series of desk, of which 3 have two parts that are long enough
    assert found.how.endswith("At most 3 % of steady parts have a step by chance: 0.33 of 11 parts.")
    short = history.over_time(ReportData(over_time.runs(3)))
    assert short.how.endswith("No part between breaks is long enough for a step yet.")


def test_two_runs_of_each_machine_have_no_section_and_no_style_for_one():
    few = [*over_time.runs(2, cases=SLOW), *over_time.runs(2, machine="laptop", cases=SLOW)]
    assert history.over_time(ReportData(few)) is None
    text = page.render(few)
    assert "over-time" not in text
    assert "of-series" not in text
    assert "of-series" in page.render(over_time.runs(3, cases=SLOW)).split("</style>")[0]


def test_three_runs_of_different_work_have_no_section():
    one_each = [over_time.run_of(i, cases=over_time.CASES[i : i + 1]) for i in range(3)]
    assert history.over_time(ReportData(one_each)) is None


def test_runs_of_one_machine_in_several_files_and_a_file_given_twice_are_one_series():
    several = runs_of(2.0, 0.01)
    data = ReportData([*several, several[0]])
    found = history.over_time(data)
    assert {len(line.series.points) for line in lines(found).values()} == {5}
    assert all("machine" not in line.name for line in lines(found).values())


def test_work_without_a_time_has_a_series_of_its_headline_metric():
    def rates(reading):
        rows = [row for row in reading.rows if row.metric == "flop_rate"]
        return type(reading).of(reading.path, rows)

    found = history.over_time(ReportData([rates(r) for r in over_time.runs(24, cases=SLOW)]))
    ((name, line),) = lines(found).items()
    assert name[1].endswith(" · flop rate")
    assert line.newest.endswith("FLOP/s")
    both = history.over_time(ReportData(over_time.runs(24, cases=SLOW)))
    assert [line.series.subject.metric for line in lines(both).values()] == ["time"]


def test_rows_that_nothing_has_checked_are_marked():
    checked, unchecked = (
        page.render([over_time.run_of(i, cases=SLOW, flags=flags) for i in range(4)]) for flags in ("", "unchecked")
    )
    assert "4 runs, unchecked" in section(unchecked)
    assert "Nothing has checked the answers of the newest run" in unchecked
    assert "unchecked" not in section(checked) + "".join(pages(checked).values())


def test_the_nav_leads_to_the_section_a_line_to_its_page_and_that_back(text, found):
    assert '<a href="#over-time">Over time</a>' in text
    ids = re.findall(r'\bid="([^"]*)"', text)
    of_here = [i for i in ids if i != "legend-hatch"]
    assert len(of_here) == len(set(of_here))
    links = re.findall(r'href="#((?:series|of)-\w+)"', text)
    assert set(links) <= set(ids)
    assert set(pages(text)) == {line.key for line in lines(found).values()}
    for key, markup in pages(text).items():
        assert f'href="#of-{key}"' in markup
        assert f'<li id="of-{key}">' in section(text)


def test_the_page_of_a_series_explains_each_event_and_lists_each_run(text, found):
    of_step = shown(pages(text)[lines(found)["matmul float32", "4096 · desk · numpy · cpu · 2 threads"].key])
    assert "1 step, worse 2001-03-22 06:00 +25.1 % 139.7 ms 174.8 ms < 0.0001 060606060, the same" in of_step
    value, low, high = re.search(r"r020-desk 060606060 (\S+) ms (\S+) ms to (\S+) ms single_run", of_step).groups()
    assert float(low) < float(value) < float(high)
    assert len(re.findall(r"2001-\d\d-\d\d 06:00 r\d{3}-desk [0-9a-f]{9} ", of_step)) == 44
    tip = f"{value} ms ({low} ms to {high} ms) · 2001-03-22 06:00 · r020-desk · commit 060606060"
    assert tip in of_step
    assert "Of time, lower is better." in of_step
    of_break = shown(pages(text)[lines(found)["matmul float32", "4096 · desk · torch · cuda:0"].key])
    assert "1 break 2001-04-23 06:00 -7.0 %" in of_break
    assert "gpu.driver 580.95 → 590.48" in of_break
    steady = shown(pages(text)[lines(found)["matmul float32", "512 · desk · numpy · cpu · 2 threads"].key])
    assert "No step was found, and the environment did not change." in steady


def test_a_break_without_a_clear_change_says_so_and_stands_below_steps():
    values = [1.0, 1.004] * 10

    def read(i, value):
        one = over_time.run_of(i, cases=over_time.CASES[2:3], noise=0)
        row = next(row for row in one.rows if row.metric == "time")
        return type(one).of(one.path, [replace(row, value=value, ci_low=None, ci_high=None)], files=one.files)

    levels = [*values, *(1.3 * v for v in values)]
    found = history.over_time(ReportData([read(i, value) for i, value in enumerate(levels)]))
    (line,) = lines(found).values()
    events = [words for _, words in line.events]
    assert events == [
        "+30.0 % on 2001-03-22, commit 060606060 on both sides",
        "break 2001-04-23: gpu.driver 580.95 → 590.48, no clear change",
    ]
    rows = history.event_rows(line.series)
    assert [row.kind for row in rows] == ["step, worse", "break"]
    assert rows[1].change.endswith(", not clear")


def test_a_larger_break_without_a_clear_change_stands_below_a_step(found):
    step = next(e for line in lines(found).values() for e in line.series.events if e.kind == "step")
    unclear = replace(step, kind="break", after=9 * step.before, p_value=history.ALPHA * 1.01)
    assert sorted([unclear, step], key=history._order) == [step, unclear]
    clear = replace(unclear, p_value=history.ALPHA)
    assert sorted([step, clear], key=history._order) == [clear, step]


def test_a_line_names_few_facts_and_cuts_long_ones_and_the_page_has_them_whole():
    def read(i):
        one = over_time.run_of(i, cases=SLOW)
        facts = {f"fact{k}": Fact(f"{i // 2} {'x' * 150}", "planted") for k in range(5)}
        rows = [replace(row, env_id=f"e{i // 2}") for row in one.rows]
        return type(one).of(one.path, rows, files=replace(one.files, worker_facts={f"e{i // 2}": facts}))

    found = history.over_time(ReportData([read(i) for i in range(4)]))
    (line,) = lines(found).values()
    ((_, words),) = line.events
    assert words.startswith(f"break 2001-01-09: fact0 0 {'x' * 35}... → 1 {'x' * 35}...; fact1 ")
    assert words.endswith("; 2 other facts, no clear change")
    (row,) = history.event_rows(line.series)
    assert row.facts == tuple(f"fact{k} 0 {'x' * 150} → 1 {'x' * 150}" for k in range(5))


def test_what_does_not_fit_has_no_page_and_no_line_and_is_counted(monkeypatch, readings):
    whole = page.render(readings)
    monkeypatch.setattr(page, "MOST_SERIES_BYTES", 60_000)
    monkeypatch.setattr(history, "MOST_LINES", 10)
    monkeypatch.setattr(history, "MANY_LINES", 10)
    text = page.render(readings)
    kept = pages(text)
    assert 1 <= len(kept) <= 5
    assert sum(len(markup.encode()) for markup in kept.values()) < 60_000
    assert all("What changed" in markup for markup in kept.values())
    assert section(text).count('<svg class="spark"') == 10
    words = shown(section(text))
    assert "10 of 13 series have a line: those with events first, then the longest." in words
    assert f"{10 - len(kept)} of them have no page of their own" in words
    assert words.count("matmul float32 · 4096 · desk · numpy · cpu · 2 threads +25.1 %") == 1  # of the largest
    assert "have no page" not in whole


def test_every_series_has_a_page_before_any_has_a_table_of_its_runs(monkeypatch, readings):
    every = pages(page.render(readings))
    small = sum(
        len(re.sub("<h3>Runs</h3>.*?</table>", "", markup, flags=re.DOTALL).encode()) for markup in every.values()
    )
    monkeypatch.setattr(page, "MOST_SERIES_BYTES", small + 30_000)
    kept = pages(page.render(readings))
    assert kept.keys() == every.keys()
    whole = [key for key in kept if kept[key] == every[key]]
    assert 1 <= len(whole) < len(kept)
    for key in kept.keys() - set(whole):
        assert "<h3>Runs</h3>" not in kept[key]
        assert "A table of the runs is left out" in kept[key]


def test_hostile_texts_stay_texts():
    for hostile in PAGE_TEXTS:
        known = {"run_id", "git_commit"}
        readings = []
        for i in range(4):
            one = over_time.run_of(i, cases=SLOW, machine=hostile, workload=hostile, size=hostile, flags=hostile)
            rows = [replace(row, **dict.fromkeys(known, f"{hostile}{i}"), backend=hostile) for row in one.rows]
            fact = {hostile: replace(next(iter(one.files.facts.values())), value=f"{i}{hostile}")}
            workers = {f"{hostile}{i}": fact}
            rows = [replace(row, env_id=f"{hostile}{i}") for row in rows]
            readings.append(type(one).of(one.path, rows, files=replace(one.files, worker_facts=workers)))
        text = page.render(readings)
        assert len(pages(text)) == 1
        assert "break" in section(text)
        assert text.count("<script") == 2
        assert "<img" not in text
        assert "\x1b" not in text
        assert not re.search(r"<[^>]*\son\w+=", re.sub(r'"[^"]*"', "", text.split("</style>")[1].split("<script")[0]))


def test_the_drawings_use_no_style_attribute_and_ask_for_nothing(text):
    assert not re.search(r"\bstyle=|\son\w+=|@import|url\((?!#)", text)
    assert set(re.findall(r"https?://[^\s\"'<>)]*", text)) == {"http://www.w3.org/2000/svg"}
    assert len(text.encode()) < page.MOST_BYTES


def test_one_value_again_and_again_and_values_of_any_size_make_a_page():
    for seconds in (1e-100, 0.5, 9e99):
        same = [tables.reading([tables.measured([seconds] * 3)], run_id=f"r{i}") for i in range(12)]
        text = page.render(same)
        assert "1 series of 12 runs: 0 steps and 0 breaks." in section(text)
        assert len(pages(text)) == 1


class Tags(HTMLParser):
    """What is open, from the outside in; closing anything else is an error."""

    VOID = frozenset({"meta", "link", "br", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], 0

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs))
        self.seen += 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert self.open.count("svg") or tag in self.VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_tag_is_closed_where_it_was_opened(text):
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.seen > 3000
