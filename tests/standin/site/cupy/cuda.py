"""cupy.cuda: devices, streams, events, graphs and the runtime's facts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cupy import _cublas, _gpu

_UUIDS = [bytes(range(1, 17)), bytes(range(17, 33))]


class _CUDARuntimeError(RuntimeError):
    """An error of the runtime, its name in the text."""


_CUDARuntimeError.__name__ = "CUDARuntimeError"


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
        return pool.total - pool.total_bytes(), pool.total

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
    """A mark in a stream; its time is when the device gets there."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        if interprocess and not disable_timing:
            raise ValueError("Timing must be disabled for interprocess events")
        self._seconds: float | None = None
        self._timed = not disable_timing

    def record(self, stream: Stream | None = None) -> None:
        lane = _gpu.gpu().lane if stream is None else stream._lane
        self._seconds = lane.queue(lambda: None, 0.0)

    @property
    def done(self) -> bool:
        return self._seconds is None or self._seconds <= _gpu.clock.now()

    def synchronize(self) -> None:
        if self._seconds is not None:
            _gpu.clock.wait_until(self._seconds)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Return the milliseconds between two events that are over."""
    times = [event._seconds if event._timed else None for event in (start_event, end_event)]
    if times[0] is None or times[1] is None:
        raise _CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    if not (start_event.done and end_event.done):
        raise _CUDARuntimeError("cudaErrorNotReady: device not ready")
    return (times[1] - times[0]) * 1e3


class Stream:
    """A stream of the current device: what it is given runs in order, and in no order with other streams.

    Only the null stream and streams that are not `non_blocking` wait for each other.
    """

    null: Stream

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: int | None = None
    ) -> None:
        self._own = None if null else _gpu.gpu().new_lane(implicit=not non_blocking)

    @property
    def _lane(self) -> _gpu.Lane:
        return self._own or _gpu.gpu().null

    def use(self) -> Stream:
        self._lane.gpu.current[-1] = self._lane
        return self

    def __enter__(self) -> Stream:
        self._lane.gpu.current.append(self._lane)
        return self

    def __exit__(self, *args: object) -> None:
        self._lane.gpu.current.pop()

    def synchronize(self) -> None:
        self._lane.synchronize()

    @property
    def done(self) -> bool:
        return self._lane.busy_until <= _gpu.clock.now()

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        if event._seconds is not None:
            self._lane.wait(event._seconds)

    def begin_capture(self, mode: int | None = None) -> None:
        if self._own is None:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self._own.capture = []

    def end_capture(self) -> Graph:
        lane = self._lane
        operations, lane.capture = lane.capture, None
        if operations is None:
            raise _CUDARuntimeError("cudaErrorIllegalState: the operation cannot be performed in the present state")
        return Graph._of(operations)


Stream.null = Stream(null=True)


class Graph:
    """Operations that are launched together, for the price of one launch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a graph is created by capturing a stream")

    @classmethod
    def _of(cls, operations: list[tuple[_gpu.Operation, float]]) -> Graph:
        graph = cls.__new__(cls)
        graph._operations = operations
        return graph

    def launch(self, stream: Stream | None = None) -> None:
        lane = _gpu.gpu().lane if stream is None else stream._lane
        lane.launch(self._run, sum(seconds for _, seconds in self._operations))

    def _run(self) -> None:
        for operation, _ in self._operations:
            operation()


def get_current_stream(device_id: int = -1) -> Stream:
    lane = (_gpu.gpu() if device_id == -1 else _gpu.gpus[device_id]).lane
    if lane is lane.gpu.null:
        return Stream.null
    stream = Stream.__new__(Stream)
    stream._own = lane
    return stream


def _device_count() -> int:
    if not _gpu.gpus:
        raise _CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    return len(_gpu.gpus)


def _device_properties(device: int) -> dict[str, Any]:
    return {
        "name": b"Stand-in GPU",
        "uuid": _UUIDS[device],
        "totalGlobalMem": _gpu.gpus[device].pool.total,
        "multiProcessorCount": 4,
        "l2CacheSize": 1024**2,
    }


memory = SimpleNamespace(OutOfMemoryError=_gpu.OutOfMemoryError)
cublas = _cublas
runtime = SimpleNamespace(
    CUDARuntimeError=_CUDARuntimeError,
    is_hip=False,
    **_cublas._DATA_TYPES,
    getDeviceCount=_device_count,
    getDeviceProperties=_device_properties,
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13010,
)
