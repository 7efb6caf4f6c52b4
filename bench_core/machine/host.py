"""The computer that this process runs on: CPU, cores, caches, threads, memory, and signs of other load.

No function needs an array library. Kernel files are read below ROOT, so that a test can supply its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import threadpoolctl

from bench_core.machine.facts import BARE_METAL, UNKNOWN_MAKE
from bench_core.records import Fact, Facts
from bench_core.text import one_line

ROOT = Path("/")

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


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
def usable_cores() -> int:
    """Return the number of physical cores that this process may use, given its affinity and its quota."""
    cores, quota = allowed_cores(), cpu_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def allowed_cores() -> int:
    """Return the number of physical cores in this process's affinity, which a quota lets run for a part of the time."""
    allowed = allowed_cpus()
    # Hardware threads of one core share its arithmetic units; the kernel lists them as siblings.
    siblings = [_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in allowed]
    return len(set(siblings)) if all(siblings) else _cores_behind(len(allowed))


def allowed_cpus() -> set[int]:
    """Return the numbers of the hardware threads in this process's affinity."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(logical_cpus()))


def _cores_behind(threads: int) -> int:
    """Estimate the cores of `threads` hardware threads by the machine's ratio, if the kernel lists no siblings."""
    return max(1, round(threads * min(1.0, (psutil.cpu_count(logical=False) or threads) / logical_cpus())))


def logical_cpus() -> int:
    """Return the number of hardware threads of the machine, regardless of this process's affinity."""
    return psutil.cpu_count(logical=True) or 1


