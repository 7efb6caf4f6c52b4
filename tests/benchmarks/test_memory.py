"""Every memory kernel is right on every library here, is counted as STREAM counts, and is labelled by its cache."""

import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from bench_core import caches
from bench_core.errors import WrongAnswer
from bench_core.plan.expansion import expand
from bench_core.records import Cache, Case, Fact, Limit, Machine, Preset, Target
from bench_core.results import roofline
from bench_core.results.legacy import traits_by_name
from benchmarks import bench_memory
from benchmarks.sizes import KIB, MIB
from benchmarks.threads import in_parallel
from tests.support import kernels as support
from tests.support import planned as planned_workloads

MACHINE = Machine(32 << 20, 2)
WORKLOADS = {w.name: w for w in (
    bench_memory.Copy(), bench_memory.Scale(), bench_memory.Add(), bench_memory.Triad(), bench_memory.Dot(),
    bench_memory.Sum(), bench_memory.Fill(), bench_memory.Gather(), bench_memory.Scatter(),
)}  # fmt: skip
NAMES = list(WORKLOADS)


def work_of(name, size=64 * KIB, dtype="float64", **special):
    return WORKLOADS[name].array_work(size, dtype, **special)


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_is_right_on_every_library(name, dtype, library):
    with support.backend(library) as on:
        error = support.error_of(WORKLOADS[name], work_of(name, dtype=dtype), on)
        assert error <= (1e-14 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "dot"])
def test_the_tuned_form_is_right_however_many_threads_share_it(name, threads, monkeypatch):
    monkeypatch.setattr(bench_memory, "BLOCK", 4 * KIB)
    with support.backend("numpy") as on:
        on.threads = threads
        assert support.error_of(WORKLOADS[name], work_of(name, size=100 * KIB), on, "tuned") <= 1e-14


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("elements", [1, 1023, 12_345])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "dot"])
def test_the_tuned_form_is_right_for_lengths_that_no_block_divides(name, elements, dtype, monkeypatch):
    monkeypatch.setattr(bench_memory, "BLOCK", 4 * KIB)
    monkeypatch.setattr(bench_memory, "PERIOD", 101)
    work = WORKLOADS[name].work("odd", dtype, elements=elements)
    with support.backend("numpy") as on:
        on.threads = 3
        assert support.error_of(WORKLOADS[name], work, on, "tuned") <= (1e-14 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "dot"])
def test_tuned_arrays_hold_the_numbers_of_the_default_and_begin_at_cache_lines(name, dtype, monkeypatch):
    monkeypatch.setattr(bench_memory, "PERIOD", 101)
    work = WORKLOADS[name].work("odd", dtype, elements=12_345)
    host = support.inputs(WORKLOADS[name], work)
    with support.backend("numpy") as on:
        plain = bench_memory.device_arrays(on, work, host)
    placed = bench_memory.placed_arrays(work, host, 3, 16 * 300)
    for one, other in ((getattr(plain, n), getattr(placed, n)) for n in ("a", "b", "c", "index")):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype
        assert other.ctypes.data % bench_memory.LINE == 0 or not other.size


