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


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("a = b > 2 ? b : -b", np.where(HOST > 2, HOST, -HOST), id="a choice"),
        pytest.param("T twice = 2 * b; a = twice * twice", 4 * HOST * HOST, id="a variable"),
        pytest.param("int k = b; a = k / 2 + k % 2", HOST // 2 + HOST % 2, id="integers divide to integers"),
        pytest.param("int k = b; a = (k - 3) / 2", np.trunc((HOST - 3) / 2), id="towards zero"),
        pytest.param("T sum = T(0); for (int k = 1; k < 4; ++k) { sum += k * b; } a = sum", 6 * HOST, id="a loop"),
        pytest.param("a = b; a *= 2; a -= 1", 2 * HOST - 1, id="an output is read"),
        pytest.param("bool few = b > 1 && !(b == 3); a = few ? T(1) : T(0)", (HOST > 1) & (HOST != 3), id="logic"),
        pytest.param("// doubled\n a = b + b", 2 * HOST, id="a comment"),
        pytest.param("a = twice(Two{b, b + 1}).second", 2 * HOST + 2, id="a function of a struct"),
    ],
)
def test_a_kernel_runs_what_is_written_in_cuda(cupy, body, expected):
    preamble = "struct Two { T first, second; };"
    preamble += "__device__ Two twice(const Two& x) { T two = T(2); return Two{two * x.first, two * x.second}; }"
    kernel = cupy.ElementwiseKernel("T b", "T a", body, "kernel", preamble=preamble)
    np.testing.assert_array_equal(kernel(cupy.asarray(HOST)).get(), expected)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("a = c", id="from nowhere"),
        pytest.param("a = ", id="nothing"),
        pytest.param("a = b b", id="no operator"),
        pytest.param("const T k = b; k += 1; a = k", id="to a constant"),
        pytest.param("i = 1; a = b", id="to the loop's index"),
        pytest.param("a = b[0]", id="an element of one that is not raw"),
        pytest.param("a = expp(b)", id="an unknown function"),
        pytest.param("while (b > 0) { a = b; }", id="a loop that is unknown here"),
        pytest.param("unsigned k = b; a = k", id="a type that is unknown here"),
    ],
)
def test_what_is_no_cuda_or_unknown_here_is_refused(cupy, body):
    with pytest.raises(RuntimeError, match="CompileException"):
        cupy.ElementwiseKernel("T b", "T a", body)(cupy.asarray(HOST)).get()


def test_a_literal_with_a_point_is_a_double_as_in_c(cupy):
    """A sum in double is rounded once; in float32 the small number would be lost."""
    kernel = cupy.ElementwiseKernel("T b", "T a", "a = (b + 1e-9) - b", "kernel")
    assert kernel(cupy.ones(1, np.float32)).get()[0] > 0
    assert cupy.ElementwiseKernel("T b", "T a", "a = (b + T(1e-9)) - b")(cupy.ones(1, np.float32)).get()[0] == 0


def test_several_outputs_are_returned_together_and_may_have_other_types(cupy):
    kernel = cupy.ElementwiseKernel("T b", "T a, int64 place", "a = -b; place = i * 2", "kernel")
    a, place = kernel(cupy.asarray(HOST))
    np.testing.assert_array_equal(a.get(), -HOST)
    assert (place.dtype, place.get().tolist()) == (np.int64, [[0, 2, 4], [6, 8, 10]])


def test_elements_are_added_atomically_and_out_of_bounds_is_an_error(cupy):
    kernel = cupy.ElementwiseKernel("T b, I at", "raw T a", "atomicAdd(&a[at], b)", "add")
    total = cupy.zeros(3)
    kernel(cupy.ones(4), cupy.asarray([0, 2, 2, 2]), total)
    assert total.get().tolist() == [1, 0, 3]
    kernel(cupy.ones(1), cupy.asarray([3]), total)
    with pytest.raises(IndexError, match="IllegalAddress"):
        cupy.cuda.Device().synchronize()


def test_only_the_chosen_branch_reads_its_element(cupy):
    kernel = cupy.ElementwiseKernel("raw T b", "T a", "a = i > 0 ? b[i - 1] : T(7)", "shift")
    b = cupy.asarray(HOST.ravel())
    assert kernel(b, cupy.empty_like(b)).get().tolist() == [7, 0, 1, 2, 3, 4]


