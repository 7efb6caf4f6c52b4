"""`bench-core import`: what it writes and says, and that other commands read it or point to it."""

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from tests.support.other_programs import OUTPUTS


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture
def given(tmp_path):
    def write(kind):
        path = tmp_path / "given"
        path.write_text(OUTPUTS[kind][1], encoding="utf-8")
        return path

    return write


def test_a_file_becomes_a_run_that_a_report_shows(tmp_path, given):
    pytest.importorskip("vl_convert", reason="charts need the extra `report`")
    for kind in ("google-benchmark JSON", "BabelStream text"):
        done = run("import", given(kind), "-o", tmp_path / "results", "--started-at", "2026-01-01T01:00:00+01:00")
        assert done.exit_code == 0, done.output
        assert "and not checked by this suite\n" in done.stdout
    page = tmp_path / "r.html"
    done = run("report", tmp_path / "results", "-o", page)
    assert done.exit_code == 0, done.output
    assert "not checked by this suite" in page.read_text(encoding="utf-8")


def test_what_the_file_does_not_say_is_said(tmp_path, given):
    done = run("import", given("BabelStream text"), "-o", tmp_path / "results", "--machine", "box")
    assert done.stdout.splitlines()[1:] == ["Note: the file does not say when it was measured (--started-at does)"]
    (table,) = (tmp_path / "results" / "box").glob("babelstream-*/results.csv")
    assert table.read_text(encoding="utf-8").count("unchecked;imported;single_run") == 4


@pytest.mark.parametrize("kind", OUTPUTS)
def test_compare_is_told_of_import_for_each_format(given, kind):
    path = given(kind)
    done = run("compare", path, path)
    assert done.exit_code == 3
    tool = OUTPUTS[kind][0]
    said = f"the output of {tool}, not a table: `bench-core import FILE -o results` makes a table of it"
    assert done.stderr.splitlines() == [f"bench-core: {path}:1: {said}"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--as", "nvbenhc"), "--as: no 'nvbenhc'; did you mean 'nvbench'?"),
        (("--machine", "a b"), "--machine: 'a b' is not an identifier"),
        (("--device", "a b"), "--device: 'a b' is not an identifier"),
        (("--device", "cuda:x1"), "--device: cuda:x1: several devices are two or more"),
        (("--started-at", "today"), "--started-at today: not a time with a time zone"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_written(tmp_path, given, options, said):
    done = run("import", given("BabelStream text"), "-o", tmp_path / "results", *options)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"bench-core: {said}")
    assert not (tmp_path / "results").exists()


def test_a_file_of_no_known_format_ends_with_3_and_leaves_nothing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    done = run("import", path, "-o", tmp_path / "results")
    assert done.exit_code == 3
    assert done.stderr.startswith(f"bench-core: {path}: of no format that is imported; the formats are those of ")
    assert not (tmp_path / "results").exists()
