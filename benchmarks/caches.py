"""Which cache holds what a kernel touches: a bandwidth measured inside a cache must not pass for memory's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bench_core.machine import host as cpu
from bench_core.workload import Backend, Kernel


def cache_sizes(backend: Backend) -> Mapping[int, int]:
    """Return the bytes of the device's caches by level, as far as it tells. All instances of a level count together."""
    if backend.device == "cpu":
        return cpu.cache_sizes()
    l2 = backend.facts().get("gpu.l2_cache")
    return {2: int(l2.value)} if l2 and l2.value else {}


def cache_flags(touched: float, largest: float, sizes: Mapping[int, int]) -> tuple[str, ...]:
    """Return at most one flag for arrays of `touched` bytes, of which the largest has `largest`.

    `fits_l1`, `fits_l2`, ... names the first cache that holds all of them. `near_cache` says that none does, but
    that the largest array is below four times the last cache, STREAM's rule for measuring memory.
    sizes: bytes by level, as from `cache_sizes`; where it is empty nothing is claimed.
    """
    for level, size in sorted(sizes.items()):
        if touched <= size:
            return (f"fits_l{level}",)
    return ("near_cache",) if sizes and largest < 4 * max(sizes.values()) else ()


def flagged(kernel: Kernel, backend: Backend, touched: float | None, largest: float | None = None) -> Kernel:
    """Return the kernel with the `cache_flags` of its bytes; as it is where `touched` is None, of no interest.

    largest: bytes of the largest array, where there is more than one and they are known.
    """
    if touched is None:
        return kernel
    flags = cache_flags(touched, touched if largest is None else largest, cache_sizes(backend))
    return replace(kernel, flags=(*kernel.flags, *flags))
