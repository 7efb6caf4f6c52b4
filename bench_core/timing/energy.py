"""The energy of a call, from counters of the whole device: NVML's of a GPU's board, RAPL's of the CPU's packages.

Idle power is in it, and whatever else the device does meanwhile. The host's energy is no part of a GPU's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from bench_core.machine import host, nvml
from bench_core.timing.sampling import Timer
from bench_core.workload import Call

BLOCK = 100e-3  # seconds of calls between two readings, at least, but while an update is looked for:
LOOK = 5e-3  # seconds of calls between two readings then, at least
LOOKS = 50  # times what is unknown of the moment of an update, an average lasts
STANDSTILL = 1.0  # seconds without an update after which a counter is given up
IDLE = 0.01  # share of the average that may be spent reading: the device is idle then
LONGEST = 10.0  # seconds that an average may last for the sake of these two, where the calls are shorter
# Seconds between two updates of a counter, at most: NVIDIA's take 20 to 100 ms (PETSc, PetscLogGpuEnergyMeter), RAPL's
# about 1 ms (Intel, Software Developer's Manual, volume 3, section on RAPL interfaces).
_NVML_UPDATE, _RAPL_UPDATE = 100e-3, 1e-3


@dataclass(frozen=True, slots=True)
class Meter:
    """A counter of energy.

    read: returns the joules that each part has taken so far; None once the device has stopped to tell.
    ranges: the joules at which each part starts again from zero. update: the seconds between two updates, at most.
    """

    read: Callable[[], tuple[float, ...] | None]
    ranges: Sequence[float] = (math.inf,)
    update: float = _NVML_UPDATE

    def joules(self, before: Sequence[float], after: Sequence[float]) -> float:
        """Return the energy between two readings, which must be less than a range apart."""
        return math.fsum((b - a) % r for a, b, r in zip(before, after, self.ranges, strict=True))


@dataclass(frozen=True, slots=True)
class Energy:
    """What one call takes, in joules, and the share of the average in which no call ran: readings are made then."""

    joules: float
    idle: float

    @property
    def flags(self) -> tuple[str, ...]:
        """`idle_energy` if the power of an idle device may be more than a hundredth of it."""
        return ("idle_energy",) if self.idle > IDLE else ()


def meter(device: str, uuid: str | None) -> Meter | None:
    """Return the counter of a device, None where there is none; the environment's facts say why."""
    if device == "cpu":
        ranges = [package.range for package in host.package_energy()]
        if not ranges:
            return None
        return Meter(lambda: tuple(package.joules for package in host.package_energy()), ranges, _RAPL_UPDATE)
    if nvml.energy(uuid) is None:
        return None

    def read() -> tuple[float, ...] | None:
        joules = nvml.energy(uuid)
        return None if joules is None else (joules,)

    return Meter(read)


def per_call(
    run: Call, timer: Timer, counter: Meter, call: float, window: float, now: Callable[[], float] = perf_counter
) -> Energy | None:
    """Return what one call takes, the mean over at least `window` seconds; None if the counter does not move.

    call: the seconds that one call takes.

    The average goes from one update of the counter to another, both with the device at work, so that neither the
    interval of updates nor a filter in the counter matters. In between nothing is read: a reading, and the wait for the
    device before it, leave the device idle, whose power would be counted as the work's.

    Only while an update is looked for, before and at the end, are blocks of calls short. The moment of an update is
    known to the block in which it came, or to the longest interval of updates where calls are longer: the average lasts
    50 times that, so the error is 2 % at most, and below 1 % in the root mean square. A block lasts `sqrt(interval x
    reading)`: there the idle time at the end, at most interval x reading / block, is as long as a block, and their sum
    least. The average also lasts so long that the readings in it are less than 1 % of it. What they came to is in
    `idle`, without the waits at the ends of blocks, of tens of microseconds each.
    """
    load = _Load(run, timer, counter, call, now)
    if (first := load.read()) is None:
        return None
    look = max(LOOK, math.sqrt(counter.update * load.reading))
    least = max(window, _least(call, look, load.reading, counter.update))
    if call >= least:  # one is enough, and waiting for an update would take another
        start = load.mark(first)
        load.work(1)
        end = load.mark(load.read())
    else:
        start = load.update(look)
        while start and now() - start.at < least:
            load.work(max(BLOCK, least))
        end = load.update(look) if start else None
    if start is None or end is None or end.joules == start.joules:
        return None
    joules = counter.joules(start.joules, end.joules) / (end.calls - start.calls)
    return Energy(joules, 1 - (end.worked - start.worked) / (end.at - start.at))


def _least(call: float, look: float, reading: float, update: float) -> float:
    """Return how long an average must last for what is unknown of its ends and for the readings in it; all seconds."""
    unknown = min(max(look, call), update)
    readings = reading * (2 + update / max(look, call))
    return min(max(LOOKS * unknown, readings / IDLE), LONGEST)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A reading, when it was made, and how many calls, of how many seconds, had been made until then."""

    joules: tuple[float, ...]
    at: float
    calls: int
    worked: float


class _Load:
    """Calls that keep the device at work, and readings between them.

    reading: the seconds that the last reading took.
    """

    def __init__(self, run: Call, timer: Timer, counter: Meter, call: float, now: Callable[[], float]) -> None:
        self._run, self._timer, self._counter, self._call, self._now = run, timer, counter, call, now
        self._calls, self._worked = 0, 0.0
        self.reading = 0.0

    def work(self, seconds: float) -> None:
        """Make calls for so long, one at least, and wait for them."""
        calls = max(1, math.ceil(seconds / self._call))
        self._worked += self._timer.time(self._run, calls).seconds
        self._calls += calls

    def read(self) -> tuple[float, ...] | None:
        begin = self._now()
        joules = self._counter.read()
        self.reading = self._now() - begin
        return joules

    def mark(self, joules: tuple[float, ...] | None) -> _Mark | None:
        return None if joules is None else _Mark(joules, self._now(), self._calls, self._worked)

    def update(self, look: float) -> _Mark | None:
        """Work, and read every `look` seconds until the counter has moved; None if it does not."""
        before, since = self.read(), self._now()
        while before is not None:
            self.work(look)
            joules = self.read()
            if joules != before:
                return self.mark(joules)
            if self._now() - since > max(STANDSTILL, 2 * self._call):
                return None
        return None
