"""What a process may use, in control groups of both versions, under `ulimit`, and in jobs of which no group says."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest

from bench_core.machine import allotment, environment, host
from bench_core.records import Fact

GIB = 1 << 30


@pytest.fixture
def machine(plant, monkeypatch):
    """A machine of 16 hardware threads, two on each core, and 64 GiB; no limit, and no job."""
    for name in {variable for job in allotment._JOBS for variable in (job.present, *job.cpus, *job.memory)}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    memory = SimpleNamespace(total=64 * GIB, available=60 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(allotment, "_ulimits", lambda: ())
    return plant


def limits():
    """Return usable cores, the quota and the memory in GiB."""
    allotment.usable_cores.cache_clear()
    return allotment.usable_cores(), allotment.quota().value, allotment.memory().value / GIB


SLURM_V1 = """11:memory:/slurm/uid_1000/job_7/step_0
4:cpu,cpuacct:/slurm/uid_1000/job_7/step_0
3:cpuset:/slurm/uid_1000/job_7/step_0
0::/system.slice/slurmd.service
"""


def test_a_slurm_job_in_groups_of_version_1_below_the_root(machine):
    assert limits() == (8, None, 64)
    machine("proc/self/cgroup", SLURM_V1)
    machine("sys/fs/cgroup/memory/slurm/uid_1000/job_7/memory.limit_in_bytes", f"{2 * GIB}\n")
    machine("sys/fs/cgroup/memory/slurm/uid_1000/job_7/memory.usage_in_bytes", f"{GIB}\n")
    machine("sys/fs/cgroup/memory/slurm/uid_1000/job_7/step_0/memory.limit_in_bytes", "9223372036854771712\n")
    machine("sys/fs/cgroup/cpuset/slurm/uid_1000/job_7/step_0/cpuset.cpus", "4,12\n")
    assert limits() == (1, None, 2)
    assert allotment.cpus() == {4, 12}
    assert allotment.memory_left() == GIB
    machine("sys/fs/cgroup/cpuset/slurm/uid_1000/job_7/step_0/cpuset.cpus", "0-3,8-11\n")
    machine("sys/fs/cgroup/cpu/slurm/uid_1000/job_7/cpu.cfs_quota_us", "250000")
    machine("sys/fs/cgroup/cpu/slurm/uid_1000/job_7/cpu.cfs_period_us", "100000")
    assert limits() == (2, 2.5, 2)


def test_groups_are_where_the_system_has_mounted_them(machine):
    """A container whose groups are mounted alone: the path that the host knows leads nowhere here."""
    machine("proc/self/cgroup", "5:memory:/docker/abc\n4:cpuacct,cpu:/docker/abc\n")
    machine(
        "proc/self/mountinfo",
        "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "31 30 0:27 /docker/abc /sys/fs/cgroup/memory ro,nosuid shared:1 - cgroup cgroup rw,memory\n"
        "32 30 0:28 /docker/abc /groups/of\\040cpus ro master:3 - cgroup cgroup rw,cpuacct,cpu\n",
    )
    machine("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{3 * GIB}")
    machine("groups/of cpus/cpu.cfs_quota_us", "150000")
    machine("groups/of cpus/cpu.cfs_period_us", "100000")
    assert limits() == (1, 1.5, 3)


def test_both_versions_may_be_in_use_at_once(machine):
    machine("proc/self/cgroup", "2:memory:/a\n0::/b/c\n")
    machine(
        "proc/self/mountinfo",
        "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    )
    machine("sys/fs/cgroup/memory/a/memory.limit_in_bytes", f"{5 * GIB}")
    machine("sys/fs/cgroup/unified/b/cpu.max", "50000 100000")
    assert limits() == (1, 0.5, 5)


@pytest.mark.parametrize("folder", ["outer", "outer/inner"])
def test_the_tightest_of_nested_groups_of_version_2_holds(machine, folder):
    machine("proc/self/cgroup", "0::/outer/inner\n")
    machine("sys/fs/cgroup/outer/memory.max", f"{9 * GIB}")
    machine("sys/fs/cgroup/outer/inner/memory.max", "max")
    machine(f"sys/fs/cgroup/{folder}/memory.high", f"{4 * GIB}")
    machine("sys/fs/cgroup/outer/cpuset.cpus.effective", "0-7")
    machine("sys/fs/cgroup/outer/inner/cpuset.cpus.effective", "2-5")
    assert limits() == (2, None, 4)
    assert allotment.memory().source == "control group, memory.high"


@pytest.mark.parametrize("text", ["max 100000", "", "garbage", "-1 0", "0 100000", "100000 0", "100000"])
def test_a_quota_that_is_none_is_none(machine, text):
    machine("sys/fs/cgroup/cpu.max", text)
    machine("sys/fs/cgroup/memory.max", text)
    assert limits()[:2] == (8, None)


def test_ulimit_limits_memory(machine, monkeypatch):
    monkeypatch.setattr(allotment, "_ulimits", lambda: ((6 * GIB, "ulimit -v"), (7 * GIB, "ulimit -d")))
    machine("proc/self/status", f"VmSize:\t{2 << 20} kB\nVmData:\t{1 << 20} kB\n")
    assert allotment.memory() == allotment.Fact(6 * GIB, "ulimit -v")
    assert allotment.memory_left() == 4 * GIB


def test_memory_nodes_that_are_not_allowed_do_not_count(machine):
    for node, size in ((0, 32), (1, 24), (2, 8)):
        machine(f"sys/devices/system/node/node{node}/meminfo", f"Node {node} MemTotal:  {size << 20} kB\n")
        machine(f"sys/devices/system/node/node{node}/cpulist", "0-7" if node == 0 else "8-15" if node == 1 else "\n")
    assert [node["cpus"] for node in host.memory_nodes().value] == ["0-7", "8-15", ""]
    machine("proc/self/status", "Mems_allowed_list:\t0,2\n")
    assert limits()[2] == 40


JOBS = [
    ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "2048"}, 1, 2),
    ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "512"}, 4, 4),
    ({"PBS_JOBID": "7", "NCPUS": "6"}, 3, 64),
    ({"LSB_JOBID": "7", "LSB_DJOB_NUMPROC": "4"}, 2, 64),
    ({"SGE_ROOT": "sge", "NSLOTS": "4"}, 2, 64),
    ({"KUBERNETES_SERVICE_HOST": "h", "CPU_LIMIT": "1.5", "MEM_LIMIT": "8589934592"}, 1, 8),
    ({"KUBERNETES_SERVICE_HOST": "h", "MY_CPU_LIMIT": "3500m", "MY_MEM_LIMIT": "2Gi"}, 2, 2),
    ({"KUBERNETES_SERVICE_HOST": "h"}, 8, 64),
    ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "many", "SLURM_MEM_PER_NODE": "-1"}, 8, 64),
    ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "999", "SLURM_MEM_PER_NODE": "0"}, 8, 64),
    ({"NCPUS": "1", "NSLOTS": "1", "CPU_LIMIT": "1", "MEM_LIMIT": "1Gi", "SLURM_CPUS_PER_TASK": "1"}, 8, 64),
]


@pytest.mark.parametrize(("variables", "cores", "memory"), JOBS)
def test_where_no_group_says_the_job_s_variables_do(machine, monkeypatch, variables, cores, memory):
    """Two hardware threads make a core."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert limits() == (cores, None, memory)