def test_tuned_arrays_are_first_written_by_the_threads_that_compute_on_them(monkeypatch):
    wrote, computed = {}, {}

    def seen(threads, tasks, of):
        def ran(task, number):
            of[number] = threading.get_ident()
            return task()

        return in_parallel(threads, [partial(ran, task, number) for number, task in enumerate(tasks)])

    monkeypatch.setattr(bench_memory, "BLOCK", 4 * KIB)
    monkeypatch.setattr(bench_memory, "in_parallel", partial(seen, of=wrote))
    with support.backend("numpy") as on:
        on.threads = 4
        built = support.kernel(WORKLOADS["triad"], work_of("triad"), on, "tuned")
        assert built.first_touch == 4
        assert support.kernel(WORKLOADS["triad"], work_of("triad"), on).first_touch == 1
    monkeypatch.setattr(bench_memory, "in_parallel", partial(seen, of=computed))
    built.run()
    assert wrote == computed
    assert len(set(wrote.values())) == 4


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_tuned_dot_of_cupy_is_one_pass_of_cublas(dtype):
    with support.backend("cupy") as on:
        error = support.error_of(WORKLOADS["dot"], work_of("dot", dtype=dtype), on, "tuned")
        assert error <= (1e-14 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
def test_numbers_repeat_beyond_the_period_and_the_check_follows(library, monkeypatch):
    """Those of the second look too: they are written over the arrays again and again."""
    monkeypatch.setattr(bench_memory, "PERIOD", 101)
    with support.backend(library) as on:
        for name in NAMES:
            assert support.error_of(WORKLOADS[name], work_of(name), on) <= 1e-14


@pytest.mark.parametrize("name", [n for n in NAMES if n != "fill"])
def test_what_an_operation_reads_are_its_inputs(name):
    """An index too: else a call could go through memory in the order that it met first."""
    touched = bench_memory.OPERATIONS[name].touched
    with support.backend("numpy") as on:
        built = support.kernel(WORKLOADS[name], work_of(name), on)
    assert set(built.inputs) == {{"b": "b", "c": "c", "i": "index"}[letter] for letter in touched if letter != "a"}
    assert set(built.inputs) == set(support.inputs(WORKLOADS[name], work_of(name)))


def test_the_two_inputs_of_an_operation_hold_different_numbers():
    """A kernel that reads b where it should read c would pass if both held the same."""
    host = support.inputs(WORKLOADS["add"], work_of("add"))
    assert not np.array_equal(host["b"], host["c"])


def test_a_refused_kernel_fails_its_own_operation_alone(monkeypatch):
    """CuPy compiles what is asked for: one that it refuses must not take the other eight with it."""
    with support.backend("cupy") as on:
        monkeypatch.setattr(on.xp, "ElementwiseKernel", lambda *_: pytest.fail("built"))
        assert support.error_of(WORKLOADS["sum"], work_of("sum"), on) < 1e-14
        with pytest.raises(pytest.fail.Exception, match="built"):
            support.kernel(WORKLOADS["scatter"], work_of("scatter"), on)


# ---------------------------------------------------------------- planted errors


def planted(name, spoil, dtype="float64"):
    workload, work = WORKLOADS[name], work_of(name, dtype=dtype)
    host, expected = support.sampled(workload, work)
    with support.backend("numpy") as on:
        out = support.answer(support.kernel(workload, work, on, host=host), on)["out"]
    workload.verify(work, expected, {"out": out})
    return lambda: workload.verify(work, expected, {"out": spoil(out, host)})


def off(out, where, tolerances, tolerance):
    spoilt = out.copy()
    spoilt[where] += tolerances * tolerance * np.sqrt(np.mean(out.astype(float) ** 2))
    return spoilt


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("where", [0, 4001, -1])
@pytest.mark.parametrize("name", [n for n in NAMES if n not in {"dot", "sum"}])
def test_one_element_off_by_ten_tolerances_is_found(name, where, dtype):
    tolerance = WORKLOADS[name].tolerance(work_of(name, dtype=dtype)).high
    with pytest.raises(WrongAnswer):
        planted(name, lambda out, _: off(out, where, 10, tolerance), dtype)()


@pytest.mark.parametrize("name", ["dot", "sum"])
def test_a_sum_without_its_last_term_is_found(name):
    def spoil(out, host):
        last = host["b"][-1] * (host["c"][-1] if name == "dot" else 1)
        return out - last

    with pytest.raises(WrongAnswer):
        planted(name, spoil)()


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("triad", lambda host: host["b"] + host["c"]),
        ("triad", lambda host: host["c"] + bench_memory.SCALAR * host["b"]),
        ("scale", lambda host: host["b"]),
        ("copy", lambda host: np.roll(host["b"], 1)),
        ("gather", lambda host: host["b"]),
        ("gather", lambda host: host["b"][np.argsort(host["index"])]),  # that would be the scatter
        ("scatter", lambda host: host["b"][host["index"]]),  # and that the gather
    ],
)
def test_another_operation_is_found(name, instead):
    with pytest.raises(WrongAnswer):
        planted(name, lambda _, host: instead(host))()


def kernel_of(name, run, on):
    """Return a kernel that is built like those of the suite around another body: run(arrays, honest body)."""
    work = work_of(name)
    arrays = bench_memory.device_arrays(on, work, support.inputs(WORKLOADS[name], work))
    honest = bench_memory.numpy_body(on.xp, arrays, name)
    honest()  # as an earlier call left it
    return bench_memory.finished(on, work, arrays, run(arrays, honest))


def by_heart(arrays, honest):
    known = honest()
    return lambda: known


