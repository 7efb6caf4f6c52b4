"""Time GPU calls by the device's own clock: between two events, queued behind a spin kernel.

A GPU call is asynchronous: it returns when its work is queued, not when it is done. So the host's clock around it
measures the launch, not the work::

    begin = perf_counter()  # wrong
    call()
    seconds = perf_counter() - begin

Two events alone are no better for short calls. The device runs each call as soon as it is queued and then waits for the
host to queue the next one, so the time between the events includes the queueing::

    start.record()  # wrong for calls that are shorter than their launch
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    milliseconds = start.elapsed_time(end)

Here a spin kernel keeps the device busy until all calls are queued. They then run without gaps::

    spin(seconds)  # longer than the queueing takes
    start.record()
    for _ in range(calls):
        call()
    end.record()
    too_short = start.query()  # the spin ended before all calls were queued
    end.synchronize()
    milliseconds = start.elapsed_time(end)

If the spin was too short and the device ran out of work between calls, the time is that of the host, and is flagged
(`Timed.starved`).

The timer learns the queueing time from block to block. Some calls wait for the device (they copy from pageable memory,
or synchronise). They block the host until the spin ends, so the timer would learn ever longer spins, none of which
helps. Two blocks with different spins show the difference: the queueing time of such calls grows with the spin, that of
calls that are merely slow to queue does not. In the same way the timer detects a device that is idle after the longest
spin and then still has much work left: its time shrinks by as much as the spin grows.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from bench_core.backends.base import Timed

LONGEST_SPIN = 20e-3  # seconds; after that the queue of a CUDA stream (1024 launches) is full anyway
SHORTEST_SPIN = 20e-6  # seconds; recording an event and launching a kernel take this long
SPARE = 1.5  # spin / queueing time of earlier blocks
SHORT_FOR = 16  # blocks with a short spin for calls that wait, until a long spin is tried again
TELLING = 0.1  # two spins can be compared if they differ by at least this share of the queueing time
JUST = 0.25  # tolerance for "shrank by as much as the spin grew", as a share of that growth


class Event(Protocol):
    """A marker in the device's queue, with PyTorch's method names."""

    def record(self) -> None:
        """Put the marker at the end of the queue."""

    def query(self) -> bool:
        """Return whether the device has passed the marker."""

    def synchronize(self) -> None:
        """Block until the device has passed the marker."""

    def elapsed_time(self, end: Any) -> float:
        """Return the device time from this marker to `end`, in milliseconds."""


class EventTimer:
    """Times calls on one device.

    event: creates an event with timing. spin: queues a kernel that keeps the device busy for the given seconds.
    synchronize: waits for the device. now: the host's clock, in seconds.
    """

    def __init__(
        self,
        event: Callable[[], Event],
        spin: Callable[[float], None],
        synchronize: Callable[[], None],
        now: Callable[[], float] | None = None,
    ) -> None:
        self._event, self._spin, self._synchronize = event, spin, synchronize
        self._now = now or perf_counter
        self._call: weakref.ref[Callable[[], object]] | None = None
        self._queueing = _Queueing()
        spin(1e-6)  # compile and load the kernel before anything is timed
        synchronize()

    def time(self, call: Callable[[], object], calls: int) -> Timed:
        """Return the device time from the start of the first call to the end of the last, in seconds.

        The learnt queueing time is used as long as the same callable object is timed.
        """
        known = self._known(call)
        origin, start, end = self._event(), self._event(), self._event()
        self._synchronize()
        origin.record()  # the device is idle, so both clocks start at this moment
        begin = self._now()
        self._spin(known.spin(calls))
        start.record()
        queueing = self._now()
        for _ in range(calls):
            call()
        end.record()
        queued = self._now()
        overtaken = start.query()
        end.synchronize()
        seconds = start.elapsed_time(end) * 1e-3
        backlog = origin.elapsed_time(end) * 1e-3 - (queued - begin)
        if not overtaken:
            known.in_time(calls, queued - queueing)
            return Timed(seconds)
        spun = origin.elapsed_time(start) * 1e-3 - (queueing - begin)  # the part of the spin during the queueing
        block = _Block((queued - queueing) / calls, max(0.0, spun) / calls, seconds / calls)
        return Timed(seconds, known.overtaken(block, dry=backlog < _least_backlog(seconds)))

    def _known(self, call: Callable[[], object]) -> _Queueing:
        """Return the knowledge about a call, which is empty unless it was timed last. Keep only a weak reference."""
        if self._call is None or self._call() is not call:
            self._queueing = _Queueing()
            try:
                self._call = weakref.ref(call)
            except TypeError:  # the object has no weak references: learn anew each time
                self._call = None
        return self._queueing


@dataclass(frozen=True, slots=True)
class _Block:
    """A block whose spin ended before all calls were queued. All times are seconds per call.

    queueing: of the host. spun: the part of the spin during the queueing. device: between the two events.
    """

    queueing: float
    spun: float
    device: float


@dataclass(slots=True)
class _Queueing:
    """The knowledge gained about the queueing of one callable.

    per_call: seconds to queue a call. short: number of coming blocks with a short spin. before: the last block, if its
    spin ended before all calls were queued.
    """

    per_call: float = 20e-6
    short: int = 0
    before: _Block | None = None

    def spin(self, calls: int) -> float:
        """Return the length of the spin before a block, in seconds."""
        needed = 0.0 if self.short else SPARE * calls * self.per_call
        return min(needed + SHORTEST_SPIN, LONGEST_SPIN)

    def in_time(self, calls: int, took: float) -> None:
        """Learn from a block that was queued, in `took` seconds, before its spin ended."""
        self.per_call, self.short, self.before = took / calls, 0, None

    def overtaken(self, block: _Block, *, dry: bool) -> bool:
        """Learn from a block whose spin ended before all calls were queued; return whether the device starved.

        dry: whether the device had almost no work left when the last call was queued.
        """
        before, self.before = self.before, block
        if before is None or abs(block.spun - before.spun) < TELLING * block.queueing:
            before = None  # the two spins are too similar to be compared
        if dry:
            self._learn_from_dry(block, before)
            return True
        idled = before is not None and _idled(block, before)
        # A short spin in the next block shows whether that was chance.
        self.short = 1 if idled and not self.short else 0
        # The spin was long enough, or a full queue blocked the host. Learn only what the spin does not explain.
        self.per_call = max(self.per_call, block.queueing - block.spun)
        return idled

    def _learn_from_dry(self, block: _Block, before: _Block | None) -> None:
        if before is None:
            self.short = max(0, self.short - 1)
        else:
            self.short = SHORT_FOR if _waited(block, before) else 0
        if not self.short:
            self.per_call = block.queueing


def _waited(block: _Block, before: _Block) -> bool:
    """Return whether the queueing time changed with the spin, rather than staying the same: then the calls wait."""
    longer = abs(block.queueing - before.queueing)
    longer_without_spin = abs((block.queueing - block.spun) - (before.queueing - before.spun))
    return longer_without_spin < longer


def _idled(block: _Block, before: _Block) -> bool:
    """Return whether the device's time shrank by as much as the spin grew.

    Then the device waited for the host after the spin, however much work was left at the end.
    """
    moved = (block.device + block.spun) - (before.device + before.spun)
    return abs(moved) < JUST * abs(block.spun - before.spun)


def _least_backlog(seconds: float) -> float:
    """Return the least work, in seconds, that is left after the queueing if the device never ran out of work.

    A device that runs out of work has at most the last call left, and a block of short calls has eleven or more calls.
    A device that never does is behind by the host's whole lead, or by a full queue: 1024 kernels of 2 us or more.
    """
    return 20e-6 + min(0.1 * seconds, 2e-3)
