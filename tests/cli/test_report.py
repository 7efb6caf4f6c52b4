"""`bench-core report` writes one page, and where it cannot, ends with one line that says why."""

import re
from dataclasses import replace
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from bench_core import report
from bench_core.cli import app
from bench_core.errors import UsageError
from tests.support import synthetic
from tests.support.tables import processes, write

needs_charts = pytest.mark.skipif(None in map(find_spec, report.NEEDED), reason="charts need the extra `report`")


@needs_charts
def test_the_report_of_a_table_without_run_json_says_that_its_environment_is_not_known(tmp_path):
    path = synthetic.write(tmp_path, synthetic.MACHINES[0])
    (path / "run.json").unlink()
    output = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(path), "-o", str(output), "--filter", "workload == 'copy'"])
    assert result.exit_code == 0, result.output
    text = output.read_text(encoding="utf-8")
    assert "the only known facts about their environments" in text
    assert str(tmp_path) not in text


@pytest.fixture
def two_computers(tmp_path):
    """Imaginary machines with one name and one CPU, whose memory differs."""
    device = synthetic.cpu("Synthetic CPU A, 2 cores", 190, 25, 2)
    for seed, memory in ((1, 25e9), (2, 135e9)):
        synthetic.write(
            tmp_path, synthetic.Machine("box", (replace(device, memory=memory),), synthetic.NO_DEVICE, seed)
        )
    return tmp_path


TWO_COMPUTERS = "box is the name of 2 computers (memory.total: 25.0 GB against 135 GB), kept apart as box and box:2"


@needs_charts
def test_two_computers_with_one_name_are_two_machines_of_the_report_and_a_note_says_so(two_computers, tmp_path):
    output = tmp_path / "report.html"
    options = ["-o", str(output), "--filter", "workload == 'copy'"]
    result = CliRunner().invoke(app, ["report", str(two_computers), *options])
    assert result.exit_code == 0, result.output
    text = output.read_text(encoding="utf-8")
    assert text.count(f"<dt>Note</dt><dd>{TWO_COMPUTERS}</dd>") == 2
    assert "<h3>box <small>" in text
    assert "<h3>box:2 <small>" in text
    assert "2 machines" in text


@needs_charts
def test_a_chart_of_two_computers_with_one_name_shows_both_and_a_note_says_so(two_computers, tmp_path):
    output = tmp_path / "chart.svg"
    result = CliRunner().invoke(app, ["plot", str(two_computers), "--chart", "ladder", "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert f"Note: {TWO_COMPUTERS}" in result.output.splitlines()
    assert "box:2" in output.read_text(encoding="utf-8")


def test_a_missing_library_is_one_line_with_what_to_run(monkeypatch):
    monkeypatch.setattr(report, "NEEDED", {"no_such_module": "vl-convert-python"})
    with pytest.raises(UsageError, match=r"missing packages: python -m pip install vl-convert-python$"):
        report.require_extra()


@needs_charts
def test_a_table_that_cannot_be_read_ends_with_one_line_and_exit_code_3(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path / "nothing.csv"), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 3
    assert len(result.output.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


@needs_charts
def test_titles_and_paths_that_are_no_utf8_or_control_a_terminal_are_escapes(tmp_path):
    table = write(tmp_path, processes([1.0]), "a") / "results.csv"
    table = table.rename(table.with_name("t\x1b\udcff.csv"))
    output = tmp_path / "r\x1b\udcff.html"
    title = "a\udcffb\x1b]0;owned\x07\u202ey"
    done = CliRunner().invoke(app, ["report", str(table), "-o", str(output), "--title", title])
    assert done.exit_code == 0, done.output
    page = output.read_text(encoding="utf-8")
    assert r"<h1>a\udcffb\x1b]0;owned\x07\u202ey</h1>" in page
    assert r"t\x1b\udcff.csv" in page
    assert not re.search("[\x07\x1b\u202e]", page)
    assert r"r\x1b\udcff.html: 2 rows of 1 result file" in done.stdout
    assert done.stdout.strip().isprintable()
