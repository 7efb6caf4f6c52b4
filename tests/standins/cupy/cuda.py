"""cupy.cuda: devices, streams, events, graphs and the runtime's facts. One stream's worth of ordering."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cupy import _gpu

UUIDS = [bytes(range(1, 17)), bytes(range(17, 33))]


class CUDARuntimeError(RuntimeError):
    """An error of the runtime, its name in the text."""


class Device:
    """A device by number."""

    def __init__(self, device: int | None = None) -> None:
        self.id = _gpu.current if device is None else int(device)
        self._before: list[int] = []

    compute_capability = "90"
    cublas_handle = 1

    @property
    def mem_info(self) -> tuple[int, int]:
        pool = _gpu.gpus[self.id].pool
        return pool.total - pool.held, pool.total

    def use(self) -> None:
        _gpu.current = self.id

    def synchronize(self) -> None:
        _gpu.gpus[self.id].synchronize()

    def __enter__(self) -> Device:
        self._before.append(_gpu.current)
        self.use()
        return self

    def __exit__(self, *_: object) -> None:
        _gpu.current = self._before.pop()


class Event:
    """A mark in the queue; its time is when the device gets there."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.seconds: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        device = _gpu.gpu()
        device.queue(lambda: None, 0.0)
        self.seconds = device.busy_until

    @property
    def done(self) -> bool:
        return self.seconds is None or self.seconds <= _gpu.clock.now()

    def synchronize(self) -> None:
        if self.seconds is not None:
            _gpu.clock.wait_until(self.seconds)
            _gpu.gpu().flush()


def get_elapsed_time(start: Event, end: Event) -> float:
    """Return the milliseconds between two events that are over."""
    if start.seconds is None or end.seconds is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    if not (start.done and end.done):
        raise CUDARuntimeError("cudaErrorNotReady: device not ready")
    return (end.seconds - start.seconds) * 1e3


class Stream:
    """A stream; all of a device's streams share its one queue."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self._null = null

    def use(self) -> Stream:
        return self

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        _gpu.gpu().synchronize()

    @property
    def done(self) -> bool:
        return _gpu.gpu().busy_until <= _gpu.clock.now()

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Nothing to do: one queue is in order."""

    def begin_capture(self, mode: Any = None) -> None:
        if self._null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        _gpu.gpu().capture = []

    def end_capture(self) -> Graph:
        device = _gpu.gpu()
        operations, device.capture = device.capture or [], None
        return Graph(operations)


Stream.null = Stream(null=True)


class Graph:
    """Operations that are launched together, for the price of one launch."""

    def __init__(self, operations: list[Callable[[], None]]) -> None:
        self._operations = operations

    def launch(self, stream: Stream | None = None) -> None:
        device = _gpu.gpu()
        _gpu.clock.advance(_gpu.LAUNCH_S)
        for operation in self._operations:
            device.queue(operation, _gpu.KERNEL_S)


def get_current_stream(device_id: int = -1) -> Stream:
    return Stream.null


def _device_count() -> int:
    if not _gpu.gpus:
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return len(_gpu.gpus)


def _device_properties(index: int) -> dict[str, Any]:
    return {
        "name": b"Stand-in GPU",
        "uuid": UUIDS[index],
        "totalGlobalMem": _gpu.gpus[index].pool.total,
        "multiProcessorCount": 4,
        "l2CacheSize": 1024**2,
    }


memory = SimpleNamespace(OutOfMemoryError=_gpu.OutOfMemoryError)
cublas = SimpleNamespace(getVersion=lambda handle: 130002)
runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    is_hip=False,
    getDeviceCount=_device_count,
    getDeviceProperties=_device_properties,
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13010,
)