def test_a_group_or_an_affinity_overrides_the_job_s_variables(machine, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2048")
    machine("sys/fs/cgroup/cpu.max", "400000 100000")
    machine("sys/fs/cgroup/memory.max", f"{16 * GIB}")
    assert limits() == (4, 4, 16)
    machine("sys/fs/cgroup/cpu.max", "max 100000")
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert limits()[0] == 6


def test_on_windows_the_affinity_is_read_and_on_macos_it_is_unknown_and_every_hardware_thread_allowed(
    machine, monkeypatch
):
    """`start /affinity 3` on Windows; psutil has no affinity on macOS."""
    monkeypatch.delattr(allotment.os, "sched_getaffinity", raising=False)
    process = type("Process", (), {"cpu_affinity": lambda _: [0, 1]})
    monkeypatch.setattr(psutil, "Process", process)
    assert allotment.cpus() == {0, 1}
    assert limits()[0] == 1
    assert environment._affinity() == Fact("0-1", "psutil.Process.cpu_affinity, cpuset")
    process.cpu_affinity = lambda _: []  # it runs in several processor groups
    assert allotment.cpus() == set(range(16))
    assert environment._affinity().reason == "psutil.Process.cpu_affinity gives no value"
    del process.cpu_affinity
    assert allotment.cpus() == set(range(16))
    assert environment._affinity().reason == "psutil.Process.cpu_affinity: AttributeError"


def test_on_windows_an_affinity_of_one_group_says_nothing_of_a_larger_machine(machine, monkeypatch):
    monkeypatch.delattr(allotment.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(psutil, "Process", type("Process", (), {"cpu_affinity": lambda _: list(range(48))}))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 96 if logical else 48)
    assert allotment.cpus() == set(range(48)), "FreeBSD has no groups"
    monkeypatch.setattr(sys, "platform", "win32")
    assert allotment.cpus() == set(range(96))
    assert environment._affinity().reason == "psutil.Process.cpu_affinity tells it of one group of 64 hardware threads"


ONE = "1 0 0:1 / /sys/fs/cgroup ro - cgroup2 cgroup rw"
HOST_S = "2 0 0:1 /../.. /host/sys/fs/cgroup ro - cgroup2 cgroup rw"
ANOTHER = "2 0 0:1 /system.slice/other.scope /run/x rw - cgroup2 cgroup2 rw"


@pytest.mark.parametrize("mounts", [[ONE], [ONE, HOST_S], [HOST_S, ONE], [ONE, ANOTHER], [ANOTHER, ONE]])
@pytest.mark.parametrize(("path", "folder"), [("/", ""), ("/job_7/task_0", "job_7/")])
def test_a_second_mount_of_the_same_groups_hides_no_limit(machine, mounts, path, folder):
    """A container that has the groups of its host too (`-v /sys/fs/cgroup:/host/sys/fs/cgroup`), or of another one."""
    machine("proc/self/cgroup", f"0::{path}\n")
    machine("proc/self/mountinfo", "\n".join(mounts))
    machine(f"sys/fs/cgroup/{folder}cpu.max", "150000 100000")
    machine(f"sys/fs/cgroup/{folder}memory.max", f"{2 * GIB}")
    machine("run/x/memory.max", f"{GIB}")
    assert limits() == (1, 1.5, 2)


def test_where_the_only_mount_lies_above_the_container_s_groups_its_limit_holds(machine):
    machine("proc/self/cgroup", "0::/\n")
    machine("proc/self/mountinfo", HOST_S)
    machine("host/sys/fs/cgroup/memory.max", f"{2 * GIB}")
    assert limits()[2] == 2


def test_of_mounts_that_do_not_hold_the_group_one_with_a_known_root_is_the_container_s(machine):
    machine("proc/self/cgroup", "0::/\n")
    machine("proc/self/mountinfo", f"{HOST_S}\n1 0 0:1 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n")
    machine("host/sys/fs/cgroup/memory.max", f"{9 * GIB}")
    machine("sys/fs/cgroup/memory.max", f"{2 * GIB}")
    assert limits()[2] == 2
    machine("host/sys/fs/cgroup/memory.max", f"{GIB}")
    assert limits()[2] == 2, "a limit of another group"


def test_both_mounts_of_version_1_that_hold_the_group_count(machine):
    """The container's own, and its host's, which shows the limits of the groups around it."""
    machine("proc/self/cgroup", "5:memory:/pod/abc\n")
    machine(
        "proc/self/mountinfo",
        "31 30 0:27 /pod/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "32 30 0:27 / /host/memory ro - cgroup cgroup rw,memory\n",
    )
    machine("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{3 * GIB}")
    assert limits()[2] == 3
    machine("host/memory/pod/memory.limit_in_bytes", f"{2 * GIB}")
    assert limits()[2] == 2


def test_controllers_that_are_mounted_together_are_found_where_mounts_are_not_told(machine):
    machine("proc/self/cgroup", "3:cpu,cpuacct:/docker/a\n")
    machine("sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_quota_us", "250000")
    machine("sys/fs/cgroup/cpu,cpuacct/docker/a/cpu.cfs_period_us", "100000")
    assert limits() == (2, 2.5, 64)


@pytest.mark.parametrize(
    ("affinity", "cores"),
    [({0, 1, 2, 3}, 4), ({0, 4}, 1), ({0, 1, 4, 5}, 2), (set(range(8)), 4)],
    ids=["one thread a core", "both threads of one", "two whole cores", "all"],
)
def test_usable_cores_are_counted_by_the_siblings_in_the_affinity(plant, monkeypatch, affinity, cores):
    """Four cores of two threads, in the usual numbering: the sibling of n is n + 4."""
    for cpu in range(8):
        plant(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: affinity, raising=False)
    assert allotment.usable_cores() == cores


def test_usable_cores_follow_the_machine_s_ratio_where_siblings_are_not_told(plant, monkeypatch):
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(allotment.psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    assert allotment.usable_cores() == 4


def test_cores_that_a_quota_lets_run_for_a_part_of_the_time_are_allowed_all_the_same(plant, monkeypatch):
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: {0, 1, 4}, raising=False)
    for cpu in range(8):
        plant(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    plant("sys/fs/cgroup/cpu.max", "100000 100000")
    assert (allotment.allowed_cores(), allotment.cpus(), allotment.usable_cores()) == (2, {0, 1, 4}, 1)


@pytest.mark.parametrize(
    ("affinity", "parts", "shares"),
    [
        (set(range(8)), 2, [{0, 4, 1, 5}, {2, 6, 3, 7}]),
        ({0, 1, 4, 7}, 3, [{0, 4}, {1}, {7}]),
        (set(range(8)), 3, [{0, 4}, {1, 5}, {2, 6}]),  # one core is left
        ({0, 4}, 2, [set(), set()]),  # one core
    ],
)
def test_parts_of_the_cores_are_equal_and_a_core_is_in_one_part_whole(plant, monkeypatch, affinity, parts, shares):
    for cpu in range(8):
        plant(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: affinity, raising=False)
    assert [allotment.share_of_cpus(part, parts) for part in range(parts)] == shares


def test_only_some_hardware_threads_may_be_parted_such_as_those_of_a_node(plant, monkeypatch):
    for cpu in range(8):
        plant(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    shares = [allotment.share_of_cpus(part, 2, frozenset({2, 3, 6, 7, 8})) for part in range(2)]
    assert shares == [{2, 6}, {3}], "7 and 8 are not of this process"


def test_without_told_siblings_each_hardware_thread_is_divided_as_a_core(plant, monkeypatch):
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: {2, 3, 5, 8}, raising=False)
    assert [allotment.share_of_cpus(part, 2) for part in range(2)] == [{2, 3}, {5, 8}]


def test_usable_cores_stay_within_the_quota(plant, monkeypatch):
    monkeypatch.setattr(allotment.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    for cpu in range(3):
        plant(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu}\n")
    plant("sys/fs/cgroup/cpu.max", "250000 100000")
    assert allotment.usable_cores() == 2


def test_quota_is_the_tightest_of_nested_groups(plant):
    plant("proc/self/cgroup", "0::/user.slice/job\n")
    plant("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n")
    plant("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n")
    assert allotment.quota().value == 1.5
    plant("sys/fs/cgroup/user.slice/job/cpu.max", "50000 100000\n")
    assert allotment.quota().value == 0.5


def test_quota_is_read_from_control_groups_of_version_1(plant):
    plant("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    plant("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert allotment.quota().value is None
    plant("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000")
    assert allotment.quota().value == 2.0


def test_memory_limit_is_the_group_s_where_it_sets_one(plant):
    total = psutil.virtual_memory().total
    assert allotment.memory_limit() == total
    plant("proc/self/cgroup", "0::/\n")
    plant("sys/fs/cgroup/memory.max", "max\n")
    assert allotment.memory_limit() == total
    plant("sys/fs/cgroup/memory.max", "1048576\n")
    assert allotment.memory_limit() == 1048576
