"""The measuring algorithm: a callable and a clock go in, a Series of raw seconds comes out.

Four steps: warm up until steady; choose the calls per block; time blocks; stop when the median has
converged or the budget is spent. Synchronising is the timer's business, so no kernel can forget it.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Protocol

from bench_core import stats
from bench_core.backends.base import Backend, Timed
from bench_core.errors import CaseError, ClockStandsStill
from bench_core.garbage import collection_off
from bench_core.machine import host
from bench_core.records import LAUNCH_BOUND, Clock, Series
from bench_core.workload import Call

CHECK_AT = (10, 15, 20, 30)  # block counts at which convergence is checked; each further check invites luck
STEADY = 0.02  # two groups of warm-up calls agree to this share
CONVERGED = 0.01  # half the interval of the median, as a share of it
BATCH_BELOW = 100e-6  # seconds; shorter calls are timed many to a block
# Seconds in such a block, at least. By the device's clock every block lasts so long: two events lie up to 2 us apart
# by themselves, which is 2 % of 100 us.
BLOCK = 1e-3
FEWEST_BLOCKS = 3
SLOWER = 1.1  # a disturbed block this much above the median is repeated
STARVED = 0.1  # share of blocks in which the device ran dry, above which a series is `launch_bound`
# If 4096 calls take less than 10 us, the clock is broken or the calls do nothing that it can see.
_STANDSTILL_CALLS = 4096
_STANDSTILL = 10e-6


@dataclass(frozen=True, slots=True)
class Durations:
    """How long to measure one series, all in seconds of the host, whatever clock the samples come from.

    budget: timed blocks stop here, settled or not. least: no stop before this much is spent.
    warmup: warm-up lasts at least this long; warmup_cap: and at most this long. energy: calls are made for this
    long, by themselves, to read an energy counter before and after; 0 for not at all.
    """

    budget: float = 1.0
    least: float = 0.2
    warmup: float = 0.2
    warmup_cap: float = 2.0
    energy: float = 0.0


class Timer(Protocol):
    """A clock that can time calls."""

    clock: Clock

    def time(self, run: Call, calls: int) -> Timed:
        """Return the seconds that `calls` calls of `run` took, all their work finished."""


class WallTimer:
    """Host seconds from an idle device to an idle device: the same definition on CPU and GPU.

    Raises CaseError if the clock went backwards: no time is better than a wrong one.
    """

    clock = Clock.WALL

    def __init__(self, synchronize: Callable[[], None], now: Callable[[], float] = perf_counter) -> None:
        self._synchronize, self._now = synchronize, now

    def time(self, run: Call, calls: int) -> Timed:
        self._synchronize()
        start = self._now()
        for _ in range(calls):
            run()
        self._synchronize()
        seconds = self._now() - start
        if seconds < 0:
            raise CaseError("clock_backwards", f"the clock went back by {-seconds:.2g} s during a call")
        return Timed(seconds)


class DeviceTimer:
    """Device seconds between two events around a queue of calls."""

    clock = Clock.DEVICE

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def time(self, run: Call, calls: int) -> Timed:
        return self._backend.device_time(run, calls)


def sample_series(
    metric: str,
    run: Call,
    timer: Timer,
    durations: Durations,
    switches: Callable[[], int] = host.involuntary_switches,
    now: Callable[[], float] = perf_counter,
    *,
    singly: bool = False,
) -> Series:
    """Return the series of one callable under one clock; raises ClockStandsStill if that clock sees no work.

    singly: whether a block is one call even where calls are short.
    `switches` counts the involuntary context switches of this process so far; `now` is the host's clock.
    """
    warm = warm_up(run, timer, durations, now)
    batch_below = BLOCK if timer.clock is Clock.DEVICE else BATCH_BELOW
    loops = 1 if singly else inner_loops(warm.per_call, batch_below)
    if warm.starved and loops > 1:
        loops = _held_back(run, timer, min(loops, warm.calls))
    gc.collect()
    with collection_off():
        blocks, noisy = _blocks(run, timer, durations, loops, switches, now)
    seconds = [block.seconds / loops for block in blocks]
    flags = {
        LAUNCH_BOUND: sum(block.starved for block in blocks) > STARVED * len(blocks),
        "not_steady": not warm.steady,
        "not_converged": not settled(seconds),
        "context_switches": bool(noisy),
    }
    earned = tuple(flag for flag, is_earned in flags.items() if is_earned)
    return Series(metric, timer.clock, tuple(seconds), loops, tuple(noisy), earned)


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What warm-up found.

    per_call: the least seconds that a call took, of blocks that did not starve if there were any. steady: whether
    two groups of calls in a row agreed. calls: those of the last block. starved: whether the device ran dry in a
    block of the last group.
    """

    per_call: float
    steady: bool
    calls: int = 1
    starved: bool = False


