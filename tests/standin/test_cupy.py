"""The stand-in for CuPy refuses what CuPy refuses, works late, and otherwise computes as NumPy does."""

from __future__ import annotations

import numpy as np
import pytest

from bench_core.timing.sampling import WallTimer
from tests.standin.cupy_cases import COMPUTATIONS, HOST, MISTAKES
from tests.standin.install import cupy_module


@pytest.fixture
def cupy():
    with cupy_module() as module:
        yield module


@pytest.fixture
def cupyx(cupy):
    import cupyx

    return cupyx


LAUNCH_S, KERNEL_S = 8e-6, 3e-6  # the stand-in's, see tests/standin/site/cupy/_gpu.py


@pytest.mark.parametrize("mistake", MISTAKES)
def test_refuses_what_cupy_refuses(cupy, mistake):
    with pytest.raises((TypeError, AttributeError, NotImplementedError, ValueError)):
        mistake(cupy, cupy.asarray(HOST))


@pytest.mark.parametrize("compute", COMPUTATIONS)
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


def test_values_are_computed_late(cupy, cupyx):
    """The pinned host array that a queued copy writes to is untouched until somebody waits."""
    target = cupyx.zeros_pinned((2, 2), np.float32)
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
    cupy._gpu.gpu().kernel_s = 100e-6
    device.synchronize()
    launched = WallTimer(lambda: None, clock.now).time(lambda: cupy.matmul(a, a.T, out=out), 10).seconds
    worked = WallTimer(device.synchronize, clock.now).time(lambda: cupy.matmul(a, a.T, out=out), 10).seconds
    assert launched == pytest.approx(10 * LAUNCH_S)
    assert worked == pytest.approx(LAUNCH_S + 10 * 100e-6)


def test_small_kernels_leave_the_device_idle_between_launches(cupy):
    a = cupy.asarray(HOST)
    clock, device = cupy._gpu.clock, cupy.cuda.Device()
    worked = WallTimer(device.synchronize, clock.now).time(lambda: cupy.add(a, a, out=a), 10).seconds
    assert worked == pytest.approx(10 * LAUNCH_S + KERNEL_S)


def test_empty_memory_is_rubbish(cupy):
    assert np.isnan(cupy.empty(3, np.float32).get()).all()
    assert (cupy.empty(3, np.int8).get() == 127).all()


def test_bfloat16_starts_as_rubbish_and_computes_like_other_floats(cupy):
    """NumPy says that it is of kind "V", as bytes without a meaning are."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert np.isnan(cupy.empty(3, bfloat16).get().astype(np.float32)).all()
    assert np.isnan(cupy.empty_like(cupy.zeros(3), bfloat16).get().astype(np.float32)).all()
    b = cupy.asarray(HOST).astype(bfloat16)
    assert cupy.ElementwiseKernel("T b, T s", "T a", "a = b * s")(b, 0.5).dtype == bfloat16
    assert (b @ b.T).dtype == bfloat16


def test_a_pageable_array_may_be_changed_as_soon_as_it_was_uploaded(cupy):
    """`array` copies it to pinned memory first, at the host's cost; the device gets it later."""
    host = HOST.copy()
    clock = cupy._gpu.clock
    a = cupy.asarray(host)
    assert clock.now() == pytest.approx(host.nbytes / cupy._gpu.STAGE_B_S + LAUNCH_S)
    host[:] = 0
    assert not cupy.cuda.Stream.null.done
    np.testing.assert_array_equal(a.get(), HOST)


@pytest.mark.parametrize(("blocking", "late"), [(False, True), (True, False)])
def test_a_pinned_array_may_not_be_changed_before_its_copy_is_done(cupy, cupyx, blocking, late):
    pinned = cupyx.empty_pinned(HOST.shape, HOST.dtype)
    pinned[...] = HOST
    a = cupy.array(pinned, blocking=blocking)
    pinned[...] = 0
    assert (a.get() == 0).all() == late


def test_a_pinned_array_may_be_changed_once_its_copy_is_done_though_nobody_asked(cupy, cupyx):
    pinned = cupyx.empty_pinned(HOST.shape, HOST.dtype)
    pinned[...] = HOST
    a = cupy.array(pinned)
    cupy._gpu.clock.advance(1e-3)
    pinned[...] = 0
    np.testing.assert_array_equal(a.get(), HOST)


