"""The packed table contains every row, sorts numbers by value, and no text in it can end its script element."""

import json
from dataclasses import replace

import pytest

from bench_core.analysis.report_data import ReportData
from bench_core.report import packed_table
from bench_core.units import show
from tests.support import synthetic
from tests.support.hostile import PAGE_TEXTS
from tests.support.reports import row_of


def test_the_packed_table_holds_every_row_and_sorts_by_value():
    rows = synthetic.readings("machine-b")[0].rows
    columns = {c["title"]: c for c in json.loads(packed_table.Packed(rows).first(len(rows)))}
    value = columns["Value"]
    texts = [value["words"][code] for code in value["codes"]]
    assert texts == [show(r.value, r.unit) if r.status == "ok" else "" for r in rows]
    timed = sorted((r.value, code) for r, code in zip(rows, value["codes"], strict=True) if r.unit == "s" and code)
    assert [code for _, code in timed] == sorted(code for _, code in timed)
    sizes = columns["Size"]["words"]
    assert sizes.index("256") < sizes.index("1024") < sizes.index("16KiB") < sizes.index("64KiB")


@pytest.mark.parametrize("text", PAGE_TEXTS)
def test_nothing_in_the_packed_table_can_end_a_script_element(text):
    row = replace(row_of(status="ok"), machine=text, reason=text, workload=text)
    packed = packed_table.Packed([row]).first(1)
    assert not set("<>&") & set(packed)
    assert text in json.loads(packed)[0]["words"]


def test_what_tells_least_goes_last():
    """Where a page has no room these rows go first: no value, the device's clock, first calls and memory."""
    row = row_of(status="ok", metric="time", clock="wall")
    rows = [
        replace(row, metric="time", clock="wall", status="oom", value=None),
        *(
            replace(row, metric=metric, clock=clock)
            for clock in ("device", "wall")
            for metric in ("first_call", "time", "peak_memory", "flop_rate")
        ),
    ]
    assert [(r.metric, r.clock) for r in packed_table.in_order(rows, lambda _: ())] == [
        *(("time", "wall"), ("flop_rate", "wall")),
        *(("time", "device"), ("flop_rate", "device"), ("first_call", "wall"), ("peak_memory", "wall")),
        *(("first_call", "device"), ("peak_memory", "device")),
        ("time", "wall"),
    ]


def test_the_order_is_that_of_the_charts_and_does_not_follow_that_of_the_run():
    data = ReportData(synthetic.readings("machine-b"))
    rows = [row for row in data.readings[0].rows if row.metric == "time"]
    ordered = packed_table.in_order(rows, data.place)
    assert packed_table.in_order(rows[::-1], data.place) == ordered
    families = {case_id: family.label for family, cases in data.families.items() for case_id in cases.values()}
    good = [row for row in ordered if row.has_value and row.clock == "wall"]
    order = list(dict.fromkeys(families[row.case_id] for row in good))
    assert order == [family.label for family in data.families if family.label in order]
    assert order.index("matmul float64") < order.index("matmul float32")
    sizes = [row.size for row in ordered if row.workload == "matmul" and row.has_value and row.clock == "wall"]
    assert list(dict.fromkeys(sizes)) == ["128", "256", "512", "1024", "2048", "4096", "8192"]


def test_what_all_rows_share_needs_no_column():
    one, two = synthetic.readings("machine-a", "machine-b")
    layout = packed_table.Layout.of(one.rows)
    titles = [column.title for column in layout.columns]
    assert ("Machine", "machine-a") in layout.alike
    assert "Machine" not in titles
    assert titles.index("Status") < titles.index("Interval")
    assert [
        c["title"] for c in json.loads(packed_table.Packed(one.rows, layout.columns).first(len(one.rows)))
    ] == titles
    assert "Machine" in [column.title for column in packed_table.Layout.of([*one.rows, *two.rows]).columns]


def test_a_cell_of_the_packed_table_is_looked_up_once_and_its_words_are_in_order():
    """Cells are nested tuples, whose hashes Python does not keep."""
    hashed = []

    class Key(int):
        def __hash__(self):
            hashed.append(self)
            return int.__hash__(self)

    cells = [(Key(2), "b"), (Key(1), "a"), (Key(0), ""), (Key(2), "b")]
    assert packed_table._coded(cells) == (["", "a", "b"], [2, 1, 0, 2])
    assert len(hashed) <= len(cells) + 2
