"""The energy of a call, from counters of the whole device: NVML for a GPU board, RAPL for the CPU packages.

It includes idle power and all other work on the device. The energy of a GPU call does not include the host's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from bench_core.machine import nvml, rapl
from bench_core.timing.sampling import Timer
from bench_core.workload import Call

BLOCK = 100e-3  # seconds of calls between two readings, at least, except while waiting for an update:
LOOK = 5e-3  # seconds of calls between two readings then, at least
LOOKS = 50  # an average lasts this many times the uncertainty of the time of an update
STANDSTILL = 1.0  # seconds without an update after which the counter is not used
IDLE = 0.01  # share of the average that may be spent on readings, during which the device is idle
LONGEST = 10.0  # seconds; LOOKS and IDLE do not extend an average beyond this
# Watts that no GPU board and no CPU package takes: the largest are sold for 1.4 and 0.5 kW, with short peaks of less
# than twice that. A counter that moved faster was set back, by a suspend of the machine or by its driver.
_NVML_WATTS, _RAPL_WATTS = 4000.0, 1000.0
LOST = "energy_lost"  # the flag of a case whose counter gave no value
# Seconds between two updates of a counter, at most: NVIDIA's take 20 to 100 ms (PETSc, PetscLogGpuEnergyMeter), RAPL's
# about 1 ms (Intel, Software Developer's Manual, volume 3, section on RAPL interfaces).
_NVML_UPDATE, _RAPL_UPDATE = 100e-3, 1e-3


@dataclass(frozen=True, slots=True)
class Meter:
    """An energy counter.

    read: returns the energy that each part of the device has used so far, in joules; None if it can no longer be read.
    ranges: joules at which the counter of each part wraps to zero. update: longest time between updates, in seconds.
    most_watts: power of each part above which a reading is not one.
    """

    read: Callable[[], tuple[float, ...] | None]
    ranges: Sequence[float] = (math.inf,)
    update: float = _NVML_UPDATE
    most_watts: float = _NVML_WATTS

    def joules(self, before: Sequence[float], after: Sequence[float], seconds: float) -> float | None:
        """Return the energy between two readings in joules.

        seconds: the time between them. None if that is not known: a counter did not move, went back, moved faster than
        the device can take energy, or may have wrapped more than once.
        """
        most = self.most_watts * (seconds + self.update)  # a reading is up to one update old
        moves = zip(before, after, self.ranges, strict=True)
        parts = [(b - a) % r if math.isfinite(r) else b - a for a, b, r in moves]
        known = most < min(self.ranges) and all(0 < part <= most for part in parts)
        return math.fsum(parts) if known else None


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy of one call in joules, and the share of the average in which no call ran (during readings)."""

    joules: float
    idle: float

    @property
    def flags(self) -> tuple[str, ...]:
        """`idle_energy` if the device was idle for more than 1 % of the average."""
        return ("idle_energy",) if self.idle > IDLE else ()


def meter(device: str, uuid: str | None) -> Meter | None:
    """Return the energy counter of a device; None if there is none (the facts of the environment say why).

    If only some packages of a CPU have a counter, it is a meter without values: cases are then flagged `energy_lost`.
    """
    if device == "cpu":
        packages = rapl.packages()
        if not packages:
            return Meter(lambda: None) if rapl.is_partial() else None
        return Meter(lambda: rapl.joules(packages), [p.range for p in packages], _RAPL_UPDATE, _RAPL_WATTS)
    if nvml.energy(uuid) is None:
        return None

    def read() -> tuple[float, ...] | None:
        joules = nvml.energy(uuid)
        return None if joules is None else (joules,)

    return Meter(read)


def per_call(
    run: Call, timer: Timer, counter: Meter, call: float, window: float, now: Callable[[], float] = perf_counter
) -> Energy | None:
    """Return the mean energy of a call over at least `window` seconds.

    None if the counter does not move, can no longer be read, or gives what no device takes: a case without its energy
    still has its times. call: seconds per call.

    The average starts and ends at an update of the counter, both times with the device at work, so that neither the
    update interval nor a filter in the counter matters. In between, the counter is not read: during a reading, and
    during the wait for the device before it, the device is idle, and its idle power would be counted as the work's.

    Blocks of calls are short only while waiting for an update, at the beginning and at the end. The time of an update
    is known to within the block in which it came or, if calls are longer, to within the longest update interval. The
    average lasts 50 times that uncertainty, so the error is at most 2 %, and below 1 % in the root mean square. A block
    lasts `sqrt(interval x reading)`: the idle time at the end, at most interval x reading / block, is then as long as a
    block, and the sum of both is minimal. The average also lasts long enough for its readings to take less than 1 % of
    it. `idle` is the share that they took, without the waits at the ends of blocks, tens of microseconds each.
    """
    load = _Load(run, timer, counter, call, now)
    if (first := load.read()) is None:
        return None
    look = max(LOOK, math.sqrt(counter.update * load.reading))
    least = max(window, _least(call, look, load.reading, counter.update))
    if call >= least:  # one call is enough, and waiting for an update would take another one
        start = load.mark(first)
        load.work(1)
        end = load.mark(load.read())
    else:
        start = load.update(look)
        while start and now() - start.at < least:
            load.work(max(BLOCK, least))
        end = load.update(look) if start else None
    if start is None or end is None:
        return None
    joules = counter.joules(start.joules, end.joules, end.at - start.at)
    if joules is None:
        return None
    return Energy(joules / (end.calls - start.calls), 1 - (end.worked - start.worked) / (end.at - start.at))


def _least(call: float, look: float, reading: float, update: float) -> float:
    """Return the minimum length of an average, given the uncertainty of its ends and its readings; all in seconds."""
    unknown = min(max(look, call), update)
    readings = reading * (2 + update / max(look, call))
    return min(max(LOOKS * unknown, readings / IDLE), LONGEST)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A reading: joules per part, its time, and the number and the total seconds of the calls before it."""

    joules: tuple[float, ...]
    at: float
    calls: int
    worked: float


class _Load:
    """Makes calls that keep the device at work, and reads the counter between them.

    reading: seconds that the last reading took.
    """

    def __init__(self, run: Call, timer: Timer, counter: Meter, call: float, now: Callable[[], float]) -> None:
        self._run, self._timer, self._counter, self._call, self._now = run, timer, counter, call, now
        self._calls, self._worked = 0, 0.0
        self.reading = 0.0

    def work(self, seconds: float) -> None:
        """Make calls for at least `seconds`, and wait for them."""
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
        """Make calls, and read the counter every `look` seconds until it has moved; return None if it does not."""
        before, since = self.read(), self._now()
        while before is not None:
            self.work(look)
            joules = self.read()
            if joules != before:
                return self.mark(joules)
            if self._now() - since > max(STANDSTILL, 2 * self._call):
                return None
        return None
