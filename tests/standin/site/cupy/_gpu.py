"""The pretended GPU: a clock that only waiting and the host's own work move, streams that run late, a memory pool.

A launch takes LAUNCH_S of the host and, where nothing else is asked for, KERNEL_S of the device: a device that nothing
holds back runs dry between two launches, as a real one does behind small kernels. Copies take time by their bytes.
So a test can state exact times.

Values come late: an operation is computed when the clock has passed its end (all streams of all devices in the order in
which their operations end), or when somebody looks at a shape that depends on it, which is free of charge: CuPy knows
shapes without waiting. Streams know nothing of each other unless an event orders them, so a race shows a wrong answer.
"""

from __future__ import annotations

import heapq
import math
import os
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np

LAUNCH_S = 8e-6  # of the host, for a kernel or a copy: launches from Python take 5 to 10 us
KERNEL_S = 3e-6  # of the device, for a small kernel
COPY_S = 2e-6  # of the device, for a copy between host and device, and the time of its bytes
LINK_B_S = 25e9  # bytes a second between host and device: PCIe 4.0 x16
STAGE_B_S = 10e9  # bytes a second of the host, into the pinned memory that a copy of pageable memory is staged in
MEMORY_B = 256 * 1024**2
QUEUE = 1024  # operations of a stream; with so many outstanding a launch waits
BLOCK_B = 512  # CuPy rounds every allocation up to this
# Whether values are computed at once, before the clock has come to them: for processes in which a true clock runs too.
# By that one a wait would last as long as the computing, of which the pretended device's clock sees nothing.
EAGER = os.environ.get("STANDIN_EAGER") == "1"

Operation = Callable[[], None]


class OutOfMemoryError(MemoryError):
    """`cupy.cuda.memory.OutOfMemoryError`."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


class Clock:
    """Seconds of the host; `now` may serve as a timer's clock. What has ended by then is computed as it moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.wait_until(self.seconds + seconds)

    def wait_until(self, seconds: float) -> None:
        self.seconds = max(self.seconds, seconds)
        compute(self.seconds)


