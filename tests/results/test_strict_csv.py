"""CSV as such: a fault is placed by its line, and no cell is written that a spreadsheet or a terminal would obey."""

import sys
import unicodedata

import pytest

from bench_core.errors import TableError
from bench_core.results.strict_csv import cell, read_csv
from tests.support.hostile import CELL_TEXTS


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
