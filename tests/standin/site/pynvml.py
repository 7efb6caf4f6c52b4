"""A stand-in for nvidia-ml-py: devices as a script, with the errors that the driver gives.

`devices` is the machine, in the driver's order: change it as you like. A function that is not listed in a
device's `answers` raises NVMLError_NotSupported, as the driver does, and so does one whose answer is that class; what
an answer that is a dict does not list is an invalid argument. `lost` raises NVMLError_GpuIsLost for everything,
`withheld` is a card that the process may not use;
`driver = None` is a machine without one. The first device is the stand-in GPU of cupy. `connected` makes several
devices with links.
"""

# ruff: noqa: N801, N802, N803 - the names are those of nvidia-ml-py
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """Base of the driver's errors; the text is the driver's."""

    text = "Unknown Error"

    def __new__(cls, code: int = 0) -> NVMLError:
        """Return an error of the class for a code, as nvidia-ml-py does."""
        return Exception.__new__({3: NVMLError_NotSupported}.get(code, cls) if cls is NVMLError else cls)

    def __str__(self) -> str:
        return self.text


class NVMLError_NotSupported(NVMLError):
    text = "Not Supported"


class NVMLError_InvalidArgument(NVMLError):
    text = "Invalid Argument"


class NVMLError_NoPermission(NVMLError):
    text = "Insufficient Permissions"


class NVMLError_NotFound(NVMLError):
    text = "Not Found"


class NVMLError_GpuIsLost(NVMLError):
    text = "GPU is lost"


class NVMLError_LibraryNotFound(NVMLError):
    text = "NVML Shared Library Not Found"


class NVMLError_FunctionNotFound(NVMLError):
    text = "Function Not Found"


@dataclass(eq=False)
class Device:
    """One card (or one MIG slice of it): its UUID and what each function says of it."""

    uuid: str
    answers: dict[str, Any] = field(default_factory=dict)
    slices: list[Device] = field(default_factory=list)
    lost: bool = False
    withheld: bool = False


