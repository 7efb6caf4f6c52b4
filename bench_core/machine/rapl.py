"""The energy counters of the CPU packages: RAPL of Intel and AMD, as Linux shows them (powercap).

Source: Linux, Documentation/power/powercap/powercap.rst; the names of zones: drivers/powercap/intel_rapl_common.c.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_core.machine.kernel_files import matching, read, read_number, why_unread
from bench_core.records import Fact

_ZONES = "/sys/class/powercap/intel-rapl:[0-9]*"
_TOPOLOGY = "/sys/devices/system/cpu/cpu*/topology"


@dataclass(frozen=True, slots=True)
class Package:
    """The energy counter of one CPU package: its file, and the value at which it wraps to zero, in joules."""

    file: str
    range: float


@functools.cache  # if a counter vanishes later, cases report `energy_lost`, not that there is no counter
def packages() -> Sequence[Package]:
    """Return the counter of every CPU package; none if one of them cannot be read, for a part is not the whole."""
    return () if _unread() else tuple(Package(f"{zone}/energy_uj", _range(zone)) for zone in _zones())


def is_partial() -> bool:
    """Whether the energy of some packages can be read, but not that of all."""
    return any(name and not _unread_files(zone) for zone, name in _zones().items()) and bool(_unread())


def joules(of: Sequence[Package]) -> tuple[float, ...] | None:
    """Return the readings of the counters, in joules; None if one of them is gone or beyond its range."""
    found = []
    for package in of:
        reading = read_number(package.file)
        if reading is None or not 0 <= reading / 1e6 <= package.range:
            return None
        found.append(reading / 1e6)
    return tuple(found)


def fact() -> Fact:
    """Return the names of the packages whose energy can be read, or which file prevents that."""
    if not _zones():
        return Fact(reason="no /sys/class/powercap/intel-rapl:*/energy_uj")
    if unread := _unread():
        return Fact(reason="; ".join(unread))
    return Fact(list(_zones().values()), "/sys/class/powercap/intel-rapl:*/energy_uj")


def _unread() -> list[str]:
    """Return why the energy of a package cannot be read, with the path of each file; an empty list if all can."""
    zones = _zones()
    nameless = [f"{zone}/name" for zone, name in zones.items() if not name]
    if nameless:  # any of them may be a package
        return [why_unread(path) for path in nameless]
    expected = _expected(dies=any("-die-" in name for name in zones.values()))
    # Where there is a zone for each, none is missing, whatever the kernel calls it.
    absent = expected - set(zones.values()) if len(zones) < len(expected) else ()
    gone = [f"no /sys/class/powercap/intel-rapl:*/name is {name}" for name in sorted(absent)]
    return [why_unread(path) for zone in zones for path in _unread_files(zone)] + gone


def _unread_files(zone: str) -> list[str]:
    paths = [f"{zone}/{name}" for name in ("energy_uj", "max_energy_range_uj")]
    return [path for path in paths if read_number(path) is None]


def _range(zone: str) -> float:
    return (read_number(f"{zone}/max_energy_range_uj") or 0) / 1e6


def _zones() -> Mapping[str, str]:
    """Return the folders of the package zones with their names, "" for a zone whose name cannot be read.

    Subzones are parts of a package, other zones (psys) contain packages.
    """
    names = {zone: read(f"{zone}/name") or "" for zone in matching(_ZONES) if zone.count(":") == 1}
    return {zone: name for zone, name in names.items() if not name or name.startswith("package")}


@functools.cache  # a large machine has a thousand of these files, and what they tell does not change
def _expected(*, dies: bool) -> frozenset[str]:
    """Return the names of the zones that the packages of this machine have, or their dies; empty if it tells none."""
    found = set()
    for folder in matching(_TOPOLOGY):
        package = read_number(f"{folder}/physical_package_id")
        if package is not None and package >= 0:
            found.add(f"package-{package}" + (f"-die-{read_number(f'{folder}/die_id')}" if dies else ""))
    return frozenset(found)
