"""The Protocol that every array library implements.

A backend module imports its library only inside functions, so that the class (its name, dialect and
process environment) can be read without the library. Methods raise what the library raises;
`is_out_of_memory` recognises the errors that mean that memory ran out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from bench_core.errors import Unavailable
from bench_core.records import Facts


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that a block of calls took. starved: the device ran out of work while the host queued the calls."""

    seconds: float
    starved: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes, of the device or, on a CPU, of this process; None if unknown.

    free: what a new allocation can get. used: in use by this process now. peak: the maximum of `used`
    since `reset_peak_memory`.
    """

    free: int | None
    used: int | None
    peak: int | None


class Backend(Protocol):
    """An array library on one device.

    name: as in --bench-backends. dialect: the programming model of its kernels (see workload.py); what
        "array" demands of a library is in CONTRIBUTING.md.
    devices_expected: device types that are listed as skipped, with a reason, on machines that lack them.
    threads: number of host threads that compute, as last set by `set_threads`; None if none compute.
    """

    name: ClassVar[str]
    dialect: ClassVar[str]
    devices_expected: ClassVar[tuple[str, ...]]

    device: str
    version: str
    threads: int | None

    def __init__(self, device: str) -> None:
        """Bind to a device; raises Unavailable with a reason if that is impossible."""

    @classmethod
    def devices(cls) -> Sequence[str]:
        """Return the addresses of all devices; raises Unavailable if the library or a device is missing."""

    @classmethod
    def environ(cls, threads: int, implementation: str) -> Mapping[str, str]:
        """Return the environment variables that must be set before the library is imported."""

    @property
    def xp(self) -> Any:
        """The module whose functions kernels call: numpy, cupy, torch or jax.numpy."""

    @property
    def device_name(self) -> str:
        """The device's model as its driver reports it; "" if it reports none."""

    @property
    def device_uuid(self) -> str | None:
        """The device's UUID or a prefix of it, to find it in NVML; None on a CPU. It is never written to a file."""

    @property
    def library(self) -> str:
        """The library that does the arithmetic, with version and kernels as it reports them."""

    @property
    def has_device_clock(self) -> bool:
        """Whether `device_time` is supported."""

    def from_host(self, array: np.ndarray, dtype: str | None = None) -> Any:
        """Return a device copy of a host array, in the same shape; it supports `+` and `@`.

        dtype: converts the copy, for types that NumPy lacks.

        The host array may be changed as soon as this returns if its memory is pageable. Pinned memory may still be
        read until `synchronize` has returned.
        """

    def to_host(self, array: Any) -> np.ndarray:
        """Return a host copy; types that NumPy lacks are converted to float32."""

    def overwrite(self, target: Any, values: np.ndarray) -> None:
        """Overwrite an array on the device or on the host, in place, with a host array or a single number.

        The values are rounded to the dtype of `target`, as `from_host` rounds them.
        """

    def synchronize(self) -> None:
        """Block until all work queued on the device is done."""

    def device_time(self, call: Callable[[], object], calls: int) -> Timed:
        """Time `calls` calls between two device events, queued behind a spin kernel (see event_timer.py)."""

    def memory(self) -> Memory:
        """Return the memory of the device, as the allocator and the driver report it."""

    def reset_peak_memory(self) -> None:
        """Reset the peak to the memory in use now."""

    def free(self) -> None:
        """Return pooled memory and library workspaces to the device. No kernel may still be in use."""

    def why_unsupported(self, dtype: str, precision: str) -> str | None:
        """Return why this backend cannot compute with this dtype and precision; None if it can."""

    def set_precision(self, precision: str) -> None:
        """Set the arithmetic of float32 products: "ieee" or "tf32"."""

    def set_threads(self, threads: int) -> None:
        """Limit the host threads at run time, as far as the environment has not fixed them."""

    def facts(self) -> Facts:
        """Return facts about the library and its device, each with its source."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether an exception means that memory ran out."""


@runtime_checkable
class Immutable(Protocol):
    """Optional part of a Backend whose arrays cannot be written to: other values need another array."""

    def like(self, array: Any, values: np.ndarray, rows: Sequence[int] | None = None) -> Any:
        """Return an array of the shape, dtype and device of `array`, with other values, or with others in some rows.

        The values, a host array or a single number, are rounded to the dtype of `array`, as `from_host` rounds them.
        """


@runtime_checkable
class Selective(Protocol):
    """Optional part of a Backend whose library opens every device that it finds, unless it is told which."""

    @classmethod
    def environ_for(cls, device: str) -> Mapping[str, str]:
        """Return the environment variables by which a process opens this device alone, in addition to `environ`."""


class Ranks(Protocol):
    """The processes (ranks) that compute a case together, each on a device of its own, as one of them sees them.

    rank: the number of this one, from 0. size: how many there are. group: names them to collectives of the library.
    has_one_clock: whether `perf_counter` of all of them is one clock, as on one host.
    """

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def group(self) -> Any: ...
    @property
    def has_one_clock(self) -> bool: ...

    def every(self, value: Any) -> list[Any]:
        """Return the value of each rank, of which all call this: plain JSON values, by which they agree."""

    def numbers(self, values: Sequence[float]) -> list[list[float]]:
        """Return the numbers of each rank, of which all call this with as many: faster than `every`."""