def h100(uuid: str = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10", **changes: Any) -> Device:
    """Return an H100 that nobody else uses; `changes` replaces answers, None takes one away."""
    answers = {
        "Name": "NVIDIA H100 80GB HBM3",
        "MemoryInfo": SimpleNamespace(total=85_520_809_984, free=85_000_000_000, used=520_809_984),
        "ClockInfo": {1: 1980, 2: 2619},
        "MaxClockInfo": {1: 1980, 2: 2619},
        "PowerUsage": 120_000,
        "EnforcedPowerLimit": 700_000,
        "PowerManagementDefaultLimit": 700_000,
        "Temperature": 34,
        "TotalEnergyConsumption": 1_000_000,
        "CurrentClocksEventReasons": 0,
        "EccMode": [1, 1],
        "TotalEccErrors": {1: 0},  # by type: uncorrected
        "RemappedRows": [0, 0, 0, 0],
        "MigMode": [0, 0],
        "PersistenceMode": 1,
        "Serial": "1650423012345",
        "CurrPcieLinkGeneration": 5,
        "MaxPcieLinkGeneration": 5,
        "CurrPcieLinkWidth": 16,
        "MaxPcieLinkWidth": 16,
        "ComputeRunningProcesses": [],
        **changes,
    }
    return Device(uuid, {name: answer for name, answer in answers.items() if answer is not None})


LINKS = 18  # NVLinks of an H100


def connected(gpus: int, how: Mapping[tuple[int, int], int] | str, **changes: Any) -> list[Device]:
    """Return H100s of which each four are at one NUMA node, with links but without faults.

    how: "NVSwitch", "PCIe", or the number of NVLinks of each pair that has some. changes: of all, as of `h100`.
    """
    found = [h100(f"GPU-{number:08x}-0506-0708-090a-0b0c0d0e0f10") for number in range(gpus)]
    for number, device in enumerate(found):
        far: list[tuple[int, Any]] = []  # type and address of what each NVLink leads to
        if how == "NVSwitch":
            far = [(2, address(0x80 + link % 4)) for link in range(LINKS)]
        elif how != "PCIe":
            ends = [(next(n for n in pair if n != number), many) for pair, many in how.items() if number in pair]
            far = [(0, address(peer)) for peer, many in ends for _ in range(many)]
        others = {other.uuid: peer for peer, other in enumerate(found) if peer != number}
        device.answers |= {
            "Architecture": 9,
            "PciInfo": address(number),
            "MemoryAffinity": [1 << number // 4],
            "TopologyCommonAncestor": {uuid: 20 if peer // 4 == number // 4 else 50 for uuid, peer in others.items()},
            "P2PStatus": dict.fromkeys(others, 0),
        }
        if far:
            device.answers |= {
                "FieldValues": {90: 26_562, 91: len(far)},
                "NvLinkState": dict.fromkeys(range(len(far)), 1),
                "NvLinkRemoteDeviceType": dict(enumerate(kind for kind, _ in far)),
                "NvLinkRemotePciInfo": dict(enumerate(at for _, at in far)),
            }
        device.answers = {name: answer for name, answer in (device.answers | changes).items() if answer is not None}
    return found


def address(number: int) -> SimpleNamespace:
    """Return a PCI address, which differs by the bus."""
    return SimpleNamespace(domain=0, bus=0x10 + number, device=0, busId=f"00000000:{0x10 + number:02X}:00.0".encode())


driver: str | None = "580.65.06"
devices = [h100()]


def nvmlInit() -> None:
    if driver is None:
        raise NVMLError_LibraryNotFound


def nvmlSystemGetDriverVersion() -> str | None:
    return driver


def nvmlSystemGetCudaDriverVersion() -> int:
    return 13000


def nvmlDeviceGetCount() -> int:
    return len(devices)


def nvmlDeviceGetHandleByIndex(index: int) -> Device:
    if devices[index].withheld:
        raise NVMLError_NoPermission
    return devices[index]


def nvmlDeviceGetUUID(device: Device) -> str:
    _require(device)
    return device.uuid


def nvmlDeviceGetIndex(handle: Device) -> int:
    _require(handle)
    return devices.index(handle)


def nvmlDeviceGetTopologyCommonAncestor(device1: Device, device2: Device) -> int:
    return int(_query("TopologyCommonAncestor")(device1, device2.uuid))


def nvmlDeviceGetP2PStatus(device1: Device, device2: Device, p2pIndex: int) -> int:
    status = _query("P2PStatus")(device1, device2.uuid)
    return int(status[p2pIndex] if isinstance(status, dict) else status)


def nvmlDeviceGetMemoryAffinity(handle: Device, nodeSetSize: int, scope: int) -> list[int]:
    words: list[int] = _query("MemoryAffinity")(handle)
    return [*words, *[0] * (nodeSetSize - len(words))]


def nvmlDeviceGetFieldValues(handle: Device, fieldIds: list[int | tuple[int, int]]) -> list[SimpleNamespace]:
    """Return the values of `FieldValues`, all of type unsigned int; what it lacks has the code "not supported"."""
    found: dict[int, Any] = _query("FieldValues")(handle)
    numbers = [asked[0] if isinstance(asked, tuple) else asked for asked in fieldIds]
    return [
        SimpleNamespace(
            fieldId=number,
            nvmlReturn=0 if number in found else 3,
            valueType=1,
            value=SimpleNamespace(uiVal=found.get(number)),
        )
        for number in numbers
    ]


def nvmlDeviceGetMaxMigDeviceCount(device: Device) -> int:
    _require(device)
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(device: Device, index: int) -> Device:
    _require(device)
    if index >= len(device.slices):
        raise NVMLError_NotFound
    return device.slices[index]


def _require(device: Device) -> None:
    if device.lost:
        raise NVMLError_GpuIsLost


def _query(name: str) -> Callable[..., Any]:
    def ask(device: Device, *which: Any) -> Any:
        _require(device)
        if name not in device.answers:
            raise NVMLError_NotSupported
        answer = device.answers[name]
        if which and isinstance(answer, dict):
            answer = answer.get(which[0], NVMLError_InvalidArgument)
        if isinstance(answer, type) and issubclass(answer, NVMLError):
            raise answer
        return answer

    return ask


def __getattr__(name: str) -> Any:
    known = {*h100().answers, "CurrentClocksThrottleReasons", "Architecture", "PciInfo"}
    known |= {"NvLinkState", "NvLinkRemoteDeviceType", "NvLinkRemotePciInfo"}
    if name.removeprefix("nvmlDeviceGet") in known:
        return _query(name.removeprefix("nvmlDeviceGet"))
    raise AttributeError(f"module 'pynvml' has no attribute {name!r}")
