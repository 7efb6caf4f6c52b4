"""The stand-in for CuPy refuses what CuPy refuses, works late, and otherwise computes as NumPy does."""

from __future__ import annotations

import numpy as np
import pytest

from bench_core.measure import WallTimer
from tests.standin import cupy_module


@pytest.fixture
def cupy():
    with cupy_module() as module:
        yield module


@pytest.fixture
def cupyx(cupy):
    import cupyx

    return cupyx


HOST = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(lambda cp, a: np.asarray(a), id="np.asarray"),
        pytest.param(lambda cp, a: np.linalg.norm(a), id="np.linalg.norm"),
        pytest.param(lambda cp, a: a + HOST, id="device + host"),
        pytest.param(lambda cp, a: HOST + a, id="host + device"),
        pytest.param(lambda cp, a: cp.matmul(a, HOST.T), id="matmul with host"),
        pytest.param(lambda cp, a: cp.concatenate([a, HOST]), id="host in a list"),
        pytest.param(lambda cp, a: cp.add(a, a, out=HOST.copy()), id="out on the host"),
        pytest.param(lambda cp, a: a.__setitem__(0, HOST[0]), id="assign host"),
        pytest.param(lambda cp, a: cp.add(a, a, where=a > 1), id="ufunc where"),
        pytest.param(lambda cp, a: cp.sum(a, initial=0.0), id="sum initial"),
        pytest.param(lambda cp, a: cp.einsum("ij->i", a, out=a[:, 0]), id="einsum out"),
        pytest.param(lambda cp, a: cp.multiply.at(a, 0, 2), id="ufunc at"),
        pytest.param(lambda cp, a: cp.random.rand(3), id="not offered"),
        pytest.param(lambda cp, a: cp.array(["a"]), id="text"),
        pytest.param(lambda cp, a: a.astype("V1"), id="astype of one byte, as float8 is"),
        pytest.param(lambda cp, a: cp.empty(3, "V1"), id="empty of one byte, as float8 is"),
        pytest.param(lambda cp, a: a.astype(np.longdouble), id="long double"),
    ],
)
def test_refuses_what_cupy_refuses(cupy, mistake):
    with pytest.raises((TypeError, AttributeError, NotImplementedError, ValueError)):
        mistake(cupy, cupy.asarray(HOST))


@pytest.mark.parametrize(
    "compute",
    [
        pytest.param(lambda xp, a: a @ a.T, id="matmul"),
        pytest.param(lambda xp, a: 2 - a / 3, id="scalars on both sides"),
        pytest.param(lambda xp, a: xp.einsum("ij,kj->ik", a, a), id="einsum"),
        pytest.param(lambda xp, a: xp.exp(a - a.max(axis=1, keepdims=True)), id="softmax's first half"),
        pytest.param(lambda xp, a: xp.where(a > 2, xp.tanh(a), xp.log1p(a)), id="where"),
        pytest.param(lambda xp, a: xp.concatenate([a[:, 1:], a[::-1, :1]], axis=1), id="slices"),
        pytest.param(lambda xp, a: xp.take(a, xp.asarray([1, 1, 0]), axis=0), id="take"),
        pytest.param(lambda xp, a: a[xp.asarray([1, 0]), xp.asarray([2, 0])], id="index arrays"),
        pytest.param(lambda xp, a: a.reshape(3, 2).transpose(1, 0).astype("float16"), id="views"),
        pytest.param(lambda xp, a: xp.sqrt(a.var(axis=0) + 1e-5), id="variance"),
        pytest.param(lambda xp, a: a.sum(), id="zero dimensions"),
        pytest.param(lambda xp, a: np.exp(a), id="NumPy's name for it"),
    ],
)
def test_computes_as_numpy(cupy, compute):
    got, expected = compute(cupy, cupy.asarray(HOST)), np.asarray(compute(np, HOST))
    assert isinstance(got, cupy.ndarray)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(cupy.asnumpy(got), expected)


def test_in_place_work_is_seen_through_views(cupy):
    a = cupy.zeros((2, 3))
    a[1] += 2
    a[:, 0] = 7
    row = a[0]
    cupy.add(row, 1, out=row)
    np.testing.assert_array_equal(a.get(), [[8, 1, 1], [7, 2, 2]])


def test_values_are_computed_late(cupy):
    """The host array that a queued copy writes to is untouched until somebody waits."""
    target = np.zeros((2, 2), np.float32)
    a = cupy.asarray(HOST)
    (a @ a.T).get(out=target, blocking=False)
    assert not target.any()
    cupy.cuda.Device().synchronize()
    np.testing.assert_array_equal(target, HOST @ HOST.T)