def busy(cupy, seconds):
    """Keep the current stream busy."""
    cupy._gpu.gpu().queue(lambda: None, seconds)


@pytest.mark.parametrize(("memory", "waits"), [("pageable", True), ("pinned", False)])
def test_set_waits_for_the_stream_only_from_pageable_memory(cupy, cupyx, memory, waits):
    host = HOST.copy() if memory == "pageable" else cupyx.empty_pinned(HOST.shape, HOST.dtype)
    a = cupy.empty(HOST.shape, HOST.dtype)
    busy(cupy, 1e-3)
    a.set(host)
    assert (cupy._gpu.clock.now() >= 1e-3) == waits


@pytest.mark.parametrize(("memory", "waits"), [("pageable", True), ("pinned", False)])
def test_get_without_blocking_waits_only_into_pageable_memory(cupy, cupyx, memory, waits):
    a = cupy.full(HOST.shape, 7, HOST.dtype)
    host = np.zeros_like(HOST) if memory == "pageable" else cupyx.zeros_pinned(HOST.shape, HOST.dtype)
    busy(cupy, 1e-3)
    a.get(out=host, blocking=False)
    assert (cupy._gpu.clock.now() >= 1e-3) == waits
    assert (host == 7).all() == waits
    cupy.cuda.Device().synchronize()
    assert (host == 7).all()


def test_a_view_of_pinned_memory_is_pinned_and_its_neighbour_is_not(cupy, cupyx):
    pinned = cupyx.zeros_pinned(8)
    assert cupy._gpu.is_pinned(pinned[4:])
    assert not cupy._gpu.is_pinned(np.zeros(8))
    del pinned
    assert not cupy._gpu._pinned


def test_copies_take_time_by_their_bytes(cupy, cupyx):
    clock = cupy._gpu.clock
    for n in (1_000, 1_000_000):
        a, pinned = cupy.empty(n, np.uint8), cupyx.empty_pinned(n, np.uint8)
        before = clock.now()
        a.set(pinned)
        cupy.cuda.Device().synchronize()
        assert clock.now() - before == pytest.approx(LAUNCH_S + cupy._gpu.COPY_S + n / cupy._gpu.LINK_B_S)


def test_targets_of_another_shape_or_type_are_refused(cupy):
    a = cupy.asarray(HOST)
    for wrong in (np.zeros(6, np.float32), np.zeros((2, 3))):
        with pytest.raises((TypeError, ValueError)):
            a.get(out=wrong)
        with pytest.raises((TypeError, ValueError)):
            a.set(wrong)


def test_events_time_the_device(cupy):
    cuda, a = cupy.cuda, cupy.asarray(HOST)
    cuda.Device().synchronize()
    start, end = cuda.Event(), cuda.Event()
    start.record()
    a += 1
    a += 1
    end.record()
    assert not end.done
    with pytest.raises(RuntimeError, match="cudaErrorNotReady"):
        cuda.get_elapsed_time(start, end)
    end.synchronize()
    # From the idle device on: it starves until the second launch has come.
    assert cuda.get_elapsed_time(start, end) == pytest.approx((2 * LAUNCH_S + KERNEL_S) * 1e3)


def test_an_event_that_cannot_time_has_no_time(cupy):
    events = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
    for event in events:
        event.record()
    with pytest.raises(RuntimeError, match="cudaErrorInvalidResourceHandle"):
        cupy.cuda.get_elapsed_time(*events)


def test_a_full_queue_makes_the_host_wait(cupy):
    device, clock = cupy._gpu.gpu(), cupy._gpu.clock
    for _ in range(1024):
        device.queue(lambda: None, 1e-3)
    assert clock.now() == 0
    device.queue(lambda: None, 1e-3)
    assert clock.now() == 1e-3


def test_each_stream_has_a_queue_of_its_own(cupy):
    clock, stream = cupy._gpu.clock, cupy.cuda.Stream(non_blocking=True)
    for _ in range(1024):
        busy(cupy, 1e-3)
    with stream:
        busy(cupy, 1e-3)
    assert clock.now() == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_streams_are_ordered_by_events_alone(cupy, ordered):
    """Without `wait_event` the second stream reads what the first one has not written yet, and is done too early."""
    first, second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    a, b = cupy.zeros(3), cupy.zeros(3)
    cupy.cuda.Device().synchronize()
    cupy._gpu.gpu().kernel_s = 1e-3
    with first:
        a += 1
    if ordered:
        second.wait_event(first.record())
    cupy._gpu.gpu().kernel_s = KERNEL_S
    with second:
        cupy.copyto(b, a)
    begin = cupy._gpu.clock.now()
    second.synchronize()
    assert (cupy._gpu.clock.now() - begin > 0.5e-3) == ordered
    assert b.get().tolist() == ([1, 1, 1] if ordered else [0, 0, 0])


