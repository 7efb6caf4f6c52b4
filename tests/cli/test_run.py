"""`bench-core run` from outside: one run becomes pytest, several become one result, and two sides are told apart."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench_core import child_process
from bench_core.cli import app
from bench_core.cli.common import split_output
from bench_core.compare import read
from bench_core.errors import UsageError
from bench_core.results import reader
from bench_core.run import replicate
from bench_core.run.precision import Goal
from bench_core.run.replicate import repeat
from tests.support import ROOT
from tests.support.pretended_runs import pretend
from tests.support.workloads import SMALL_SUITE


def test_two_interpreters_are_told_apart_by_labels_and_the_command_says_how(tmp_path, monkeypatch):
    """Both interpreters are on one machine: without labels, their runs would form one side."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(replicate, "require_usable", lambda python, module="": None)
    run_one = pretend({"this": 1.0, "against": 1.2})
    monkeypatch.setattr(replicate, "repeat", partial(repeat, run_one=run_one))
    done = CliRunner().invoke(app, ["run", "--runs", "3", "--against", "python-b"])
    assert done.exit_code == 0, done.output
    this, against = sorted((path.parent for path in reader.find_results(Path("results"))), reverse=True)
    assert done.stdout.splitlines()[-2:] == [
        "Both sides are of one machine: without these labels their runs would be pooled.",
        f"To repeat this comparison: bench-core compare base={against} change={this}",
    ]


def test_the_output_folder_is_taken_out_of_pytests_options():
    path, rest = split_output(["-k", "x", "--bench-output=here"])
    assert (str(path), rest) == ("here", ["-k", "x"])
    assert str(split_output([])[0]) == "results"
    with pytest.raises(UsageError, match="write --bench-output=DIR"):
        split_output(["--bench-output", "x"])


def test_real_runs_are_repeated_and_merged(tmp_path, monkeypatch):
    """Two real pytest sessions: one folder, two processes, paired with themselves."""
    (tmp_path / "bench_small.py").write_text(SMALL_SUITE)
    monkeypatch.chdir(tmp_path)
    options = ["bench_small.py", "--bench-preset=smoke", "--bench-backends=numpy", "-p", "no:cacheprovider"]
    options += ["--bench-machine=box"]
    done = CliRunner().invoke(app, ["run", "--runs", "2", "--seed", "1", "--", *options])
    assert done.exit_code == 0, done.output
    (path,) = reader.find_results(tmp_path / "results")
    times = [r for r in reader.read_rows(path) if r.metric == "time"]
    assert [(r.status, r.processes) for r in times] == [("ok", 2)]
    assert "single_run" not in times[0].flags
    (reading,) = read([str(path)])
    assert {len(by_process) for by_process in reading.files.samples.values()} == {2}


# Windows starts children that handle Ctrl-C even if their parent ignores it.
CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    print("saved", flush=True)
    sys.exit(2)
"""
ON_WINDOWS = """
import sys
from types import SimpleNamespace
import typer
from bench_core.cli import run
run.sys = SimpleNamespace(platform="win32", stdout=sys.stdout)
try:
    run._become([sys.executable, "-c", sys.argv[1]])
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a group of processes")
def test_on_windows_ctrl_c_leaves_the_child_time_to_save_and_its_exit_code_is_passed_on():
    command = [sys.executable, "-c", ON_WINDOWS, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "saved\n"
    assert process.returncode == 2


@pytest.mark.parametrize(
    ("asked", "passed"),
    [(["--", "-k", "nothing"], ["-k", "nothing"]), (["--resume", "x", "--", "-q"], ["-q", "--bench-resume=x"])],
)
def test_a_single_run_becomes_the_pytest_process(monkeypatch, asked, passed):
    """The process is replaced by pytest, so exit codes are those of pytest and signals reach pytest directly."""
    seen = []

    def become(program, line):
        seen.append((program, line))
        raise SystemExit(5)

    monkeypatch.setattr(os, "execv", become)
    assert CliRunner().invoke(app, ["run", *asked]).exit_code == 5
    expected = child_process.command("pytest", *child_process.MEASURING, *passed)
    assert seen == [(sys.executable, expected)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--precision", "0"], "--precision 0: must be above 0 and below 100%"),
        (["--precision", "100%"], "--precision 100%: must be above 0 and below 100%"),
        (["--precision", "3"], "--precision: '3': write 3% or 0.03"),
        (["--precision", "narrow"], "--precision: 'narrow' is not a share such as 5% or 0.05"),
        (["--time", "5x"], "--time: '5x' is not a time such as 90s, 20m or 1.5h"),
        (["--time", "600"], "--time: '600' is not a time such as 90s, 20m or 1.5h"),
        (["--time", "0m"], "--time: '0m' is not a time such as 90s, 20m or 1.5h"),
        (["--precision", "3%", "--runs", "3"], "--runs: leave it out, as --precision and --time decide"),
        (["--time", "5m", "--resume", "x"], "--resume finishes one run: leave out --runs, --precision, --time"),
    ],
)
def test_a_wrong_goal_is_refused_in_one_line(given, said):
    done = CliRunner().invoke(app, ["run", *given])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("given", "goal"),
    [
        (["--precision", "3%"], Goal(0.03)),
        (["--precision", "0.05", "--time", "90s"], Goal(0.05, 90.0)),
        (["--time", "1.5h"], Goal(0.01, 5400.0)),
    ],
)
def test_a_precision_alone_has_no_limit_and_a_time_alone_is_for_one_percent(monkeypatch, given, goal):
    seen = []
    monkeypatch.setattr(replicate, "repeat", lambda sides, schedule, *_, **__: seen.append(schedule.goal) or [])
    assert CliRunner().invoke(app, ["run", *given]).exit_code == 0
    assert seen == [goal]


def test_at_the_end_it_is_said_how_well_each_value_is_known_and_why_it_was_repeated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_one = pretend({"this": 1.0})
    monkeypatch.setattr(replicate, "repeat", partial(repeat, run_one=run_one))
    done = CliRunner().invoke(app, ["run", "--precision", "0.9%", "--seed", "1"])
    assert done.exit_code == 0, done.output
    counts, header, _, *rows, _ = done.stdout.splitlines()
    assert counts == "2 of 2 values are known within 0.9 % after 21 rounds: every value is precise enough"
    assert header.split("  ")[0] == "value"
    assert {row.split()[1] for row in rows} == {"numpy-cpu-float32-64-2t", "numpy-cpu-float32-32-2t"}
    assert all(row.endswith("nearest to it") for row in rows)
    assert "round 8: 2 of 2 cases, 0 within 0.9 %" in done.stderr


def test_of_what_was_interrupted_it_is_said_that_nothing_is_known_of_its_precision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(replicate, "repeat", partial(repeat, run_one=pretend({"this": 1.0}, stop=4)))
    done = CliRunner().invoke(app, ["run", "--precision", "3%"])
    assert done.exit_code == 130
    counts, unknown = done.stdout.splitlines()
    assert counts == "0 of 2 values are known within 3 % after 3 rounds: stopped early"
    assert unknown.startswith(
        "Precision unknown, because there are fewer than 7 processes: matmul numpy-cpu-float32-64-2t, "
    )


def test_the_other_interpreter_must_have_a_release_that_can_be_given_cases(monkeypatch):
    def refuse(python, module):
        raise UsageError(f"{python} lacks {module}")

    monkeypatch.setattr(replicate, "require_usable", refuse)
    done = CliRunner().invoke(app, ["run", "--precision", "3%", "--against", "python-b"])
    assert done.exit_code == 2
    assert "python-b lacks bench_core.run.precision" in done.stderr
