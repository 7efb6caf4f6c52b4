"""CupyBackend against the stand-in: what it calls exists in CuPy, and means what it says."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bench_core.backends import cupy as module
from bench_core.backends import event_timer
from bench_core.backends.base import overwrite
from bench_core.backends.cupy import CupyBackend
from bench_core.errors import Unavailable, WrongAnswer
from bench_core.plan.discovery import probe
from bench_core.records import Fact, Preset, Scope
from bench_core.timing.sampling import WallTimer
from benchmarks import bench_mlp
from tests.standin import install as standin
from tests.support import kernels as kernel_support

KERNEL_S, LAUNCH_S = 3e-6, 8e-6  # the stand-in's, see tests/standin/site/cupy/_gpu.py
LONG_S = 100e-6  # of a kernel that outlasts its launch


@pytest.fixture
def cupy():
    with standin.cupy_module() as stand_in:
        yield stand_in


@pytest.fixture
def backend(cupy, monkeypatch):
    """A backend on an idle device; host seconds are the stand-in's."""
    assert (cupy._gpu.KERNEL_S, cupy._gpu.LAUNCH_S) == (KERNEL_S, LAUNCH_S)
    monkeypatch.setattr(event_timer, "perf_counter", cupy._gpu.clock.now)
    return CupyBackend("cuda:0")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_they_went(backend, dtype, order):
    host = np.asfortranarray if order == "F" else np.ascontiguousarray
    there = backend.from_host(host(np.arange(6).reshape(2, 3).astype(dtype)))
    assert isinstance(there, backend.xp.ndarray)
    assert there.flags.f_contiguous is (order == "F")
    back = backend.to_host(there)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, np.arange(6).reshape(2, 3))


def test_from_host_converts_and_never_aliases(backend):
    host = np.ones(3, np.float32)
    there = backend.from_host(host, "float16")
    host[:] = 0
    assert there.dtype == np.float16
    np.testing.assert_array_equal(backend.to_host(there), [1, 1, 1])


def address(array):
    return array._known.ctypes.data


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "int64"])
def test_what_is_overwritten_lies_where_it_lay_and_is_rounded_as_an_upload_is(backend, dtype, order):
    values = np.arange(6.0).reshape(2, 3) / 3
    target = backend.from_host(np.ones((2, 3), order=order), dtype)
    before, strides = address(target), target.strides
    backend.overwrite(target, values)
    assert (address(target), target.strides, target.dtype) == (before, strides, np.dtype(dtype))
    np.testing.assert_array_equal(backend.to_host(target), backend.to_host(backend.from_host(values, dtype)))
    backend.overwrite(target, np.asarray(-1))
    assert (backend.to_host(target) == -1).all()
    assert address(target) == before


def test_bfloat16_is_overwritten_with_what_an_upload_would_have_rounded_to(backend):
    pytest.importorskip("ml_dtypes")
    values = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    target = backend.from_host(np.zeros_like(values), "bfloat16")
    before = address(target)
    backend.overwrite(target, values)
    assert (address(target), target.dtype.name) == (before, "bfloat16")
    np.testing.assert_array_equal(backend.to_host(target), backend.to_host(backend.from_host(values, "bfloat16")))
    assert (backend.to_host(target) != values).any()
    backend.overwrite(target, np.asarray(np.nan))
    assert np.isnan(backend.to_host(target)).all()


def test_values_that_overwrite_an_array_may_be_changed_at_once_and_work_that_follows_waits_for_them(backend, cupy):
    values, target = np.arange(1 << 16, dtype=np.float64), cupy.zeros(1 << 16)
    twice = cupy.empty_like(target)
    backend.overwrite(target, values)
    cupy.multiply(target, 2, out=twice)
    values[:] = 0
    np.testing.assert_array_equal(backend.to_host(twice), 2.0 * np.arange(1 << 16))


def test_work_that_was_queued_before_still_reads_the_old_values(backend, cupy):
    target, twice = cupy.ones(8), cupy.empty(8)
    cupy.multiply(target, 2, out=twice)
    backend.overwrite(target, np.zeros(8))
    assert (backend.to_host(twice) == 2).all()
    assert (backend.to_host(target) == 0).all()


@pytest.mark.parametrize("memory", ["pageable", "pinned"])
def test_a_host_array_is_overwritten_on_the_host(backend, memory):
    import cupyx

    host = np.zeros(3, np.float32) if memory == "pageable" else cupyx.zeros_pinned(3, np.float32)
    before = host.ctypes.data
    backend.overwrite(host, np.array([1.0, 2.0, 1 / 3]))
    assert host.ctypes.data == before
    np.testing.assert_array_equal(host, np.array([1, 2, 1 / 3], np.float32))


