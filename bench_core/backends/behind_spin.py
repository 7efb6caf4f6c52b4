"""Device time that does not depend on how fast the host queues calls: between two events, behind a spin.

A spin kernel holds the device while the host queues the calls, so that they then run without gaps. If the
spin was too short and the device ran dry between calls, the time is the host's, and is marked as such.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

from bench_core.backends.base import Timed

LONGEST_SPIN = 20e-3  # seconds; past it the queue of a CUDA stream (about 1000 launches) is full anyway


class Event(Protocol):
    """A mark in the device's queue, by PyTorch's names."""

    def record(self) -> None:
        """Put the mark behind all that is queued."""

    def query(self) -> bool:
        """Whether the device has passed the mark."""

    def synchronize(self) -> None:
        """Return once the device has passed the mark."""

    def elapsed_time(self, end: Any) -> float:
        """Return the milliseconds of the device from this mark to another."""


class BehindSpin:
    """Times calls on one device.

    event: makes an event that can time. spin: queues a kernel that keeps the device busy for some seconds.
    synchronize: waits for the device.
    """

    def __init__(
        self, event: Callable[[], Event], spin: Callable[[float], None], synchronize: Callable[[], None]
    ) -> None:
        self._event, self._spin, self._synchronize = event, spin, synchronize
        self._queue_s = 20e-6  # of one call, on the host; learnt as calls are queued
        spin(1e-6)  # compiled and loaded before anything is timed
        synchronize()

    def time(self, call: Callable[[], object], calls: int) -> Timed:
        """Return the seconds of the device from the first call's beginning to the last one's end."""
        origin, start, end = self._event(), self._event(), self._event()
        self._synchronize()
        origin.record()  # the device is idle: here both clocks begin
        begin = perf_counter()
        self._spin(min(1.5 * calls * self._queue_s + 20e-6, LONGEST_SPIN))
        start.record()
        queueing = perf_counter()
        for _ in range(calls):
            call()
        end.record()
        queued = perf_counter()
        overtaken = start.query()
        end.synchronize()
        # This may hold waiting for a place in a full queue. Then the next spin is longer than it need be,
        # which costs time but no truth.
        self._queue_s = (queued - queueing) / calls
        seconds = start.elapsed_time(end) * 1e-3
        backlog = origin.elapsed_time(end) * 1e-3 - (queued - begin)
        return Timed(seconds, starved=overtaken and backlog < _least_backlog(seconds))


def _least_backlog(seconds: float) -> float:
    """Return the work in seconds that a device which never ran dry still has, once all calls are queued.

    A device that runs dry has the last kernel at most. One that never does is behind by its whole lead over
    the host, or by a full queue: about 1000 kernels, of 2 us or more.
    """
    return 20e-6 + min(0.02 * seconds, 1e-3)
