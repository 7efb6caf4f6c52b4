"""Who takes part in a run: which backends on which devices, and why others are absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_core.backends import registry
from bench_core.errors import UsageError
from bench_core.plan.discovery import Probe
from bench_core.records import Target


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a target cannot be measured at all, known before its first case."""

    code: str
    reason: str


class Targets:
    """The targets of a run, from the entries `backend[:device]` that were asked for.

    An entry without a device stands for the first device of each type: the GPUs of one machine are mostly
    alike, and each would cost the whole time again. A type (`torch:cuda`) stands for all its devices. Types that
    a backend expects and does not find are targets too, and so are devices that were asked for and compute nothing,
    with their reason in `absent`.
    """

    def __init__(self, asked: Sequence[str], probes: Mapping[str, Probe]) -> None:
        self.probes = probes
        self._asked = asked
        self.taking_part: list[Target] = []
        self.absent: dict[tuple[str, str], Absent] = {}
        for entry in asked:
            name, _, device = entry.partition(":")
            self._add(name, device)

    def _add(self, name: str, wanted: str) -> None:
        found = self.probes[name]
        addresses = [d.device for d in found.devices]
        present = [address for address in addresses if matches(address, wanted)]
        if not wanted:
            present = _first_of_each_type(present)
        backend = registry.load(name)
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
        """Return a line on the devices that are here and left out, with how to measure all, and one on broken ones."""
        taken = {(target.backend, target.device) for target in self.taking_part}
        left: dict[str, list[str]] = {}
        broken: list[str] = []
        for name in (entry for entry in self._asked if ":" not in entry):
            others = [d.device for d in self.probes[name].devices if (name, d.device) not in taken]
            left |= {name: others} if others else {}
            # Where all devices of a type are broken, the type is a target.
            lost = [why for d, why in self.probes[name].broken.items() if (name, d.partition(":")[0]) not in taken]
            broken += [f"{name} {why}" for why in lost]
        entries = [full for entry in self._asked for full in (self._types(entry) if entry in left else [entry])]
        devices = ", ".join(f"{name} {' '.join(others)}" for name, others in left.items())
        every = f"left out: {devices}; --bench-backends={','.join(dict.fromkeys(entries))} measures every device"
        return [*([every] if left else []), *([f"left out: {'; '.join(broken)}"] if broken else [])]

    def _types(self, name: str) -> list[str]:
        """Return an entry for each type of device on which a backend is measured."""
        types = (target.device.partition(":")[0] for target in self.taking_part if target.backend == name)
        return [f"{name}:{kind}" for kind in dict.fromkeys(types)]

    def require(self, entries: Sequence[str]) -> None:
        """Raise UsageError naming the first required backend or device that is not available."""
        for entry in entries:
            name, _, wanted = entry.partition(":")
            found = self.probes[name]
            addresses = [d.device for d in found.devices]
            if not any(matches(address, wanted) for address in addresses):
                reason = _why_broken(found, wanted) or found.reason or f"it finds {', '.join(addresses) or 'no device'}"
                raise UsageError(f"--bench-require={entry}: not available: {reason}")

    def accelerator_names(self) -> list[str]:
        """Return the model of every accelerator found, each address once."""
        names = {d.device: d.name for p in self.probes.values() for d in p.devices if d.device != "cpu"}
        return [names[device] for device in sorted(names)]

    def last_level_cache(self, device: str) -> int | None:
        """Return the bytes of an accelerator's last-level cache, None if no library tells them."""
        facts = (d.facts.get("gpu.l2_cache") for p in self.probes.values() for d in p.devices if d.device == device)
        return next((int(fact.value) for fact in facts if fact and fact.value), None)


def _why_broken(found: Probe, wanted: str) -> str:
    """Return why the devices of a backend that were asked for compute nothing, "" if none of them is broken."""
    return "; ".join(why for device, why in found.broken.items() if matches(device, wanted))


def _first_of_each_type(addresses: Sequence[str]) -> list[str]:
    first: dict[str, str] = {}
    for address in addresses:
        first.setdefault(address.partition(":")[0], address)
    return list(first.values())


def matches(device: str, wanted: str) -> bool:
    """Whether a device address is what was asked for: itself, its type, or anything at all.

    >>> matches("cuda:1", "cuda"), matches("cuda:1", "cuda:0"), matches("cpu", "")
    (True, False, True)
    """
    return wanted in {"", device, device.partition(":")[0]}