def half(arrays):
    return bench_memory.part(arrays, work_of("copy"), 0, arrays.b.size // 2)


def stale(arrays):
    """Return the same arrays with copies of those that are read."""
    return replace(arrays, b=arrays.b.copy(), c=arrays.c.copy(), index=arrays.index.copy())


LAZY = {
    "nothing": ("copy", lambda arrays, honest: lambda: None),
    "half of it": ("copy", lambda arrays, honest: bench_memory.numpy_body(np, half(arrays), "copy")),
    "the numbers it met first": ("triad", lambda arrays, honest: bench_memory.numpy_body(np, stale(arrays), "triad")),
    "the order it met first": (
        "gather",
        lambda arrays, honest: bench_memory.numpy_body(np, replace(arrays, index=arrays.index.copy()), "gather"),
    ),
    "a sum it knows": ("sum", by_heart),
    "a constant it has written before": ("fill", lambda arrays, honest: lambda: None),
}


@pytest.mark.parametrize("what", LAZY)
def test_a_kernel_that_does_less_than_it_says_is_found_though_its_first_answer_is_right(what):
    name, run = LAZY[what]
    workload, work = WORKLOADS[name], work_of(name)
    with support.backend("numpy") as on:
        support.before_and_after(kernel_of(name, lambda arrays, honest: honest, on), workload, work, on)
        _, expected = support.sampled(workload, work)
        workload.verify(work, expected, support.answer(kernel_of(name, run, on), on))
        with pytest.raises(WrongAnswer, match="wrong in the second"):
            support.before_and_after(kernel_of(name, run, on), workload, work, on)


# ---------------------------------------------------------------- bytes, caches, plans


@pytest.mark.parametrize(
    ("name", "arrays"),
    [("copy", 2), ("scale", 2), ("add", 3), ("triad", 3), ("dot", 2), ("sum", 1), ("fill", 1)],
)
def test_bytes_are_counted_as_stream_counts_them(name, arrays):
    costs = WORKLOADS[name].costs(work_of(name, size=MIB))
    assert costs.bytes == costs.least_bytes == arrays * MIB


def test_an_index_counts_its_eight_bytes():
    assert WORKLOADS["gather"].costs(work_of("gather", size=MIB, dtype="float32")).bytes == 2 * MIB + MIB // 4 * 8


CACHES = [None, MIB, 32 * MIB, 50 * MIB, 105 * MIB + KIB, 300 * MIB, 1152 * MIB]


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("size", CACHES)
@pytest.mark.parametrize("preset", [preset for preset in Preset if preset is not Preset.HEADLINE])  # part of standard
def test_a_hot_stream_that_may_be_the_ceiling_of_memory_has_arrays_of_four_times_the_cache(
    preset, size, device, monkeypatch
):
    """Where the cache is unknown there is none; where it is known every preset but smoke has some.

    But quick takes no minutes for it: beyond 384 MiB its arrays are smaller, and flagged.
    """
    monkeypatch.setattr(caches.cpu, "cache_sizes", lambda: {1: 64 * KIB, 3: size} if size else {})
    facts = {"gpu.l2_cache": Fact(size, "a test")} if size else {}
    on = SimpleNamespace(device=device, facts=lambda: facts)
    nothing = bench_memory.Arrays(None, None, None, None)
    for workload in measuring_memory():
        machine = replace(MACHINE, last_level_cache=size or MACHINE.last_level_cache)
        works = [work for work in workload.works(preset, machine) if work.cache is Cache.HOT]
        kernels = [(work, bench_memory.finished(on, work, nothing, lambda: None)) for work in works]
        counted = [work for work, kernel in kernels if not roofline.cached(";".join(kernel.flags))]
        assert all(size and work["elements"] * np.dtype(work.dtype).itemsize >= 4 * size for work in counted)
        beyond = preset is Preset.QUICK and (size or 0) > 384 * MIB
        assert bool(counted) is bool(works and size and preset is not Preset.SMOKE and not beyond)


def measuring_memory():
    """Return all workloads that measure memory; each is one of this file, whose kernels are made by `finished`."""
    found = [workload for workload in planned_workloads.WORKLOADS if workload.traits.measures is Limit.BANDWIDTH]
    assert {workload.name for workload in found} == {"copy", "scale", "add", "triad", "dot", "sum", "fill"}
    assert all(isinstance(workload, bench_memory.Operation) for workload in found)
    return found


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_of_every_operation_is_labelled_by_the_cache(name, library, monkeypatch):
    monkeypatch.setattr(caches, "cache_sizes", lambda _: {1: MIB})
    with support.backend(library) as on:
        for implementation in WORKLOADS[name].builders(Target(library, on.dialect, on.device)):
            made = support.kernel(WORKLOADS[name], work_of(name), on, implementation)
            assert made.flags == ("fits_l1",)


@pytest.mark.parametrize("name", NAMES)
def test_traits_of_a_table_without_them_are_those_of_the_operation(name):
    assert traits_by_name("memory", name) == WORKLOADS[name].traits


def test_a_cold_pass_is_not_labelled_by_a_cache(monkeypatch):
    monkeypatch.setattr(caches, "cache_sizes", lambda _: {1: MIB})
    with support.backend("numpy") as on:
        assert support.kernel(WORKLOADS["triad"], work_of("triad"), on).flags == ("fits_l1",)
        assert support.kernel(WORKLOADS["triad"], work_of("triad", cache=Cache.COLD), on).flags == ()


def test_a_gpu_is_labelled_by_its_own_cache():
    with support.backend("cupy") as on:
        assert support.kernel(WORKLOADS["copy"], work_of("copy"), on).flags == ("fits_l2",)


def test_every_index_comes_once_and_neighbours_lie_apart():
    index = bench_memory.bijection(4 * MIB, np.random.default_rng(1))
    assert np.array_equal(np.sort(index), np.arange(4 * MIB))
    assert np.median(np.abs(np.diff(index))) > MIB / 2


def planned(name, preset, machine=MACHINE):
    targets = [Target("numpy", "array", "cpu"), Target("cupy", "array", "cuda:0"), Target("torch", "torch", "cpu")]
    return list(expand(WORKLOADS[name], preset, targets, lambda _: machine))


@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("name", NAMES)
def test_labels_tell_all_cases_apart(name, preset):
    cases = planned(name, preset)
    assert len({c.label for c in cases}) == len(cases)


def test_every_machine_has_the_fixed_size_and_a_huge_cache_adds_a_larger_one():
    small, huge = (planned("copy", Preset.STANDARD, Machine(cache, 2)) for cache in (32 * MIB, 500 * MIB))
    assert {c.work.size for c in small} == {"256MiB"}
    assert {c.work.size for c in huge} == {"256MiB", "2048MiB"}


@pytest.mark.parametrize(
    ("cache", "size", "names"),
    [
        (MIB, "256MiB", ["copy", "triad"]),
        (64 * MIB, "256MiB", ["copy", "triad"]),
        (65 * MIB, "512MiB", ["copy", "triad"]),
        (300 * MIB, "1280MiB", ["copy"]),
        (384 * MIB, "1536MiB", ["copy"]),
        (1152 * MIB, "1536MiB", ["copy"]),
    ],
)
def test_quick_has_one_size_by_the_cache_and_the_fewer_operations_the_larger_it_is(cache, size, names):
    cases = {name: planned(name, Preset.QUICK, Machine(cache, 2)) for name in NAMES}
    assert [name for name in NAMES if cases[name]] == names
    assert {case.work.size for each in cases.values() for case in each} == {size}


def test_the_tuned_form_is_numpys_alone():
    assert {c.backend for c in planned("triad", Preset.FULL) if c.implementation == "tuned"} == {"numpy"}


def test_the_tuned_dot_product_is_cupys_alone():
    assert {c.backend for c in planned("dot", Preset.FULL) if c.implementation == "tuned"} == {"cupy"}


def test_the_ladder_goes_from_l1_to_beyond_the_caches_hot_and_cold():
    works = {c.work for c in planned("triad", Preset.FULL)}
    hot = {w["elements"] * 8 for w in works if w.cache is Cache.HOT and w.dtype == "float64"}
    cold = {w["elements"] * 8 for w in works if w.cache is Cache.COLD}
    assert min(hot) == 4 * KIB
    assert max(hot) >= 4 * MACHINE.last_level_cache
    assert cold == {MIB << step for step in range(5)}


def test_cold_and_hot_are_different_works():
    hot, cold = work_of("triad"), work_of("triad", cache=Cache.COLD)
    assert hot.case_id != cold.case_id
    assert Case(cold, "numpy", "cpu").label != Case(hot, "numpy", "cpu").label
    assert replace(cold, cache=Cache.HOT) == hot
