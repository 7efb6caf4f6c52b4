"""What every backend must do, as tests that can be run against any: one's own, and those of this package.

    pytest --pyargs bench_core.backends.conformance --bench-backends=mine

A backend without an option is tried on every device that it finds; one whose library is absent is skipped with the
reason. Nothing here judges a speed.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from bench_core import check
from bench_core.backends import dialects, registry
from bench_core.backends.base import (
    Backend,
    Compiles,
    Futures,
    Immutable,
    Memory,
    Selective,
    finish,
    overwrite,
    overwrite_rows,
)
from bench_core.errors import Unavailable
from bench_core.timing.synchronisation import hidden_work, unfinished

DTYPES = ("float64", "float32", "float16", "int8", "int32", "int64")
FORMATS = (
    ("float64", "ieee"),
    ("float32", "ieee"),
    ("float32", "tf32"),
    ("float32", "bfloat16_products"),
    ("bfloat16", "ieee"),
    ("float16", "ieee"),
)
SIZE = 256  # rows of a product whose error tells its format
LONG = 1024  # rows of a product that takes longer than its call, on a device with a queue
SOME_MEMORY = 64 << 20  # bytes
NOWHERE = 1 << 46  # elements: more than any device has
TRIES = 5  # a busy machine may hide in one of them that a call returned early


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test every backend of `--bench-backends` on each of its devices."""
    if "backend" not in metafunc.fixturenames:
        return
    asked = str(metafunc.config.getoption("bench_backends", default=None) or ",".join(registry.names()))
    found = [each for entry in asked.split(",") for each in _devices(entry.strip())]
    metafunc.parametrize("backend", found, indirect=True)


def _devices(entry: str) -> list[Any]:
    """Return a parameter for each device of an entry `backend[:device]`, or a skipped one with the reason."""
    name, _, wanted = entry.partition(":")
    try:
        found = [device for device in registry.load(name).devices() if device.startswith(wanted)]
        why = f"{name} finds no {wanted} device"
    except Unavailable as error:
        found, why = [], str(error)
    missing = pytest.param((name, ""), id=entry, marks=pytest.mark.skip(reason=why))
    return [pytest.param((name, device), id=f"{name}:{device}") for device in found] or [missing]


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """Return a backend on a device, as a run makes it."""
    name, device = request.param
    made = registry.load(name)(device)
    made.set_precision("ieee")
    return made


# ---------------------------------------------------------------- devices and facts


def test_it_has_every_member_of_the_protocol(backend: Backend) -> None:
    members = {name for name in vars(Backend) if not name.startswith("_")} | set(Backend.__annotations__)
    replaced = {"overwrite"} if isinstance(backend, Immutable) else set()
    assert [name for name in sorted(members - replaced) if not hasattr(backend, name)] == []


def test_it_is_on_one_of_its_devices_and_refuses_others(backend: Backend) -> None:
    assert backend.device in type(backend).devices()
    with pytest.raises(Unavailable):
        type(backend)("no-such-device:7")


def test_it_says_what_it_is(backend: Backend) -> None:
    assert backend.version
    assert backend.library
    assert isinstance(backend.device_name, str)
    assert "\n" not in f"{backend.version}{backend.library}{backend.device_name}"


def test_each_fact_has_a_source_and_a_value_that_json_can_hold(backend: Backend) -> None:
    for name, fact in backend.facts().items():
        assert fact.source or fact.reason, name
        json.dumps(fact.value, allow_nan=False)


def test_its_environment_is_texts_and_says_how_many_threads(backend: Backend) -> None:
    for threads in (1, 2):
        variables = type(backend).environ(threads, "default")
        assert all(isinstance(text, str) for pair in variables.items() for text in pair)
    if backend.threads is not None:
        assert type(backend).environ(1, "default") != type(backend).environ(2, "default")
    backend.set_threads(1)
    assert backend.threads is None or 1 <= backend.threads <= (os.cpu_count() or 1)


def test_its_module_has_what_its_dialect_uses(backend: Backend) -> None:
    declared = dialects.FUNCTIONS.get(backend.dialect, ())
    assert [name for name in declared if not dialects.has(backend.xp, name)] == []


