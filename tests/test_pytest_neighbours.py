"""Other plugins of pytest: what is refused says why, and what is not changes no result."""

import os
import re
from types import SimpleNamespace

import pytest

import bench_core
from bench_core import pytest_neighbours as neighbours
from tests.support import forked

ONE = """
import pytest
from pathlib import Path
from bench_core import check
from bench_core.workload import Costs, Kernel, Workload

def double(backend, work, host):
    if work["n"] == 2 and not Path("tried").exists():
        Path("tried").touch()
        raise RuntimeError("the first try")
    x = backend.from_host(host["x"])
    return Kernel(lambda: x * 2, inputs={"x": x})

class Double(Workload):
    suite, name = "own", "double"
    kernels = {"numpy": {"default": double, "tuned": double}}

    def works(self, preset, machine):
        return [self.work(str(n), "float64", n=n) for n in (1, 2)]

    def inputs(self, work, rng):
        return {"x": rng.standard_normal(work["n"])}

    def costs(self, work):
        return Costs(flops=1.0)

    def error(self, work, expected, answer):
        return check.relative_error(answer["out"], 2 * expected["x"])

@pytest.mark.workload(Double())
def test_double(measure):
    measure()
"""
SMOKE = ("--bench-preset=smoke", "--bench-budget=0.01", "--bench-backends=numpy", "--bench-machine=m")


@pytest.fixture
def project(installed, tmp_path):
    (tmp_path / "bench_one.py").write_text(ONE, encoding="utf-8")
    return tmp_path


def pytest_in(project, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "CODSPEED"))}
    return forked.run(["-p", "no:cacheprovider", "-p", "no:xdist", *SMOKE, *arguments], project, clean)


def test_without_pytest_benchmark_answers_are_checked_and_its_own_tests_fail_as_they_would(project):
    (project / "tried").touch()
    (project / "test_own.py").write_text("def test_own(benchmark):\n    assert benchmark == 1\n", encoding="utf-8")
    (project / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n", encoding="utf-8")
    done = pytest_in(project, "-p", "no:benchmark")
    assert "4 passed, 1 error" in done.stdout, done.stdout
    assert "fixture 'benchmark' not found" in done.stdout
    other = "import pytest\n\n@pytest.fixture\ndef benchmark():\n    return 1\n"
    (project / "other.py").write_text(other, encoding="utf-8")
    done = pytest_in(project, "-p", "no:benchmark", "-p", "other", "-o", "pythonpath=.")
    assert "5 passed" in done.stdout, "the fixture is that of another plugin"
    assert not (project / "results").exists()


def test_without_pytest_benchmark_the_option_to_measure_says_what_it_needs(project):
    done = pytest_in(project, "-p", "no:benchmark", "--benchmark-only")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = done.stdout.strip().splitlines()
    assert line.startswith("ERROR: --benchmark-only needs pytest-benchmark, which is not loaded: leave out ")


SHUFFLE_AND_TRY_AGAIN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    by_size = sorted(items, key=lambda item: item.callspec.id.rpartition("-")[2])
    items[:] = reversed(by_size)

def pytest_runtest_protocol(item, nextitem):
    for item.execution_count in (1, 2):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
        item._initrequest()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_a_shuffled_session_keeps_its_workers_together_and_a_failure_that_is_tried_again_is_one_row(project):
    """The plug-in does as pytest-randomly and pytest-rerunfailures do."""
    (project / "conftest.py").write_text(SHUFFLE_AND_TRY_AGAIN, encoding="utf-8")
    done = pytest_in(project, "--benchmark-only", "-v")
    assert done.returncode == 0, done.stdout
    order = re.findall(r"test_double\[numpy-cpu-(\S+)\] PASSED", done.stdout)
    assert sorted(order) == ["float64-1", "float64-2", "tuned-float64-1", "tuned-float64-2"]
    assert len({entry.startswith("tuned") for entry in order[:2]}) == 1, order
    assert (project / "tried").exists(), "the first try of one case failed"
    times = bench_core.load(project / "results").query("metric == 'time'")
    assert sorted(zip(times["implementation"], times["size"], times["status"], strict=True)) == [
        ("default", "1", "ok"),
        ("default", "2", "ok"),
        ("tuned", "1", "ok"),
        ("tuned", "2", "ok"),
    ]
    assert "4 planned: 4 ok" in done.stdout


CODSPEED = """
def pytest_addoption(parser):
    parser.addoption("--codspeed", action="store_true")
"""


def test_under_pytest_codspeed_workloads_are_skipped_and_one_line_says_why(project):
    (project / "conftest.py").write_text(CODSPEED, encoding="utf-8")
    (project / "test_own.py").write_text("def test_own():\n    pass\n", encoding="utf-8")
    done = pytest_in(project, "--codspeed")
    assert "1 passed, 4 skipped" in done.stdout, done.stdout
    assert done.stdout.count("bench-core: pytest-codspeed times calls in this process, without waiting") == 1


def config(**options):
    return SimpleNamespace(option=SimpleNamespace(**options), getoption=options.get)


@pytest.mark.parametrize(
    ("options", "environ", "refused"),
    [
        ({}, {}, ""),
        ({}, {"CODSPEED_ENV": "1"}, ""),
        ({"codspeed": False, "dist": "no"}, {}, ""),
        ({"codspeed": True}, {}, "pytest-codspeed"),
        ({"codspeed": False}, {"CODSPEED_ENV": "1"}, "pytest-codspeed"),
        ({"dist": "load"}, {}, "pytest-xdist"),
    ],
)
def test_what_cannot_be_measured_with_is_refused_in_one_line(options, environ, refused, monkeypatch):
    monkeypatch.delenv("CODSPEED_ENV", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if not refused:
        return neighbours.require_alone(config(**options))
    with pytest.raises(pytest.UsageError, match=refused) as error:
        neighbours.require_alone(config(**options))
    assert "\n" not in str(error.value)
    return None
