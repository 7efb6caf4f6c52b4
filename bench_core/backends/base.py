"""The one Protocol behind which every array library stands.

A backend module imports its library inside functions only, so that the class (its name, dialect and
process environment) is known without the library. Everything that touches a library raises what the
library raises; `is_out_of_memory` tells which of those errors mean that memory ran out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from bench_core.records import Facts


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that a block of calls took. `starved`: the device ran dry while the host queued them."""

    seconds: float
    starved: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes, of the device or of this process on a CPU; None where unknown.

    free: as a new allocation would find it. used: in use now by this process. peak: the most that
    was in use since `reset_peak_memory`, counted as `used` is.
    """

    free: int | None
    used: int | None
    peak: int | None


class Backend(Protocol):
    """An array library on one device.

    name: as in --bench-backends. dialect: the programming model of its kernels (see workload.py); what
        "array" demands of a library is in CONTRIBUTING.md.
    devices_expected: device types that are listed as skipped, with a reason, on machines that lack them.
    threads: host threads that compute, as `set_threads` last had it; None where none do.
    """

    name: ClassVar[str]
    dialect: ClassVar[str]
    devices_expected: ClassVar[tuple[str, ...]]

    device: str
    version: str
    threads: int | None

    def __init__(self, device: str) -> None:
        """Bind to a device; raises Unavailable with a reason if that cannot be."""

    @classmethod
    def devices(cls) -> Sequence[str]:
        """Return the addresses of the devices present; raises Unavailable if the library is not."""

    @classmethod
    def environ(cls, threads: int, implementation: str) -> Mapping[str, str]:
        """Return what must stand in the environment before the library is imported."""

    @property
    def xp(self) -> Any:
        """The module that kernels call: numpy, cupy or torch."""

    @property
    def device_name(self) -> str:
        """The device's model as its driver reports it; "" if it does not."""

    @property
    def device_uuid(self) -> str | None:
        """UUID of the device, or a prefix of it, to look it up in NVML. Never written to a file. None on a CPU."""

    @property
    def library(self) -> str:
        """What does the arithmetic, with version and kernels as it reports them."""

    @property
    def has_device_clock(self) -> bool:
        """Whether `device_time` works here."""

    def from_host(self, array: np.ndarray, dtype: str | None = None) -> Any:
        """Return a device copy of a host array, as `dtype` where the host has no such type.

        The host's array may be changed as soon as this returns if its memory is pageable. A pinned one may still be
        read until `synchronize` has returned.

        Its shape is the host's; it can be added (`+`) and multiplied (`@`) by itself.
        """

    def to_host(self, array: Any) -> np.ndarray:
        """Return a host copy; formats that NumPy lacks are widened to float32."""

    def overwrite(self, target: Any, values: np.ndarray) -> None:
        """Write a host array, or one number, over an array of the device or of the host where it lies.

        The values are rounded to the format of `target`, as `from_host` rounds them.
        """

    def synchronize(self) -> None:
        """Return once all work queued on the device is done."""

    def device_time(self, call: Callable[[], object], calls: int) -> Timed:
        """Time `calls` calls between device events, queued behind a time-bounded spin (see event_timer.py)."""

    def memory(self) -> Memory:
        """Return what the allocator and the driver say of the device's memory."""

    def reset_peak_memory(self) -> None:
        """Start a new high-water mark."""

    def free(self) -> None:
        """Give pooled memory and the libraries' workspaces back to the device. No kernel may be alive."""

    def why_unsupported(self, dtype: str, precision: str) -> str | None:
        """Return why this backend cannot compute in a format; None if it can."""

    def set_precision(self, precision: str) -> None:
        """Switch the library to "ieee" or "tf32" arithmetic for float32 products."""

    def set_threads(self, threads: int) -> None:
        """Limit host threads at run time, for what the environment did not already fix."""

    def facts(self) -> Facts:
        """Return what this library knows of itself and its device, each with its source."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an exception means that memory ran out."""


def overwrite(backend: Backend, target: Any, values: np.ndarray) -> Any:
    """Write a host array over one of the device, or of the host, and return the one that holds the values now.

    It is the same one, at the same address. Where it is longer than `values` along the first axis, it then holds them
    again and again. Of a backend without `overwrite` arrays are assigned to or, if they cannot be, made anew.
    """

    def write(part: Any, some: np.ndarray) -> None:
        if hasattr(backend, "overwrite"):
            backend.overwrite(part, some)
        else:
            part[...] = some if isinstance(part, np.ndarray) else backend.from_host(some)

    try:
        if not values.ndim or len(values) == len(target):
            write(target, values)
        else:
            for start in range(0, len(target), len(values)):
                write(target[start : start + len(values)], values[: len(target) - start])
    except TypeError:
        if hasattr(backend, "overwrite") or isinstance(target, np.ndarray):
            raise
        return backend.from_host(np.resize(values, tuple(target.shape)))
    return target


@runtime_checkable
class Futures(Protocol):
    """What a Backend has besides where its results are futures: values that may not be computed when a call returns.

    A library may never compute a future that nobody asks for, and `synchronize` would not tell. So every call that is
    timed by the host's clock is awaited before the next. Of a backend without this method only the device is waited
    for, at the end of a block.
    """

    def wait_for(self, result: Any) -> None:
        """Return once this result is there.

        result: whatever a kernel's callable has returned: an array, several in a tuple, list or dict, or None.
        """


def finish(backend: Backend, result: Any) -> None:
    """Return once a call's result is there, be it a future, and all else that is queued on the device is done."""
    if isinstance(backend, Futures):
        backend.wait_for(result)
    backend.synchronize()
