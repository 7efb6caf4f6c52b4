"""The memory bandwidth that the DIMMs of this computer can have, from the table of its firmware.

Source of the format: DMTF, System Management BIOS Reference Specification (DSP0134) 3.x, sections 6.1.2 and 7.18. Linux
shows the table to root.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench_core.machine import allotment, host, kernel_files, processor
from bench_core.machine.facts import BARE_METAL
from bench_core.records import Fact

TABLE = "/sys/firmware/dmi/tables/DMI"
_MEMORY_DEVICE, _END_OF_TABLE = 17, 127  # types of structures
_DIMM_BITS = 64  # data bits of a DIMM; some firmware states those of one of the two subchannels of a DDR5 DIMM
# Types of memory whose devices are DIMMs, and the lowest speed of each in MT/s. Below it, firmware stated the clock,
# which is half of the speed. The widths of soldered memory (LPDDR, HBM) are often wrong.
_SLOWEST = {0x1A: 1866, 0x22: 3200}  # DDR4, DDR5


@dataclass(frozen=True, slots=True)
class MemoryDevice:
    """A populated slot: its type of memory (as in SMBIOS), size in bytes, data width in bits and speed in MT/s.

    The size, the width or the speed is 0 if unknown. speed: the larger of the configured speed and the module's own.
    """

    kind: int
    size: int
    width: int
    speed: int


def memory_devices(table: bytes) -> list[MemoryDevice]:
    """Return the populated memory devices of an SMBIOS table; those before the damage if it is damaged."""
    devices = [_device(structure) for structure in _structures(table) if structure[0] == _MEMORY_DEVICE]
    return [device for device in devices if device is not None]


def _structures(table: bytes) -> Iterator[bytes]:
    """Yield the formatted part of each structure. Its text strings follow it, and two zero bytes end it."""
    start = 0
    while start + 4 <= len(table):
        kind, length = table[start], table[start + 1]
        end = table.find(b"\0\0", start + length)
        if length < 4 or end < 0:
            return
        yield table[start : start + length]
        if kind == _END_OF_TABLE:
            return
        start = end + 2


def _device(structure: bytes) -> MemoryDevice | None:
    """Return the device of a structure; None for an empty slot. Fields beyond its length (older versions) are 0."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(structure[at : at + size], "little")

    def known(at: int, size: int = 2) -> int:
        return 0 if number(at, size) == (1 << 8 * size) - 1 else number(at, size)

    def speed(at: int, extended: int) -> int:
        return number(at, 2) if number(at, 2) != 0xFFFF else number(extended, 4)

    stated = number(0x0C, 2)
    if not stated:
        return None
    if stated == 0x7FFF:
        size = (number(0x1C, 4) & 0x7FFFFFFF) << 20
    else:
        size = (known(0x0C) & 0x7FFF) << (10 if stated & 0x8000 else 20)
    return MemoryDevice(number(0x12, 1), size, known(0x0A), max(speed(0x15, 0x54), speed(0x20, 0x58)))


def memory_bandwidth() -> Fact:
    """Return the sum of speed x width of all DIMMs in B/s, or the reason why it is unknown.

    It is an upper bound: two DIMMs may share a channel. Firmware that does not describe all the memory gives none. Nor
    does a virtual machine, whose table is made up; only x86 CPUs show that they are virtual.
    """
    if host.virtual_machine().value != BARE_METAL or "sse2" not in processor.flags():
        return Fact(reason="only a physical x86 machine describes its memory")
    if host.has_memory_side_cache():
        return Fact(reason="faster memory is a cache of main memory")
    if (table := kernel_files.read_bytes(TABLE)) is None:
        return Fact(reason=kernel_files.why_unread(TABLE))
    devices = memory_devices(table)
    if not devices or not all(device.speed >= _SLOWEST.get(device.kind, 1 << 32) for device in devices):
        return Fact(reason=f"{TABLE} does not state the speed of DDR4 or DDR5 for every memory device")
    total = allotment.total_memory()
    if total is None or sum(device.size for device in devices) < total:
        return Fact(reason=f"{TABLE} does not list all memory")
    bandwidth = sum(max(device.width, _DIMM_BITS) / 8 * device.speed * 1e6 for device in devices)
    return Fact(bandwidth, f"{TABLE}: speed x width of {len(devices)} memory devices")