def test_a_longer_array_holds_the_values_again_and_again(backend):
    target = backend.from_host(np.zeros((7, 2)))
    assert overwrite(backend, target, np.arange(6.0).reshape(3, 2)) is target
    assert backend.to_host(target)[:, 0].tolist() == [0, 2, 4, 0, 2, 4, 0]


def test_an_upload_of_pageable_memory_is_staged_and_does_not_wait_for_the_stream(backend, cupy):
    """Unlike `set`, and unlike PyTorch: the host pays for a copy into pinned memory and goes on."""
    clock, host = cupy._gpu.clock, np.ones(1 << 20)
    target = cupy.empty_like(backend.from_host(host))
    backend.synchronize()
    cupy._gpu.gpu().queue(lambda: None, 1.0)
    begin = clock.now()
    backend.from_host(host)
    assert clock.now() - begin == pytest.approx(host.nbytes / cupy._gpu.STAGE_B_S + LAUNCH_S)
    target.set(host)
    assert clock.now() - begin > 1.0


def test_the_time_of_an_upload_is_counted_to_its_end(backend, cupy):
    """By both clocks, though the call returns before."""
    gpu, host = cupy._gpu, np.ones(1 << 20)
    copied, staged = gpu.COPY_S + host.nbytes / gpu.LINK_B_S, host.nbytes / gpu.STAGE_B_S
    took = WallTimer(backend.synchronize, gpu.clock.now).time(lambda: backend.from_host(host), 1)
    assert took.seconds == pytest.approx(staged + LAUNCH_S + copied)

    def upload():
        backend.from_host(host)

    for _ in range(3):  # learns how long queueing takes
        by_device = backend.device_time(upload, 3)
    assert by_device.seconds == pytest.approx(3 * copied)


@pytest.mark.parametrize("memory", ["pageable", "pinned"])
def test_an_input_that_is_changed_before_it_is_copied_is_a_wrong_answer(backend, cupy, monkeypatch, memory):
    """A loader that fills one buffer again and again: right from pageable memory, too early from pinned memory."""
    import cupyx

    workload = bench_mlp.MlpInfer()
    work = workload.variant(*workload.presets[Preset.SMOKE], scope=Scope.END_TO_END)
    host, expected = kernel_support.sampled(workload, work)
    buffer = host["x"].copy() if memory == "pageable" else cupyx.empty_like_pinned(host["x"])
    upload = backend.from_host

    def refilled(array, dtype=None):
        if array is not buffer:
            return upload(array, dtype)
        buffer[...] = host["x"]
        there = upload(buffer)
        buffer[...] = 0
        return there

    monkeypatch.setattr(backend, "from_host", refilled)
    kernel = kernel_support.kernel(workload, work, backend, host=host)
    kernel.inputs["x"] = buffer
    answer = kernel_support.answer(kernel, backend)
    if memory == "pageable":
        assert workload.verify(work, expected, answer) < 1e-5
    else:
        with pytest.raises(WrongAnswer):
            workload.verify(work, expected, answer)


def test_synchronize_waits_for_all_work(backend, cupy):
    a = backend.from_host(np.ones((2, 2)))
    cupy._gpu.gpu().kernel_s = LONG_S
    backend.synchronize()
    before = cupy._gpu.clock.now()
    for _ in range(10):
        cupy.matmul(a, a, out=a)
    backend.synchronize()
    assert cupy._gpu.clock.now() - before == pytest.approx(LAUNCH_S + 10 * LONG_S)


def test_device_time_counts_the_kernels_alone(backend, cupy):
    """Neither the spin nor the launches are in it, though each launch takes longer than its kernel."""
    a = backend.from_host(np.ones((2, 2)))
    backend.device_time(lambda: cupy.add(a, a, out=a), 5)  # learns how long queueing takes
    took = backend.device_time(lambda: cupy.add(a, a, out=a), 5)
    assert took.seconds == pytest.approx(5 * KERNEL_S)
    assert not took.starved


def test_where_there_is_no_device_clock_it_says_so_instead_of_compiling_its_spin(backend, cupy, monkeypatch):
    """As backends/conformance.py asks of every backend: the spin is PTX, which ROCm cannot compile."""
    monkeypatch.setattr(cupy.cuda.runtime, "is_hip", True)
    assert not backend.has_device_clock
    with pytest.raises(NotImplementedError, match="ROCm"):
        backend.device_time(lambda: None, 1)
    assert "_device_clock" not in vars(backend)


