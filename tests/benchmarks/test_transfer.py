"""Transfers and launches: right on the CuPy stand-in, refused with their reason on a CPU, counted as they say."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench_core import caches
from bench_core.backends import registry
from bench_core.errors import Unavailable, Unsupported, WrongAnswer
from bench_core.records import Case, Costs, Machine, Preset, Status
from benchmarks import bench_latency, bench_transfer
from tests.support import kernels as support

MACHINE = Machine(32 << 20, 2)
TRANSFERS = {w.name: w for w in (
    bench_transfer.HostToDevice(), bench_transfer.DeviceToHost(), bench_transfer.BothWays(), bench_transfer.OnDevice(),
)}  # fmt: skip
LATENCIES = {w.name: w for w in (
    bench_latency.EmptyCall(), bench_latency.Launch(), bench_latency.LaunchWait(), bench_latency.GraphReplay(),
)}  # fmt: skip


def first(workload):
    return next(iter(workload.works(Preset.SMOKE, MACHINE)))


@pytest.mark.parametrize("name", TRANSFERS)
def test_every_transfer_arrives_pinned_and_pageable(name):
    with support.backend("cupy") as on:
        for work in TRANSFERS[name].works(Preset.SMOKE, MACHINE):
            assert support.error_of(TRANSFERS[name], work, on) == 0.0


def test_the_check_of_both_ways_runs_what_is_timed(monkeypatch):
    """A call that copies nothing must not pass because another one, that is never timed, does its work."""
    monkeypatch.setattr(bench_transfer, "_cupy_both", lambda xp, up, down: lambda: None)
    with support.backend("cupy") as on, pytest.raises(WrongAnswer):
        support.verified(TRANSFERS["h2d_d2h"], first(TRANSFERS["h2d_d2h"]), on)


@pytest.mark.parametrize("lost", ["up", "down"])
def test_one_direction_of_both_that_copies_nothing_is_found(lost, monkeypatch):
    """Though what an earlier call has copied is still there: the second look writes rubbish over it."""
    workload = TRANSFERS["h2d_d2h"]
    both = bench_transfer._cupy_both

    def once(call):
        """Make the first call of a copy, and no other."""
        calls = []
        return lambda stream: calls.append(stream) or (call(stream) if len(calls) == 1 else None)

    def one_way(xp, up, down):
        return both(xp, once(up), down) if lost == "up" else both(xp, up, once(down))

    with support.backend("cupy") as on:
        monkeypatch.setattr(bench_transfer, "_cupy_both", one_way)
        assert support.verified(workload, first(workload), on) == 0.0
        built = support.kernel(workload, first(workload), on)
        with pytest.raises(WrongAnswer, match="wrong in the second"):
            support.before_and_after(built, workload, first(workload), on)


@pytest.mark.parametrize("name", TRANSFERS)
def test_a_transfer_of_what_is_no_longer_there_is_found(name):
    """Its source is kept apart: what is overwritten is not what is copied."""
    workload = TRANSFERS[name]
    with support.backend("cupy") as on:
        for work in workload.works(Preset.SMOKE, MACHINE):
            built, other = (support.kernel(workload, work, on) for _ in range(2))
            with pytest.raises(WrongAnswer, match="wrong in the second"):
                support.before_and_after(replace(built, inputs=other.inputs), workload, work, on)


def test_what_both_ways_returns_can_be_waited_for():
    with support.backend("cupy") as on:
        assert support.kernel(TRANSFERS["h2d_d2h"], first(TRANSFERS["h2d_d2h"]), on).run() is not None


@pytest.mark.parametrize("ordered", [True, False])
def test_both_ways_is_one_operation_of_the_current_stream(ordered, monkeypatch):
    """Its two streams wait for what came before and are waited for: else events around it time nothing of it."""
    workload = TRANSFERS["h2d_d2h"]
    with support.backend("cupy") as on:
        if not ordered:
            monkeypatch.setattr(on.xp.cuda.Stream, "wait_event", lambda self, event: None)
        work = workload.work("1mib", "float32", elements=1 << 18, memory="pinned")
        run = support.kernel(workload, work, on).run
        on.synchronize()
        start, end = on.xp.cuda.Event(), on.xp.cuda.Event()
        start.record()
        run()
        end.record()
        on.synchronize()
        took = on.xp.cuda.get_elapsed_time(start, end) * 1e-3
        assert (took > (1 << 20) / on.xp._gpu.LINK_B_S) == ordered


def test_a_device_without_streams_says_so():
    on = SimpleNamespace(xp=SimpleNamespace(mps=SimpleNamespace()), device="mps")
    with pytest.raises(Unsupported, match="no streams on mps"):
        bench_transfer._torch_both(on, None, None)


def test_a_copy_to_another_gpu_arrives():
    with support.backend("cupy", gpus=2) as on:
        assert support.error_of(bench_transfer.Peer(), first(bench_transfer.Peer()), on) == 0.0


def test_a_lone_gpu_has_no_peer():
    with support.backend("cupy") as on, pytest.raises(Unavailable, match="cuda:0 is the only cuda device"):
        support.kernel(bench_transfer.Peer(), first(bench_transfer.Peer()), on)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_cpu_has_nothing_to_transfer(library):
    workload = TRANSFERS["h2d"]
    with support.backend(library) as on:
        done = support.looked_at(workload, first(workload), on)
    assert (done.status, done.reason_code) == (Status.UNSUPPORTED, "no_transfer")
    assert "nothing to transfer" in done.reason


def test_one_byte_off_is_found():
    workload = TRANSFERS["d2h"]
    host = support.inputs(workload, first(workload))
    landed = host["x"].copy()
    landed.view(np.uint8)[77] ^= 1
    with pytest.raises(WrongAnswer):
        workload.verify(first(workload), workload.reference(first(workload), host), {"out": landed})


@pytest.mark.parametrize(("name", "times"), [("h2d", 1), ("d2h", 1), ("h2d_d2h", 2), ("d2d", 2)])
def test_a_crossing_counts_once_and_a_copy_on_the_device_twice(name, times):
    assert TRANSFERS[name].costs(first(TRANSFERS[name])).bytes == times * 64 * 1024


def test_a_copy_inside_the_device_tells_the_cache_that_holds_it_and_is_timed_singly(monkeypatch):
    workload = bench_transfer.OnDevice()
    (work,) = workload.works(Preset.SMOKE, MACHINE)
    with support.backend("cupy") as on:
        for size, flags in ((2 * 64 * 1024, ("fits_l2",)), (64 * 1024, ("near_cache",)), (16 * 1024, ())):
            monkeypatch.setattr(caches, "cache_sizes", lambda _, size=size: {2: size})
            kernel = support.kernel(workload, work, on)
            assert (kernel.flags, kernel.singly) == (flags, True)


def test_sweeps_are_long_enough_to_fit():
    for preset in (Preset.QUICK, Preset.STANDARD, Preset.FULL):
        works = [w for w in TRANSFERS["h2d"].works(preset, MACHINE) if w["memory"] == "pinned"]
        assert len(works) >= 3
        assert max(w["elements"] for w in works) >= 1000 * min(w["elements"] for w in works)


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
def test_a_call_on_one_element_is_right_everywhere(library):
    with support.backend(library) as on:
        assert support.error_of(LATENCIES["launch"], first(LATENCIES["launch"]), on) < 2e-6


@pytest.mark.parametrize("name", ["launch_synchronize", "graph_replay"])
def test_round_trips_and_graphs_are_right_on_a_gpu_and_refused_on_a_cpu(name):
    for work in LATENCIES[name].works(Preset.SMOKE, MACHINE):
        with support.backend("cupy") as on:
            assert support.error_of(LATENCIES[name], work, on) < 2e-6
        for library in ("numpy", "torch"):
            with support.backend(library) as on:
                done = support.looked_at(LATENCIES[name], work, on)
            assert (done.status, done.reason_code) == (Status.UNSUPPORTED, "no_queue")
            assert "no queue" in done.reason


@pytest.mark.parametrize(
    ("workload", "library", "device", "why"),
    [
        (LATENCIES["graph_replay"], "torch", "mps", "torch has no graphs on mps"),
        (LATENCIES["graph_replay"], "jax", "tpu:0", "jax has no graphs on tpu:0"),
        (LATENCIES["graph_replay"], "numpy", "cpu", "numpy on the CPU has no queue: a call returns when its work is"),
        (LATENCIES["launch"], "jax", "cuda:0", "every result of jax is awaited: see launch_synchronize"),
        (TRANSFERS["h2d"], "numpy", "mine:0", "h2d is not written for numpy"),
        (TRANSFERS["d2d"], "jax", "cpu", "jax on the CPU computes in host memory: nothing to transfer"),
        (bench_transfer.Peer(), "jax", "cpu", "jax on the CPU computes in host memory: nothing to transfer"),
        (bench_transfer.Peer(), "jax", "tpu:0", "a process of jax opens the device that it measures and no other"),
    ],
)
def test_what_a_device_has_no_kernel_for_is_said_before_inputs_are_made(workload, library, device, why):
    """By the name and the parts of the backend, without its library."""
    on = object.__new__(registry.load(library))
    on.device = device
    with pytest.raises(Unsupported, match=why):
        workload.require_supported(on, Case(first(workload), library, device))


@pytest.mark.parametrize("fault", ["one kernel short", "one kernel alone", "never launched again"])
def test_a_graph_that_runs_fewer_kernels_than_it_says_is_found(fault, monkeypatch):
    """Each adds b to what the one before it left, so that the result counts them."""
    workload = LATENCIES["graph_replay"]
    (work,) = (work for work in workload.works(Preset.SMOKE, MACHINE) if work["kernels"] == 64)
    chain = bench_latency._chain
    kernels = {"one kernel short": 63, "one kernel alone": 1}.get(fault, 64)
    monkeypatch.setattr(bench_latency, "_chain", lambda first, further, count: chain(first, further, kernels))
    with support.backend("cupy") as on:
        built = support.kernel(workload, work, on)
        if kernels == 64:
            built.run()
            built = replace(built, run=lambda: None)
        with pytest.raises(WrongAnswer):
            support.before_and_after(built, workload, work, on)


@pytest.mark.parametrize("kernels", bench_latency.GRAPH_SIZES)
def test_no_rounding_of_many_kernels_is_refused_and_every_missing_kernel_is(kernels):
    """Also where a and k b nearly cancel: the rounding is that of what they were before."""
    workload = LATENCIES["graph_replay"]
    work = workload.work("x", "float32", kernels=kernels)
    a, b = np.random.default_rng(0).standard_normal((2, 3000, 1)).astype(np.float32)
    b[:100] = -a[:100] / kernels * (1 + 1e-6 * np.arange(100, dtype=np.float32)[:, None])
    chain = [a]
    for _ in range(kernels):
        chain.append(chain[-1] + b)
    for i in range(len(a)):
        host = {"a": a[i], "b": b[i]}
        workload.verify(work, host, {"out": chain[-1][i]})
        with pytest.raises(WrongAnswer):
            workload.verify(work, host, {"out": chain[-2][i]})


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
def test_an_empty_call_does_nothing_claims_no_costs_and_is_not_looked_at(library):
    workload = LATENCIES["empty_call"]
    with support.backend(library) as on:
        assert support.kernel(workload, first(workload), on).run() is None
        done = support.looked_at(workload, first(workload), on)
    assert (done.status, done.rel_error, done.flags) == (Status.OK, None, ())
    assert done.costs == Costs()