def cpu_quota() -> float | None:
    """Return the number of cores that the control groups allow; None if none sets a limit."""
    limits = []
    for text in _control_group("cpu.max"):
        quota, _, period = text.partition(" ")
        limits += [int(quota) / int(period)] if quota != "max" else []
    legacy = [_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{part}_us") for part in ("quota", "period")]
    if legacy[0] and legacy[1] and int(legacy[0]) > 0:
        limits.append(int(legacy[0]) / int(legacy[1]))
    return min(limits, default=None)


def memory_limit() -> int:
    """Return the memory that this process may use, in bytes: the machine's, or less in a control group."""
    limits = [*_control_group("memory.max"), _read("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    return min([psutil.virtual_memory().total, *(int(text) for text in limits if text and text.isdigit())])


def memory_available() -> int:
    """Return the memory that this process can still allocate, in bytes: what is free, or less in a control group."""
    left = [_left_in(folder, "memory.max", "memory.current", "inactive_file") for folder in _control_groups()]
    legacy = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    left.append(_left_in("/sys/fs/cgroup/memory", *legacy))
    return max(0, min([psutil.virtual_memory().available, *(bytes_ for bytes_ in left if bytes_ is not None)]))


def _left_in(folder: str, limit: str, used: str, cache: str) -> int | None:
    """Return the bytes left in one control group; None if it sets no limit.

    cache: the line of memory.stat with the droppable page cache. The group counts it as used, but the kernel drops it
    before it refuses an allocation.
    """
    limit_text, used_text = _read(f"{folder}/{limit}") or "", _read(f"{folder}/{used}") or ""
    if not (limit_text.isdigit() and used_text.isdigit()):
        return None
    droppable = re.search(rf"^{cache} (\d+)$", _read(f"{folder}/memory.stat") or "", re.MULTILINE)
    return int(limit_text) - int(used_text) + (int(droppable[1]) if droppable else 0)


def _control_groups() -> Iterator[str]:
    """Yield the folder of this process's control group, then those of its parents (cgroups(7), version 2)."""
    match = re.search(r"^0::(/.*)$", _read("/proc/self/cgroup") or "", re.MULTILINE)
    group = Path(match[1] if match else "/")
    for folder in (group, *group.parents):
        yield f"/sys/fs/cgroup{folder}"


def _control_group(name: str) -> Iterator[str]:
    """Yield the text of a control file in this process's group and in its parents, where the file exists."""
    for folder in _control_groups():
        if text := _read(f"{folder}/{name}"):
            yield text


@functools.cache
def cpu_model() -> Fact:
    """Return the CPU's model name as the kernel reports it."""
    if sys.platform == "linux":
        match = re.search(
            r"^(?:model name|Model Name|cpu model)\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE
        )
        if match:
            return Fact(one_line(match[1]), "/proc/cpuinfo")
    name = platform.processor()
    return Fact(name, "platform.processor") if name else Fact(reason="neither /proc/cpuinfo nor platform names it")


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags; empty if the kernel lists none."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


@functools.cache
def cache_sizes() -> Mapping[int, int]:
    """Return the total size of the data caches by level, in bytes; a shared cache is counted once."""
    instances: dict[tuple[int, str], int] = {}
    for index in _glob("sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]*"):
        kind, level, size, shared = (_read(f"{index}/{name}") for name in ("type", "level", "size", "shared_cpu_list"))
        if kind in {"Data", "Unified"} and level and size and shared:
            instances[int(level), shared] = _kibibytes(size)
    totals: dict[int, int] = {}
    for (number, _), bytes_ in instances.items():
        totals[number] = totals.get(number, 0) + bytes_
    return dict(sorted(totals.items()))


def last_level_cache() -> int | None:
    """Return the total size of the last-level caches, in bytes; None if unknown."""
    return max(cache_sizes().items())[1] if cache_sizes() else None


def sockets() -> Fact:
    """Return the number of processor packages."""
    source = "/sys/devices/system/cpu/cpu*/topology/physical_package_id"
    packages = {_read(path) for path in _glob(source[1:])}
    return Fact(len(packages), source) if packages else Fact(reason=f"no {source}")


def numa_nodes() -> Fact:
    """Return the number of NUMA nodes."""
    source = "/sys/devices/system/node/node*"
    nodes = len(_glob("sys/devices/system/node/node[0-9]*"))
    return Fact(nodes, source) if nodes else Fact(reason=f"no {source}")


def has_memory_side_cache() -> bool:
    """Whether faster memory may be a cache of main memory, as on a Xeon Max; not all firmware reports it."""
    return bool(_glob("sys/devices/system/node/node*/memory_side_cache")) or "CPU Max" in str(cpu_model().value)


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
        if (text := _read(path)) is not None:
            return Fact(text == on, path)
    return Fact(reason="the kernel does not report it")


def highest_frequency() -> Fact:
    """Return the highest clock that a core of this machine can reach, in Hz; no value if the kernel does not know it.

    These drivers report the nominal clock, above which cores boost; other drivers include the boost
    (https://docs.kernel.org/admin-guide/pm/cpufreq.html).
    """
    source = "/sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq"
    reached = [int(text) * 1e3 for path in _glob(source[1:]) if (text := _read(path) or "").isdigit()]
    nominal = set(str(scaling_driver().value).split(",")) & {"acpi-cpufreq", "pcc-cpufreq", "cppc_cpufreq"}
    if not reached:
        return Fact(reason=f"no {source}")
    if nominal and boost().value is not False:
        return Fact(reason=f"{', '.join(sorted(nominal))} reports the clock without boost")
    now = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return Fact(max([*reached, *(float(megahertz) * 1e6 for megahertz in now)]), f"{source}, /proc/cpuinfo")


def vector_length() -> int | None:
    """Return the length of an SVE register of new processes, in bytes; None if the kernel does not report it."""
    text = _read("/proc/sys/abi/sve_default_vector_length") or ""
    return int(text) if text.isdigit() else None


def kernel_setting(path: str) -> Fact:
    """Return the value in a kernel file; if it lists several choices, the one in brackets."""
    text = _read(path)
    chosen = re.search(r"\[(\S+)\]", text or "")
    return Fact(chosen[1] if chosen else text, path) if text else Fact(reason=f"no {path}")


def container() -> Fact:
    """Return the kind of container that this process runs in, "none" if none is detected."""
    named = re.search(r"(docker|kubepods|libpod|lxc|containerd|garden)", _read("/proc/1/cgroup") or "")
    for path, kind in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if (ROOT / path[1:]).exists():
            return Fact(kind, path)
    return Fact(named[1] if named else "none", "/proc/1/cgroup, /.dockerenv, /run/.containerenv")


def virtual_machine() -> Fact:
    """Return the vendor of the virtual machine that this process runs in, "none" on bare metal."""
    if not cpu_flags():
        return Fact(reason="/proc/cpuinfo lists no flags")
    if "hypervisor" not in cpu_flags():
        return Fact(BARE_METAL, "/proc/cpuinfo: flags")
    return Fact(_read("/sys/class/dmi/id/sys_vendor") or UNKNOWN_MAKE, "/sys/class/dmi/id/sys_vendor")


def _of_every_core(name: str) -> Fact:
    source = f"/sys/devices/system/cpu/cpu*/cpufreq/{name}"
    words = {text for path in _glob(source[1:]) if (text := _read(path))}
    return Fact(",".join(sorted(words)), source) if words else Fact(reason=f"no {source}")


def signal_name(number: int) -> str:
    """Return the name of a signal: "SIGKILL" for 9; "signal 40" for 40, which has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def blas_library() -> str:
    """Return the BLAS libraries loaded in this process, with version, kernels and threading layer; "" if none is."""
    loaded = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    words = [(p["internal_api"], p.get("version"), p.get("architecture"), p.get("threading_layer")) for p in loaded]
    return " + ".join(" ".join(str(word) for word in pool if word) for pool in words)


def threadpool_facts() -> Facts:
    """Return the thread pools loaded in this process (kind, version, kernels, threads), without their file paths."""
    pools = threadpoolctl.threadpool_info()
    for pool in pools:
        pool.pop("filepath", None)
    return {"threadpools": Fact(pools, "threadpoolctl.threadpool_info")}


@dataclass(frozen=True, slots=True)
class PackageEnergy:
    """The energy counter of one CPU package: its reading, and the value at which it wraps to zero, in joules."""

    joules: float
    range: float


def package_energy() -> list[PackageEnergy]:
    """Return the energy counter of each CPU package that this process may read (RAPL, on Intel and AMD)."""
    found = []
    for zone in _energy_zones():
        energy, last = (_read(f"{zone}/{name}") for name in ("energy_uj", "max_energy_range_uj"))
        if energy and last:
            found.append(PackageEnergy(int(energy) / 1e6, int(last) / 1e6))
    return found


def energy_counters() -> Fact:
    """Return the names of the packages whose energy can be read, or the reason why there are none."""
    source = "/sys/class/powercap/intel-rapl:*/energy_uj"
    if not (zones := _energy_zones()):
        return Fact(reason=f"no {source}")
    if not package_energy():
        return Fact(reason=f"{source} may be read by root only")
    return Fact([_read(f"{zone}/name") for zone in zones], source)


def _energy_zones() -> list[str]:
    """Return the folders of the package zones; subzones are parts of a package, other zones (psys) contain packages."""
    zones = [zone for zone in _glob("sys/class/powercap/intel-rapl:[0-9]*") if zone.count(":") == 1]
    return [zone for zone in zones if (_read(f"{zone}/name") or "").startswith("package")]


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
        return (_memory_status("VmRSS"), _memory_status("VmHWM")) if self._is_peak_valid else (None, None)


def _release_freed_memory() -> None:
    """Return the free memory of the heap to the system (glibc: malloc_trim(3)); do nothing with other C libraries."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _reset_peak_resident() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _memory_status(name: str) -> int | None:
    match = re.search(rf"^{name}:\s*(\d+) kB", _read("/proc/self/status") or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def read_bytes(path: str) -> bytes | None:
    """Return the contents of a kernel file; None if it cannot be read."""
    try:
        return (ROOT / path.lstrip("/")).read_bytes()
    except OSError:
        return None


def _read(path: str) -> str | None:
    """Return the text of a kernel file; None if it cannot be read."""
    found = read_bytes(path)
    return None if found is None else found.decode("utf-8", errors="replace").strip()


def _glob(pattern: str) -> list[str]:
    """Return the kernel files or folders that match a pattern, as paths for `_read`."""
    return sorted(str(Path("/") / path.relative_to(ROOT)) for path in ROOT.glob(pattern))


def _kibibytes(text: str) -> int:
    return int(text.rstrip("KMG")) * {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1], 1)


def involuntary_switches() -> int:
    """Return the number of involuntary context switches of this process so far; 0 if the system has no counter."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ModuleNotFoundError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def steal_seconds() -> float:
    """Return the CPU time that the hypervisor has taken from this machine so far, in seconds; 0 if it is not reported.

    It is the sum over all hardware threads (`logical_cpus`).
    """
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def out_of_memory_kills() -> int:
    """Return how many processes the out-of-memory killer has ended in this control group, or else on this machine."""
    for text in (*_control_group("memory.events"), _read("/proc/vmstat")):
        if match := re.search(r"^oom_kill (\d+)", text or "", re.MULTILINE):
            return int(match[1])
    return 0
