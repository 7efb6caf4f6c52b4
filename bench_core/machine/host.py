"""The computer that this process runs on: caches, threads, clocks, memory in use, and signs of other load.

No function needs an array library, and none raises where the system does not tell something.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import platform
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import threadpoolctl

from bench_core.machine import allotment, kernel_files, processor
from bench_core.machine.facts import BARE_METAL, HYPERVISORS, NO_CONTAINER, UNKNOWN_MAKE
from bench_core.machine.kernel_files import asked, matching, read, read_number, why_unread
from bench_core.records import Fact, Facts

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


_DMI = "/sys/class/dmi/id"
_BARE_INSTANCE = re.compile(r"Amazon EC2 .*\.metal\b")
_BIOS = r"HARDWARE\DESCRIPTION\System\BIOS"  # a key of Windows' registry
# Names by which firmware, device trees and hypervisors of virtual machines call themselves.
_VIRTUAL = re.compile(rf"{HYPERVISORS}|Amazon EC2|Google Compute Engine|linux,kvm|xen")

# Environment variables that make glibc's malloc keep freed memory (mallopt(3)); other C libraries ignore them. By
# default, a large array is new memory from the system at every allocation, and the system clears each page of it when
# it is first written. For layers that do little arithmetic, this takes longer than the layer itself.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}


def malloc_facts() -> Facts:
    """Return what this process's environment tells malloc: KEEP_MEMORY's variables, or that others may change it.

    Nothing where the C library is not glibc. The names of preloaded libraries are left out: they are paths.
    """
    if platform.libc_ver()[0] != "glibc":
        return {}
    told = [f"{name}={os.environ[name]}" for name in KEEP_MEMORY if name in os.environ]
    told += [name for name in ("GLIBC_TUNABLES", "LD_PRELOAD") if os.environ.get(name)]
    return {"malloc": Fact("glibc, " + (", ".join(told) or "default"), "environment of the process")}


def thread_environ(threads: int) -> dict[str, str]:
    """Return the variables that limit every known thread pool; set them before the library is imported."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


@functools.cache
def cache_sizes() -> Mapping[int, int]:
    """Return the total size of the data caches by level, in bytes; a shared cache is counted once."""
    instances: dict[tuple[int, str], int] = {}
    for index in matching("/sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]*"):
        kind, size, shared = (read(f"{index}/{name}") for name in ("type", "size", "shared_cpu_list"))
        level = read_number(f"{index}/level")
        if kind in {"Data", "Unified"} and level and shared and re.fullmatch(r"\d+[KMG]?", size or ""):
            instances[level, shared] = processor.binary_size(str(size))
    totals: dict[int, int] = {}
    for (number, _), bytes_ in instances.items():
        totals[number] = totals.get(number, 0) + bytes_
    return dict(sorted((totals or processor.sysctl_caches()).items()))


def caches() -> Fact:
    """Return `cache_sizes` by name: {"L1": 32768, "L3": 33554432}."""
    source = "/sys/devices/system/cpu/*/cache"
    sizes = {f"L{level}": size for level, size in cache_sizes().items()}
    return Fact(sizes, "sysctl" if processor.sysctl_caches() else source) if sizes else Fact(reason=f"no {source}")


def last_level_cache() -> int | None:
    """Return the total size of the last-level caches, in bytes; None if unknown."""
    return max(cache_sizes().items())[1] if cache_sizes() else None


def sockets() -> Fact:
    """Return the number of processor packages."""
    source = "/sys/devices/system/cpu/cpu*/topology/physical_package_id"
    packages = {read(path) for path in matching(source)}
    return Fact(len(packages), source) if packages else Fact(reason=f"no {source}")


def numa_nodes() -> Fact:
    """Return the number of NUMA nodes."""
    source = "/sys/devices/system/node/node*"
    nodes = len(matching("/sys/devices/system/node/node[0-9]*"))
    return Fact(nodes, source) if nodes else Fact(reason=f"no {source}")


def memory_nodes() -> Fact:
    """Return the memory of each NUMA node: a list of its number (`node`), its `bytes` and its `cpus`, as "0-3,8".

    A node without CPUs is memory of another kind: HBM beside DRAM, or an expander on CXL.
    """
    source = "/sys/devices/system/node/node*/meminfo"
    found = [
        {"node": node, "bytes": size, "cpus": read(f"/sys/devices/system/node/node{node}/cpulist") or ""}
        for node, size in sorted(allotment.node_sizes().items())
    ]
    return Fact(found, source) if found else Fact(reason=f"no {source}")


