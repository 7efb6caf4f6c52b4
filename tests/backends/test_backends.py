"""Every backend keeps the Protocol: NumPy and PyTorch on the CPU, as they are here."""

import platform

import numpy as np
import pytest

from bench_core.backends import registry
from bench_core.backends.base import Backend
from bench_core.errors import Unavailable

HERE = [pytest.param(name, id=name) for name in ("numpy", "torch")]


@pytest.fixture(params=HERE)
def backend(request):
    try:
        return registry.load(request.param)("cpu")
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_every_backend_has_every_member_of_the_protocol(backend):
    members = {name for name in vars(Backend) if not name.startswith("_")} | set(Backend.__annotations__)
    assert not [name for name in members if not hasattr(backend, name)]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "int64"])
def test_arrays_survive_the_way_to_the_device_and_back(backend, dtype):
    array = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    back = backend.to_host(backend.from_host(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_from_host_is_a_copy(backend):
    """A kernel may write to its arrays; the reference is computed from the host's."""
    array = np.zeros(4)
    on_device = backend.from_host(array)
    on_device[0] = 1
    assert array[0] == 0


def address(array):
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()


@pytest.mark.parametrize("values", ["float64", "float32", "int64"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "int64"])
def test_what_is_overwritten_lies_where_it_lay_and_is_rounded_as_an_upload_is(backend, dtype, values):
    host = (np.arange(12).reshape(3, 4) / (3 if values.startswith("float") else 1)).astype(values)
    target = backend.from_host(np.ones((3, 4)), dtype)
    before = address(target)
    backend.overwrite(target, host)
    assert address(target) == before
    back = backend.to_host(target)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, backend.to_host(backend.from_host(host, dtype)))
    host[:] = 0
    assert backend.to_host(target)[2, 3] == back[2, 3] != 0


@pytest.mark.parametrize(("dtype", "rubbish"), [("float32", np.nan), ("float16", np.nan), ("int8", -1), ("int64", -1)])
def test_one_number_is_written_over_a_whole_array(backend, dtype, rubbish):
    target = backend.from_host(np.arange(6).reshape(2, 3).astype(dtype))
    before = address(target)
    backend.overwrite(target, np.asarray(rubbish))
    assert address(target) == before
    np.testing.assert_array_equal(backend.to_host(target), np.full((2, 3), rubbish, dtype))


def test_an_array_that_lies_otherwise_in_memory_is_overwritten_element_by_element(backend):
    """Its layout is what a benchmark measures: it stays."""
    values = np.arange(12.0).reshape(3, 4)
    target = backend.from_host(np.zeros((4, 3))).swapaxes(0, 1)
    strides = np.array(target.strides if isinstance(target, np.ndarray) else target.stride())
    backend.overwrite(target, values)
    np.testing.assert_array_equal(backend.to_host(target), values)
    assert np.array_equal(strides, target.strides if isinstance(target, np.ndarray) else target.stride())
    np.testing.assert_array_equal(backend.to_host(target.swapaxes(0, 1)), values.T)


def test_a_view_that_is_overwritten_is_a_part_of_its_array(backend):
    whole = backend.from_host(np.zeros((4, 2)))
    backend.overwrite(whole[1:3], np.ones((2, 2)))
    assert backend.to_host(whole)[:, 0].tolist() == [0, 1, 1, 0]


def test_a_host_array_is_overwritten_on_the_host(backend):
    """Where a call begins with an upload, its inputs lie there."""
    host = np.zeros(3, np.float32)
    before = host.ctypes.data
    backend.overwrite(host, np.array([1.0, 2.0, 1 / 3]))
    assert host.ctypes.data == before
    np.testing.assert_array_equal(host, np.array([1, 2, 1 / 3], np.float32))


def test_a_backend_tells_version_device_library_memory_and_facts(backend):
    assert backend.version
    assert backend.device_name
    assert backend.library
    assert backend.memory().free > 0
    assert all(fact.source or fact.reason for fact in backend.facts().values())


def test_an_unknown_dtype_has_a_reason(backend):
    assert backend.why_unsupported("float32", "ieee") is None
    assert "float13" in backend.why_unsupported("float13", "ieee")
    assert backend.why_unsupported("float32", "tf32")


def test_memory_errors_are_told_from_others(backend):
    assert backend.is_out_of_memory(MemoryError())
    assert not backend.is_out_of_memory(RuntimeError("something else"))


def test_memory_in_use_is_at_most_its_peak(backend):
    backend.reset_peak_memory()
    before = backend.memory().used
    array = np.ones(4_000_000)
    del array
    memory = backend.memory()
    assert memory.peak - before >= 30_000_000
    assert memory.peak >= memory.used


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_earlier_cases_freed_does_not_hide_what_the_next_one_takes(backend):
    """The C library keeps freed memory for later: a case that fits in there would seem to need none."""
    pieces = [np.ones(8192) for _ in range(1000)]  # 64 KiB each, below the size that is given back at once
    last = pieces[-1]
    backend.reset_peak_memory()
    before = backend.memory().used
    del pieces
    backend.reset_peak_memory()
    assert before - backend.memory().used >= 50_000_000
    assert last[0] == 1  # it lies behind the others: the end of the heap has nothing to give


def test_no_peak_is_told_where_the_kernel_cannot_start_a_new_one(backend, monkeypatch):
    """The old one is of the whole process: of other cases, and of the libraries' own memory."""
    monkeypatch.setattr("bench_core.machine.host._reset_peak_resident", lambda: False)
    backend.reset_peak_memory()
    assert (backend.memory().used, backend.memory().peak) == (None, None)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_device_that_is_not_there_is_named(name):
    if name == "torch":
        pytest.importorskip("torch")
    with pytest.raises(Unavailable, match="cuda:9"):
        registry.load(name)("cuda:9")
