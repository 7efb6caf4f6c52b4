"""What this process may use of its computer: hardware threads, cores, CPU time, memory, and who sets the limit.

Asked are the affinity, the control groups of both versions (cgroups(7)) at every level, `ulimit`, and, where none of
them limits anything, the variables in which a batch system or a pod states what the job was given.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

import psutil

from bench_core.machine import kernel_files
from bench_core.machine.kernel_files import asked, read, read_number
from bench_core.records import Fact

_MOUNT = "/sys/fs/cgroup"
_GROUP = 64  # hardware threads of a processor group of Windows, at most
_UNLIMITED = 1 << 60  # bytes; version 1 and `ulimit` write "no limit" as a number above it

# Files of one control group, by version: the limits of memory, what is used, and the line of memory.stat with the
# page cache, which counts as used, but is dropped before an allocation is refused.
_MEMORY = {
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}


@dataclass(frozen=True, slots=True)
class _Job:
    """How a batch system or a pod states what a job was given.

    present: the variable that shows that this process is in such a job. cpus: variables with hardware threads, the
    narrowest first. memory, memory_per_cpu: variables with memory, in units of `unit` bytes unless they name one.
    """

    present: str
    cpus: tuple[str, ...]
    memory: tuple[str, ...] = ()
    memory_per_cpu: str = ""
    unit: int = 1


# Slurm: sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES". PBS: qsub(1). LSF: "Environment variables set for job
# execution". Grid Engine: qsub(1). A pod: the names of Kubernetes' own example of the downward API (Expose Pod
# Information to Containers Through Environment Variables), and those of JupyterHub's KubeSpawner.
_JOBS = (
    _Job("SLURM_JOB_ID", ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"), ("SLURM_MEM_PER_NODE",),
         "SLURM_MEM_PER_CPU", 1 << 20),
    _Job("PBS_JOBID", ("NCPUS", "PBS_NUM_PPN")),
    _Job("LSB_JOBID", ("LSB_DJOB_NUMPROC",)),
    _Job("SGE_ROOT", ("NSLOTS",)),
    _Job("KUBERNETES_SERVICE_HOST", ("MY_CPU_LIMIT", "CPU_LIMIT"), ("MY_MEM_LIMIT", "MEM_LIMIT")),
)  # fmt: skip
_SUFFIXES = {"m": 1e-3, "": 1.0} | {
    letter + binary: (1024.0 if binary else 1000.0) ** power
    for power, letters in enumerate(("kK", "M", "G", "T", "P"), start=1)
    for letter in letters
    for binary in ("", "i")
}


# ---------------------------------------------------------------- CPUs


def cpus() -> frozenset[int]:
    """Return the numbers of the hardware threads in this process's affinity and in its cpuset."""
    allowed: frozenset[int] = affinity().value or frozenset(range(logical_cpus()))
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        for _, text in _settings("cpuset", name):
            # A group may be listed where its file system was mounted for another one: an empty intersection is none.
            allowed = (allowed & kernel_files.numbers(text)) or allowed
    return allowed


def affinity() -> Fact:
    """Return the numbers of the hardware threads in this process's affinity: a frozenset; macOS has none.

    Windows tells it of one group of at most 64 hardware threads, or nothing if the process runs in several. Since
    Windows 11 it runs in all of them, so a machine with more has none that is known.
    """
    if hasattr(os, "sched_getaffinity"):
        return asked(lambda: frozenset(os.sched_getaffinity(0)) or None, "os.sched_getaffinity")
    source = "psutil.Process.cpu_affinity"  # Windows, FreeBSD
    if sys.platform == "win32" and logical_cpus() > _GROUP:
        return Fact(reason=f"{source} tells it of one group of {_GROUP} hardware threads")
    return asked(lambda: frozenset(psutil.Process().cpu_affinity()) or None, source)


def logical_cpus() -> int:
    """Return the number of hardware threads of the machine, regardless of this process's affinity."""
    return _count(logical=True).value or os.cpu_count() or 1


