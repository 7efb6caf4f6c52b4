"""What one process can know and set about the CPU it runs on: model, flags, cores, caches, threads, memory.

Everything here works without any array library and answers in microseconds after the first call.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import threadpoolctl

from bench_core.model import Fact, Facts

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def thread_environ(threads: int) -> dict[str, str]:
    """Return the variables that limit every known thread pool, to be set before any import."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def usable_cores() -> int:
    """Return how many cores this process may compute on at once: physical, in its affinity, within its quota."""
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    physical = psutil.cpu_count(logical=False) or logical
    every = psutil.cpu_count(logical=True) or logical
    # Affinity counts hyper-threads; two of them share one core's arithmetic units.
    cores = max(1, round(logical * min(1.0, physical / every)))
    quota = cpu_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def cpu_quota() -> float | None:
    """Return the cores that the control group allows, None if it sets no limit."""
    text = _read("/sys/fs/cgroup/cpu.max")
    if text:
        quota, _, period = text.partition(" ")
        return None if quota == "max" else int(quota) / int(period)
    legacy = [_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{part}_us") for part in ("quota", "period")]
    return int(legacy[0]) / int(legacy[1]) if legacy[0] and legacy[1] and int(legacy[0]) > 0 else None


def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the machine's, or less in a control group."""
    limits = [_read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    return min([psutil.virtual_memory().total, *(int(text) for text in limits if text and text.isdigit())])


@functools.cache
def cpu_model() -> Fact:
    """Return the CPU's model name as the kernel reports it."""
    if sys.platform == "linux":
        match = re.search(
            r"^(?:model name|Model Name|cpu model)\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE
        )
        if match:
            return Fact(" ".join(match[1].split()), "/proc/cpuinfo")
    name = platform.processor()
    return Fact(name, "platform.processor") if name else Fact(reason="neither /proc/cpuinfo nor platform names it")


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags, empty where the kernel lists none."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


@functools.cache
def cache_sizes() -> Mapping[int, int]:
    """Return the bytes of all data caches by level: every instance counted once."""
    instances: dict[tuple[int, str], int] = {}
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        kind, level, size, shared = (_read(index / name) for name in ("type", "level", "size", "shared_cpu_list"))
        if kind in {"Data", "Unified"} and level and size and shared:
            instances[int(level), shared] = _kibibytes(size)
    totals: dict[int, int] = {}
    for (number, _), bytes_ in instances.items():
        totals[number] = totals.get(number, 0) + bytes_
    return dict(sorted(totals.items()))


def last_level_cache() -> int | None:
    """Return the bytes of the outermost cache, all instances together; None if unknown."""
    return max(cache_sizes().items())[1] if cache_sizes() else None


def blas_library() -> str:
    """Return the BLAS loaded in this process with version, kernels and threading, or ""."""
    loaded = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    words = [(p["internal_api"], p.get("version"), p.get("architecture"), p.get("threading_layer")) for p in loaded]
    return " + ".join(" ".join(str(word) for word in pool if word) for pool in words)


def threadpool_facts() -> Facts:
    """Return every thread pool loaded in this process (kind, version, kernels, threads), without its path."""
    pools = threadpoolctl.threadpool_info()
    for pool in pools:
        pool.pop("filepath", None)
    return {"threadpools": Fact(pools, "threadpoolctl.threadpool_info")}


def peak_resident() -> int | None:
    """Return the high-water mark of this process's resident memory in bytes, None where the kernel has none."""
    match = re.search(r"^VmHWM:\s*(\d+) kB", _read("/proc/self/status") or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def reset_peak_resident() -> None:
    """Start a new high-water mark where the kernel can (Linux: writing 5 to clear_refs, see proc(5))."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _kibibytes(text: str) -> int:
    return int(text.rstrip("KMG")) * {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1], 1)


def involuntary_switches() -> int:
    """Return how often the kernel has taken a core away from a thread of this process; 0 where it does not count."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ModuleNotFoundError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def steal_seconds() -> float:
    """Return the CPU seconds that a hypervisor has taken from this machine so far; 0 where it does not say."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed for memory in this control group, or on this machine."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        if match := re.search(r"^oom_kill (\d+)", _read(path) or "", re.MULTILINE):
            return int(match[1])
    return 0
