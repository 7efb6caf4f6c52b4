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
