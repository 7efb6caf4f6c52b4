"""Both clocks, the spin, the suite's numbers beside a bare loop, energy and peak memory."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from benchmarks import bench_matmul, bench_memory, bench_transfer
from tests.gpu import claims

pytestmark = pytest.mark.gpu


def test_two_clocks_agree_on_a_call_of_10_ms(backend, held):
    once = claims.product(backend, 4096)
    times = range(max(1, round(10e-3 / claims.keep_busy(backend, once, 0.3))))
    held(claims.two_clocks(backend, lambda: [once() for _ in times]))


def test_a_bfloat16_product_takes_what_a_bare_loop_takes(backend, held):
    square, xp = bench_matmul.Square(), backend.xp
    if reason := backend.why_unsupported("bfloat16", "ieee"):
        pytest.skip(reason)
    host = np.random.default_rng(0).standard_normal((8192, 8192), np.float32)
    a, b = backend.from_host(host, "bfloat16"), backend.from_host(host[::-1].copy(), "bfloat16")
    c = xp.empty_like(a)
    work = square.product("8192", bench_matmul.BF16, 8192, 8192, 8192)
    call = lambda: xp.matmul(a, b, out=c)  # noqa: E731
    suite = claims.suite_blocks(backend, square, work)
    claims.keep_busy(backend, call, 1.0)
    held(
        claims.in_turns(f"{backend.name}: bf16 8192 product (s)", suite, lambda: claims.bare_loop(backend, call, 0.03))
    )


def test_a_copy_on_the_device_takes_what_a_bare_loop_takes(backend, held):
    copy, xp = bench_memory.Copy(), backend.xp
    work = copy.array_work(bench_memory.STANDARD_SIZE)
    a, b = (backend.from_host(np.ones(work["elements"])) for _ in range(2))
    if backend.name == "torch":
        bare = lambda: a.copy_(b)  # noqa: E731
    else:
        kernel = xp.ElementwiseKernel("T b", "T a", "a = b", "gpu_suite_copy")
        bare = lambda: kernel(b, a)  # noqa: E731
    held(
        claims.beside_bare(
            f"{backend.name}: copy of 256 MiB (s)",
            lambda: claims.suite_seconds(backend, copy, work),
            lambda: claims.bare_loop(backend, bare),
        )
    )


@pytest.mark.parametrize("seconds", [1e-3, 10e-3])
def test_the_spin_lasts_as_long_as_it_was_asked_to(backend, held, seconds):
    claims.keep_busy(backend, claims.product(backend, 1024), 0.2)
    held(claims.spin_lasts(backend, seconds))


def test_a_device_that_starves_is_reported(backend, add):
    claims.starvation_shows(backend, add)


def test_synchronize_waits_and_the_proof_of_it_can_fail(backend):
    claims.waits(backend)


@pytest.mark.parametrize("workload", [bench_transfer.HostToDevice(), bench_transfer.DeviceToHost()], ids=["h2d", "d2h"])
def test_pinned_transfers_are_no_slower_than_pageable_ones(backend, held, workload):
    calls = (claims.transfer(backend, workload, memory) for memory in ("pinned", "pageable"))
    pinned, pageable = (claims.seconds_of(backend, call) for call in calls)
    held(claims.Figure(f"{backend.name}: {workload.name} pinned / pageable (s)", pinned, pageable, 0.0, 1.05))


def test_energy_is_power_times_time(counted, held):
    call = claims.product(counted, 4096)
    for figure in claims.energy_is_power_times_time(counted, call, claims.keep_busy(counted, call, 0.2)):
        held(figure)


@pytest.mark.parametrize("library", ["torch"])
def test_peak_memory_does_not_depend_on_what_was_measured_before(library, held):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        held(fresh.submit(claims.peak_memory_stays_in_a_fresh_process, library, "cuda:0").result(timeout=120))
