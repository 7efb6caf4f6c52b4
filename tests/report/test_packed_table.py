"""The packed table contains every row, sorts numbers by value, and no text in it can end its script element."""

import json
from dataclasses import replace

import pytest

from bench_core.report import packed_table
from bench_core.units import show
from tests.support import synthetic
from tests.support.hostile import PAGE_TEXTS
from tests.support.reports import row_of


def test_the_packed_table_holds_every_row_and_sorts_by_value():
    rows = synthetic.readings("machine-b")[0].rows
    columns = {c["title"]: c for c in json.loads(packed_table.pack(rows))}
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
    packed = packed_table.pack([row])
    assert not set("<>&") & set(packed)
    assert text in json.loads(packed)[0]["words"]


def test_what_tells_least_goes_last():
    """Where a page has no room these rows go first: the device's clock, first calls and memory, both at once."""
    row = row_of(status="ok", metric="time", clock="wall")
    rows = [
        replace(row, metric=metric, clock=clock)
        for clock in ("device", "wall")
        for metric in ("first_call", "time", "peak_memory", "flop_rate")
    ]
    assert [(r.metric, r.clock) for r in packed_table.in_order(rows)] == [
        *(("time", "wall"), ("flop_rate", "wall")),
        *(("time", "device"), ("flop_rate", "device"), ("first_call", "wall"), ("peak_memory", "wall")),
        *(("first_call", "device"), ("peak_memory", "device")),
    ]
