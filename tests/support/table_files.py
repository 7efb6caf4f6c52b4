"""A good result table in a file, ways to spoil it, and what is then said of it."""

import pytest

from bench_core.errors import TableError
from bench_core.results.reader import read_rows
from bench_core.results.writer import results_text
from tests.support.tables import processes, reading


@pytest.fixture(name="good")
def good_table(tmp_path):
    """A good table: its path and its text."""
    path = tmp_path / "t.csv"
    path.write_text(results_text(reading(processes([1.0, 1.1])).rows), encoding="utf-8")
    return path


def spoil(path, change):
    """Rewrite a file's text."""
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def complaint(path):
    """What is said of a file: one line that begins with the file."""
    with pytest.raises(TableError) as caught:
        read_rows(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text.removeprefix(str(path))
