"""`bench-core list`: the plan without a measurement."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench_core.cli import app

FAULTS = str(Path(__file__).parent / "faulty" / "faults.py")


def listed(*arguments):
    options = ["-c", "/dev/null", "--rootdir", str(Path(FAULTS).parent), FAULTS]
    return CliRunner().invoke(app, ["list", *arguments, "--", *options, "--bench-backends=numpy,cupy"])


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_it_counts_the_cases_of_each_workload_and_says_why_others_cannot_be_measured():
    done = listed()
    assert done.exit_code == 0, done.output
    assert "fault" in done.stdout
    assert "cupy" in done.stdout
    assert "28" in done.stdout, "14 cases on each of two backends"


def test_ids_are_printed_one_a_line():
    done = listed("--ids")
    assert "faults.py::test_good[numpy-cpu-float64-good]" in done.stdout.splitlines()


def test_a_bad_option_is_one_line_and_exit_code_2():
    done = CliRunner().invoke(app, ["list", "--", "--bench-preset=x"])
    assert done.exit_code == 2
    assert done.stderr.strip() == "bench-core: --bench-preset=x: choose from smoke, quick, standard, full"