def test_small_kernels_starve_a_device_that_no_spin_holds_back(backend, cupy, monkeypatch):
    """The companion: between events alone, 50 calls take the host's time, and that is found out."""
    a = backend.from_host(np.ones((2, 2)))
    clock = backend._device_clock
    monkeypatch.setattr(clock, "_spin", lambda seconds: None)
    took = backend.device_time(lambda: cupy.add(a, a, out=a), 50)
    assert took.seconds == pytest.approx(50 * LAUNCH_S + KERNEL_S)
    assert took.starved


def test_device_that_runs_dry_is_reported(backend, cupy):
    """A call that needs a millisecond of the host for microseconds of the device starves it, however long the spin."""
    a = backend.from_host(np.ones((2, 2)))

    def slow_launch():
        cupy._gpu.clock.advance(1e-3)
        cupy.add(a, a, out=a)

    for _ in range(3):
        took = backend.device_time(slow_launch, 50)
    assert took.starved


def test_busy_device_did_not_starve_though_the_spin_was_short(backend, cupy):
    """The first estimate of queueing is too low here, but the device had work all the time."""
    a = backend.from_host(np.ones((2, 2)))
    cupy._gpu.gpu().kernel_s = LONG_S

    def ten_kernels():
        for _ in range(10):
            cupy.add(a, a, out=a)

    backend._device_clock._queue_s = 0.0
    took = backend.device_time(ten_kernels, 3)
    assert not took.starved
    assert took.seconds == pytest.approx(30 * LONG_S, rel=0.01)


def test_a_full_queue_is_not_a_starved_device(backend, cupy):
    """The host waits for a place in the queue: it is slow only because the device is never idle."""
    gpu = cupy._gpu.gpu()

    def launches():
        for _ in range(3000):
            cupy._gpu.clock.advance(LAUNCH_S)
            gpu.queue(lambda: None, 2 * LAUNCH_S)

    for calls in (1, 3, 40):  # up to 2.4 s, of which the backlog is 20 ms
        took = backend.device_time(launches, calls)
        assert took.seconds == pytest.approx(calls * 3000 * 2 * LAUNCH_S, rel=1e-3)
        assert not took.starved


def test_a_device_that_idles_before_a_long_last_kernel_is_found_out_in_the_first_block(backend, cupy):
    """The spin is still too short, and 50 us of work outlast the host: less than a twentieth of the gaps."""

    def gaps():
        for _ in range(10):
            cupy._gpu.clock.advance(1e-3)
            cupy._gpu.gpu().queue(lambda: None, 50e-6)

    assert backend.device_time(gaps, 1).starved


def test_peak_memory_counts_an_array_that_was_freed(backend, cupy):
    backend.reset_peak_memory()
    assert backend.memory().peak == 0
    a = backend.from_host(np.ones(10_000, np.float32))
    del a
    memory = backend.memory()
    assert memory.peak == 40_448  # 40 000 B in blocks of 512
    assert memory.free == cupy._gpu.MEMORY_B
    backend.free()
    assert backend.memory().peak == 0


