"""Shared by all tests of bench_core."""

import gc
import os
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

from bench_core.machine import nvml
from tests.standin import install as standin

collect_ignore = ["examples"]  # tests/project/test_examples.py runs them


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the unit tests out of a benchmark run: importing them would cost time that is not measured."""
    is_example = "examples" in collection_path.parts  # which is left out as well, unless it is named
    return True if config.getoption("benchmark_only", False) and not is_example else None


_EXEMPT = {"modules": 0}  # how many were imported when the garbage collector last left out all that there was


def pytest_collection_finish() -> None:
    _exempt_imports()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    _exempt_imports()


def _exempt_imports() -> None:
    """Leave what was imported out of later collections: every case of a test collects, and would walk through it."""
    if len(sys.modules) > _EXEMPT["modules"]:
        gc.collect()
        gc.freeze()
        _EXEMPT["modules"] = len(sys.modules)


@pytest.fixture(scope="session", autouse=True)
def children_are_no_workers():
    """Sessions that a test starts are not those of pytest-xdist, whose variables they would inherit."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def temporary_files_end_with_the_session(tmp_path_factory):
    """Tests kill processes, which then cannot remove their own: they have them in pytest's folder, which is removed."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("BENCH_CORE_LOCKS", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def installed():
    """What starts pytest in a project of its own, where bench-core's entry point leads to the plugin, or its script."""
    try:
        metadata.distribution("bench-core")
    except metadata.PackageNotFoundError:
        pytest.skip("bench-core is not installed: python -m pip install -e .")


@pytest.fixture
def pynvml():
    """The scripted driver; forgotten handles before and after."""
    with standin.pynvml_module() as module:
        nvml._nvml.cache_clear()
        nvml._find.cache_clear()
        yield module
    nvml._nvml.cache_clear()
    nvml._find.cache_clear()
