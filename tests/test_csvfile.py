"""Text that is shown: on one line, without control characters, never too long."""

import pytest

from bench_core.csvfile import printable, read_csv, read_text
from bench_core.errors import TableError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain µs", "plain µs"),
        ("\x1b[31mred", "?[31mred"),
        ("a\nb", "a?b"),
        ("\u202eback", "?back"),
        ("x" * 50, "x" * 37 + "..."),
    ],
)
def test_what_is_shown_is_printable(text, shown):
    assert printable(text) == shown


def test_a_file_too_large_to_be_a_table_is_not_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a" * 100)
    with pytest.raises(TableError, match="100 bytes: more than the 10 a table may have"):
        read_text(path, most_bytes=10)


def test_lines_are_counted_across_quoted_line_feeds(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"x\ny",1\n2\n')
    with pytest.raises(TableError, match=r"t\.csv:4: 1 cells where the header has 2"):
        read_csv(path, ["a"])
