"""Output for programs is complete: CSV with one line per comparison and no spreadsheet formula, JSON in ASCII."""

import csv
import io
import json

import pytest

from bench_core import render
from tests.support.hostile import CELL_TEXTS
from tests.support.imaginary_machines import hostile, two


def test_the_csv_has_a_line_for_each_comparison():
    lines = list(csv.DictReader(io.StringIO(render.as_csv(two()))))
    assert len(lines) == len(two().comparisons)
    first = next(line for line in lines if line["ratio"])
    assert float(first["ci_low"]) < float(first["ratio"]) < float(first["ci_high"])
    assert {line["verdict"] for line in lines} == {"faster", "missing", "incomparable"}
    assert all((line["ratio"] == "") == (line["verdict"] in {"missing", "incomparable"}) for line in lines)


def test_the_json_holds_everything():
    plain = json.loads(render.as_json(two()))
    (gate,) = plain["gates"]
    assert (gate["gate"], gate["outcome"], gate["checked"], gate["decided"]) == ("missing", "failed", 7, 7)
    assert gate["failed"][1:] == ["matmul 512 float32 torch cuda:0", "matmul 1024 float32 torch cuda:0"]
    assert plain["breaches"] == [gate["line"]]
    assert {c["verdict"] for c in plain["comparisons"]} == {"faster", "missing", "incomparable"}
    assert plain["best"][0]["contender"]["name"] == "box-a torch cuda:0"
    assert plain["environment"][0] == {"name": "cpu", "values": [["box-a", "CPU A"], ["box-b", "CPU B"]]}


@pytest.mark.parametrize("text", CELL_TEXTS)
def test_no_cell_of_the_csv_is_a_formula(text):
    for record in csv.reader(io.StringIO(render.as_csv(hostile(text)))):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\uff1d")) for cell in record)


@pytest.mark.parametrize("text", CELL_TEXTS)
def test_json_is_ascii_and_parses(text):
    shown = render.as_json(hostile(text))
    assert shown.isascii()
    assert json.loads(shown)["notes"] == [text]
