"""Files are read and written whole: one too large is refused, and a write that fails changes nothing."""

import os
from pathlib import Path

import pytest

from bench_core.errors import TableError
from bench_core.files import read_text, write_atomically


def test_a_file_too_large_to_be_a_table_is_not_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a" * 100)
    with pytest.raises(TableError, match="100 bytes: more than the 10 that are read"):
        read_text(path, most_bytes=10)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in Path(tmp_path).iterdir()] == ["t.csv"]