def test_out_of_memory_is_told_from_other_errors(backend, cupy):
    with pytest.raises(MemoryError) as caught:
        backend.from_host(np.broadcast_to(np.float64(1), cupy._gpu.MEMORY_B))
    assert backend.is_out_of_memory(caught.value)
    assert backend.is_out_of_memory(RuntimeError("cudaErrorMemoryAllocation: out of memory"))
    assert backend.is_out_of_memory(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"))
    assert not backend.is_out_of_memory(RuntimeError("cudaErrorIllegalAddress"))


def test_tf32_rounds_products_and_ieee_does_not(backend, cupy):
    rng = np.random.default_rng(0)
    host = rng.standard_normal((64, 64)).astype(np.float32)
    exact = host.astype(np.float64) @ host
    a = backend.from_host(host)
    errors = {}
    for precision in ("tf32", "ieee"):
        backend.set_precision(precision)
        errors[precision] = np.linalg.norm(backend.to_host(a @ a) - exact) / np.linalg.norm(exact)
    assert errors["ieee"] < 1e-6
    assert 1e-4 < errors["tf32"] < 1e-3


@pytest.mark.parametrize(
    ("dtype", "precision", "words"),
    [
        ("float32", "ieee", None),
        ("float64", "ieee", None),
        ("int8", "ieee", None),
        ("float32", "tf32", None),
        ("float64", "tf32", "float32 products"),
        ("float8_e4m3fn", "ieee", "has no float8_e4m3fn"),
        ("float32", "bf16x3", "not bf16x3"),
    ],
)
def test_unsupported_formats_have_a_reason(backend, dtype, precision, words):
    why = backend.why_unsupported(dtype, precision)
    assert why is None if words is None else words in why


def test_a_type_that_another_package_registers_with_numpy_is_not_cupys(backend):
    """Importing ml_dtypes, which bfloat16 needs, makes NumPy know the names of its float8 types."""

    class Registered:
        isbuiltin = 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench_core.backends.numpy.np.dtype", lambda name: Registered())
        assert "has no float8_e4m3fn" in backend.why_unsupported("float8_e4m3fn", "ieee")


def test_tf32_needs_ampere(backend, cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.Device, "compute_capability", "75")
    assert "8.0, Stand-in GPU has 7.5" in backend.why_unsupported("float32", "tf32")


@pytest.mark.parametrize(
    ("version", "runtime", "installed", "words"),
    [
        ("14.2.0", 13000, True, None),
        ("13.6.0", 13000, True, "version 14.0 or newer is needed"),
        ("14.2.0", 12010, True, "CUDA 12.2"),
        ("14.2.0", 13000, False, "ml_dtypes"),
    ],
)
def test_bfloat16_depends_on_three_versions(backend, cupy, monkeypatch, version, runtime, installed, words):
    backend.version = version
    monkeypatch.setattr(cupy.cuda.runtime, "runtimeGetVersion", lambda: runtime)
    monkeypatch.setattr(module, "find_spec", lambda name: object() if installed else None)
    why = backend.why_unsupported("bfloat16", "ieee")
    assert why is None if words is None else words in why


def test_facts_name_their_source_and_hold_no_uuid(backend):
    facts = backend.facts()
    assert facts["cuda.cublas"] == Fact("13.0.2", "cublasGetVersion")
    assert facts["cuda.runtime"].value == "13.0"
    assert facts["gpu.compute_capability"].value == "9.0"
    assert all(fact.source for fact in facts.values())
    assert "01020304" not in str(facts)
    assert (backend.library, backend.device_name) == ("cuBLAS 13.0.2", "Stand-in GPU")


@pytest.mark.parametrize(
    ("raw", "uuid"),
    [
        (bytes(range(1, 17)), "GPU-0102030405060708090a0b0c0d0e0f10"),
        (bytes(range(1, 17)) + b"more", "GPU-0102030405060708090a0b0c0d0e0f10"),
        (b"\x01\x02", "GPU-0102"),
        (b"", None),
    ],
)
def test_uuid_survives_being_read_as_a_c_string(backend, cupy, monkeypatch, raw, uuid):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda index: {"uuid": raw})
    assert backend.device_uuid == uuid


def test_several_devices_have_addresses():
    with standin.cupy_module(gpus=2) as cupy:
        assert CupyBackend.devices() == ("cuda:0", "cuda:1")
        CupyBackend("cuda:1").from_host(np.ones(128))
        assert [gpu.pool.held for gpu in cupy._gpu.gpus] == [0, 1024]
        with pytest.raises(Unavailable, match="no device 'cuda:2'"):
            CupyBackend("cuda:2")


def test_no_device_is_a_reason(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with (
        standin.cupy_module(gpus=0),
        pytest.raises(Unavailable, match=r"cudaErrorNoDevice.*CUDA_VISIBLE_DEVICES is empty") as caught,
    ):
        CupyBackend.devices()
    assert caught.value.code == "no_device"


def test_missing_library_is_a_reason(monkeypatch):
    module._cupy.cache_clear()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(Unavailable) as caught:
        CupyBackend.devices()
    assert caught.value.code == "not_installed"


def test_probe_finds_the_devices_of_the_stand_in_in_a_child_process():
    found = probe("cupy", environ=standin.environ(STANDIN_GPUS="2"))
    assert [(d.device, d.name, d.library) for d in found.devices] == [
        ("cuda:0", "Stand-in GPU", "cuBLAS 13.0.2"),
        ("cuda:1", "Stand-in GPU", "cuBLAS 13.0.2"),
    ]


def test_probe_finds_no_device_where_the_environment_hides_all():
    found = probe("cupy", environ=standin.environ(CUDA_VISIBLE_DEVICES=""))
    assert found.reason_code == "no_device"
    assert "CUDA_VISIBLE_DEVICES is empty" in found.reason


def test_stand_in_is_gone_after_each_test():
    assert "cupy" not in sys.modules