def physical_cores() -> int | None:
    """Return the number of cores of the machine; None if the system does not tell."""
    cores: int | None = _count(logical=False).value
    return cores


def _count(*, logical: bool) -> Fact:
    return asked(lambda: psutil.cpu_count(logical=logical), "psutil.cpu_count")


def quota() -> Fact:
    """Return the CPU time that control groups allow, in cores; it may be a fraction."""
    limits = []
    for version, folder in _groups("cpu"):
        if version == 2:
            spent, _, period = (read(f"{folder}/cpu.max") or "").partition(" ")
        else:
            spent, period = (read(f"{folder}/cpu.cfs_{part}_us") or "" for part in ("quota", "period"))
        if spent.isdigit() and period.isdigit() and int(spent) > 0 and int(period) > 0:
            name = "cpu.max" if version == 2 else "cpu.cfs_quota_us"
            limits.append((int(spent) / int(period), f"control group, {name}"))
    return Fact(*min(limits)) if limits else Fact(reason="no control group sets a limit")


def given() -> Fact:
    """Return the hardware threads that a batch system or a pod has given to this job, where nothing else limits it.

    That is: no control group sets a quota, and the affinity holds all hardware threads.
    """
    if quota().value is not None or len(cpus()) < logical_cpus():
        return Fact(reason="the affinity or a control group sets the limit")
    limits = [(count, name) for count, name in _job_cpus() if count < logical_cpus()]
    return Fact(*min(limits)) if limits else Fact(reason="no variable of a batch system or a pod states it")


def _job_cpus() -> Iterator[tuple[float, str]]:
    """Yield how many hardware threads the job was given, and the variable that states it."""
    for job in _jobs():
        for name in job.cpus:
            if count := _quantity(os.environ.get(name, "")):
                yield count, name
                break


@functools.cache
def usable_cores() -> int:
    """Return the number of physical cores that this process may use, given its affinity, its quota and its job."""
    limits = [allowed_cores()]
    if allowed := quota().value:
        limits.append(int(allowed))
    if threads := given().value:
        limits.append(_cores_behind(threads))
    return max(1, min(limits))


def allowed_cores() -> int:
    """Return the number of physical cores in this process's affinity, which a quota lets run for a part of the time."""
    allowed = cpus()
    # Hardware threads of one core share its arithmetic units; the kernel lists them as siblings.
    siblings = [read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in allowed]
    return len(set(siblings)) if all(siblings) else _cores_behind(len(allowed))


def share_of_cpus(part: int, parts: int, among: frozenset[int] | None = None) -> frozenset[int]:
    """Return the hardware threads of one of several equal parts of the cores in this process's affinity.

    Empty if there are fewer cores than parts. The hardware threads of a core are in one part. among: only these
    hardware threads are parted, such as those of a NUMA node; None for all.
    """
    allowed = cpus()
    cores: dict[str, list[int]] = {}
    for cpu in sorted(allowed if among is None else allowed & among):
        siblings = read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or f"{cpu}"
        cores.setdefault(siblings, []).append(cpu)
    each = len(cores) // parts
    chosen = list(cores.values())[part * each : (part + 1) * each]
    return frozenset(cpu for core in chosen for cpu in core)


def _cores_behind(threads: float) -> int:
    """Estimate the cores of `threads` hardware threads by the machine's ratio, if the kernel lists no siblings."""
    logical = logical_cpus()
    return max(1, round(threads * min(1.0, (physical_cores() or logical) / logical)))


# ---------------------------------------------------------------- memory


def total_memory() -> int | None:
    """Return the memory of the machine in bytes; None if the system does not tell."""
    told = (
        asked(lambda: psutil.virtual_memory().total, "psutil.virtual_memory"),
        asked(lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "os.sysconf"),
    )
    return next((int(fact.value) for fact in told if fact.value and fact.value > 0), None)


def free_memory() -> Fact:
    """Return the memory of the machine that is available without swapping, in bytes."""
    return asked(lambda: psutil.virtual_memory().available, "psutil.virtual_memory")


