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


def test_a_single_run_becomes_the_pytest_process(monkeypatch):
    """The process is replaced by pytest, so exit codes are those of pytest and signals reach pytest directly."""
    seen = []

    def become(program, line):
        seen.append((program, line))
        raise SystemExit(5)

    monkeypatch.setattr(os, "execv", become)
    assert CliRunner().invoke(app, ["run", "--", "-k", "nothing"]).exit_code == 5
    expected = child_process.command("pytest", *child_process.MEASURING, "-k", "nothing")
    assert seen == [(sys.executable, expected)]