class Pool:
    """CuPy's memory pool without fragmentation: keeps what was freed until told to give it back.

    CuPy allocates when it launches. So whoever asks the pool sees what all that is queued has taken and given back.
    """

    def __init__(self, total: int) -> None:
        self.total, self.used, self.held = total, 0, 0
        self._arrays: dict[int, weakref.ref[np.ndarray]] = {}

    def _charge(self, array: np.ndarray) -> None:
        """Charge an array's bytes for as long as it lives."""
        size = self._require(array.nbytes)
        self.used += size
        self.held = max(self.held, self.used)
        weakref.finalize(array, self._free, size)
        self._arrays[id(array)] = weakref.ref(array)
        weakref.finalize(array, self._arrays.pop, id(array), None)

    def _owner(self, pointer: int) -> np.ndarray:
        """Return the array that a pointer leads into; MemoryError if none does."""
        for reference in list(self._arrays.values()):
            array = reference()
            if array is not None and array.ctypes.data <= pointer < array.ctypes.data + array.nbytes:
                return array
        raise MemoryError("cudaErrorIllegalAddress: the pointer leads to no array")

    def _require(self, nbytes: int) -> int:
        """Return what so many bytes take in blocks; raises OutOfMemoryError if they are not there."""
        size = -(-nbytes // BLOCK_B) * BLOCK_B
        if self.used + size > self.total:
            raise OutOfMemoryError(size, self.used)
        return size

    def _free(self, size: int) -> None:
        self.used -= size

    def used_bytes(self) -> int:
        compute(math.inf)
        return self.used

    def total_bytes(self) -> int:
        compute(math.inf)
        return self.held

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used

    def free_all_blocks(self, stream: object = None) -> None:
        self.held = self.used_bytes()


class Lane:
    """What a stream is to the device: operations one after the other, and the times at which they will have ended.

    gpu: the device. implicit: whether the lane and the device's null stream wait for each other, as blocking streams
    do; the null stream itself has no such lane.
    """

    def __init__(self, gpu: Gpu, *, implicit: bool) -> None:
        self.gpu, self.implicit = gpu, implicit
        self.busy_until = 0.0
        self.capture: list[tuple[Operation, float]] | None = None
        self._ends: deque[float] = deque(maxlen=QUEUE)

    def launch(self, operation: Operation, seconds: float | None = None) -> float:
        """Launch an operation and return when it will have ended; while a graph is captured it joins that instead."""
        self.gpu.launches += 1
        if self.capture is None:
            clock.advance(LAUNCH_S)
        return self.queue(operation, self.gpu.kernel_s if seconds is None else seconds)

    def queue(self, operation: Operation, seconds: float) -> float:
        """Queue an operation that costs the host nothing."""
        if self.capture is not None:
            self.capture.append((operation, seconds))
            return self.busy_until
        if len(self._ends) == QUEUE:
            clock.wait_until(self._ends[0])
        if EAGER:
            operation()
            operation = _nothing
        self.busy_until = max(clock.now(), self.busy_until, *self._others()) + seconds
        self._ends.append(self.busy_until)
        heapq.heappush(_pending, (self.busy_until, next(_numbers), operation))
        return self.busy_until

    def copy(self, operation: Operation, nbytes: int) -> float:
        """Launch a copy between the host and the device; RuntimeError while a graph is captured, as CuPy has it."""
        if self.capture is not None:
            raise RuntimeError("the current stream is capturing, so H2D and D2H transfers are disallowed")
        return self.launch(operation, COPY_S + nbytes / LINK_B_S)

    def wait(self, seconds: float) -> None:
        """Let nothing that is queued from now on begin before a time."""
        self.busy_until = max(self.busy_until, seconds)

    def synchronize(self) -> None:
        if self.capture is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        clock.wait_until(max(self.busy_until, *self._others()) if self is self.gpu.null else self.busy_until)

    def _others(self) -> list[float]:
        """Return until when the lanes are busy that this one waits for without being told."""
        if self is self.gpu.null:
            return [0.0, *(lane.busy_until for lane in self.gpu.lanes if lane.implicit)]
        return [self.gpu.null.busy_until] if self.implicit else []


class Gpu:
    """A device: its memory, its streams, and how long a kernel of unknown length keeps it busy."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pool = Pool(MEMORY_B)
        self.kernel_s = KERNEL_S  # a test that wants longer kernels says so here
        self.launches = 0  # kernels and copies so far, those of captured graphs included
        self.lanes: list[Lane] = []
        self.null = Lane(self, implicit=False)
        self.current: list[Lane] = [self.null]

    @property
    def lane(self) -> Lane:
        """The current stream's."""
        return self.current[-1]

    def new_lane(self, *, implicit: bool) -> Lane:
        lane = Lane(self, implicit=implicit)
        self.lanes.append(lane)
        return lane

    def queue(self, operation: Operation, seconds: float) -> None:
        """Queue an operation in the current stream that costs the host nothing."""
        self.lane.queue(operation, seconds)

    def synchronize(self) -> None:
        for lane in (self.null, *self.lanes):
            lane.synchronize()


def _nothing() -> None: ...


def compute(until: float) -> None:
    """Compute what will have ended by a time; no time passes."""
    while _pending and _pending[0][0] <= until:
        heapq.heappop(_pending)[2]()


def visible() -> int:
    """Return how many devices the environment grants: STANDIN_GPUS (1), none if CUDA_VISIBLE_DEVICES hides all."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}
    return 0 if hidden else int(os.environ.get("STANDIN_GPUS", "1"))


def pin(array: np.ndarray) -> np.ndarray:
    """Return an array whose memory counts as pinned from now on, views included."""
    _pinned[id(array)] = (array.ctypes.data, array.ctypes.data + array.nbytes)
    weakref.finalize(array, _pinned.pop, id(array), None)
    return array


def is_pinned(array: np.ndarray) -> bool:
    """Whether an array lies in pinned memory."""
    return any(begin <= array.ctypes.data < end for begin, end in _pinned.values())


_pending: list[tuple[float, int, Operation]] = []  # of all devices, a heap by the end and the order of launching
_numbers = iter(range(1 << 62))
_pinned: dict[int, tuple[int, int]] = {}
clock = Clock()
gpus = [Gpu(index) for index in range(visible())]
current = 0


def gpu() -> Gpu:
    """Return the current device."""
    return gpus[current]


def reset(count: int | None = None) -> None:
    """Start afresh with idle, empty devices at time zero."""
    global current
    _pending.clear()
    clock.seconds, current = 0.0, 0
    gpus[:] = [Gpu(index) for index in range(visible() if count is None else count)]