def test_a_result_that_another_stream_has_yet_to_make_is_an_error(cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    a = cupy.zeros(3)
    cupy.cuda.Device().synchronize()
    cupy._gpu.gpu().kernel_s = 1e-3
    made = a + 1
    cupy._gpu.gpu().kernel_s = KERNEL_S
    with stream:
        cupy.copyto(a, made)
    with pytest.raises(RuntimeError, match="another stream that nothing orders"):
        stream.synchronize()


@pytest.mark.parametrize(("non_blocking", "waits"), [(False, True), (True, False)])
def test_only_blocking_streams_and_the_null_stream_wait_for_each_other(cupy, non_blocking, waits):
    stream = cupy.cuda.Stream(non_blocking=non_blocking)
    busy(cupy, 1e-3)
    with stream:
        busy(cupy, 1e-3)
    stream.synchronize()
    assert cupy._gpu.clock.now() == pytest.approx(2e-3 if waits else 1e-3)


def test_the_device_waits_for_all_of_its_streams(cupy):
    for seconds in (1e-3, 3e-3, 2e-3):
        with cupy.cuda.Stream(non_blocking=True):
            busy(cupy, seconds)
    cupy.cuda.Device().synchronize()
    assert cupy._gpu.clock.now() == pytest.approx(3e-3)


def test_the_current_stream_is_the_innermost(cupy):
    outer, inner = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    with outer:
        with inner:
            busy(cupy, 1e-3)
        assert not inner.done
        assert outer.done
        assert cupy.cuda.get_current_stream().done
    assert cupy.cuda.get_current_stream() is cupy.cuda.Stream.null


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


def test_an_array_larger_than_the_memory_raises_out_of_memory(cupy):
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cupy.empty(cupy._gpu.MEMORY_B, np.float32)


def test_scatter_add_adds_twice_at_the_same_place(cupy, cupyx):
    a = cupy.zeros(3)
    cupyx.scatter_add(a, cupy.asarray([0, 0, 2]), cupy.ones(3))
    np.testing.assert_array_equal(a.get(), [2, 0, 1])


def test_elementwise_and_reduction_kernels_compute_as_numpy(cupy):
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


def test_a_number_takes_the_type_that_arrays_give_to_its_letter(cupy):
    a = cupy.asarray(HOST)
    for scalar in (0.5, np.float64(0.5), 1):
        assert cupy.ElementwiseKernel("T b, T s", "T a", "a = b * s")(a, scalar).dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "output", "arguments", "error"),
    [
        pytest.param(
            "T b, T c", "T a", lambda cp, a: (a, a.astype(np.float64)), TypeError, id="two types for a letter"
        ),
        pytest.param("float64 b, T c", "T a", lambda cp, a: (a, a), TypeError, id="another type than declared"),
        pytest.param(
            "T b, T c", "T a", lambda cp, a: (a, a, a.astype("f8")), TypeError, id="an output of another type"
        ),
        pytest.param("T b, T c", "T a", lambda cp, a: (a, HOST), TypeError, id="a host array"),
        pytest.param("T b, T c", "T a", lambda cp, a: (a,), TypeError, id="too few"),
        pytest.param("T b, T c", "T a", lambda cp, a: (a, a, a[0]), ValueError, id="an output of another shape"),
        pytest.param("T b, S c", "S a", lambda cp, a: (a, 1.0), KeyError, id="a letter that only a number has"),
        pytest.param("T b, T c", "T a", lambda cp, a: (1.0, 2.0), ValueError, id="no array to loop over"),
        pytest.param(
            "raw T b, raw T c", "T a", lambda cp, a: (a, a), ValueError, id="raw arrays alone, without a size"
        ),
    ],
)
def test_a_kernel_refuses_the_types_and_shapes_that_cupy_refuses(cupy, inputs, output, arguments, error):
    kernel = cupy.ElementwiseKernel(inputs, output, "a = b + c")
    with pytest.raises(error):
        kernel(*arguments(cupy, cupy.asarray(HOST)))


