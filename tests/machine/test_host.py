"""Facts of the host, read from planted files of a kernel."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench_core.machine import allotment, host, processor
from bench_core.records import Fact


def test_cpu_is_read_from_cpuinfo(plant):
    plant("proc/cpuinfo", "processor : 0\nmodel name\t: AMD  EPYC 9654\nflags\t\t: fpu avx2 hypervisor\n")
    assert processor.model() == Fact("AMD EPYC 9654", "/proc/cpuinfo")
    assert processor.flags() == {"fpu", "avx2", "hypervisor"}


def test_caches_are_counted_once_each(plant):
    """Four cores, two L2 caches of 1 MiB shared by pairs, one L3; instructions are not data."""
    for core in range(4):
        pair = core // 2 * 2
        for index, (kind, level, size, shared) in enumerate(
            [("Data", 1, "32K", core), ("Instruction", 1, "32K", core), ("Unified", 2, "1M", f"{pair}-{pair + 1}"),
             ("Unified", 3, "24576K", "0-3")]
        ):  # fmt: skip
            folder = f"sys/devices/system/cpu/cpu{core}/cache/index{index}"
            for name, text in (("type", kind), ("level", level), ("size", size), ("shared_cpu_list", shared)):
                plant(f"{folder}/{name}", f"{text}\n")
    assert host.cache_sizes() == {1: 4 * 32 * 1024, 2: 2 * 1024**2, 3: 24 * 1024**2}
    assert host.last_level_cache() == 24 * 1024**2


@pytest.mark.parametrize(("size", "bytes_"), [("512", 512), ("48K", 48 << 10), ("2M", 2 << 20), ("1G", 1 << 30)])
def test_the_size_of_a_cache_is_in_the_unit_that_the_kernel_writes(plant, size, bytes_):
    for name, text in (("type", "Data"), ("level", 1), ("size", size), ("shared_cpu_list", 0)):
        plant(f"sys/devices/system/cpu/cpu0/cache/index0/{name}", f"{text}\n")
    assert host.cache_sizes() == {1: bytes_}


def test_sockets_and_numa_nodes_are_counted(plant):
    for core in range(4):
        plant(f"sys/devices/system/cpu/cpu{core}/topology/physical_package_id", f"{core // 2}\n")
    plant("sys/devices/system/node/node0/cpulist", "0-3")
    assert host.sockets().value == 2
    assert host.numa_nodes().value == 1


def plant_clocks(plant, driver, *kilohertz):
    for core, clock in enumerate(kilohertz):
        plant(f"sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq", f"{clock}\n")
        plant(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_driver", f"{driver}\n")


def test_the_highest_frequency_is_that_of_the_fastest_core(plant):
    plant_clocks(plant, "intel_pstate", 5_100_000, 5_300_000, 3_900_000)
    assert host.highest_frequency().value == 5.3e9


def test_the_highest_frequency_is_never_below_a_clock_that_a_core_has_now(plant):
    plant_clocks(plant, "amd-pstate-epp", 4_000_000)
    plant("proc/cpuinfo", "cpu MHz\t\t: 1400.1\ncpu MHz\t\t: 4125.5\n")
    assert host.highest_frequency().value == 4.1255e9


@pytest.mark.parametrize("driver", ["acpi-cpufreq", "pcc-cpufreq", "cppc_cpufreq"])
def test_a_driver_that_reports_the_nominal_clock_tells_the_highest_frequency_only_without_boost(plant, driver):
    plant_clocks(plant, driver, 2_600_000)
    reason = f"{driver} reports the clock without boost"
    assert host.highest_frequency() == Fact(reason=reason)
    plant("sys/devices/system/cpu/cpufreq/boost", "1\n")
    assert host.highest_frequency() == Fact(reason=reason)
    plant("sys/devices/system/cpu/cpufreq/boost", "0\n")
    assert host.highest_frequency().value == 2.6e9


def test_the_length_of_sve_registers_is_in_bytes(plant):
    assert host.vector_length() is None
    plant("proc/sys/abi/sve_default_vector_length", "32\n")
    assert host.vector_length() == 32


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sys/devices/system/node/node0/memory_side_cache/index1/size", "1\n"),
        ("proc/cpuinfo", "model name : Intel(R) Xeon(R) CPU Max 9480\n"),
    ],
)
def test_a_memory_side_cache_is_known_by_its_folder_or_the_model(plant, path, text):
    assert not host.has_memory_side_cache()
    plant(path, text)
    assert host.has_memory_side_cache()


def test_governors_are_listed_together(plant):
    assert host.governor() == Fact(reason="no /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    plant("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    plant("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n")
    plant("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "acpi-cpufreq\n")
    assert host.governor().value == "performance,powersave"
    assert host.scaling_driver().value == "acpi-cpufreq"


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0", True),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "1", False),
        ("sys/devices/system/cpu/cpufreq/boost", "1", True),
        ("sys/devices/system/cpu/cpufreq/boost", "0", False),
    ],
)
def test_boost_is_read_from_the_file_of_either_driver(plant, path, text, value):
    assert host.boost().reason
    plant(path, text)
    assert host.boost().value is value


def test_kernel_setting_is_the_chosen_word(plant):
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    plant(path[1:], "always [madvise] never\n")
    assert host.kernel_setting(path) == Fact("madvise", path)
    assert host.kernel_setting("/nowhere") == Fact(reason="no /nowhere")


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("proc/1/cgroup", "0::/kubepods/burstable/pod1", "kubepods"),
        ("proc/1/cgroup", "0::/init.scope", "none"),
    ],
)
def test_a_container_is_known_by_its_files(plant, path, text, kind):
    plant(path, text)
    assert host.container().value == kind


def test_a_virtual_machine_is_known_by_the_hypervisor_flag_and_named_by_its_vendor(plant):
    assert host.virtual_machine().value is None
    plant("proc/cpuinfo", "flags : fpu hypervisor\n")
    plant("sys/class/dmi/id/sys_vendor", "QEMU\n")
    assert host.virtual_machine().value == "QEMU"
    plant("proc/cpuinfo", "flags : fpu\n")
    assert host.virtual_machine().value == "none"


def test_thread_pools_have_one_order_whatever_the_process_loaded_first_and_no_paths(monkeypatch):
    """They are part of `env_id`: in another order the same environment would be another one."""

    def pools(order):
        blas = {"user_api": "blas", "internal_api": "openblas", "filepath": f"/{order}/b.so", "num_threads": 2}
        openmp = {"user_api": "openmp", "prefix": "libgomp", "filepath": f"/{order}/g.so", "num_threads": 2}
        return [blas, openmp, {**openmp, "num_threads": 4}, {**blas, "internal_api": "mkl"}][::order]

    found, libraries = [], []
    for order in (1, -1):
        monkeypatch.setattr(host.threadpoolctl, "threadpool_info", lambda order=order: pools(order))
        found.append(host.threadpool_facts())
        libraries.append(host.blas_library())
    assert found[0] == found[1]
    assert libraries[0] == libraries[1]
    assert libraries[0] == "mkl + openblas"
    assert sorted(pool["num_threads"] for pool in found[0]["threadpools"].value) == [2, 2, 2, 4]
    assert not any("filepath" in pool for pool in found[0]["threadpools"].value)


def test_noise_counters_only_grow():
    before = host.involuntary_switches(), host.steal_seconds(), host.out_of_memory_kills()
    after = host.involuntary_switches(), host.steal_seconds(), host.out_of_memory_kills()
    assert all(a >= b >= 0 for a, b in zip(after, before, strict=True))


def test_busy_seconds_are_all_but_idle_ones_and_those_of_guests_once(monkeypatch):
    times = {"user": 4.0, "nice": 1.0, "system": 2.0, "idle": 50.0, "iowait": 9.0, "steal": 0.5, "guest": 3.0}
    monkeypatch.setattr(host, "cpu_times", lambda: times)
    assert host.busy_seconds() == 7.5


def test_an_empty_root_has_no_facts_and_raises_nothing(plant):
    for function in (
        *(host.sockets, host.numa_nodes, host.governor, host.scaling_driver, host.boost, host.highest_frequency),
    ):
        assert function().value is None
        assert function().reason
    assert host.cache_sizes() == {}
    assert host.last_level_cache() is None
    assert allotment.quota().value is None


def test_memory_available_is_the_machine_s_where_no_group_limits_it(plant, monkeypatch):
    monkeypatch.setattr(host.psutil, "virtual_memory", lambda: SimpleNamespace(available=7, total=9))
    assert allotment.memory_left() == 7


def test_memory_available_is_what_the_control_group_has_left(plant):
    plant("proc/self/cgroup", "0::/job")
    plant("sys/fs/cgroup/job/memory.max", "3000000")
    plant("sys/fs/cgroup/job/memory.current", "1000000")
    assert allotment.memory_left() == 2_000_000
    plant("sys/fs/cgroup/job/memory.current", "4000000")
    assert allotment.memory_left() == 0


@pytest.mark.parametrize(
    ("folder", "limit", "used", "cache"),
    [
        ("sys/fs/cgroup/job", "memory.max", "memory.current", "inactive_file"),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
    ids=["v2", "v1"],
)
def test_memory_in_files_that_the_kernel_may_drop_is_available(plant, folder, limit, used, cache):
    plant("proc/self/cgroup", "0::/job")
    plant(f"{folder}/{limit}", "3000000")
    plant(f"{folder}/{used}", "2900000")
    plant(f"{folder}/memory.stat", f"anon 900000\n{cache} 2000000\nactive_file 7\n")
    assert allotment.memory_left() == 2_100_000


def test_a_limit_is_never_paired_with_the_use_of_another_group(plant):
    """The inner group sets a limit and does not tell its use; the outer one does both."""
    plant("proc/self/cgroup", "0::/outer/inner")
    plant("sys/fs/cgroup/outer/inner/memory.max", "1000000")
    plant("sys/fs/cgroup/outer/memory.max", "5000000")
    plant("sys/fs/cgroup/outer/memory.current", "2000000")
    assert allotment.memory_left() == 3_000_000


def test_kills_for_memory_are_those_of_this_process_s_group(plant):
    plant("proc/vmstat", "oom_kill 9\n")
    assert host.out_of_memory_kills() == 9
    plant("proc/self/cgroup", "0::/job")
    plant("sys/fs/cgroup/memory.events", "oom_kill 5\n")
    plant("sys/fs/cgroup/job/memory.events", "oom 2\noom_kill 1\n")
    assert host.out_of_memory_kills() == 1
