"""`bench-core validate` says what prevents a run from being published, line by line, and by its exit code."""

from typer.testing import CliRunner

from bench_core.cli import app
from tests.support import ROOT
from tests.support.contributions import contribute
from tests.support.tables import measured, work


def validate(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


def test_runs_without_a_problem_exit_with_0(tmp_path):
    contribute(tmp_path, git_dirty=True)
    done = validate(tmp_path)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "Note: box/run-box: measured with changes that are not committed",
        "1 run: whole, nothing private in their tables and facts, plausible, one label for each computer",
    ]


def test_a_problem_is_a_line_and_exits_with_1(tmp_path):
    run = contribute(tmp_path)
    (run / "pytest.json").write_text("{}")
    done = validate(tmp_path)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "box/run-box/pytest.json: no file of a run (results.csv, samples.csv, run.json)",
        "1 run, 1 problem",
    ]


def test_of_many_problems_of_one_run_the_first_are_shown_and_the_others_counted(tmp_path):
    contribute(tmp_path, [measured([1e-9] * 3, work(f"{n}"), flops=2e8) for n in range(2, 14)])
    done = validate(tmp_path)
    assert len(done.stdout.splitlines()) == 12
    assert done.stdout.splitlines()[-2:] == ["box/run-box: and 2 more", "1 run, 12 problems"]


def test_a_folder_without_runs_exits_with_3(tmp_path):
    done = validate(tmp_path)
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"{tmp_path}: no run here" in done.stderr


def test_without_a_folder_it_is_results(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert validate().exit_code == 0
