"""The measuring algorithm: a callable and a clock go in, a Series of raw seconds comes out.

Four steps, each a function: warm up until steady, choose the inner loops, time blocks, stop at a look.
Synchronising is the timer's business and so the backend's; no kernel can forget it.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from statistics import median
from time import perf_counter
from typing import Any, Protocol

from bench_core import host, stats
from bench_core.backends.base import Backend
from bench_core.errors import CaseError
from bench_core.model import Clock, Series
from bench_core.workload import Run

LOOKS = (10, 15, 20, 30)  # block counts at which stopping is considered
STEADY = 0.02  # two groups of warm-up calls agree to this share
CONVERGED = 0.01  # half the interval of the median, as a share of it
BATCH_BELOW = 100e-6  # seconds; shorter calls are timed many to a block
BLOCK = 1e-3  # seconds in such a block, at least
FEWEST_BLOCKS = 3
_STANDSTILL = 4096  # calls that no clock is too coarse for
SLOWER = 1.1  # a disturbed block this much above the median is repeated


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure one series, all in seconds.

    budget: timed blocks stop here, settled or not. least: no stop before this much is timed.
    warmup: warm-up lasts at least this long; warmup_cap: and at most this long.
    """

    budget: float = 1.0
    least: float = 0.2
    warmup: float = 0.2
    warmup_cap: float = 2.0


class Timer(Protocol):
    """A clock that can time calls; `flags` gathers what it noticed meanwhile."""

    clock: Clock
    flags: list[str]

    def time(self, run: Run, calls: int) -> float:
        """Return the seconds that `calls` calls of `run` took, all their work finished."""


class WallTimer:
    """Host seconds from an idle device to an idle device: the same definition on CPU and GPU.

    Raises CaseError if the clock went backwards: no time is better than a wrong one.
    """

    clock = Clock.WALL

    def __init__(self, synchronize: Callable[[], None], now: Callable[[], float] = perf_counter) -> None:
        self._synchronize, self._now = synchronize, now
        self.flags: list[str] = []

    def time(self, run: Run, calls: int) -> float:
        self._synchronize()
        start = self._now()
        for _ in range(calls):
            run()
        self._synchronize()
        seconds = self._now() - start
        if seconds < 0:
            raise CaseError("clock_backwards", f"the clock went back by {-seconds:.2g} s during a call")
        return seconds


class DeviceTimer:
    """Device seconds between two events around a queue of calls; says so when the queue ran dry."""

    clock = Clock.DEVICE

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.flags: list[str] = []

    def time(self, run: Run, calls: int) -> float:
        took = self._backend.device_time(run, calls)
        if took.starved and "launch_bound" not in self.flags:
            self.flags.append("launch_bound")
        return took.seconds


def measure(
    metric: str, run: Run, timer: Timer, plan: Plan, switches: Callable[[], int] = host.involuntary_switches
) -> Series:
    """Return the series of one callable under one clock.

    `switches` counts the involuntary context switches of this process so far.
    """
    per_call, steady = warm_up(run, timer, plan)
    loops = inner_loops(per_call)
    with _no_garbage_collection():
        seconds, noisy = _blocks(run, timer, plan, loops, switches)
    flags = [*timer.flags]
    flags += [] if steady else ["not_steady"]
    flags += [] if settled(seconds) else ["not_converged"]
    flags += ["context_switches"] if noisy else []
    return Series(metric, timer.clock, tuple(seconds), loops, tuple(noisy), tuple(flags))


def warm_up(run: Run, timer: Timer, plan: Plan) -> tuple[float, bool]:
    """Call until two groups of calls in a row agree; return the least seconds a call took, and whether they did."""
    elapsed, previous, calls = 0.0, math.inf, 1
    while True:
        group: list[float] = []
        spent = 0.0
        while not group or (spent < plan.warmup / 2 and elapsed + spent < plan.warmup_cap):
            took = timer.time(run, calls)
            if took <= 0 and calls >= _STANDSTILL:
                reason = f"{calls} calls took no time by the {timer.clock} clock: it stands still, or they do no work"
                raise CaseError("clock_stands_still", reason)
            spent += took
            group.append(took / calls)
            if took < BLOCK:  # one call is too short to judge by: double until a block is long enough
                calls *= 2
        elapsed += spent
        current = median(group)
        steady = abs(current - previous) <= STEADY * current
        if (steady and elapsed >= plan.warmup) or elapsed >= plan.warmup_cap:
            return min(group), steady
        previous = current


def inner_loops(per_call: float) -> int:
    """Return how many calls make a block: one, or for short calls as many as fill a millisecond."""
    return 1 if per_call >= BATCH_BELOW else math.ceil(BLOCK / max(per_call, 1e-9) - 1e-6)


def settled(seconds: list[float]) -> bool:
    """Whether the interval of the median is narrow enough to stop."""
    return len(seconds) >= FEWEST_BLOCKS and stats.relative_half_width(seconds) <= CONVERGED


def unfinished(run: Run, calls: int, backend: Backend, now: Callable[[], float] = perf_counter) -> float | None:
    """Return the seconds of work left over when the backend said that all was done; None if it kept its word.

    A copy to the host has to wait for the result. So the first copy after a synchronisation must not
    take longer than the second; where it does, by more than half of what the calls claimed to take,
    in each of three tries, the claim was about the launch.
    """
    least = math.inf
    for _ in range(3):
        backend.synchronize()
        start = now()
        for _ in range(calls):
            result = run()
        backend.synchronize()
        claimed = now()
        array = _array_in(result)
        if array is None:
            return None
        backend.to_host(array)
        first_copy = now()
        backend.to_host(array)
        left = (first_copy - claimed) - (now() - first_copy)
        if left < (claimed - start) / 2 + 50e-6:  # a copy's own jitter is tens of microseconds
            return None
        least = min(least, left)
    return least


def _array_in(result: object) -> Any | None:
    """Return an array of what a kernel returned: itself, or the first in a record, mapping or sequence."""
    if hasattr(result, "shape"):
        return result
    if is_dataclass(result) and not isinstance(result, type):
        parts: Iterable[object] = [getattr(result, f.name) for f in fields(result)]
    elif isinstance(result, Mapping):
        parts = result.values()
    elif isinstance(result, (list, tuple)):
        parts = result
    else:
        return None
    return next((array for part in parts if (array := _array_in(part)) is not None), None)


def _blocks(
    run: Run, timer: Timer, plan: Plan, loops: int, switches: Callable[[], int]
) -> tuple[list[float], list[int]]:
    """Time blocks until a look is content or the budget is spent; return them and the disturbed ones' positions."""
    seconds: list[float] = []
    noisy: list[int] = []
    total, enough = 0.0, False
    while True:
        before = switches()
        block = timer.time(run, loops)
        disturbed = switches() > before and len(seconds) >= FEWEST_BLOCKS
        # A repeat is not repeated again: on a loaded machine that would never end.
        if disturbed and block / loops > SLOWER * median(seconds) and (len(seconds) - 1) not in noisy:
            noisy.append(len(seconds))
        seconds.append(block / loops)
        total += block
        enough_now = total >= plan.least
        counted = len(seconds) - len(noisy)
        look = counted in LOOKS or (enough_now and not enough)
        enough = enough_now
        if look and enough and counted >= LOOKS[0] and settled(seconds):
            return seconds, noisy
        # Calls that outlast the budget many times over are stopped below the usual fewest.
        if total >= plan.budget and (len(seconds) >= FEWEST_BLOCKS or total >= FEWEST_BLOCKS * plan.budget):
            return seconds, noisy


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
