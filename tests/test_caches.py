"""What fits a cache is flagged by the first that holds it, so that its rate does not pass for memory's."""

import pytest

from bench_core import caches
from bench_core.workload import Kernel
from benchmarks.sizes import KIB, MIB
from tests.support import kernels as support

SIZES = {1: 96 * KIB, 2: 2 * MIB, 3: 32 * MIB}


@pytest.mark.parametrize(
    ("array", "flag"),
    [(4 * KIB, "fits_l1"), (256 * KIB, "fits_l2"), (4 * MIB, "fits_l3"), (64 * MIB, "near_cache"), (128 * MIB, None)],
)
def test_three_arrays_are_flagged_by_the_cache_that_holds_them(array, flag):
    assert caches.cache_flags(3 * array, array, SIZES) == ((flag,) if flag else ())


@pytest.mark.parametrize("array", [4 * KIB, 1024 * MIB])
def test_where_caches_are_unknown_the_arrays_of_any_size_say_so(array):
    assert caches.cache_flags(array, array, {}) == ("cache_unknown",)


@pytest.mark.parametrize(("sizes", "flags"), [({2: 1000}, ()), ({}, ("cache_unknown",))])
def test_a_cold_kernel_is_flagged_only_if_its_buffers_evict_a_cache_of_unknown_size(monkeypatch, sizes, flags):
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: sizes)
    assert caches.flagged_cold(Kernel(lambda: None, flags=("odd",)), None).flags == ("odd", *flags)


def test_a_gpu_tells_its_l2():
    with support.backend("cupy") as on:
        assert caches.cache_sizes(on) == {2: 1024**2}


def test_flags_join_those_that_a_kernel_has(monkeypatch):
    monkeypatch.setattr(caches, "cache_sizes", lambda backend: {2: 1000})
    kernel = Kernel(lambda: None, flags=("odd",))
    assert caches.flagged(kernel, None, 1000).flags == ("odd", "fits_l2")
    assert caches.flagged(kernel, None, 1001).flags == ("odd", "near_cache")
    assert caches.flagged(kernel, None, 9000, largest=4000).flags == ("odd",)
    assert caches.flagged(kernel, None, None) is kernel