def has_memory_side_cache() -> bool:
    """Whether faster memory may be a cache of main memory, as on a Xeon Max; not all firmware reports it."""
    return bool(matching("/sys/devices/system/node/node*/memory_side_cache")) or "CPU Max" in str(
        processor.model().value
    )


def governor() -> Fact:
    """Return the frequency governors in use, joined by commas; no value if a hypervisor controls the clock."""
    return _of_every_core("scaling_governor")


def scaling_driver() -> Fact:
    """Return the drivers that set the clock of the cores, joined by commas."""
    return _of_every_core("scaling_driver")


def boost() -> Fact:
    """Return whether cores may run above their nominal clock."""
    for path, on in (
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", "0"),
        ("/sys/devices/system/cpu/cpufreq/boost", "1"),
    ):
        if (text := read(path)) is not None:
            return Fact(text == on, path)
    return Fact(reason="the kernel does not report it")


def highest_frequency() -> Fact:
    """Return the highest clock that a core of this machine can reach, in Hz; no value if the kernel does not know it.

    These drivers report the nominal clock, above which cores boost; other drivers include the boost
    (https://docs.kernel.org/admin-guide/pm/cpufreq.html).
    """
    source = "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq"
    reached = [kilohertz * 1e3 for path in matching(source) if (kilohertz := read_number(path))]
    nominal = set(str(scaling_driver().value).split(",")) & {"acpi-cpufreq", "pcc-cpufreq", "cppc_cpufreq"}
    if not reached:
        return Fact(reason=f"no {source}")
    if nominal and boost().value is not False:
        return Fact(reason=f"{', '.join(sorted(nominal))} reports the clock without boost")
    now = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", read("/proc/cpuinfo") or "", re.MULTILINE)
    return Fact(max([*reached, *(float(megahertz) * 1e6 for megahertz in now)]), f"{source}, /proc/cpuinfo")


def vector_length() -> int | None:
    """Return the length of an SVE register of new processes, in bytes; None if the kernel does not report it."""
    return read_number("/proc/sys/abi/sve_default_vector_length")


def kernel_setting(path: str) -> Fact:
    """Return the value in a kernel file; if it lists several choices, the one in brackets."""
    text = read(path)
    chosen = re.search(r"\[(\S+)\]", text or "")
    return Fact(chosen[1] if chosen else text, path) if text else Fact(reason=why_unread(path))


def container() -> Fact:
    """Return the kind of container that this process runs in, "none" if this is Linux and none is detected."""
    for path, kind in (
        ("/.dockerenv", "docker"),
        ("/run/.containerenv", "podman"),
        ("/.singularity.d", "apptainer"),
    ):
        if kernel_files.exists(path):
            return Fact(kind, path)
    for variable, kind in (("KUBERNETES_SERVICE_HOST", "kubepods"), ("container", os.environ.get("container", ""))):  # noqa: SIM112 - systemd's, in lower case
        if variable in os.environ and re.fullmatch(r"[\w-]{1,40}", kind):
            return Fact(kind, f"the variable {variable}")
    if (text := read("/proc/1/cgroup")) is None:
        return Fact(reason=f"{why_unread('/proc/1/cgroup')}, and nothing else tells")
    named = re.search(r"(docker|kubepods|libpod|lxc|containerd|garden)", text)
    return Fact(named[1] if named else NO_CONTAINER, "/proc/1/cgroup, /.dockerenv, /run/.containerenv")


def virtual_machine() -> Fact:
    """Return the maker of the virtual machine that this process runs in, "none" on bare metal.

    Only x86 CPUs show whether they are virtual. Elsewhere a maker of virtual machines is named, or it is unknown.
    Instances of Amazon EC2 whose type ends in .metal are none.
    """
    maker, product = "/sys/class/dmi/id/sys_vendor", processor.product()
    if {"hypervisor", "sse2", "fpu"} & processor.flags():
        if "hypervisor" not in processor.flags():
            return Fact(BARE_METAL, "/proc/cpuinfo: flags")
        return Fact(read(maker) or UNKNOWN_MAKE, maker)
    if (virtual := processor.sysctl().get("kern.hv_vmm_present", "")) in {"0", "1"}:
        return Fact(UNKNOWN_MAKE if virtual == "1" else BARE_METAL, "sysctl kern.hv_vmm_present")
    windows = (processor.registry(_BIOS, f"System{name}") for name in ("Manufacturer", "ProductName"))
    if _BARE_INSTANCE.search(product):
        return Fact(BARE_METAL, _DMI)
    told = {
        _DMI: product,
        "/proc/device-tree/model": read("/proc/device-tree/model"),
        "/proc/device-tree/hypervisor/compatible": read("/proc/device-tree/hypervisor/compatible"),
        "/sys/hypervisor/type": read("/sys/hypervisor/type"),
        "/proc/sysinfo": (re.findall(r"VM00 Control Program:\s*(\S+)", read("/proc/sysinfo") or "") or [None])[0],
        "the registry": " ".join(windows),
    }
    for source, text in told.items():
        if found := _VIRTUAL.search(text or ""):
            return Fact(found[0], source)
    return Fact(reason="this system does not tell: only x86 CPUs show it in /proc/cpuinfo")