def test_inputs_of_a_kernel_are_const(cupy):
    with pytest.raises(RuntimeError, match="'b' is const"):
        cupy.ElementwiseKernel("T b", "T a", "b = 1; a = b")


def test_raw_arrays_are_indexed_by_the_loop(cupy):
    a = cupy.asarray(HOST.ravel())
    reverse = cupy.ElementwiseKernel("raw T b, int64 n", "T a", "a = b[n - 1 - i]", "reverse")
    out = cupy.empty_like(a)
    np.testing.assert_array_equal(reverse(a, 6, out).get(), HOST.ravel()[::-1])


def test_layouts_are_kept_where_cupy_keeps_them(cupy):
    tall = cupy.array(np.asfortranarray(HOST))
    assert tall.flags.f_contiguous
    kept = {
        "copy of cupy": cupy.copy(tall), "astype": tall.astype(np.float64), "empty_like": cupy.empty_like(tall),
        "zeros_like": cupy.zeros_like(tall), "array of an array": cupy.array(tall),
    }  # fmt: skip
    assert {name for name, array in kept.items() if not array.flags.f_contiguous} == set()
    changed = {
        "method copy": tall.copy(),
        "ufunc": tall + tall,
        "exp": cupy.exp(tall),
        "C": cupy.array(tall, order="C"),
    }
    assert {name for name, array in changed.items() if not array.flags.c_contiguous} == set()
    assert tall.get().flags.c_contiguous
    assert tall.get(order="A").flags.f_contiguous
    strided = cupy.array(np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1))
    assert strided.flags.c_contiguous, "of a host array CuPy keeps C and F alone"


def test_a_view_that_has_to_copy_waits_for_its_turn(cupy):
    a = cupy.asarray(HOST)
    a += 1
    np.testing.assert_array_equal(a.T.reshape(-1).get(), (HOST + 1).T.ravel())


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda cp, a: cp.argmax(a, 0, keepdims=True), id="argmax keepdims"),
        pytest.param(lambda cp, a: cp.take(a, cp.asarray([0]), axis=1), id="take"),
        pytest.param(lambda cp, a: cp.concatenate(tup=[a, a]), id="by CuPy's names"),
        pytest.param(lambda cp, a: a.clip(min=1, max=2), id="clip"),
    ],
)
def test_arguments_have_cupys_names(cupy, call):
    assert isinstance(call(cupy, cupy.asarray(HOST)), cupy.ndarray)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda cp, a: cp.take(a, cp.asarray([0]), mode="wrap"), id="take mode"),
        pytest.param(lambda cp, a: cp.maximum.reduce(a), id="a reduction of another ufunc"),
        pytest.param(lambda cp, a: cp.cumsum(a, keepdims=True), id="cumsum keepdims"),
        pytest.param(lambda cp, a: a.sum(where=a), id="sum where"),
        pytest.param(lambda cp, a: cp.array(a, subok=True), id="subok"),
    ],
)
def test_arguments_that_cupy_lacks_are_refused_at_once(cupy, call):
    with pytest.raises((TypeError, NotImplementedError)):
        call(cupy, cupy.asarray(HOST))


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


def test_a_graph_takes_one_launch_and_the_time_of_its_kernels(cupy):
    a, clock = cupy.zeros(3), cupy._gpu.clock
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        for _ in range(64):
            cupy.add(a, 1, out=a)
        graph = stream.end_capture()
    cupy.cuda.Device().synchronize()
    begin = clock.now()
    graph.launch()
    cupy.cuda.Device().synchronize()
    assert clock.now() - begin == pytest.approx(LAUNCH_S + 64 * KERNEL_S)


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(lambda cp, a: cp.asarray(HOST), id="upload"),
        pytest.param(lambda cp, a: a.get(), id="download"),
        pytest.param(lambda cp, a: cp.cuda.Device().synchronize(), id="synchronize"),
    ],
)
def test_a_capture_refuses_whatever_waits(cupy, mistake):
    a, stream = cupy.zeros(3), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="captur"):
            mistake(cupy, a)


def test_only_what_the_capturing_stream_is_given_is_captured(cupy):
    a, stream = cupy.zeros(3), cupy.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    a += 1  # in the null stream
    graph = stream.end_capture()
    assert a.get().tolist() == [1, 1, 1]
    graph.launch()
    assert a.get().tolist() == [1, 1, 1]
