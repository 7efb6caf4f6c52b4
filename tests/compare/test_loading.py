"""Files, folders, patterns and labels select exactly the intended runs."""

import shutil

import pytest

from bench_core.compare import Method, compare, read
from bench_core.errors import TableError, UsageError
from tests.support.comparisons import FIVE, only
from tests.support.tables import processes, write


def test_files_folders_patterns_and_labels_name_the_same_runs(tmp_path):
    a, b = write(tmp_path, processes(FIVE), "a"), write(tmp_path, processes([2 * t for t in FIVE]), "b")
    write(tmp_path / "unfinished", processes([9.0]), "a", run_id="part")
    patterns = [f"{tmp_path}/*/*"], [f"{tmp_path}/*"], [f"{tmp_path}/**/results.csv"]
    for arguments in ([str(tmp_path)], [str(a), str(b / "results.csv")], *patterns, [f"a={a}", f"z={b}"]):
        c = only(read(arguments))
        assert (c.method, c.change) == (Method.WELCH, "2.00x slower")
    assert only(read([f"old={a}", f"new={b}"])).side == "new"
    assert [r.input_file.run_ids for r in read([f"{tmp_path}/unfinished/*/*"])] == [("part",)]


def test_a_lone_table_is_judged_by_its_intervals_with_a_note(tmp_path):
    a, b = (write(tmp_path, processes(FIVE), name) for name in "ab")
    lone = shutil.copy(b / "results.csv", tmp_path / "b.csv")
    result = compare(read([str(a), str(lone)]))
    assert result.notes == (f"{lone}: a single table without samples: its intervals are used",)
    assert result.comparisons[0].basis.startswith("median")


def test_a_label_for_two_machines_is_refused(tmp_path):
    for name in "ab":
        write(tmp_path, processes(FIVE), name)
    with pytest.raises(UsageError, match="label 'x' is used for 2 machines: a, b"):
        read([f"x={tmp_path}"])


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path):
    with pytest.raises(TableError, match="no file matches"):
        read([f"{tmp_path}/*.csv"])