def test_timing_without_synchronising_is_caught(cupy):
    """Launches alone look ten times as fast as the work."""
    a = cupy.asarray(HOST)
    out = cupy.empty((2, 2), np.float32)
    clock, device = cupy._gpu.clock, cupy.cuda.Device()
    device.synchronize()
    launched = WallTimer(lambda: None, clock.now).time(lambda: cupy.matmul(a, a.T, out=out), 10).seconds
    worked = WallTimer(device.synchronize, clock.now).time(lambda: cupy.matmul(a, a.T, out=out), 10).seconds
    assert launched == pytest.approx(10 * 10e-6)
    assert worked == pytest.approx(10e-6 + 10 * 100e-6)


def test_empty_memory_is_rubbish(cupy):
    assert np.isnan(cupy.empty(3, np.float32).get()).all()
    assert (cupy.empty(3, np.int8).get() == 127).all()


def test_asarray_copies_at_once(cupy):
    host = HOST.copy()
    a = cupy.asarray(host)
    host[:] = 0
    np.testing.assert_array_equal(a.get(), HOST)


def test_events_time_the_device(cupy):
    cuda, a = cupy.cuda, cupy.asarray(HOST)
    start, end = cuda.Event(), cuda.Event()
    start.record()
    a += 1
    a += 1
    end.record()
    assert not end.done
    with pytest.raises(RuntimeError, match="cudaErrorNotReady"):
        cuda.get_elapsed_time(start, end)
    end.synchronize()
    assert cuda.get_elapsed_time(start, end) == pytest.approx(0.21)  # 10 us until the first launch has come


def test_a_full_queue_makes_the_host_wait(cupy):
    device, clock = cupy._gpu.gpu(), cupy._gpu.clock
    for _ in range(cupy._gpu.QUEUE):
        device.queue(lambda: None, 1e-3)
    assert clock.now() == 0
    device.queue(lambda: None, 1e-3)
    assert clock.now() == 1e-3


def test_memory_is_charged_kept_and_given_back(cupy):
    pool = cupy.get_default_memory_pool()
    a = cupy.zeros((1000,), np.float32)
    view = a[:10]
    cupy.cuda.Device().synchronize()
    assert pool.used_bytes() == pool.total_bytes() == 4096
    del a
    assert view.nbytes == 40
    assert pool.used_bytes() == 4096
    del view
    assert (pool.used_bytes(), pool.total_bytes()) == (0, 4096)
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


def test_memory_runs_out(cupy):
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cupy.empty(cupy._gpu.MEMORY_B, np.float32)


def test_scatter_add_adds_twice_at_the_same_place(cupy, cupyx):
    a = cupy.zeros(3)
    cupyx.scatter_add(a, cupy.asarray([0, 0, 2]), cupy.ones(3))
    np.testing.assert_array_equal(a.get(), [2, 0, 1])


def test_elementwise_and_reduction_kernels(cupy):
    a, b = cupy.asarray(HOST), cupy.asarray(HOST + 1)
    triad = cupy.ElementwiseKernel("T b, T c, T s", "T a", "a = b + s * c", "triad")
    out = cupy.empty_like(a)
    assert triad(a, b, np.float32(0.5), out) is out
    np.testing.assert_array_equal(out.get(), HOST + 0.5 * (HOST + 1))
    norm = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "norm")
    np.testing.assert_allclose(norm(a, axis=1).get(), np.linalg.norm(HOST, axis=1), rtol=1e-6)


def test_only_products_of_matrices_are_rounded_to_tf32(cupy):
    a = cupy.asarray(np.full((2, 2), 1 + 2.0**-20, np.float32))
    cupy._core.set_compute_type(np.float32, cupy._core._routines_linalg.COMPUTE_TYPE_TF32)
    assert (a @ a).get()[0, 0] == 2.0
    assert (a[None] @ a[None]).get()[0, 0, 0] > 2.0


def test_no_parameter_of_a_kernel_is_named_as_its_loop(cupy):
    with pytest.raises(ValueError, match="Can not use 'i' as a parameter name"):
        cupy.ElementwiseKernel("T b, I i", "raw T a", "a[i] = b", "scatter")


def test_graph_runs_its_operations_when_launched(cupy):
    a, out = cupy.asarray(HOST), cupy.zeros((2, 3), np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        cupy.add(a, a, out=out)
        cupy.add(out, 1, out=out)
        graph = stream.end_capture()
    assert not out.get().any()
    graph.launch()
    np.testing.assert_array_equal(out.get(), HOST * 2 + 1)