def memory() -> Fact:
    """Return the memory that this process may use in bytes, the smallest of all limits, and what sets it."""
    limits = [*_group_limits(), *_ulimits(), *_node_memory()]
    if total := total_memory():
        limits.append((total, "total memory"))
    if not any(bytes_ < (total or _UNLIMITED) for bytes_, _ in limits):
        limits += _job_memory()
    return Fact(*min(limits)) if limits else Fact(reason=f"no limit is set, {kernel_files.why_unread('/proc/meminfo')}")


def memory_limit() -> int | None:
    """Return the memory that this process may use, in bytes; None if the system does not tell."""
    limit: int | None = memory().value
    return limit


def memory_left() -> int | None:
    """Return the memory that this process can still allocate, in bytes; None if nothing tells."""
    left = [_left(version, folder) for version, folder in _groups("memory")]
    left += [limit - used for limit, used in _ulimits_and_use()]
    left.append(free_memory().value)
    known = [bytes_ for bytes_ in left if bytes_ is not None]
    return max(0, min(known)) if known else None


def _group_limits() -> Iterator[tuple[int, str]]:
    for version, folder in _groups("memory"):
        for name in _MEMORY[version][0]:
            limit = read_number(f"{folder}/{name}")
            if limit is not None and 0 <= limit < _UNLIMITED:
                yield limit, f"control group, {name}"


def _left(version: int, folder: str) -> int | None:
    """Return the bytes left in one control group; None if it sets no limit, or does not tell its use."""
    names, current, cache = _MEMORY[version]
    limits = [limit for name in names if (limit := read_number(f"{folder}/{name}")) is not None and limit < _UNLIMITED]
    used = read_number(f"{folder}/{current}")
    if not limits or used is None:
        return None
    droppable = re.search(rf"^{cache} (\d+)$", read(f"{folder}/memory.stat") or "", re.MULTILINE)
    return min(limits) - used + (int(droppable[1]) if droppable else 0)


@functools.cache  # as this process was started: a worker lowers one of them for itself
def _ulimits() -> tuple[tuple[int, str], ...]:
    """Return the limits of address space and data, in bytes, with the command that shows them."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ModuleNotFoundError:
        return ()
    found = []
    for name, shown in (("RLIMIT_AS", "ulimit -v"), ("RLIMIT_DATA", "ulimit -d")):
        with suppress(AttributeError, OSError, ValueError):
            soft = resource.getrlimit(getattr(resource, name))[0]
            if 0 <= soft < _UNLIMITED and soft != resource.RLIM_INFINITY:
                found.append((soft, shown))
    return tuple(found)


def _ulimits_and_use() -> Iterator[tuple[int, int]]:
    """Yield each limit of `ulimit`, and what this process uses of it, in bytes."""
    used = {"ulimit -v": memory_status("VmSize"), "ulimit -d": memory_status("VmData")}
    yield from ((limit, use) for limit, name in _ulimits() if (use := used[name]) is not None)


def memory_status(name: str) -> int | None:
    """Return a line of this process's status in bytes (proc(5)); None if the kernel does not tell it."""
    match = re.search(rf"^{name}:\s*(\d+) kB", read("/proc/self/status") or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def node_sizes() -> Mapping[int, int]:
    """Return the memory of each NUMA node in bytes; empty if the kernel does not report it."""
    found = {}
    for path in kernel_files.matching("/sys/devices/system/node/node[0-9]*/meminfo"):
        total = re.search(r"MemTotal:\s*(\d+) kB", read(path) or "")
        if total:
            found[int(path.split("/node")[-1].partition("/")[0])] = int(total[1]) * 1024
    return found


def _node_memory() -> Iterator[tuple[int, str]]:
    """Yield the memory of the NUMA nodes that this process may use, if it may not use all."""
    listed = re.search(r"^Mems_allowed_list:\s*(\S+)", read("/proc/self/status") or "", re.MULTILINE)
    allowed, sizes = kernel_files.numbers(listed[1]) if listed else frozenset(), node_sizes()
    if sizes.keys() & allowed and sizes.keys() - allowed:
        yield sum(size for node, size in sizes.items() if node in allowed), "cpuset, memory nodes"


def _job_memory() -> Iterator[tuple[int, str]]:
    """Yield how much memory the job was given, in bytes, and the variable that states it."""
    for job in _jobs():
        for name in job.memory:
            if given := _quantity(os.environ.get(name, ""), job.unit):
                yield int(given), name
        per_cpu = _quantity(os.environ.get(job.memory_per_cpu, ""), job.unit)
        threads = next((count for count, _ in _job_cpus()), None)
        if per_cpu and threads:
            yield int(per_cpu * threads), job.memory_per_cpu


def _jobs() -> Iterator[_Job]:
    yield from (job for job in _JOBS if job.present in os.environ)


def _quantity(text: str, unit: int = 1) -> float | None:
    """Return a quantity as batch systems and Kubernetes write it: "4", "500m", "1.5", "2Gi"; None for anything else.

    unit: that of a number without one.
    """
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)([a-zA-Z]{0,2})", text.strip())
    if match is None or match[2] not in _SUFFIXES:
        return None
    return float(match[1]) * (_SUFFIXES[match[2]] if match[2] else unit) or None