@dataclass(frozen=True, slots=True)
class Alone:
    """The Ranks of a process that computes by itself."""

    rank: int = 0
    size: int = 1
    group: Any = None
    has_one_clock: bool = True

    def every(self, value: Any) -> list[Any]:
        return [value]

    def numbers(self, values: Sequence[float]) -> list[list[float]]:
        return [list(values)]


ALONE = Alone()


def ranks_of(backend: Backend) -> Ranks:
    """Return the processes with which a backend computes."""
    ranks: Ranks = getattr(backend, "ranks", ALONE)
    return ranks


class Ranked(Backend, Protocol):
    """A Backend in one of several processes that a library has launched, each with its own device.

    world: all of them. ranks: those that compute the present case.
    """

    world: Ranks
    ranks: Ranks

    def team(self, size: int) -> bool:
        """Make `ranks` the first `size` processes, all of which must call this; return whether this is one of them."""


class Launcher(Protocol):
    """Starts processes (ranks) that compute together, and knows what became of them. A module may be one."""

    def launch(self, module: str, arguments: Sequence[str], ranks: int, folder: str, parent: int) -> list[str]:
        """Return a command that runs a module of bench_core in each rank, and ends when one of them fails.

        folder: a new one, in which they find each other. The command writes there what they write to standard error.
        parent: the process that will start the command, and with which all end.
        """

    def environ(self, folder: str) -> Mapping[str, str]:
        """Return the environment variables of that command, in addition to those of the backend."""

    def rank_in(self, environ: Mapping[str, str]) -> int | None:
        """Return the number of the process that has this environment; None if it was not launched."""

    def connect(self, device: str) -> Ranked:
        """Bind this process, one of those launched, to its own device, and connect it with the others.

        device: the address of all devices together ("cuda:x8"). Raises Unavailable where that is impossible.
        """

    def log_of(self, folder: str, rank: int) -> str:
        """Return the path of what a rank has written to standard error; "" if there is none."""

    def is_waiting(self, file: str, function: str) -> bool:
        """Return whether a rank that is in this function of a file waits for other ranks or for its device."""

    def first_to_fail(self, said: str) -> tuple[int, int] | None:
        """Return the rank whose failure has ended all, and its exit code, from what the command has said."""


@runtime_checkable
class Launches(Protocol):
    """Optional part of a Backend that computes on several devices together, each with a process of its own."""

    @classmethod
    def launcher(cls) -> Launcher:
        """Return what starts these processes."""


def imported(library: str) -> Any:
    """Return a library's module; raises Unavailable with the reason if it is missing or cannot be imported."""
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise Unavailable("import_failed", f"{library} cannot be imported: {error}") from None
        raise Unavailable("not_installed", f"{library} is not installed") from None
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
        raise Unavailable("import_failed", f"{library} cannot be imported: {error}") from None


def overwrite(backend: Backend, target: Any, values: np.ndarray) -> Any:
    """Overwrite an array on the device or on the host with a host array; return the array that has the values now.

    That is `target` itself, unless the arrays of the backend are immutable. If it is longer than `values` along the
    first axis, the values are repeated. Without a method `overwrite` of the backend, values are assigned; if that is
    impossible, a new array is made and returned.
    """
    if isinstance(backend, Immutable) and not isinstance(target, np.ndarray):
        return backend.like(target, np.resize(values, tuple(target.shape)) if values.ndim else values)

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


def overwrite_rows(backend: Backend, target: Any, rows: Sequence[int], values: np.ndarray) -> Any:
    """Overwrite rows of an array with a host array of these rows or a number; return the array that has them now."""
    if isinstance(backend, Immutable) and not isinstance(target, np.ndarray):
        return backend.like(target, values, rows)
    for i, row in enumerate(rows):
        overwrite(backend, target[row : row + 1], values[i : i + 1] if values.ndim else values)
    return target


@runtime_checkable
class Compiles(Protocol):
    """Optional part of a Backend that compiles while it is called, and counts it: no timed call may compile."""

    @property
    def compilations(self) -> int:
        """The number of programs that this process has compiled."""


@runtime_checkable
class Futures(Protocol):
    """Optional part of a Backend whose results are futures: values that may not be computed when a call returns.

    A library may never compute a future that nobody reads, and `synchronize` would not detect that. Therefore each call
    that the host clock times is awaited before the next one. For a backend without this method, only the device is
    awaited, at the end of a block.
    """

    def wait_for(self, result: Any) -> None:
        """Block until this result is computed.

        result: the return value of a kernel's callable: an array, a tuple, list or dict of arrays, or None.
        """


def finish(backend: Backend, result: Any) -> None:
    """Block until the result of a call is computed, even if it is a future, and all other queued work is done."""
    if isinstance(backend, Futures):
        backend.wait_for(result)
    backend.synchronize()
