"""Device time that does not depend on how fast the host queues calls: between two events, behind a spin.

A spin kernel holds the device while the host queues the calls, so that they then run without gaps. If the
spin was too short and the device ran dry between calls, the time is the host's, and is marked as such.

How long the host needs is learnt from block to block. A call that waits for the device (it copies from pageable
memory, or synchronises) holds the host until the spin is over, however long that is: it would teach ever longer
spins, and no spin helps it. It is told from a call that is slow to queue by two blocks with different spins: the
time of the one grows with the spin, that of the other does not. In the same way a device is found out that idles
after the longest spin and then has much work left: its time shrinks by what the spin grows.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from bench_core.backends.base import Timed

LONGEST_SPIN = 20e-3  # seconds; past it the queue of a CUDA stream (1024 launches) is full anyway
SHORTEST_SPIN = 20e-6  # seconds; what recording an event and launching a kernel take
SPARE = 1.5  # spin / the time that queueing took before
SHORT_FOR = 16  # blocks of calls that wait, until a long spin is tried again
TELLING = 0.1  # of two blocks: spins that differ by this share of the time that queueing takes are not alike
JUST = 0.25  # share of what a spin grew by, within which a device's time shrank by just as much


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


class EventTimer:
    """Times calls on one device.

    event: makes an event that can time. spin: queues a kernel that keeps the device busy for some seconds.
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
        spin(1e-6)  # compiled and loaded before anything is timed
        synchronize()

    def time(self, call: Callable[[], object], calls: int) -> Timed:
        """Return the seconds of the device from the first call's beginning to the last one's end.

        What is learnt of a call holds as long as the very same object is timed.
        """
        known = self._known(call)
        origin, start, end = self._event(), self._event(), self._event()
        self._synchronize()
        origin.record()  # the device is idle: here both clocks begin
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
        spun = origin.elapsed_time(start) * 1e-3 - (queueing - begin)  # while the calls were queued
        block = _Block((queued - queueing) / calls, max(0.0, spun) / calls, seconds / calls)
        return Timed(seconds, known.overtaken(block, dry=backlog < _least_backlog(seconds)))

    def _known(self, call: Callable[[], object]) -> _Queueing:
        """Return what is known of a call: nothing if it is not the last one timed. The call is not kept alive."""
        if self._call is None or self._call() is not call:
            self._queueing = _Queueing()
            try:
                self._call = weakref.ref(call)
            except TypeError:  # an object without room for weak references is learnt anew each time
                self._call = None
        return self._queueing


@dataclass(frozen=True, slots=True)
class _Block:
    """A block whose spin was over before all was queued; seconds a call.

    queueing: of the host. spun: of the spin while the calls were queued. device: between the events.
    """

    queueing: float
    spun: float
    device: float


@dataclass(slots=True)
class _Queueing:
    """How long the host takes to queue one call.

    per_call: seconds, learnt. short: blocks left in which the spin stays short. before: the last block, if its spin
    was over before all was queued.
    """

    per_call: float = 20e-6
    short: int = 0
    before: _Block | None = None

    def spin(self, calls: int) -> float:
        """Return the seconds to spin before a block."""
        needed = 0.0 if self.short else SPARE * calls * self.per_call
        return min(needed + SHORTEST_SPIN, LONGEST_SPIN)

    def in_time(self, calls: int, took: float) -> None:
        """Learn from a block that was queued, in `took` seconds, before its spin was over."""
        self.per_call, self.short, self.before = took / calls, 0, None

    def overtaken(self, block: _Block, *, dry: bool) -> bool:
        """Learn from a block whose spin was over before all was queued; return whether the device starved.

        dry: whether the device had next to nothing left when all was queued.
        """
        before, self.before = self.before, block
        if before is None or abs(block.spun - before.spun) < TELLING * block.queueing:
            before = None  # their spins were too alike
        if dry:
            self._learn_from_dry(block, before)
            return True
        idled = before is not None and _idled(block, before)
        # The next block tells whether that was chance.
        self.short = 1 if idled and not self.short else 0
        # The spin was long enough, or a full queue held the host. Only what cannot be the spin's is learnt.
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
    """Whether queueing took longer than before by as much as the spin did, rather than as long: the calls wait."""
    longer = abs(block.queueing - before.queueing)
    longer_without_spin = abs((block.queueing - block.spun) - (before.queueing - before.spun))
    return longer_without_spin < longer


def _idled(block: _Block, before: _Block) -> bool:
    """Whether the device took less time than before by just what its spin lasted longer.

    Then it waited for the host after the spin, however much work came at the end.
    """
    moved = (block.device + block.spun) - (before.device + before.spun)
    return abs(moved) < JUST * abs(block.spun - before.spun)


def _least_backlog(seconds: float) -> float:
    """Return the work in seconds that a device which never ran dry still has, once all calls are queued.

    A device that runs dry has the last call's work at most, and a block of short calls has eleven or more. One that
    never does is behind by its whole lead over the host, or by a full queue: 1024 kernels, of 2 us or more.
    """
    return 20e-6 + min(0.1 * seconds, 2e-3)
