"""Flags for kernels whose arrays fit in a cache, or may do so: their bandwidth is that of the cache, not of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bench_core.machine import host as cpu
from bench_core.records import CACHE_UNKNOWN, FITS, NEAR_CACHE
from bench_core.workload import Backend, Kernel


def cache_sizes(backend: Backend) -> Mapping[int, int]:
    """Return the sizes of the device's caches in bytes by level, as far as known; a level is the sum of its caches."""
    if backend.device == "cpu":
        return cpu.cache_sizes()
    l2 = backend.facts().get("gpu.l2_cache")
    return {2: int(l2.value)} if l2 and l2.value else {}


def cache_flags(touched: float, largest: float, sizes: Mapping[int, int]) -> tuple[str, ...]:
    """Return at most one flag for arrays of `touched` bytes in total, the largest of which has `largest` bytes.

    `fits_l1`, `fits_l2`, ...: the lowest cache level that holds all arrays. `near_cache`: no level holds them, but the
    largest array is smaller than four times the last-level cache, which is STREAM's lower limit for measuring memory.
    sizes: bytes by level, as from `cache_sizes`; if it is empty, the flag is `cache_unknown`. So arrays of a hot kernel
    without a flag are known to lie in main memory.
    """
    if not sizes:
        return (CACHE_UNKNOWN,)
    for level, size in sorted(sizes.items()):
        if touched <= size:
            return (f"{FITS}l{level}",)
    return (NEAR_CACHE,) if largest < 4 * max(sizes.values()) else ()


def flagged(kernel: Kernel, backend: Backend, touched: float | None, largest: float | None = None) -> Kernel:
    """Return the kernel with the `cache_flags` of its bytes; unchanged if `touched` is None (not memory-bound).

    touched: bytes of all arrays. largest: bytes of the largest array; default: `touched`.
    """
    if touched is None:
        return kernel
    flags = cache_flags(touched, touched if largest is None else largest, cache_sizes(backend))
    return replace(kernel, flags=(*kernel.flags, *flags))


def flagged_cold(kernel: Kernel, backend: Backend) -> Kernel:
    """Return the kernel of a cold case, flagged `cache_unknown` if its buffers evict a cache of unknown size."""
    return kernel if cache_sizes(backend) else replace(kernel, flags=(*kernel.flags, CACHE_UNKNOWN))
