"""Models and kinds of cores, from what other systems and architectures are known to write."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from bench_core.machine import environment, host, processor
from bench_core.records import Fact
from tests.support.kernel import forget

GRAVITON = """processor : 0
BogoMIPS : 2100.00
Features : fp asimd evtstrm aes sve
CPU implementer : 0x41
CPU architecture: 8
CPU variant : 0x1
CPU part : 0xd40
CPU revision : 1
"""
# A phone's two clusters, in the order of the kernel.
BIG_LITTLE = "".join(
    f"processor : {cpu}\nCPU implementer : 0x41\nCPU variant : 0x1\nCPU part : {part}\nCPU revision : 0\n\n"
    for cpu, part in ((0, "0xd05"), (1, "0xd05"), (2, "0xd41"), (3, "0xd41"))
)
POWER = """processor\t: 0
cpu\t\t: POWER9 (architected), altivec supported
clock\t\t: 2900.000000MHz
revision\t: 2.2 (pvr 004e 1202)

timebase\t: 512000000
platform\t: pSeries
model\t\t: IBM,9009-42A
"""
Z = """vendor_id       : IBM/S390
# processors    : 2
bogomips per cpu: 3241.00
features\t: esan3 zarch stfle msa ldisp eimm dfp
processor 0: version = 00,  identification = 2733E8,  machine = 8561
processor 1: version = 00,  identification = 2733E8,  machine = 8561
"""
RISCV = "processor\t: 0\nhart\t\t: 2\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\nuarch\t\t: sifive,u74-mc\n"
NAMELESS_X86 = (
    "processor : 0\nvendor_id : GenuineIntel\ncpu family : 6\nmodel : 143\nmodel name : unknown\nflags : fpu\n"
)


@pytest.mark.parametrize(
    ("cpuinfo", "board", "model"),
    [
        ("processor : 0\nmodel name\t: AMD  EPYC 9654\n", {}, "AMD EPYC 9654"),
        (NAMELESS_X86, {}, "GenuineIntel family 6 model 143"),
        (GRAVITON, {}, "Neoverse-V1 (board unknown)"),
        (
            GRAVITON,
            {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "c7g.xlarge\n"},
            "Neoverse-V1 (Amazon EC2 c7g.xlarge)",
        ),
        (GRAVITON, {"proc/device-tree/model": b"Raspberry Pi 5 Model B Rev 1.0\0"},
         "Neoverse-V1 (Raspberry Pi 5 Model B Rev 1.0)"),
        (GRAVITON.replace("0xd40", "0xfff"), {}, "Arm core 0xfff (board unknown)"),
        (GRAVITON.replace("0x41", "0x99"), {}, "designer 0x99 core 0xd40 (board unknown)"),
        ("processor : 0\nmodel name : ARMv7 Processor rev 4 (v7l)\nCPU implementer : 0x41\nCPU part : 0xd03\n", {},
         "Cortex-A53 (board unknown)"),
        (BIG_LITTLE, {}, "Cortex-A55 + Cortex-A78 (board unknown)"),
        (GRAVITON.replace("0xd40", "0xd42"), {"proc/device-tree/model": "Jetson"}, "Cortex-A78AE (Jetson)"),
        (BIG_LITTLE + "Hardware\t: MT6893\n", {}, "Cortex-A55 + Cortex-A78 (MT6893)"),
        (BIG_LITTLE + "Hardware\t: Generic DT based system\n", {}, "Cortex-A55 + Cortex-A78 (board unknown)"),
        (BIG_LITTLE + "Hardware : BCM2835\n", {"proc/device-tree/model": "Pi"}, "Cortex-A55 + Cortex-A78 (Pi)"),
        (POWER, {}, "POWER9 (architected)"),
        (Z, {}, "IBM Z 8561"),
        (RISCV, {}, "sifive,u74-mc (board unknown)"),
        (RISCV.replace("uarch", "mvendorid"), {}, "RISC-V sifive,u74-mc (board unknown)"),
        (RISCV.partition("mmu")[0], {"proc/device-tree/model": "A board"}, "RISC-V rv64imafdc (A board)"),
        (RISCV, {"proc/device-tree/model": "StarFive VisionFive 2"}, "sifive,u74-mc (StarFive VisionFive 2)"),
        ("processor\t: 0\nModel Name\t: Loongson-3A5000\n", {}, "Loongson-3A5000"),
        ("system type : SGI\nprocessor : 0\ncpu model\t: ICT Loongson-3 V0.9\n", {}, "ICT Loongson-3 V0.9"),
    ],
)  # fmt: skip
def test_each_architecture_of_linux_names_its_model_in_its_own_way(plant, cpuinfo, board, model):
    plant("proc/cpuinfo", cpuinfo)
    for path, text in board.items():
        plant(path, text)
    assert processor.model() == Fact(model, "/proc/cpuinfo")
    assert "2733E8" not in str(environment.host_environment()), "a serial number"


M1 = """hw.ncpu: 8
hw.physicalcpu: 8
hw.model: MacBookPro17,1
hw.nperflevels: 2
hw.perflevel0.physicalcpu: 4
hw.perflevel0.logicalcpu: 4
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 12582912
hw.perflevel0.cpusperl2: 4
hw.perflevel0.name: Performance
hw.perflevel1.physicalcpu: 4
hw.perflevel1.logicalcpu: 4
hw.perflevel1.l1dcachesize: 65536
hw.perflevel1.l2cachesize: 4194304
hw.perflevel1.cpusperl2: 4
hw.perflevel1.name: Efficiency
machdep.cpu.brand_string: Apple M1
kern.hv_vmm_present: 0
"""
INTEL_MAC = """hw.physicalcpu: 6
hw.packages: 1
hw.l1dcachesize: 32768
hw.l2cachesize: 262144
hw.l3cachesize: 12582912
machdep.cpu.brand_string: Intel(R) Core(TM) i7-8750H CPU @ 2.20GHz
"""


@pytest.fixture
def system(plant, monkeypatch):
    """Return a function that makes this another system, whose `sysctl` writes some lines; without any kernel files."""

    def become(name, lines="", architecture="arm"):
        monkeypatch.setattr(sys, "platform", name)
        monkeypatch.setattr(processor, "_SYSCTL_NAMES", ("hw",))
        monkeypatch.setattr(processor.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=lines))
        monkeypatch.setattr(processor.platform, "processor", lambda: architecture)
        plant("forget", "")

    return become


@pytest.mark.parametrize(
    ("name", "lines", "model"),
    [
        ("darwin", M1, "Apple M1"),
        ("darwin", M1.replace("Apple M1", "Apple M2"), "Apple M2"),
        ("darwin", M1.replace("Apple M1", "VirtualApple @ 2.50GHz"), "VirtualApple (MacBookPro17,1)"),
        ("darwin", INTEL_MAC, "Intel(R) Core(TM) i7-8750H CPU @ 2.20GHz"),
        ("freebsd14", "hw.model: AMD Ryzen 9 5950X\nhw.ncpu: 32\n", "AMD Ryzen 9 5950X"),
        ("openbsd7", "hw.model=Apple Icestorm\nhw.ncpu=8\n", "Apple Icestorm"),
        ("netbsd10", "machdep.cpu_brand = Intel(R) N100\nhw.model = VMware Virtual Platform\n", "Intel(R) N100"),
    ],
)  # fmt: skip
def test_macos_and_bsd_name_their_model_by_sysctl(system, name, lines, model):
    system(name, lines)
    assert processor.model() == Fact(model, "sysctl")


def test_sysctl_is_found_where_the_path_does_not_lead_and_its_failure_is_named(system, monkeypatch, tmp_path):
    """A job of cron has the PATH /usr/bin:/bin; sysctl is in /usr/sbin."""
    run = processor.subprocess.run
    system("darwin")
    monkeypatch.setattr(processor.subprocess, "run", run)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(processor, "_SYSCTL_FILES", (str(tmp_path / "sysctl"),))
    assert processor.model().reason.startswith("unknown CPU model: sysctl: FileNotFoundError")
    forget()
    (tmp_path / "sysctl").write_text("#!/bin/sh\necho machdep.cpu.brand_string: Apple M1\n")
    (tmp_path / "sysctl").chmod(0o700)
    assert processor.model() == Fact("Apple M1", "sysctl")


def test_a_mac_has_two_kinds_of_cores_and_their_caches(system):
    system("darwin", M1)
    fast, slow = processor.kinds().value
    assert fast == {"kind": "performance", "cores": 4, "cpus": "", "last_level_cache": 12582912}
    assert (slow["kind"], slow["cores"]) == ("efficiency", 4)
    assert host.cache_sizes() == {1: 4 * 131072 + 4 * 65536, 2: 12582912 + 4194304}
    assert host.virtual_machine().value == "none"
    system("darwin", INTEL_MAC)
    assert host.cache_sizes() == {1: 6 * 32768, 2: 6 * 262144, 3: 12582912}
    assert processor.kinds().value is None


def test_windows_names_its_model_in_the_registry(system, monkeypatch):
    values = {
        "ProcessorNameString": "AMD Ryzen 7 7840U",
        "SystemManufacturer": "QEMU",
        "SystemProductName": "Standard PC",
    }
    monkeypatch.setattr(processor, "registry", lambda key, name: values.get(name, ""))
    system("win32", architecture="AMD64 Family 25 Model 116 Stepping 1, AuthenticAMD")
    assert processor.model() == Fact("AMD Ryzen 7 7840U", "the registry")
    assert host.virtual_machine() == Fact("QEMU", "the registry")


@pytest.mark.parametrize("name", ["darwin", "win32", "sunos5", "aix", "linux"])
@pytest.mark.parametrize(
    "architecture", ["arm", "i386", "x86_64", "AMD64 Family 25 Model 1 Stepping 1, AuthenticAMD", ""]
)
def test_an_unknown_model_says_so_and_shares_its_label_with_no_other_by_chance(system, monkeypatch, name, architecture):
    """sysctl and the registry tell nothing, as in a sandbox."""
    system(name, architecture=architecture)
    model = processor.model()
    assert model.value is None
    assert repr(architecture or "empty") in model.reason
    monkeypatch.setattr(environment.platform, "machine", lambda: "arm64")
    known = {"cpu.model": model, "cpu.cores": Fact(8, "s"), "cpu.cores_usable": Fact(8, "s")}
    labels = {
        environment.machine_label(known | {"cpu.caches": Fact({"L2": size}, "s")}, []) for size in (12 << 20, 16 << 20)
    }
    assert len(labels) == 2
    assert all(label.startswith("unknown-arm64-") and label.endswith("-8c") for label in labels)


def test_a_name_that_covers_several_models_is_followed_by_their_numbers():
    def label(model, identity="GenuineIntel family 6 model 143 stepping 8"):
        return environment.machine_label({"cpu.model": Fact(model, "s"), "cpu.identity": Fact(identity, "s")}, [])

    numbers = "family-6-model-143"
    assert label("Intel(R) Xeon(R) Processor") == f"intel-xeon-{numbers}"
    assert label("Intel(R) Xeon(R) CPU @ 2.00GHz") == f"intel-xeon-{numbers}", "a clock tells no model"
    assert label("AMD EPYC Processor (with IBPB)") == f"amd-epyc-{numbers}"
    cascade_lake = "GenuineIntel family 6 model 85 stepping 7"
    assert label("Intel(R) Xeon(R) CPU @ 2.00GHz", cascade_lake) == "intel-xeon-family-6-model-85-stepping-7"
    assert label("AMD EPYC", "AuthenticAMD family 25 model 1 stepping 1") == "amd-epyc-family-25-model-1"
    assert label("AMD EPYC", "AuthenticAMD family 6 model 851 stepping 1") == "amd-epyc-family-6-model-851"
    assert re.fullmatch("amd-epyc-[0-9a-f]{6}", label("AMD EPYC Processor", "")), "as on Windows"
    assert label("Intel(R) Xeon(R) Platinum 8480C") == "intel-xeon-platinum-8480c"
    assert label("Intel Core Processor (Haswell, no TSX)") == "intel-core-haswell-no-tsx"
    former = environment.former_labels({"cpu.model": Fact("AMD EPYC", "s")}, ["NVIDIA L4"])
    assert "nvidia-l4_amd-epyc" in former, "journals of earlier versions are resumed"


@pytest.mark.parametrize(
    ("cpuinfo", "identity"),
    [
        ("processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\nmodel : 17\nstepping : 1\n",
         "AuthenticAMD family 25 model 17 stepping 1"),
        (GRAVITON, "Neoverse-V1 r1p1"),
        (BIG_LITTLE, "Cortex-A55 r1p0, Cortex-A78 r1p0"),
        (POWER, None),
    ],
)  # fmt: skip
def test_the_numbers_of_a_model_are_recorded(plant, cpuinfo, identity):
    plant("proc/cpuinfo", cpuinfo)
    assert processor.identity().value == identity


def core(plant, cpu, siblings, **files):
    for name, text in {"topology/thread_siblings_list": siblings, **files}.items():
        plant(f"sys/devices/system/cpu/cpu{cpu}/{name.replace('__', '/')}", f"{text}\n")


def test_six_fast_and_eight_slow_cores_are_two_kinds(plant):
    """An Intel Core: six cores of two threads, and eight of one."""
    for cpu in range(20):
        siblings = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}" if cpu < 12 else str(cpu)
        core(plant, cpu, siblings, cpufreq__cpuinfo_max_freq=4_700_000 if cpu < 12 else 3_500_000)
    plant("sys/devices/cpu_core/cpus", "0-11\n")
    plant("sys/devices/cpu_atom/cpus", "12-19\n")
    assert processor.kinds().value == [
        {"kind": "performance", "cores": 6, "cpus": "0-11", "frequency": 4.7e9},
        {"kind": "efficiency", "cores": 8, "cpus": "12-19", "frequency": 3.5e9},
    ]


def test_cores_of_one_kind_may_boost_a_little_more_than_others(plant):
    for cpu, clock in enumerate((5_700_000, 5_500_000, 5_600_000)):
        core(plant, cpu, cpu, cpufreq__cpuinfo_max_freq=clock)
        core(plant, cpu, cpu, cpu_capacity=1024)  # tells nothing where it is that of all
    (kind,) = processor.kinds().value
    assert kind == {"kind": "", "cores": 3, "cpus": "0-2", "frequency": 5.7e9}


def test_cores_that_differ_by_model_capacity_clock_or_cache_are_of_several_kinds(plant):
    plant("proc/cpuinfo", BIG_LITTLE)
    for cpu in range(4):
        core(plant, cpu, cpu)
    assert {kind["kind"] for kind in processor.kinds().value} == {"Cortex-A55", "Cortex-A78"}
    plant("sys/devices/system/cpu/cpu0/cpu_capacity", "400\n")
    plant("sys/devices/system/cpu/cpu1/cpu_capacity", "400\n")
    plant("sys/devices/system/cpu/cpu2/cpu_capacity", "1024\n")
    plant("sys/devices/system/cpu/cpu3/cpu_capacity", "1024\n")
    assert [kind["kind"] for kind in processor.kinds().value] == ["Cortex-A78", "Cortex-A55"], "the fastest first"
    for cpu in range(4):
        plant(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", "")
    plant("proc/cpuinfo", "")
    for cpu, capacity in enumerate((1024, 1020, 1016, 446)):  # a little of it is noise
        plant(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", f"{capacity}\n")
    assert {kind["cpus"]: kind["capacity"] for kind in processor.kinds().value} == {"0-2": 1024, "3": 446}
    plant("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "5000000")
    plant("sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "3300000")  # a dense core
    assert {kind["cpus"] for kind in processor.kinds().value} == {"0,2", "1", "3"}
    for cpu, size in ((0, "98304K"), (2, "32768K")):  # more cache above one of two chiplets
        for name, text in (("level", "3"), ("size", size), ("type", "Unified")):
            plant(f"sys/devices/system/cpu/cpu{cpu}/cache/index3/{name}", text)
    assert {kind.get("last_level_cache") for kind in processor.kinds().value} == {96 << 20, 32 << 20, None}


def test_a_virtual_machine_that_is_not_x86_is_named_by_its_maker_or_unknown_and_never_none(plant):
    plant("proc/cpuinfo", GRAVITON)
    assert host.virtual_machine().value is None
    for path, text, maker in (
        ("sys/hypervisor/type", "xen\n", "xen"),
        ("proc/device-tree/hypervisor/compatible", b"linux,kvm\0", "linux,kvm"),
        ("proc/device-tree/model", b"linux,dummy-virt\0", "dummy-virt"),
    ):
        plant(path, text)
        assert host.virtual_machine().value == maker
    plant("proc/device-tree/model", "Ampere(R)\n")
    plant("proc/device-tree/hypervisor/compatible", "")
    plant("sys/hypervisor/type", "")
    plant("proc/sysinfo", "Manufacturer: IBM\nVM00 Control Program: z/VM    7.2.0\n")
    assert host.virtual_machine().value == "z/VM"


@pytest.mark.parametrize(
    ("vendor", "product", "maker"),
    [
        ("Amazon EC2", "c7g.xlarge", "Amazon EC2"),
        ("Amazon EC2", "c7g.metal", "none"),
        ("Amazon EC2", "m8g.metal-24xl", "none"),
        ("Microsoft Corporation", "Virtual Machine", "Microsoft Corporation Virtual Machine"),
        ("Microsoft Corporation", "Surface Pro", None),
        ("Apple Inc.", "Apple Virtualization Generic Platform", "Apple Virtualization"),
        ("Google", "Google Compute Engine", "Google Compute Engine"),
        ("LENOVO", "21N1CTO1WW", None),
    ],
)
def test_firmware_names_a_virtual_machine_by_maker_and_product(plant, vendor, product, maker):
    plant("proc/cpuinfo", GRAVITON)
    plant("sys/class/dmi/id/sys_vendor", f"{vendor}\n")
    plant("sys/class/dmi/id/product_name", f"{product}\n")
    assert host.virtual_machine().value == maker


def arm(part, designer="0x41", features="fp asimd"):
    return GRAVITON.replace("0xd40", part).replace("0x41", designer).replace("fp asimd evtstrm aes sve", features)


APPLE = {"sys_vendor": "Apple Inc.", "product_name": "Apple Virtualization Generic Platform"}
AZURE = {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}
PHONE = "".join(
    f"processor : {cpu}\nCPU implementer : 0x41\nCPU part : {part}\n\n"
    for cpu, part in enumerate(("0xd46", "0xd47", "0xd4d", "0xd4e"))
)
NUMBERED = "processor : 0\nvendor_id : AuthenticAMD\ncpu family : 15\nmodel : 107\nstepping : 1\n"
SMALL_L3, LARGE_L3 = "32768K", "65536K"


@pytest.mark.parametrize(
    ("one", "other", "dmi", "caches"),
    [
        (arm("0x000", "0x61"), arm("0x000", "0x61", "fp asimd bf16"), APPLE, (SMALL_L3, SMALL_L3)),
        (arm("0xd0c"), arm("0xd0c"), {}, (SMALL_L3, LARGE_L3)),
        (arm("0xd49"), arm("0xd49"), AZURE, (SMALL_L3, LARGE_L3)),
        (RISCV, RISCV, {}, (SMALL_L3, LARGE_L3)),
        (PHONE + "Hardware : Qualcomm SM8550", PHONE + "Hardware : MT6985", {}, (SMALL_L3, SMALL_L3)),
        (BIG_LITTLE + "Hardware : MT6893", BIG_LITTLE + "Hardware : MT6895", {}, (SMALL_L3, SMALL_L3)),
        *(
            (*[f"{NUMBERED}model name : {name}\n"] * 2, {}, (SMALL_L3, LARGE_L3))
            for name in ("Common KVM processor", "QEMU Virtual CPU version 2.5+", "VirtualApple @ 2.50GHz")
        ),
    ],
    ids=[
        "Apple hides the core",
        "no board",
        "a hypervisor's board",
        "RISC-V",
        "long names",
        "Android",
        "kvm64",
        "qemu64",
        "Rosetta",
    ],
)
def test_cpus_of_one_name_that_differ_in_anything_else_have_two_labels(plant, one, other, dmi, caches):
    for name, text in dmi.items():
        plant(f"sys/class/dmi/id/{name}", f"{text}\n")
    labels = set()
    for cpuinfo, size in ((one, caches[0]), (other, caches[1])):
        plant("proc/cpuinfo", cpuinfo)
        for name, text in (("type", "Unified"), ("level", 3), ("size", size), ("shared_cpu_list", 0)):
            plant(f"sys/devices/system/cpu/cpu0/cache/index3/{name}", f"{text}\n")
        labels.add(environment.machine_label(environment.host_environment(), []))
    assert len(labels) == 2
    assert all(len(label) < 60 and "board" not in label for label in labels)


@pytest.mark.parametrize(
    "model", ["QEMU Virtual CPU version 2.5+", "Common KVM processor", "Neoverse-V2 (QEMU KVM Virtual Machine)"]
)
def test_a_virtual_machine_keeps_its_label_when_it_is_given_other_memory(model):
    """By its balloon, or by Docker Desktop's slider. It bears the numbers of its CPU where they are known."""

    def label(memory, cores=4, identity="AuthenticAMD family 15 model 107 stepping 1"):
        told = {"cpu.model": model, "cpu.identity": identity, "cpu.cores": cores, "memory.total": memory}
        return environment.machine_label({name: Fact(value, "s") for name, value in told.items()}, [])

    assert label(8 << 30) == label(4 << 30) != label(8 << 30, cores=2)
    assert "-family-15-model-107-" in label(8 << 30)
    assert re.fullmatch("(qemu-virtual|common-kvm|neoverse-v2)-[0-9a-f]{6}", label(8 << 30, identity=None))


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Cortex-A78AE (NVIDIA Jetson AGX Orin Developer Kit)", "cortex-a78ae-nvidia-jetson-agx-orin"),
        ("Cortex-A78AE (NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super)",
         "cortex-a78ae-nvidia-jetson-orin-nano-super"),
        ("Neoverse-N1 (Google Google Compute Engine)", "neoverse-n1-google-compute-engine"),
        ("Neoverse-V2 (Maker A 1 1)", "neoverse-v2-maker-a-1-1"),
    ],
)  # fmt: skip
def test_a_label_leaves_out_what_tells_nothing(name, short):
    assert environment.machine_label({"cpu.model": Fact(name, "s")}, []) == short


def test_a_core_whose_number_a_hypervisor_hides_is_unknown(plant):
    plant("proc/cpuinfo", arm("0x000", "0x61"))
    assert (processor.model().value, processor.identity().value) == (None, None)


def test_the_label_of_an_unknown_cpu_tells_its_memory_but_not_what_the_kernel_keeps_of_it():
    def label(gigabytes):
        return environment.machine_label({"memory.total": Fact(int(gigabytes * 2**30), "s")}, [])

    assert label(15.6) == label(15.2) != label(31.2)
    assert label(31.2) == label(30.8) != label(23.4)


def test_equal_cores_that_an_old_kernel_describes_once_are_of_one_kind(plant):
    """32-bit Arm: what holds for every core stands after the last."""
    once = GRAVITON.partition("Features")[2].replace("0xd40", "0xc07")
    plant("proc/cpuinfo", f"processor : 0\nBogoMIPS : 38.40\n\nprocessor : 1\nBogoMIPS : 38.40\n\nFeatures{once}")
    plant("sys/devices/system/cpu/online", "0-1\n")
    assert [kind["kind"] for kind in processor.kinds().value] == ["Cortex-A7"]
    assert processor.identity().value == "Cortex-A7 r1p1"
