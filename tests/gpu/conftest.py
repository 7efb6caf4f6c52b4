"""Tests that need a GPU: each is skipped with one of few reasons where there is none, and says what it measured."""

import gc

import numpy as np
import pytest

from bench_core.backends import registry
from bench_core.errors import Unavailable
from bench_core.machine import nvml


def missing(libraries, load=registry.load):
    """Return why none of some libraries ("torch+cupy") finds a GPU here, None if one does."""
    reasons = [_missing(name, load) for name in libraries.split("+")]
    return None if None in reasons else reasons[0]


def _missing(name, load):
    try:
        found = load(name).devices()
    except Unavailable as error:
        return str(error)
    return None if any(device.startswith("cuda") for device in found) else f"{name} finds no CUDA device"


def pytest_runtest_setup(item):
    """Skip a test of libraries without a GPU here; from one line for every test, so that pytest folds them."""
    libraries = item.callspec.params.get("library") if hasattr(item, "callspec") else None
    why = missing(libraries) if libraries else None
    if libraries and not why and hasattr(item.config, "workerinput"):
        why = "tests that need a GPU have it to themselves: run without pytest-xdist"
    if why:
        pytest.skip(why)


@pytest.fixture(params=["torch", "cupy"])
def library(request):
    """Each library that reaches a GPU; a test of one alone is parametrised with its name."""
    return request.param


@pytest.fixture
def backend(library):
    """The library on the first GPU."""
    made = registry.load(library)("cuda:0")
    yield made
    made.set_precision("ieee")
    made.synchronize()
    gc.collect()
    made.free()


@pytest.fixture
def add(backend):
    """The smallest call: its kernel is shorter than its launch."""
    a = backend.from_host(np.ones(1, np.float32))
    backend.xp.add(a, a, out=a)
    return lambda: backend.xp.add(a, a, out=a)


@pytest.fixture
def counted(backend):
    """The same where the driver counts energy and tells the power."""
    state = nvml.state(backend.device_uuid)
    if nvml.energy(backend.device_uuid) is None or state is None or state.power is None:
        facts = nvml.facts(backend.device_uuid)
        asked = (facts[name].reason for name in ("gpu.driver", "gpu.energy_counter", "gpu.power") if name in facts)
        pytest.skip(next(filter(None, asked), "the driver tells nothing"))
    return backend


@pytest.fixture
def held(record_property):
    """Return what holds a figure to its bounds and has it said at the end of the session."""

    def hold(figure):
        record_property("figure", str(figure))
        figure.require()

    return hold


def pytest_terminal_summary(terminalreporter):
    """Say every figure beside what was expected, passed or failed."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.getreports(key) if r.when == "call"]
    lines = [value for report in reports for name, value in report.user_properties if name == "figure"]
    if lines:
        terminalreporter.section("figures of the GPU")
        for line in lines:
            terminalreporter.write_line(line)