# ---------------------------------------------------------------- copies


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_survive_the_way_to_the_device_and_back(backend: Backend, dtype: str) -> None:
    array = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    back = backend.to_host(backend.from_host(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_a_format_that_numpy_lacks_comes_back_as_float32(backend: Backend) -> None:
    if why := backend.why_unsupported("bfloat16", "ieee"):
        pytest.skip(why)
    array = np.array([1.0, 1.0 + 2.0**-8, -3.0], np.float32)
    back = backend.to_host(backend.from_host(array, "bfloat16"))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, [1.0, 1.0, -3.0])  # half way is rounded to even


def test_the_host_array_may_be_changed_once_it_is_copied(backend: Backend) -> None:
    array = np.zeros(1 << 16)
    on_device = backend.from_host(array)
    array[:] = 1
    assert backend.to_host(on_device).max() == 0


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8"])
def test_what_is_overwritten_has_the_values_rounded_as_an_upload_is(backend: Backend, dtype: str) -> None:
    host = np.arange(12.0).reshape(3, 4) / (3 if dtype.startswith("float") else 1)
    target = overwrite(backend, backend.from_host(np.ones((3, 4)), dtype), host)
    np.testing.assert_array_equal(backend.to_host(target), backend.to_host(backend.from_host(host, dtype)))


def test_one_number_is_written_over_a_whole_array_and_others_over_rows(backend: Backend) -> None:
    target = overwrite(backend, backend.from_host(np.ones((3, 4), np.float32)), np.asarray(math.nan))
    assert np.isnan(backend.to_host(target)).all()
    target = overwrite(backend, target, np.zeros((3, 4), np.float32))
    target = overwrite_rows(backend, target, [2, 1], np.full((2, 4), [[3], [2]], np.float32))
    np.testing.assert_array_equal(backend.to_host(target), [[0] * 4, [2] * 4, [3] * 4])


def test_an_immutable_array_that_is_replaced_stays_as_it_was(backend: Backend) -> None:
    if not isinstance(backend, Immutable):
        pytest.skip("its arrays can be written to")
    before = backend.from_host(np.ones(3, np.float32))
    after = overwrite(backend, before, np.zeros(3, np.float32))
    assert (backend.to_host(before).max(), backend.to_host(after).max()) == (1, 0)
    assert after.dtype == before.dtype


# ---------------------------------------------------------------- synchronisation


class Lazy:
    """A backend that does not wait: what a proof of synchronisation must detect."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def wait_for(self, result: Any) -> None:
        """Return at once."""

    def synchronize(self) -> None:
        """Return at once."""


def test_it_waits_for_its_work_and_one_that_does_not_is_found(backend: Backend) -> None:
    """A call that returns early proves that there is something to wait for; then a lazy backend must be caught."""
    square = backend.from_host(np.ones((LONG, LONG), np.float32))

    def call() -> Any:
        return {"none": None, "one": (square[:1, :1], square @ square)}  # as kernels return several arrays

    def outputs(made: Any) -> dict[str, Any]:
        return {"out": made["one"][1]}

    finish(backend, call())
    assert unfinished(call, 10, backend, outputs).left is None
    for _ in range(TRIES):
        begin = perf_counter()
        result = call()
        returned = perf_counter() - begin
        finish(backend, result)
        if returned > (perf_counter() - begin) / 4:
            continue
        lazy: Any = Lazy(backend)
        if unfinished(call, 10, lazy, outputs).left is not None:
            return
    if backend.device != "cpu" or isinstance(backend, Futures):
        pytest.fail("a lazy variant of this backend was never caught")


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize(("dtype", "precision"), FORMATS)
def test_a_product_has_the_error_of_its_format(backend: Backend, dtype: str, precision: str) -> None:
    if why := backend.why_unsupported(dtype, precision):
        assert len(why) > 8
        return
    rng = np.random.default_rng(7)
    wide = np.float64 if dtype == "float64" else np.float32
    a, b = (rng.standard_normal((SIZE, SIZE)).astype(wide) for _ in "ab")
    backend.set_precision(precision)
    try:
        product = backend.to_host(backend.from_host(a, dtype) @ backend.from_host(b, dtype))
    finally:
        backend.set_precision("ieee")
    error = check.relative_error(product, np.matmul(a, b, dtype=np.float64))
    check.tolerance(dtype, precision).require(error)


# ---------------------------------------------------------------- memory


def test_its_memory_counts_what_is_allocated(backend: Backend) -> None:
    gc.collect()  # arrays of the tests before
    backend.free()
    before = backend.memory()
    backend.reset_peak_memory()
    held = backend.from_host(np.ones(SOME_MEMORY // 8))
    finish(backend, held)
    now = backend.memory()
    assert all(part is None or part > 0 for part in (now.free, now.used, now.peak))
    if before.used is not None and now.used is not None and backend.device != "cpu":
        assert now.used - before.used >= SOME_MEMORY
    if now.used is not None and now.peak is not None:
        assert now.peak >= now.used or backend.device == "cpu"  # the kernel counts both, not at one time
    del held
    backend.free()
    assert isinstance(backend.memory(), Memory)


def test_more_memory_than_there_is_is_recognised(backend: Backend) -> None:
    one = backend.from_host(np.ones(1, np.float32))
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of whichever type the library has
        finish(backend, backend.xp.broadcast_to(one, (NOWHERE,)) + one)
    assert backend.is_out_of_memory(raised.value)
    assert backend.is_out_of_memory(MemoryError())
    for other in (ValueError, TypeError, KeyError, RuntimeError):
        assert not backend.is_out_of_memory(other("of another kind"))


# ---------------------------------------------------------------- clocks


def test_its_device_clock_sees_the_work_or_is_said_to_be_missing(backend: Backend) -> None:
    square = backend.from_host(np.ones((LONG, LONG), np.float32))

    def call() -> Any:
        return square @ square

    finish(backend, call())
    if not backend.has_device_clock:
        with pytest.raises(NotImplementedError):
            backend.device_time(call, 1)
        return
    few, many = (backend.device_time(call, calls).seconds for calls in (2, 40))
    assert 0 < few < many
    assert hidden_work(call, 40, backend, many / 40) is None, "the host waits longer than this clock sees"
    begin = perf_counter()
    for _ in range(40):
        call()
    backend.synchronize()
    assert many > (perf_counter() - begin) / 5, "the host works longer than this clock sees"


def test_compilations_are_counted_once_for_each_program(backend: Backend) -> None:
    if not isinstance(backend, Compiles):
        pytest.skip("it does not compile while it is called")
    odd = backend.from_host(np.ones((3, 17), np.float32))
    counts = [backend.compilations]
    for _ in range(3):
        finish(backend, odd + odd)
        counts.append(backend.compilations)
    assert counts[1] > counts[0]
    assert [b - a for a, b in itertools.pairwise(counts[1:])] == [0, 0]


def test_variables_for_one_device_are_texts(backend: Backend) -> None:
    if not isinstance(backend, Selective):
        pytest.skip("it opens the device that it is told, and no other")
    variables = backend.environ_for(backend.device)
    assert variables
    assert all(isinstance(text, str) for pair in variables.items() for text in pair)
