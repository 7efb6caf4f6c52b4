"""Choose the backends and devices of a run, and state why others are absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_core.backends import registry
from bench_core.backends.base import Backend, Launches
from bench_core.errors import Unavailable, UsageError
from bench_core.machine import allotment
from bench_core.plan.discovery import Probe
from bench_core.records import Target, count_of_devices, type_of
from bench_core.text import no_such

_DEVICE_TYPES = ("cpu", "cuda", "rocm", "mps", "xpu", "tpu")


@dataclass(frozen=True, slots=True)
class Absent:
    """The reason why a target cannot be measured, known before its first case."""

    code: str
    reason: str


def entries_of(text: str) -> tuple[str, ...]:
    """Return the entries `backend[:device]` of a list with commas."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def require_known(entries: Sequence[str], said: str) -> None:
    """Raise UsageError for the first entry `backend[:device]` with an unknown backend, type or number of devices.

    said: how the user has given the entries, for the message.
    """
    for entry in entries:
        backend, _, kind = entry.partition(":")
        if backend not in registry.names():
            raise UsageError(f"{said}: {no_such('backend', entry, registry.names())}")
        try:
            types = {*_DEVICE_TYPES, *registry.load(backend).devices_expected}
        except Unavailable as error:
            raise UsageError(f"{said}: {error}") from None
        if kind and type_of(kind) not in types:
            raise UsageError(f"{said}: {no_such('type of device', kind, sorted(types))}")
        try:
            count_of_devices(kind)
        except ValueError as error:
            raise UsageError(f"{said}: {backend}:{error}") from None


