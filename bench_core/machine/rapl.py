"""The energy counters of the CPU packages: RAPL of Intel and AMD, as Linux shows them (powercap).

Source: Linux, Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench_core.machine.kernel_files import matching, read, read_number, why_unread
from bench_core.records import Fact

_ZONES = "/sys/class/powercap/intel-rapl:[0-9]*"


@dataclass(frozen=True, slots=True)
class Package:
    """The energy counter of one CPU package: its file, and the value at which it wraps to zero, in joules."""

    file: str
    range: float


def packages() -> list[Package]:
    """Return the counter of every CPU package; none if one of them cannot be read, for a part is not the whole."""
    return [] if _unread() else [Package(f"{zone}/energy_uj", _range(zone)) for zone in _zones()]


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
    zones = _zones()
    if not zones:
        return Fact(reason="no /sys/class/powercap/intel-rapl:*/energy_uj")
    if unread := _unread():
        return Fact(reason="; ".join(unread))
    return Fact([read(f"{zone}/name") for zone in zones], "/sys/class/powercap/intel-rapl:*/energy_uj")


def _unread() -> list[str]:
    """Return why files of a package cannot be read, with the path of each; an empty list if all can."""
    paths = [f"{zone}/{name}" for zone in _zones() for name in ("energy_uj", "max_energy_range_uj")]
    return [why_unread(path) for path in paths if read_number(path) is None]


def _range(zone: str) -> float:
    return (read_number(f"{zone}/max_energy_range_uj") or 0) / 1e6


def _zones() -> list[str]:
    """Return the folders of the package zones; subzones are parts of a package, other zones (psys) contain packages."""
    zones = [zone for zone in matching(_ZONES) if zone.count(":") == 1]
    return [zone for zone in zones if (read(f"{zone}/name") or "").startswith("package")]
