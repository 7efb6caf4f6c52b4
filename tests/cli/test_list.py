"""`bench-core list`: the plan without a measurement."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench_core.cli import app
from tests.support import TESTS

FAULTS = str(TESTS / "faulty" / "faults.py")


def listed(*arguments):
    options = ["-c", "/dev/null", "--rootdir", str(Path(FAULTS).parent), FAULTS]
    return CliRunner().invoke(app, ["list", *arguments, "--", *options, "--bench-backends=numpy,cupy"])


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_it_counts_the_cases_of_each_workload_and_says_why_others_cannot_be_measured():
    done = listed("--ids")
    assert done.exit_code == 0, done.output
    numpy, cupy = (sum(f"[{name}-" in line for line in done.stdout.splitlines()) for name in ("numpy", "cupy"))
    lines = [line.split() for line in listed().stdout.splitlines()]
    assert sum(int(line[4]) for line in lines if line[2:4] == ["numpy", "cpu"]) == numpy
    assert [line[:4] for line in lines if "cupy" in line[:2]] == [["all", "cupy", "cuda", str(cupy)]]
    assert ["total", str(numpy + cupy)] in lines


def test_ids_are_printed_one_a_line():
    done = listed("--ids")
    assert "faults.py::test_good[numpy-cpu-float64-good]" in done.stdout.splitlines()


def test_a_bad_option_is_one_line_and_exit_code_2():
    done = CliRunner().invoke(app, ["list", "--bench-preset=x"])
    assert done.exit_code == 2
    assert done.stderr.strip() == "bench-core: --bench-preset=x: choose from smoke, headline, quick, standard, full"


def test_a_plan_without_a_case_is_an_error_that_says_where_to_look():
    done = listed("-k", "nothing_of_the_kind")
    assert done.exit_code == 2
    assert "bench-core list --bench-suite=always" in done.stderr


def test_an_option_that_nobody_knows_is_named():
    done = CliRunner().invoke(app, ["list", "--bench-presett=quick"])
    assert done.exit_code == 2
    assert done.stderr.strip() == "bench-core: unrecognized arguments: --bench-presett=quick"


def test_options_of_pytest_need_no_dashes_before_them():
    plain = ["list", "--ids", FAULTS, "-c", "/dev/null", "-k", "test_good", "--bench-backends=numpy"]
    done = CliRunner().invoke(app, plain)
    assert done.stdout.split() == ["faults.py::test_good[numpy-cpu-float64-good]"]
