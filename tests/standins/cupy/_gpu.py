"""The pretended GPU: a clock that only waiting and launching move, a queue that runs late, a memory pool.

Every launch takes LAUNCH_S of the host and KERNEL_S of the device, so a test can state exact times. The
values of an operation are computed when somebody waits for them (or looks at a shape, which is free of
charge: CuPy knows shapes without waiting).
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable

import numpy as np

LAUNCH_S = 10e-6
KERNEL_S = 100e-6
MEMORY_B = 256 * 1024**2
QUEUE = 1024  # operations; with so many outstanding a launch waits
BLOCK_B = 512  # CuPy rounds every allocation up to this


class OutOfMemoryError(MemoryError):
    """`cupy.cuda.memory.OutOfMemoryError`."""


class Clock:
    """Seconds of the host; `now` may serve as a timer's clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def wait_until(self, seconds: float) -> None:
        self.seconds = max(self.seconds, seconds)


class Pool:
    """CuPy's memory pool without fragmentation: keeps what was freed until told to give it back."""

    def __init__(self, total: int) -> None:
        self.total, self.used, self.held = total, 0, 0

    def malloc(self, array: np.ndarray) -> None:
        """Charge an array's bytes for as long as it lives."""
        size = -(-array.nbytes // BLOCK_B) * BLOCK_B
        if self.used + size > self.total:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: {self.used:,} bytes).")
        self.used += size
        self.held = max(self.held, self.used)
        weakref.finalize(array, self._free, size)

    def _free(self, size: int) -> None:
        self.used -= size

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.held

    def free_bytes(self) -> int:
        return self.held - self.used

    def free_all_blocks(self) -> None:
        self.held = self.used


class Gpu:
    """A queue of operations with the times at which the device will have done them."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pool = Pool(MEMORY_B)
        self.busy_until = 0.0
        self.capture: list[Callable[[], None]] | None = None
        self._queue: list[Callable[[], None]] = []
        self._ends: deque[float] = deque(maxlen=QUEUE)

    def launch(self, operation: Callable[[], None], seconds: float | None = None) -> None:
        """Queue an operation; while a graph is captured it joins the graph and is not run."""
        if self.capture is not None:
            self.capture.append(operation)
            return
        clock.advance(LAUNCH_S)
        self.queue(operation, KERNEL_S if seconds is None else seconds)

    def queue(self, operation: Callable[[], None], seconds: float) -> None:
        if len(self._ends) == QUEUE:
            clock.wait_until(self._ends[0])
        self.busy_until = max(clock.now(), self.busy_until) + seconds
        self._ends.append(self.busy_until)
        self._queue.append(operation)

    def flush(self) -> None:
        """Compute everything queued; no time passes."""
        while self._queue:
            self._queue.pop(0)()

    def synchronize(self) -> None:
        if self.capture is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        clock.wait_until(self.busy_until)
        self.flush()


def visible() -> int:
    """Return how many devices the environment grants: STANDIN_GPUS (1), none if CUDA_VISIBLE_DEVICES hides all."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}
    return 0 if hidden else int(os.environ.get("STANDIN_GPUS", "1"))


clock = Clock()
gpus = [Gpu(index) for index in range(visible())]
current = 0


def gpu() -> Gpu:
    """Return the current device."""
    return gpus[current]


def reset(count: int | None = None) -> None:
    """Start afresh with idle, empty devices at time zero."""
    global current
    clock.seconds, current = 0.0, 0
    gpus[:] = [Gpu(index) for index in range(visible() if count is None else count)]