SUMS = {
    "preamble": """
        struct Sums { T plain, squares; };
        __device__ Sums added(const Sums& a, const Sums& b) {
            return Sums{a.plain + b.plain, a.squares + b.squares};
        }
    """,
    "reduce_type": "Sums",
}


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_a_reduction_of_structs_writes_several_outputs(cupy, axis, keepdims):
    kernel = cupy.ReductionKernel(
        "T x, T n", "T mean, T square", "Sums{x, x * x}", "added(a, b)", "mean = a.plain / n, square = a.squares",
        "Sums{T(0), T(0)}", "sums", **SUMS,
    )  # fmt: skip
    expected = HOST.sum(axis=axis, keepdims=keepdims), (HOST * HOST).sum(axis=axis, keepdims=keepdims)
    mean, square = (cupy.empty(each.shape, np.float32) for each in expected)
    assert kernel(cupy.asarray(HOST), 2, mean, square, axis=axis, keepdims=keepdims) is mean
    np.testing.assert_allclose(mean.get(), expected[0] / 2)
    np.testing.assert_allclose(square.get(), expected[1])


def test_a_wrong_identity_of_a_reduction_shows(cupy):
    """Every thread begins with it, as on a GPU, also those that have no element."""
    right, wrong = (cupy.ReductionKernel("T x, T y", "T z", "x * y", "a + b", "z = a", identity) for identity in "01")
    a = cupy.ones(5)
    assert right(a, a).get() == 5
    assert wrong(a, a).get() != 5


@pytest.mark.parametrize(
    ("combine", "after"), [("a + b", "y = a\n"), ("a\n + b", "y = a"), ("a + b", "y = a; y += 1"), ("a + b", "x = a")]
)
def test_expressions_of_a_reduction_that_are_none_in_cupys_source_are_refused(cupy, combine, after):
    with pytest.raises(RuntimeError, match="CompileException"):
        cupy.ReductionKernel("T x, T n", "T y", "x", combine, after, "0")


@pytest.mark.parametrize(
    ("inputs", "output", "each", "after", "refused"),
    [
        ("T x", "T y", "exp(x)", "y = a", True),
        ("T in0", "T out0", "exp(in0)", "out0 = a", True),
        ("T value", "T y", "exp(value)", "y = a", False),
        ("T x, T n", "T y", "exp(x) / n", "y = a", False),
    ],
)
def test_names_that_cupy_would_rename_inside_of_words_for_cub_are_refused(cupy, inputs, output, each, after, refused):
    make = lambda: cupy.ReductionKernel(inputs, output, each, "a + b", after, "0")  # noqa: E731
    if not refused:
        make()
        return
    with pytest.raises(RuntimeError, match="CUB"):
        make()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"leading": 2}, id="rows overlap"),
        pytest.param({"compute": 70}, id="float64 sums of float32"),
        pytest.param({"count": 3}, id="more matrices than there are"),
    ],
)
def test_a_batched_product_that_cublas_would_refuse_or_that_leaves_its_memory_is_refused(cupy, arguments):
    a, c = cupy.ones((2, 3, 4), np.float32), cupy.empty((2, 3, 3), np.float32)
    given = {"leading": 4, "compute": 68, "count": 2} | arguments
    one, zero = np.float32([1]), np.float32([0])

    def multiply():
        cupy.cuda.cublas.gemmStridedBatchedEx(
            1, 1, 0, 3, 3, 4, one.ctypes.data, a.data.ptr, 0, given["leading"], 12, a.data.ptr, 0, 4, 12,
            zero.ctypes.data, c.data.ptr, 0, 3, 9, given["count"], given["compute"], -1,
        )  # fmt: skip

    with pytest.raises((RuntimeError, MemoryError), match=r"CUBLAS_STATUS|cudaError"):
        multiply()
    given |= {"leading": 4, "compute": 68, "count": 2}
    multiply()
    np.testing.assert_array_equal(c.get(), np.full((2, 3, 3), 4))


def test_launches_are_counted(cupy):
    a, gpu = cupy.zeros(3), cupy._gpu.gpu()
    before = gpu.launches
    a += 1
    assert a[:2].shape == (2,)
    assert gpu.launches - before == 1


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