# ---------------------------------------------------------------- control groups


def _settings(controller: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield folder and text of a control file in this process's groups and their parents, where the file exists."""
    for _, folder in _groups(controller):
        if text := read(f"{folder}/{name}"):
            yield folder, text


def kills() -> int | None:
    """Return how many processes the out-of-memory killer has ended in this control group; None if it does not tell."""
    for name in ("memory.events", "memory.oom_control"):
        for _, text in _settings("memory", name):
            if match := re.search(r"^oom_kill (\d+)", text, re.MULTILINE):
                return int(match[1])
    return None


def _groups(controller: str) -> Iterator[tuple[int, str]]:
    """Yield version and folder of this process's control groups that have a controller, each group before its parents.

    A system may use both versions, for different controllers, and mount the same groups several times (a container that
    also sees its host's): each mount that holds this process's group counts. Where a container sees its groups without
    their names (`/proc/self/cgroup` names a path that is not mounted), the root of what is mounted is the container's
    group.
    """
    for version, mounts in _mounts(controller).items():
        path = PurePosixPath(_own(version, controller)[1])
        holding = [mount for mount in mounts if path.is_relative_to(mount[1])]
        # A root such as "/../.." is above the container's own, which no mount has under a name that is known here.
        inside = [mount for mount in mounts if ".." not in PurePosixPath(mount[1]).parts] or mounts
        for mount, root in holding or inside[:1]:
            folder = PurePosixPath(mount) / (path.relative_to(root) if holding else ".")
            yield from ((version, str(each)) for each in (folder, *folder.parents) if each.is_relative_to(mount))


def _own(version: int, controller: str) -> tuple[str, str]:
    """Return controllers and path of this process's group as /proc/self/cgroup names them; no controllers and "/" else.

    Controllers of version 1 may be mounted together: "cpu,cpuacct".
    """
    for line in (read("/proc/self/cgroup") or "").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if (number == "0" and not controllers) if version == 2 else controller in controllers.split(","):
            return controllers, path if path.startswith("/") else "/"
    return "", "/"


def _mounts(controller: str) -> Mapping[int, list[tuple[str, str]]]:
    """Return where the groups of a controller are mounted, by version, each with the group that is mounted there.

    Source: proc_pid_mountinfo(5). Where the mounts are not told, they are where every system has them.
    """
    found: dict[int, list[tuple[str, str]]] = {}
    for line in (read("/proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or not kind[0].startswith("cgroup"):
            continue
        version = 2 if kind[0] == "cgroup2" else 1
        if version == 2 or controller in kind[2].split(","):
            found.setdefault(version, []).append((_unescaped(fields[4]), _unescaped(fields[3])))
    together = _own(1, controller)[0] or controller
    return found or {
        2: [(_MOUNT, "/")],
        1: [(f"{_MOUNT}/{name}", "/") for name in dict.fromkeys((controller, together))],
    }


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
