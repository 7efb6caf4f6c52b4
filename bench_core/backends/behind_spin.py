"""Device time that does not depend on how fast the host queues calls: between two events, behind a spin.

A spin kernel holds the device while the host queues the calls, so that they then run without gaps. If the
spin was too short and the device ran dry between calls, the time is the host's, and is marked as such.

How long the host needs is learnt from block to block. A call that waits for the device (it copies from pageable
memory, or synchronises) holds the host until the spin is over, however long that is: it would teach ever longer
spins, and no spin helps it. It is told from a call that is slow to queue by two blocks with different spins: the
time of the one grows with the spin, that of the other does not.
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
TELLING = 0.1  # difference of two spins, as a share of the time that queueing takes, from which they are compared


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
        starved = overtaken and backlog < _least_backlog(seconds)
        if overtaken:
            spun = origin.elapsed_time(start) * 1e-3 - (queueing - begin)  # while the calls were queued
            known.overtaken(calls, queued - queueing, max(0.0, spun), starved=starved)
        else:
            known.in_time(calls, queued - queueing)
        return Timed(seconds, starved)

    def _known(self, call: Callable[[], object]) -> _Queueing:
        """Return what is known of a call: nothing if it is not the last one timed. The call is not kept alive."""
        if self._call is None or self._call() is not call:
            self._queueing = _Queueing()
            try:
                self._call = weakref.ref(call)
            except TypeError:  # an object without room for weak references is learnt anew each time
                self._call = None
        return self._queueing


@dataclass(slots=True)
class _Queueing:
    """How long the host takes to queue one call.

    per_call: seconds, learnt. short: blocks left in which the spin stays short, as the calls wait for the device.
    before: of the last block, if its spin was over before all was queued: seconds a call of queueing, and of the
    spin in it.
    """

    per_call: float = 20e-6
    short: int = 0
    before: tuple[float, float] | None = None

    def spin(self, calls: int) -> float:
        """Return the seconds to spin before a block."""
        needed = 0.0 if self.short else SPARE * calls * self.per_call
        return min(needed + SHORTEST_SPIN, LONGEST_SPIN)

    def in_time(self, calls: int, took: float) -> None:
        """Learn from a block that was queued, in `took` seconds, before its spin was over."""
        self.per_call, self.short, self.before = took / calls, 0, None

    def overtaken(self, calls: int, took: float, spun: float, *, starved: bool) -> None:
        """Learn from a block whose spin was over before all was queued.

        took: seconds of queueing. spun: those of the spin among them; calls that wait have waited for it.
        """
        queueing, spinning = took / calls, spun / calls
        waited = self._waited(queueing, spinning)
        self.before = queueing, spinning
        if not starved:
            # The spin was long enough, or a full queue held the host. Only what cannot be the spin's is learnt.
            self.per_call = max(self.per_call, queueing - spinning)
            return
        if waited is None:
            self.short = max(0, self.short - 1)
        else:
            self.short = SHORT_FOR if waited else 0
        if not self.short:
            self.per_call = queueing

    def _waited(self, queueing: float, spinning: float) -> bool | None:
        """Whether queueing took longer than before by as much as the spin did; None if the spins were too alike."""
        if self.before is None or abs(spinning - self.before[1]) < TELLING * queueing:
            return None
        longer = abs(queueing - self.before[0])
        longer_without_spin = abs(queueing - spinning - (self.before[0] - self.before[1]))
        return longer_without_spin < longer


def _least_backlog(seconds: float) -> float:
    """Return the work in seconds that a device which never ran dry still has, once all calls are queued.

    A device that runs dry has the last call's work at most, and a block of short calls has eleven or more. One that
    never does is behind by its whole lead over the host, or by a full queue: 1024 kernels, of 2 us or more. What
    cannot be told is a call that outlasts the longest spin, leaves the device idle and ends with more work than this.
    """
    return 20e-6 + min(0.1 * seconds, 2e-3)
