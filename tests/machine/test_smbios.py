"""The bandwidth of DIMMs is read from the table of the firmware, and only from one that describes all of them."""

import struct

import pytest

from bench_core.machine import smbios
from bench_core.machine.smbios import MemoryDevice

GIB = 1 << 30
DDR3, DDR4, DDR5, LPDDR5, RAM = 0x18, 0x1A, 0x22, 0x23, 0x07
PHYSICAL = "flags : sse2 avx2\n"


def structure(kind, formatted, strings=b""):
    """Return a structure of the table: type, length, handle, fields, then text strings that end with a zero byte."""
    return bytes([kind, 4 + len(formatted)]) + b"\x10\x00" + formatted + (strings or b"\0") + b"\0"


def device(
    kind=DDR5, size=16 << 10, speed=4800, configured=4800, width=64, *,
    extended_size=0, extended_speed=0, extended_configured=0, length=0x5C,
):  # fmt: skip
    """Return a memory device (type 17) as version 3.3 lays it out; size in MiB, speeds in MT/s, width in bits."""
    fields = struct.pack(
        "<HHHHHBBBBBHHBBBBBIHHHH", 0x1000, 0xFFFE, width, width, size, 9, 0, 1, 2, kind, 0, speed, 3, 0, 0, 0, 0,
        extended_size, configured, 1100, 1100, 1100,
    ).ljust(0x54 - 4, b"\0") + struct.pack("<II", extended_speed, extended_configured)  # fmt: skip
    return structure(17, fields[: length - 4], b"DIMM A\0BANK 0\0Maker\0")


END = structure(127, b"")
BIOS = structure(0, bytes(20), b"Vendor\0 17 \x11\x5c\0")


@pytest.fixture
def machine(plant, monkeypatch):
    """Return a function that gives a machine these structures, CPU information and memory, and reads its bandwidth."""

    def bandwidth(*structures, cpuinfo=PHYSICAL, total=30 * GIB):
        plant("proc/cpuinfo", cpuinfo)
        if structures:
            plant("sys/firmware/dmi/tables/DMI", b"".join(structures) + END)
        monkeypatch.setattr(smbios.allotment, "total_memory", lambda: total)
        return smbios.memory_bandwidth()

    return bandwidth


def test_devices_are_found_among_other_structures_and_empty_slots_are_left_out():
    table = BIOS + device() + device(size=0) + device(DDR4, 8 << 10, 3200, 2933) + END + device()
    assert smbios.memory_devices(table) == [
        MemoryDevice(DDR5, 16 * GIB, 64, 4800),
        MemoryDevice(DDR4, 8 * GIB, 64, 3200),
    ]


def test_large_sizes_and_high_speeds_are_read_from_the_fields_that_were_added_for_them():
    large = device(size=0x7FFF, extended_size=128 << 10, speed=0xFFFF, extended_speed=70_000)
    (read,) = smbios.memory_devices(large + END)
    assert (read.size, read.speed) == (128 * GIB, 70_000)
    (read,) = smbios.memory_devices(device(configured=0xFFFF, extended_configured=80_000) + END)
    assert read.speed == 80_000
    (read,) = smbios.memory_devices(device(size=0x8000 | 512) + END)  # in KiB
    assert read.size == 512 << 10


def test_what_is_unknown_is_0_and_fields_of_later_versions_may_be_missing():
    (read,) = smbios.memory_devices(device(size=0xFFFF, width=0xFFFF, speed=0, configured=0) + END)
    assert read == MemoryDevice(DDR5, 0, 0, 0)
    (read,) = smbios.memory_devices(device(length=0x1B) + END)  # version 2.3
    assert read == MemoryDevice(DDR5, 16 * GIB, 64, 4800)


@pytest.mark.parametrize("cut", [1, 3, 40, 100])
def test_a_damaged_table_gives_the_devices_before_the_damage(cut):
    table = device() + device()
    assert len(smbios.memory_devices(table[:-cut])) == 1
    assert smbios.memory_devices(b"\x11\x00" + table) == []
    assert smbios.memory_devices(b"") == []


def test_the_bandwidth_is_the_sum_of_speed_times_width(machine):
    fact = machine(BIOS, device(), device(speed=5600, configured=4800), device(size=0))
    assert fact.value == 8 * 4800e6 + 8 * 5600e6  # the higher of the two speeds of a device
    assert "2 memory devices" in fact.source


def test_a_device_has_at_least_the_width_of_a_dimm(machine):
    """Some firmware states the 32 bits of a subchannel of DDR5."""
    assert machine(device(width=32), device(width=128)).value == 3 * 8 * 4800e6


@pytest.mark.parametrize(
    "odd",
    [
        device(speed=0, configured=0),
        device(RAM, speed=0, configured=0),  # as in QEMU
        device(DDR4, speed=1600, configured=1600),  # perhaps the clock of DDR4-3200
        device(LPDDR5, speed=6400),
        device(DDR3, speed=1600),
    ],
)
def test_one_device_of_unknown_speed_makes_the_bandwidth_unknown(machine, odd):
    fact = machine(device(), device(), odd)
    assert fact.value is None
    assert "does not state the speed of DDR4 or DDR5 for every memory device" in fact.reason


def test_a_table_that_does_not_list_all_memory_gives_no_bandwidth(machine):
    assert machine(device(), total=17 * GIB).reason == "/sys/firmware/dmi/tables/DMI does not list all memory"
    assert machine(device(), total=15 * GIB).value == 8 * 4800e6


@pytest.mark.parametrize("cpuinfo", ["flags : sse2 hypervisor\n", "Features : asimd sve\n", ""])
def test_machines_that_may_be_virtual_give_no_bandwidth(machine, cpuinfo):
    fact = machine(device(), device(), cpuinfo=cpuinfo)
    assert (fact.value, fact.reason) == (None, "only a physical x86 machine describes its memory")


def test_memory_behind_faster_memory_gives_no_bandwidth(machine):
    fact = machine(device(), device(), cpuinfo=f"model name : Intel(R) Xeon(R) CPU Max 9462\n{PHYSICAL}")
    assert (fact.value, fact.reason) == (None, "faster memory is a cache of main memory")


def test_a_table_that_cannot_be_read_gives_the_reason(machine):
    reason = "no /sys/firmware/dmi/tables/DMI"
    assert machine().reason == reason
