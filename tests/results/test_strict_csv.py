"""CSV as such: a fault is placed by its line, and no cell is written that a spreadsheet or a terminal would obey."""

import csv
import io
import sys
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench_core.errors import TableError
from bench_core.results import strict_csv
from bench_core.results.strict_csv import cell, read_csv
from tests.support.hostile import CELL_TEXTS
from tests.support.properties import given, settings, st


def test_lines_are_counted_across_quoted_line_feeds(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"x\ny",1\n2\n')
    with pytest.raises(TableError, match=r"t\.csv:4: 1 cells where the header has 2"):
        read_csv(path, ["a"])


@pytest.mark.parametrize("text", CELL_TEXTS)
def test_no_cell_runs_in_a_spreadsheet_or_a_terminal(text):
    """A cell begins with no sign that a spreadsheet obeys, and holds no control character."""
    written = cell(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))
    assert written.isprintable()
    written.encode("utf-8")


def test_no_control_or_formatting_character_is_written_raw_wherever_it_stands():
    harmful = [
        chr(i) for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i)) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    ]
    assert {"\x1b", "\u202e", "\u2066", "\ufeff", "\U000e0001"} < set(harmful)
    for c in harmful:
        assert all(cell(text).isprintable() for text in (c, f"a{c}b", f"{c}=1"))
        assert not cell(f"{c}=1").startswith("=")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_not_written(value):
    with pytest.raises(ValueError, match="not finite"):
        cell(value)


@pytest.mark.parametrize(
    ("text", "written"), [("'quoted", "''quoted"), ("''", "'''"), ("'=1", "''=1"), ("=1", "'=1"), ("it's", "it's")]
)
def test_a_text_that_begins_with_an_apostrophe_of_its_own_gets_one_more(text, written):
    assert cell(text) == written


CELLS = st.text('ab, "\r\n\x0b\x1c\x85\u2028é', max_size=4)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(CELLS.map("x{}".format), CELLS), max_size=9), st.sampled_from(["\n", "\r\n", "\r"]))
def test_columns_in_blocks_are_the_cells_and_lines_of_the_csv_module(records, end):
    written = io.StringIO(newline="")
    csv.writer(written, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *records])
    plain = csv.reader(io.StringIO(written.getvalue(), newline=""))
    expected = [(record, plain.line_num) for record in plain][1:]
    with TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_csv, "_BLOCK", 4)  # two records of two cells
        path = Path(temporary, "t.csv")
        path.write_bytes(written.getvalue().encode())
        table = read_csv(path, ["a", "b"])
    cells = [list(record) for record in zip(table.texts("a"), table.texts("b"), strict=True)]
    assert list(zip(cells, table.lines, strict=True)) == expected
    assert table.column("b", str).cells() == table.texts("b")
    kept = range(0, len(cells), 2)
    assert table.only(kept).texts("a") == [cells[i][0] for i in kept]


def many_records(tmp_path, monkeypatch):
    """A table of 300 records in blocks of 10: a column of one text, one of three, one of 300."""
    monkeypatch.setattr(strict_csv, "_BLOCK", 30)
    path = tmp_path / "t.csv"
    path.write_text("one,few,many\n" + "".join(f"same,{i % 3},{i}\n" for i in range(300)))
    return read_csv(path, ["one", "few", "many"])


def test_a_text_is_converted_once_in_whatever_block_it_occurs(tmp_path, monkeypatch):
    table = many_records(tmp_path, monkeypatch)
    converted = []
    for name in ("one", "few", "many"):
        table.column(name, converted.append)
    assert sorted(converted) == sorted(["same", "0", "1", "2", *map(str, range(300))])


def test_equal_texts_are_one_number_that_is_read_once(tmp_path, monkeypatch):
    table = many_records(tmp_path, monkeypatch)
    careful = []
    assert table.numbers("many", careful.append).cells() == [float(i) for i in range(300)]
    assert table.numbers("few", careful.append).cells() == [float(i % 3) for i in range(300)]
    assert len(table._floats) == 301  # "" too
    assert not careful


@pytest.mark.parametrize("text", ["x", "1_0", "inf", "1e999", "\u0661"])
def test_a_cell_that_is_no_plain_number_is_asked_about_with_its_line(tmp_path, monkeypatch, text):
    def refuse(cell):
        if cell == text:
            raise ValueError("no")
        return float(cell) if cell else None

    monkeypatch.setattr(strict_csv, "_BLOCK", 4)
    path = tmp_path / "t.csv"
    path.write_text(f"a,b\n1,\n2,nan\n3,2.5\n4,{text}\n5,1\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"t\.csv:5: column 'b' holds .*: no"):
        read_csv(path, ["a"]).numbers("b", refuse)
    path.write_text("a,b\n1,\n2,nan\n3,2.5\n", encoding="utf-8")
    assert read_csv(path, ["a"]).numbers("b", refuse).cells() == [None, None, 2.5]


def test_the_first_invalid_text_of_a_file_is_the_one_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(strict_csv, "_BLOCK", 4)
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,5\n1,z\n1,5\n1,a\n1,z\n")
    with pytest.raises(TableError, match=r"t\.csv:3: column 'b' holds 'z'"):
        read_csv(path, ["a"]).column("b", int)


def test_a_text_is_divided_into_the_lines_that_a_file_has(monkeypatch):
    """Whatever other characters Python takes for the end of a line, and wherever a part of the text ends."""
    text = "ab\ncd\r\n\ref\x0bg\x0c\x1c\x85h\u2028\n\ni\r"
    for size in (1, 2, 3, 100):
        monkeypatch.setattr(strict_csv, "_CHUNK", size)
        for end in ("", "\n", "x"):
            assert list(strict_csv._lines(text + end)) == list(io.StringIO(text + end, newline=""))


def test_a_column_is_kept_as_a_text_a_block_and_equal_blocks_as_one(tmp_path, monkeypatch):
    """A text of its own for each cell would take ten times the memory."""
    columns = many_records(tmp_path, monkeypatch).columns
    assert [len(blocks) for blocks in columns] == [30, 30, 30]
    assert [len(set(map(id, blocks))) for blocks in columns] == [1, 3, 30]
