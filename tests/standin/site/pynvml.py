"""A stand-in for nvidia-ml-py: devices as a script, with the errors that the driver gives.

`devices` is the machine, in the driver's order: change it as you like. A function that is not listed in a
device's `answers` raises NVMLError_NotSupported, as the driver does; `lost` raises NVMLError_GpuIsLost for
everything; `driver = None` is a machine without one. The first device is the stand-in GPU of cupy.
"""

# ruff: noqa: N801, N802 - the names are those of nvidia-ml-py
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """Base of the driver's errors; the text is the driver's."""

    text = "Unknown Error"

    def __str__(self) -> str:
        return self.text


class NVMLError_NotSupported(NVMLError):
    text = "Not Supported"


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
    return devices[index]


def nvmlDeviceGetUUID(device: Device) -> str:
    _require(device)
    return device.uuid


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
        if isinstance(answer, type) and issubclass(answer, NVMLError):
            raise answer
        return answer[which[0]] if which and isinstance(answer, dict) else answer

    return ask


def __getattr__(name: str) -> Any:
    known = {*h100().answers, "CurrentClocksThrottleReasons"}
    if name.removeprefix("nvmlDeviceGet") in known:
        return _query(name.removeprefix("nvmlDeviceGet"))
    raise AttributeError(f"module 'pynvml' has no attribute {name!r}")