class Targets:
    """The targets of a run, from the requested entries `backend[:device]`.

    An entry without a device means the first device of each type: the GPUs of one machine are usually identical,
    and measuring each would multiply the time. A type (`torch:cuda`) means all its devices, one by one, and
    `torch:cuda:x8` eight of them together. Device types that a
    backend expects but does not find are targets too, and so are requested devices that cannot run a kernel;
    `absent` gives the reasons. A backend whose class cannot be loaded has no target: `left_out` says so.
    """

    def __init__(self, asked: Sequence[str], probes: Mapping[str, Probe]) -> None:
        self.probes = probes
        self._asked = asked
        self.taking_part: list[Target] = []
        self.absent: dict[tuple[str, str], Absent] = {}
        self._unusable: list[str] = []  # why the classes of backends could not be loaded
        for entry in asked:
            name, _, device = entry.partition(":")
            self._add(name, device)
        self.taking_part = list(dict.fromkeys(self.taking_part))  # entries may overlap: torch,torch:cpu

    def _add(self, name: str, wanted: str) -> None:
        found = self.probes[name]
        try:
            backend = registry.load(name)
        except Unavailable as error:  # without its class there is nothing to plan with
            self._unusable.append(str(error))
            return
        addresses = [d.device for d in found.devices]
        if count_of_devices(wanted) > 1:
            if not_several := _why_not_several(backend, found, wanted):
                self.absent[name, wanted] = not_several
            self.taking_part.append(Target(name, backend.dialect, wanted))
            return
        present = [address for address in addresses if matches(address, wanted)]
        if not wanted:
            present = _first_of_each_type(present)
        broken = {device: why for device, why in found.broken.items() if wanted and matches(device, wanted)}
        expected = [wanted] if wanted else backend.devices_expected
        missing = [e for e in expected if not any(matches(address, e) for address in [*addresses, *broken])]
        self.absent |= {(name, device): Absent("kernel_failed", why) for device, why in broken.items()}
        for device in missing:
            why = _why_broken(found, device)
            code = "kernel_failed" if why else found.reason_code or "no_device"
            self.absent[name, device] = Absent(code, why or found.reason or f"{name} finds no {device} device")
        self.taking_part += [Target(name, backend.dialect, device) for device in [*present, *broken, *missing]]

    def left_out(self) -> list[str]:
        """Return a line about devices left out, with the option that includes them, and a line about broken ones."""
        taken = {(target.backend, target.device) for target in self.taking_part}
        left: dict[str, list[str]] = {}
        broken: list[str] = [*self._unusable]
        for name in (entry for entry in self._asked if ":" not in entry):
            others = [d.device for d in self.probes[name].devices if (name, d.device) not in taken]
            left |= {name: others} if others else {}
            # If all devices of a type are broken, the type itself is a target.
            lost = [why for d, why in self.probes[name].broken.items() if (name, type_of(d)) not in taken]
            broken += [f"{name} {why}" for why in lost]
        entries = [full for entry in self._asked for full in (self._types(entry) if entry in left else [entry])]
        devices = ", ".join(f"{name} {' '.join(others)}" for name, others in left.items())
        every = f"left out: {devices}; --bench-backends={','.join(dict.fromkeys(entries))} measures every device"
        return [*([every] if left else []), *([f"left out: {'; '.join(broken)}"] if broken else [])]

    def _types(self, name: str) -> list[str]:
        """Return the entry `backend:type` for each type of device on which a backend is measured."""
        types = (target.device_type for target in self.taking_part if target.backend == name)
        return [f"{name}:{kind}" for kind in dict.fromkeys(types)]

    def require(self, entries: Sequence[str]) -> None:
        """Raise UsageError for the first required backend or device that is not available."""
        for entry in entries:
            name, _, wanted = entry.partition(":")
            found = self.probes[name]
            addresses = [d.device for d in found.devices]
            if count_of_devices(wanted) > 1:
                if why := _why_not_several(registry.load(name), found, wanted):
                    raise UsageError(f"--bench-require={entry}: not available: {why.reason}")
            elif not any(matches(address, wanted) for address in addresses):
                reason = _why_broken(found, wanted) or found.reason or f"it finds {', '.join(addresses) or 'no device'}"
                raise UsageError(f"--bench-require={entry}: not available: {reason}")

    def accelerators(self) -> dict[str, str]:
        """Return the model name of every accelerator by its address, in their order."""
        names = {d.device: d.name for p in self.probes.values() for d in p.devices if d.device != "cpu"}
        return {device: names[device] for device in sorted(names)}

    def accelerator_names(self) -> list[str]:
        """Return the model name of every accelerator, in the order of their addresses."""
        return list(self.accelerators().values())

    def last_level_cache(self, device: str) -> int | None:
        """Return the size of an accelerator's last-level cache in bytes; None if no library reports it."""
        facts = (d.facts.get("gpu.l2_cache") for p in self.probes.values() for d in p.devices if d.device == device)
        return next((int(fact.value) for fact in facts if fact and fact.value), None)


def _why_not_several(backend: type[Backend], found: Probe, wanted: str) -> Absent | None:
    """Return why a backend cannot compute on several devices together ("cuda:x8"); None if it can.

    On a CPU each has cores of its own.
    """
    ranks, kind = count_of_devices(wanted), type_of(wanted)
    if not found.available:
        return Absent(found.reason_code, found.reason)
    if not isinstance(backend, Launches):
        return Absent("one_device", f"{found.backend} computes on one device at a time")
    if kind == "cpu":
        there, what = allotment.usable_cores(), "cores"
    else:
        there, what = sum(matches(d.device, kind) for d in found.devices), f"{kind} devices"
    if there < ranks:
        return Absent("no_device", f"{found.backend} finds {there} {what} where {wanted} needs {ranks}")
    return None


def _why_broken(found: Probe, wanted: str) -> str:
    """Return why the requested devices of a backend cannot run a kernel; "" if none of them is broken."""
    return "; ".join(why for device, why in found.broken.items() if matches(device, wanted))


def _first_of_each_type(addresses: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    for address in addresses:
        first.setdefault(type_of(address), address)
    return list(first.values())


def matches(device: str, wanted: str) -> bool:
    """Return whether a device address matches a request: the same address, its type, or "" for any device.

    >>> matches("cuda:1", "cuda"), matches("cuda:1", "cuda:0"), matches("cpu", "")
    (True, False, True)
    """
    return wanted in {"", device, type_of(device)}
