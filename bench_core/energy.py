"""The energy of a call, from counters of the whole device: NVML's of a GPU's board, RAPL's of the CPU's packages.

Idle power is in it, and whatever else the device does meanwhile. The host's energy is no part of a GPU's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from bench_core import gpu, host
from bench_core.measure import Timer
from bench_core.workload import Run

BLOCK = 10e-3  # seconds of calls between two readings, at least
STANDSTILL = 1.0  # seconds without an update after which a counter is given up


@dataclass(frozen=True, slots=True)
class Meter:
    """A counter of energy.

    read: returns the joules that each part has taken so far; None once the device has stopped to tell.
    ranges: the joules at which each part starts again from zero.
    """

    read: Callable[[], tuple[float, ...] | None]
    ranges: Sequence[float] = (math.inf,)

    def joules(self, before: Sequence[float], after: Sequence[float]) -> float:
        """Return the energy between two readings, which must be less than a range apart."""
        return math.fsum((b - a) % r for a, b, r in zip(before, after, self.ranges, strict=True))


def meter(device: str, uuid: str | None) -> Meter | None:
    """Return the counter of a device, None where there is none; the environment's facts say why."""
    if device == "cpu":
        ranges = [package.range for package in host.package_energy()]
        return Meter(lambda: tuple(package.joules for package in host.package_energy()), ranges) if ranges else None
    if gpu.energy(uuid) is None:
        return None

    def read() -> tuple[float, ...] | None:
        joules = gpu.energy(uuid)
        return None if joules is None else (joules,)

    return Meter(read)


def per_call(
    run: Run, timer: Timer, counter: Meter, call: float, window: float, now: Callable[[], float] = perf_counter
) -> float | None:
    """Return the joules of one call, the mean over at least `window` seconds; None if the counter does not move.

    call: the seconds that one call takes.

    Counters are updated now and then: NVIDIA's every 20 to 100 ms (PETSc, PetscLogGpuEnergyMeter). Of calls shorter
    than the window, those from one update to another are counted, so that the interval does not matter.
    """
    calls = max(1, math.ceil(BLOCK / call))
    before = counter.read()
    start = before if call >= window else None  # waiting for an update would take another call
    begin = updated = now()
    done = 0
    while before is not None:
        timer.time(run, calls)
        done += calls
        reading, at = counter.read(), now()
        if reading is None or (reading == before and at - updated > max(STANDSTILL, 2 * call)):
            return None
        if reading == before:
            continue
        if start is None:
            start, begin, done = reading, at, 0
        elif at - begin >= window:
            return counter.joules(start, reading) / done
        before, updated = reading, at
    return None
