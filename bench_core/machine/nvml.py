"""Facts about an NVIDIA GPU from its driver (NVML): once per run, and its state before and after a measurement.

A device is found by the UUID that the array library reports, never by index: CUDA numbers devices by
speed, NVML by PCI address, and CUDA_VISIBLE_DEVICES renumbers the visible ones. The UUID is only compared;
no fact contains it.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench_core.errors import BenchError
from bench_core.machine import host
from bench_core.machine.facts import NO_CONTAINER, cuda_version
from bench_core.records import Fact, Facts
from bench_core.text import decoded

# Names of the bits nvmlClocksEventReason*. _LIMITED: power, heat or a fault limits the clocks. _OTHER: the GPU is idle,
# or a setting limits its clocks.
_OTHER = {0x1: "idle", 0x2: "application_clocks", 0x10: "sync_boost", 0x100: "display_clocks"}
_POWER_CAP = "power_cap"
_LIMITED = {
    0x4: _POWER_CAP,
    0x8: "hardware_slowdown",
    0x20: "software_thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
    0x200: "board_limit",
    0x400: "reliability",
}
_SM, _MEMORY = 1, 2  # nvmlClockType_t
_BY_NUMBER = "nvmlDeviceGetHandleByIndex"
_CORE_SENSOR = 0  # nvmlTemperatureSensors_t
_UNCORRECTED, _SINCE_MADE = 1, 1  # nvmlMemoryErrorType_t; nvmlEccCounterType_t: aggregate, over the life of the card
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}  # by nvmlValueType_t


class NotTold(BenchError):
    """NVML, a device or a single fact is not available; the text says why."""


@dataclass(frozen=True, slots=True)
class GpuState:
    """The state of a GPU at one moment: Hz, W, degrees Celsius, clock event reasons; None for what is not reported.

    other_processes: the number of other processes that have a context on it.
    """

    sm_clock: float | None
    power: float | None
    temperature: float | None
    reasons: tuple[str, ...]
    other_processes: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether heat, a power limit or a fault of the hardware limits the clock."""
        return any(reason in _LIMITED.values() for reason in self.reasons)

    @property
    def is_limited_by_heat_or_fault(self) -> bool:
        """Whether anything but the power limit, which the work itself reaches, limits the clock."""
        return any(reason in _LIMITED.values() and reason != _POWER_CAP for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Silent:
    """A card that the driver counts, but tells nothing of. reason: its words, as "GPU is lost"."""

    number: int
    reason: str

    @property
    def is_withheld(self) -> bool:
        """Whether this process may not use it, as in a container that has some of the cards."""
        return self.reason == "Insufficient Permissions"


@dataclass(frozen=True, slots=True)
class _Handle:
    """NVML's handles of a device. card: for clocks and power. part: for memory; a slice of the card under MIG.

    shared: whether MIG slices share the card, whichever UUID the library gave. It is read once: the mode cannot change
    while the card is in use (NVIDIA, Multi-Instance GPU User Guide), and the GPU is idle during each query.
    """

    card: Any
    part: Any
    shared: bool


def facts(uuid: str | None) -> Facts:
    """Return every fact about the device with this UUID or unique prefix; a query that fails gives a reason.

    Without a driver or a device, the only fact is `gpu.driver`, with the reason.
    """
    try:
        nvml, handle = _nvml(), _find(_bare(uuid))
    except NotTold as error:
        return {"gpu.driver": Fact(reason=str(error))}
    return {name: _ask(source, ask, nvml, handle) for name, (source, ask) in _QUERIES.items()}


def state(uuid: str | None) -> GpuState | None:
    """Return the current state of the device; None if nothing can be read (no driver, or the device is lost).

    Values that change first after the load ends are read first: within milliseconds, `idle` replaces the reasons of
    the load. Power can be read later, because many GPUs report the mean of the last second.
    """
    if (located := _located(uuid)) is None:
        return None
    names = ("gpu.throttle_reasons", "gpu.sm_clock", "gpu.power", "gpu.temperature", "gpu.other_processes")
    answers = [_ask(*_QUERIES[name], *located).value for name in names]
    if all(answer is None for answer in answers):
        return None
    reasons, clock, power, temperature, others = answers
    return GpuState(clock, power, temperature, tuple(reasons or ()), others)


def energy(uuid: str | None) -> float | None:
    """Return the energy that the device has used since its driver was loaded, in joules; None if not reported."""
    located = _located(uuid)
    joules: float | None = _ask("", _energy, *located).value if located else None
    return joules


def _located(uuid: str | None) -> tuple[Any, _Handle] | None:
    """Return NVML and the device's handle; None without a driver or without such a device."""
    if uuid is None:
        return None
    try:
        return _nvml(), _find(_bare(uuid))
    except NotTold:
        return None


def cards() -> list[Facts]:
    """Return the facts of every card that answers, visible to CUDA or not, its number first; raises NotTold."""
    nvml = _nvml()
    found = []
    for number, card in numbered():
        handle = _Handle(card, card, _mig(nvml, card))
        facts = {name: _ask(source, ask, nvml, handle) for name, (source, ask) in _QUERIES.items()}
        found.append({"gpu.number": Fact(number, _BY_NUMBER), **facts})
    return found


def numbered() -> list[tuple[int, Any]]:
    """Return the driver's number and the handle of every card that answers, visible to CUDA or not; raises NotTold."""
    return [(number, card.value) for number, card in _listed(_nvml()) if card.value is not None]


def silent() -> list[Silent]:
    """Return the cards that the driver counts, but tells nothing of; raises NotTold."""
    listed = _listed(_nvml())
    return [Silent(number, card.reason.partition(": ")[2]) for number, card in listed if card.value is None]


def whole_card(uuid: str | None) -> tuple[int, Any]:
    """Return the driver's number and the handle of the card with this UUID; raises NotTold, also for a MIG slice."""
    handle = _find(_bare(uuid))
    if handle.shared:
        raise NotTold("MIG is on: slices of a card have no link to other cards")
    number = ask("nvmlDeviceGetIndex", handle.card)
    if number.value is None:
        raise NotTold(number.reason)
    return number.value, handle.card


def ask(function: str, *arguments: Any) -> Fact:
    """Return what a function of NVML returns, with its name as the source, or the reason why it failed."""
    return _ask(function, lambda: getattr(_nvml(), function)(*arguments))


def is_unsupported(fact: Fact) -> bool:
    """Whether the driver has answered that the device lacks what was asked for."""
    return fact.reason.endswith(": Not Supported")


def field(card: Any, name: str, number: int, scope: int = 0) -> Fact:
    """Return one of NVML's field values as a number. name, number: NVML_FI_DEV_*. scope: the link, where it has one."""
    asked = ask("nvmlDeviceGetFieldValues", card, [(number, scope)])
    if asked.value is None:
        return asked
    found = asked.value[0]
    if found.nvmlReturn:
        return Fact(reason=f"{name}: {_nvml().NVMLError(found.nvmlReturn)}")
    member = _MEMBERS.get(found.valueType)
    return Fact(getattr(found.value, member), name) if member else Fact(reason=f"{name}: of unknown type")


def pcie(card: Any) -> Facts:
    """Return the facts of a card's PCIe link, by the names that they have among all (`gpu.pcie_width`)."""
    nvml, handle = _nvml(), _Handle(card, card, shared=False)
    return {name: _ask(*query, nvml, handle) for name, query in _QUERIES.items() if name.startswith("gpu.pcie_")}


def is_sliced(card: Any) -> bool:
    """Whether a card is in MIG mode."""
    return _mig(_nvml(), card)


def visible_devices(value: str) -> Fact:
    """Return the value of CUDA_VISIBLE_DEVICES with UUIDs masked: a published file must not contain them."""
    source = "CUDA_VISIBLE_DEVICES"
    entries = [entry.strip() for entry in value.split(",")]
    kinds = [next((kind for kind in ("MIG", "GPU") if e.upper().startswith(f"{kind}-")), None) for e in entries]
    return Fact(",".join(f"<{kind} id>" if kind else entry for kind, entry in zip(kinds, entries, strict=True)), source)


@functools.cache
def _nvml() -> Any:
    """Return the pynvml module, initialised once per process; raises NotTold."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        raise NotTold("nvidia-ml-py is not installed") from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NotTold(f"no NVIDIA driver: {error}") from None
    return nvml


@functools.cache
def _find(uuid: str) -> _Handle:
    """Return the handle of the only device whose UUID starts with `uuid`; raises NotTold."""
    nvml = _nvml()
    if not uuid:
        raise NotTold("the array library does not report the UUID of its device")
    uuids = ((handle, _bare(decoded(nvml.nvmlDeviceGetUUID(handle.part)))) for handle in _handles(nvml))
    found = [handle for handle, own in uuids if own.startswith(uuid)]
    if len(found) != 1:
        raise NotTold(f"the driver has {len(found) or 'no'} devices with the UUID of this one")
    return found[0]


def _handles(nvml: Any) -> Iterator[_Handle]:
    """Yield every card and every MIG slice; devices that disappear meanwhile are left out."""
    for _, card in numbered():
        yield _Handle(card, card, _mig(nvml, card))
        for index in range(_ask("", nvml.nvmlDeviceGetMaxMigDeviceCount, card).value or 0):
            part = _ask("", nvml.nvmlDeviceGetMigDeviceHandleByIndex, card, index).value
            if part is not None:
                yield _Handle(card, part, shared=True)


def _mig(nvml: Any, card: Any) -> bool:
    """Return whether a card is in MIG mode; False for cards without that mode."""
    mode = _ask("", nvml.nvmlDeviceGetMigMode, card).value
    return bool(mode and mode[0])


def _listed(nvml: Any) -> Iterator[tuple[int, Fact]]:
    """Yield the number of every card that the driver counts, and its handle, or the reason why it does not answer."""
    for number in range(_ask("", nvml.nvmlDeviceGetCount).value or 0):
        card = _ask(_BY_NUMBER, nvml.nvmlDeviceGetHandleByIndex, number)
        uuid = _ask("nvmlDeviceGetUUID", nvml.nvmlDeviceGetUUID, card.value) if card.value is not None else card
        yield number, card if uuid.value is not None else uuid


def _ask(source: str, query: Callable[..., Any], *arguments: Any) -> Fact:
    """Return the result of one query as a Fact, or the reason why it failed."""
    nvml = _nvml()
    try:
        return Fact(query(*arguments), source)
    except nvml.NVMLError as error:
        return Fact(reason=f"{source}: {error}")
    except NotTold as error:
        return Fact(reason=f"{source}: {error}")
    except AttributeError:  # the function came with a later nvidia-ml-py
        return Fact(reason=f"{source}: unknown to this nvidia-ml-py")


def _bare(uuid: str | None) -> str:
    """Return only the hexadecimal digits of a UUID: libraries differ in prefix and dashes."""
    return (uuid or "").upper().removeprefix("GPU-").removeprefix("MIG-").replace("-", "")


def _reasons(nvml: Any, handle: _Handle) -> list[str]:
    try:
        bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle.card)
    except nvml.NVMLError_FunctionNotFound:  # the old name, for drivers before 535
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle.card)
    return [word for bit, word in sorted((_OTHER | _LIMITED).items()) if bits & bit]


def _other_processes(nvml: Any, handle: _Handle) -> int:
    """Return the number of other processes that compute on the card."""
    pids = [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle.card)]
    if os.getpid() in pids or not pids:
        return len(pids) - (os.getpid() in pids)
    if host.container().value != NO_CONTAINER:
        raise NotTold(f"{len(pids)} processes, perhaps including this one: a container hides process ids")
    return len(pids)


def _energy(nvml: Any, handle: _Handle) -> float:
    _require_whole_card(handle)
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle.card)) / 1e3


def _power(nvml: Any, handle: _Handle) -> float:
    _require_whole_card(handle)
    return float(nvml.nvmlDeviceGetPowerUsage(handle.card)) / 1e3


def _require_whole_card(handle: _Handle) -> None:
    """Raise NotTold for a card in MIG mode: it reports the power of all slices together."""
    if handle.shared:
        raise NotTold("the card reports only the sum over its MIG slices")


_Query = Callable[[Any, _Handle], Any]
_QUERIES: dict[str, tuple[str, _Query]] = {
    f"gpu.{name}": (source, query)
    for name, source, query in (
        ("name", "nvmlDeviceGetName", lambda n, h: decoded(n.nvmlDeviceGetName(h.part))),
        ("driver", "nvmlSystemGetDriverVersion", lambda n, _: decoded(n.nvmlSystemGetDriverVersion())),
        ("driver_cuda", "nvmlSystemGetCudaDriverVersion",
         lambda n, _: cuda_version(n.nvmlSystemGetCudaDriverVersion())),
        ("memory", "nvmlDeviceGetMemoryInfo", lambda n, h: n.nvmlDeviceGetMemoryInfo(h.part).total),
        ("sm_clock", "nvmlDeviceGetClockInfo", lambda n, h: n.nvmlDeviceGetClockInfo(h.card, _SM) * 1e6),
        ("sm_clock_max", "nvmlDeviceGetMaxClockInfo", lambda n, h: n.nvmlDeviceGetMaxClockInfo(h.card, _SM) * 1e6),
        ("memory_clock", "nvmlDeviceGetClockInfo", lambda n, h: n.nvmlDeviceGetClockInfo(h.card, _MEMORY) * 1e6),
        ("memory_clock_max", "nvmlDeviceGetMaxClockInfo",
         lambda n, h: n.nvmlDeviceGetMaxClockInfo(h.card, _MEMORY) * 1e6),
        ("power", "nvmlDeviceGetPowerUsage", _power),
        ("power_limit", "nvmlDeviceGetEnforcedPowerLimit",
         lambda n, h: n.nvmlDeviceGetEnforcedPowerLimit(h.card) / 1e3),
        ("power_limit_default", "nvmlDeviceGetPowerManagementDefaultLimit",
         lambda n, h: n.nvmlDeviceGetPowerManagementDefaultLimit(h.card) / 1e3),
        ("energy_counter", "nvmlDeviceGetTotalEnergyConsumption", lambda n, h: _energy(n, h) >= 0),
        ("temperature", "nvmlDeviceGetTemperature", lambda n, h: n.nvmlDeviceGetTemperature(h.card, _CORE_SENSOR)),
        ("throttle_reasons", "nvmlDeviceGetCurrentClocksEventReasons", _reasons),
        ("ecc", "nvmlDeviceGetEccMode", lambda n, h: bool(n.nvmlDeviceGetEccMode(h.card)[0])),
        ("ecc_errors", "nvmlDeviceGetTotalEccErrors",
         lambda n, h: n.nvmlDeviceGetTotalEccErrors(h.card, _UNCORRECTED, _SINCE_MADE)),
        ("remapped_rows", "nvmlDeviceGetRemappedRows", lambda n, h: sum(n.nvmlDeviceGetRemappedRows(h.card)[:2])),
        ("mig", "nvmlDeviceGetMigMode", lambda n, h: bool(n.nvmlDeviceGetMigMode(h.card)[0])),
        ("persistence", "nvmlDeviceGetPersistenceMode", lambda n, h: bool(n.nvmlDeviceGetPersistenceMode(h.card))),
        ("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration",
         lambda n, h: n.nvmlDeviceGetCurrPcieLinkGeneration(h.card)),
        ("pcie_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration",
         lambda n, h: n.nvmlDeviceGetMaxPcieLinkGeneration(h.card)),
        ("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth", lambda n, h: n.nvmlDeviceGetCurrPcieLinkWidth(h.card)),
        ("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth", lambda n, h: n.nvmlDeviceGetMaxPcieLinkWidth(h.card)),
        ("other_processes", "nvmlDeviceGetComputeRunningProcesses", _other_processes),
    )
}  # fmt: skip