def warm_up(run: Call, timer: Timer, durations: Durations, now: Callable[[], float] = perf_counter) -> WarmUp:
    """Call until two groups of calls in a row agree."""
    begin, previous, calls, least = now(), math.inf, 1, math.inf
    while True:
        group: list[float] = []
        fed: list[float] = []  # those in which the device did not run dry
        group_begin = now()
        while not group or (now() - group_begin < durations.warmup / 2 and now() - begin < durations.warmup_cap):
            block = _time(run, timer, calls)
            group.append(block.seconds / calls)
            if not block.starved:
                fed.append(block.seconds / calls)
            last, calls = calls, _longer(calls, block)
        elapsed = now() - begin
        current, least = median(group), min(fed, default=least)
        steady = abs(current - previous) <= STEADY * current
        if (steady and elapsed >= durations.warmup) or elapsed >= durations.warmup_cap:
            per_call = least if math.isfinite(least) else min(group)
            return WarmUp(per_call, steady, last, starved=len(fed) < len(group))
        previous = current


def _longer(calls: int, block: Timed) -> int:
    """Return the calls of the next block: one call may be too short to judge by, so they double until it is long."""
    return 2 * calls if block.seconds < BLOCK else calls


def _held_back(run: Call, timer: Timer, loops: int) -> int:
    """Return how many calls, at most `loops`, the host can queue before the device begins; `loops` if none will do.

    The queue of a GPU holds 1024 launches, and the longest spin outlasts 20 ms of queueing. A block of less than 0.1 ms
    would be mostly the events' own time.
    """
    for calls in (loops, loops // 2, loops // 4, 1):
        for _ in range(2 if calls else 0):  # the first may be disturbed
            block = _time(run, timer, calls)
            if not block.starved and block.seconds >= 0.9 * BATCH_BELOW:
                return calls
    return loops


def _time(run: Call, timer: Timer, calls: int) -> Timed:
    """Time a block; raises ClockStandsStill if so many calls cannot have taken so little."""
    took = timer.time(run, calls)
    if calls >= _STANDSTILL_CALLS and took.seconds < _STANDSTILL:
        raise ClockStandsStill(
            f"{calls} calls took {took.seconds:.2g} s by the {timer.clock} clock: it stands still, or they do no work"
        )
    return took


def inner_loops(per_call: float, batch_below: float = BATCH_BELOW) -> int:
    """Return how many calls make a block: one, or for calls shorter than that as many as fill a millisecond."""
    return 1 if per_call >= batch_below else math.ceil(BLOCK / max(per_call, 1e-9) - 1e-6)


def settled(seconds: list[float]) -> bool:
    """Whether the interval of the median is narrow enough to stop."""
    return len(seconds) >= FEWEST_BLOCKS and stats.relative_half_width(seconds) <= CONVERGED


def _blocks(
    run: Call, timer: Timer, durations: Durations, loops: int, switches: Callable[[], int], now: Callable[[], float]
) -> tuple[list[Timed], list[int]]:
    """Time blocks until the median has converged or the budget is spent.

    Return each block's time for all its calls, and the indices of blocks disturbed by context switches.
    """
    blocks: list[Timed] = []
    noisy: list[int] = []
    begin, spent = now(), 0.0
    while True:
        switched = switches()
        block = _time(run, timer, loops)
        if switches() > switched and _is_noise(block, blocks, noisy):
            noisy.append(len(blocks))
        blocks.append(block)
        before, spent = spent, now() - begin
        if _may_stop(len(blocks) - len(noisy), before, spent, durations) and settled([b.seconds for b in blocks]):
            return blocks, noisy
        # Calls that outlast the budget many times over are stopped below the usual fewest.
        if spent >= durations.budget and (len(blocks) >= FEWEST_BLOCKS or spent >= FEWEST_BLOCKS * durations.budget):
            return blocks, noisy


def _is_noise(block: Timed, earlier: Sequence[Timed], noisy: Sequence[int]) -> bool:
    """Whether a block during which the process was interrupted is too slow to count.

    A repeat is not repeated again: on a loaded machine that would never end.
    """
    if len(earlier) < FEWEST_BLOCKS or len(earlier) - 1 in noisy:
        return False
    return block.seconds > SLOWER * median(b.seconds for b in earlier)


def _may_stop(counted: int, before: float, spent: float, durations: Durations) -> bool:
    """Whether convergence is checked now: at set counts of blocks, and as soon as `least` seconds are spent.

    before, spent: seconds until the last block began and until it ended.
    """
    due = counted in CHECK_AT or before < durations.least
    return due and spent >= durations.least and counted >= CHECK_AT[0]