def _of_every_core(name: str) -> Fact:
    source = f"/sys/devices/system/cpu/cpu*/cpufreq/{name}"
    words = {text for path in matching(source) if (text := read(path))}
    return Fact(",".join(sorted(words)), source) if words else Fact(reason=f"no {source}")


def blas_library() -> str:
    """Return the BLAS libraries loaded in this process, with version, kernels and threading layer; "" if none is.

    They are sorted, as in `threadpool_facts`.
    """
    loaded = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    words = [(p["internal_api"], p.get("version"), p.get("architecture"), p.get("threading_layer")) for p in loaded]
    return " + ".join(sorted(" ".join(str(word) for word in pool if word) for pool in words))


def threadpool_facts() -> Facts:
    """Return the thread pools loaded in this process (kind, version, kernels, threads), without their file paths.

    They are sorted: threadpoolctl lists them in the order in which they lie in memory, which differs between processes.
    """
    pools = threadpoolctl.threadpool_info()
    for pool in pools:
        pool.pop("filepath", None)
    pools.sort(key=lambda pool: json.dumps(pool, sort_keys=True))
    return {"threadpools": Fact(pools, "threadpoolctl.threadpool_info")}


class ProcessMemory:
    """The resident memory of this process: now, and its peak since `reset_peak`."""

    def __init__(self) -> None:
        self._is_peak_valid = True

    def reset_peak(self) -> None:
        """Reset the peak to the current use (Linux: writing 5 to clear_refs, see proc(5)).

        Free heap memory goes back to the system first. Otherwise work that fits into it would seem to need no memory.
        """
        _release_freed_memory()
        self._is_peak_valid = _reset_peak_resident()

    def used_and_peak(self) -> tuple[int | None, int | None]:
        """Return the memory in use and its peak, in bytes; None for both if the kernel could not reset the peak.

        The old peak would include all earlier cases.
        """
        names = ("VmRSS", "VmHWM") if self._is_peak_valid else ()
        used, peak = [allotment.memory_status(name) for name in names] or [None, None]
        return used, peak


def _release_freed_memory() -> None:
    """Return the free memory of the heap to the system (glibc: malloc_trim(3)); do nothing with other C libraries."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library, or a Python that is linked statically
            ctypes.CDLL(None).malloc_trim(0)


def _reset_peak_resident() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def involuntary_switches() -> int:
    """Return the number of involuntary context switches of this process so far; 0 if the system has no counter."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ModuleNotFoundError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def process_age() -> float:
    """Return the seconds since this process was started, by the clock of the system; 0 if that is unknown."""
    started: float | None = asked(lambda: psutil.Process().create_time(), "psutil.Process.create_time").value
    return max(0.0, time.time() - started) if started else 0.0


def cpu_times() -> Mapping[str, float]:
    """Return the seconds that all hardware threads have spent, by kind of use; empty if the system does not tell."""
    times: Mapping[str, float] | None = asked(lambda: psutil.cpu_times()._asdict(), "psutil.cpu_times").value
    return times or {}


def steal_seconds() -> float:
    """Return the CPU time that the hypervisor has taken from this machine so far, in seconds; 0 if it is not reported.

    It is the sum over all hardware threads (`allotment.logical_cpus`).
    """
    return float(cpu_times().get("steal", 0.0))


def busy_seconds() -> float:
    """Return the CPU time that all hardware threads have spent so far on any work or lost to others, in seconds."""
    times = cpu_times()
    twice = {"guest", "guest_nice"}  # they are in `user` and `nice` as well
    return sum(seconds for name, seconds in times.items() if name not in {"idle", "iowait", *twice})


def out_of_memory_kills() -> int:
    """Return how many processes the out-of-memory killer has ended in this control group, or else on this machine."""
    if (own := allotment.kills()) is not None:
        return own
    match = re.search(r"^oom_kill (\d+)", read("/proc/vmstat") or "", re.MULTILINE)
    return int(match[1]) if match else 0
