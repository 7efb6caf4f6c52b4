"""What is written is read again, opens safely in spreadsheets and terminals, and is whole or not there."""

import csv
import json
from dataclasses import replace

import pandas as pd
import pytest

from bench_core import load
from bench_core.files import digest
from bench_core.results.reader import read_results, read_rows
from bench_core.results.schema import COLUMNS, KINDS, WORDS
from bench_core.results.writer import results_text
from tests.support.any_rows import any_rows
from tests.support.properties import given, settings
from tests.support.table_files import complaint, good_table, spoil  # noqa: F401 - a fixture
from tests.support.tables import processes, reading, write


@settings(max_examples=60, deadline=None)
@given(any_rows())
def test_what_is_written_is_read(tmp_path_factory, rows):
    """Every float to the last bit, every text but its control characters, every empty cell as None."""
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(results_text(rows), encoding="utf-8")
    assert read_rows(path) == rows
    frame = read_results(path)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == len(rows)
    for name in ("value", "threads", "git_dirty"):
        assert [None if pd.isna(v) else v for v in frame[name]] == [getattr(row, name) for row in rows]


def test_ids_that_look_like_numbers_stay_ids(tmp_path):
    rows = [
        replace(r, case_id="00e1", git_commit="12e45", run_id="0123", size="007")
        for r in reading(processes([1.0])).rows
    ]
    path = tmp_path / "t.csv"
    path.write_text(results_text(rows), encoding="utf-8")
    frame = load(path)
    assert [frame[name][0] for name in ("case_id", "git_commit", "run_id", "size")] == ["00e1", "12e45", "0123", "007"]


# ---------------------------------------------------------------- writing for spreadsheets, terminals, pages


@pytest.mark.parametrize("name", [n for n in COLUMNS if KINDS[n] is str and n not in {"unit", *WORDS}])
def test_every_column_of_text_is_guarded(tmp_path, name):
    (row, *_) = reading(processes([1.0])).rows
    path = tmp_path / "t.csv"
    path.write_text(results_text([replace(row, **{name: "=1+1"})]), encoding="utf-8")
    with path.open(encoding="utf-8", newline="") as file:
        (record,) = csv.DictReader(file)
    assert record[name] == "'=1+1"
    assert getattr(read_rows(path)[0], name) == "=1+1"


@pytest.mark.parametrize("text", ["'quoted", "''twice", "'=1+1", "=1+1", "it's", "'"])
def test_a_text_comes_back_with_the_apostrophes_that_it_had(tmp_path, text):
    (row, *_) = reading(processes([1.0])).rows
    path = tmp_path / "t.csv"
    path.write_text(results_text([replace(row, library=text, implementation=text)]), encoding="utf-8")
    (found,) = read_rows(path)
    assert (found.library, found.implementation) == (text, text)


def test_a_run_is_written_whole(tmp_path):
    folder = write(tmp_path, processes([1.0, 2.0]))
    about = json.loads((folder / "run.json").read_text())
    for name in ("results.csv", "samples.csv"):
        text = (folder / name).read_text()
        assert about["files"][name] == {"sha256": digest(text), "rows": text.count("\n") - 1}
    assert sorted(path.name for path in folder.iterdir()) == ["results.csv", "run.json", "samples.csv"]
