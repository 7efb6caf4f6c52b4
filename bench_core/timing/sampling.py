"""The measuring algorithm: it takes a callable and a clock, and returns a Series of raw seconds.

Four steps: warm up until steady; choose the number of calls per block; time blocks; stop when the median has
converged or the budget is spent. The timer synchronises, so that no kernel can forget to. stationarity.py judges
whether the calls were alike.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Protocol, Self, runtime_checkable

from bench_core import stats
from bench_core.backends.base import Backend, Futures, Timed
from bench_core.errors import CaseError, ClockStandsStill
from bench_core.garbage import collection_off
from bench_core.records import LAUNCH_BOUND, NEVER_QUIET, Clock, Part, Series
from bench_core.timing.account import part
from bench_core.timing.stationarity import alternates, has_trend
from bench_core.timing.watch import Lost, Watch
from bench_core.workload import Call

CHECK_AT = (10, 15, 20, 30)  # block counts at which convergence is checked; each check adds a chance to stop by luck
STEADY = 0.02  # relative difference up to which two groups of warm-up calls agree
CONVERGED = 0.01  # half the interval of the median, relative to the median
BATCH_BELOW = 100e-6  # seconds; of shorter calls, a block contains many
# Seconds in such a block, at least. By the device's clock, every block lasts this long: two events are up to 2 us apart
# with nothing between them, which is 2 % of 100 us.
BLOCK = 1e-3
FEWEST_BLOCKS = 3
STARVED = 0.1  # share of blocks in which the device ran out of work, above which a series is `launch_bound`
SINGLES = 40  # calls timed one at a time after batches; every second one is compared with the others
_LONGEST_PAUSE = 256  # empty loop steps before such a call: some microseconds, longer than any tick of a clock
# If 4096 calls take less than 10 us, the clock is broken, or it sees no work of these calls.
_STANDSTILL_CALLS = 4096
_STANDSTILL = 10e-6


@dataclass(frozen=True, slots=True)
class Durations:
    """How long to measure one series, in seconds of host time, whatever clock the samples come from.

    budget: timed blocks stop after this time, converged or not. least: they do not stop before this time.
    warmup, warmup_cap: the warm-up lasts at least and at most this long. energy: length of separate calls between two
    readings of an energy counter; 0 for none.
    """

    budget: float = 1.0
    least: float = 0.2
    warmup: float = 0.2
    warmup_cap: float = 2.0
    energy: float = 0.0


class Timer(Protocol):
    """A clock that can time calls.

    batch_below: seconds; of shorter calls, a block contains many. block: seconds that such a block lasts, at least.
    total: seconds of host time that all calls so far have taken, as this timer measured them.
    """

    clock: Clock
    batch_below: float
    block: float
    total: float

    def time(self, run: Call, calls: int) -> Timed:
        """Return the seconds that `calls` calls of `run` took, until all their work was done."""


@runtime_checkable
class Collects(Protocol):
    """Optional part of a Timer whose clock stands still between blocks."""

    def collect(self) -> float:
        """Collect garbage before the blocks, let the clock go on, and return the seconds that this took."""


class WallTimer:
    """Host seconds from an idle device to an idle device: the same definition on CPU and GPU.

    wait_for: waits for the result of one call, if results are futures; each call is then awaited before the next.
    total: see Timer.

    Raises CaseError if the clock went backwards: no time is better than a wrong one.
    """

    clock = Clock.WALL
    batch_below = BATCH_BELOW
    block = BLOCK

    def __init__(
        self,
        synchronize: Callable[[], None],
        now: Callable[[], float] = perf_counter,
        wait_for: Callable[[Any], None] | None = None,
    ) -> None:
        self._synchronize, self._now, self._wait_for = synchronize, now, wait_for
        self.total = 0.0

    @classmethod
    def of(cls, backend: Backend) -> Self:
        """Return the timer of a backend; it awaits every result if results are futures."""
        return cls(backend.synchronize, wait_for=backend.wait_for if isinstance(backend, Futures) else None)

    def time(self, run: Call, calls: int) -> Timed:
        wait_for = self._wait_for
        self._synchronize()
        start = self._now()
        if wait_for is None:
            for _ in range(calls):
                run()
        else:
            for _ in range(calls):
                wait_for(run())
        self._synchronize()
        seconds = self._now() - start
        if seconds < 0:
            raise CaseError("clock_backwards", f"the clock went back by {-seconds:.2g} s during a call")
        self.total += seconds
        return Timed(seconds)


class DeviceTimer:
    """Device seconds between two events around queued calls; `total` is in seconds of host time."""

    clock = Clock.DEVICE
    batch_below = block = BLOCK

    def __init__(self, backend: Backend, now: Callable[[], float] = perf_counter) -> None:
        self._backend, self._now = backend, now
        self.total = 0.0

    def time(self, run: Call, calls: int) -> Timed:
        start = self._now()
        took = self._backend.device_time(run, calls)
        self.total += self._now() - start
        return took


def sample_series(
    metric: str,
    run: Call,
    timer: Timer,
    durations: Durations,
    watch: Watch,
    now: Callable[[], float] = perf_counter,
    *,
    singly: bool = False,
) -> Series:
    """Measure one callable by one clock and return the series; raises ClockStandsStill if the clock sees no work.

    singly: whether a block is one call even if calls are short. watch: tells which blocks were disturbed. now: the
    host's clock, in seconds.

    Calls that rotate through several buffer sets are judged like any other. With an even number of sets, every second
    call uses the same half of them, so the times alternate if the sets differ (pages, alignment), through no fault of
    the kernel. That is flagged as well, because the median is then the time of neither half. An odd number avoids it.
    """
    before = timer.total
    with part(Part.WARM_UP):
        warm = warm_up(run, timer, durations, now)
    # The warm-up has doubled its blocks until one was long enough. If some calls do no work, the least time of a call
    # says nothing of the others, and a block of as many as it asks for would never end.
    loops = 1 if singly else min(inner_loops(warm.per_call, timer), 2 * warm.calls)
    if warm.starved and loops > 1:
        loops = _held_back(run, timer, min(loops, warm.calls))
    collecting = timer.collect() if isinstance(timer, Collects) else _collect(now)
    with collection_off():
        with part(Part.TIMED):
            blocks = _blocks(run, timer, durations, loops, watch, now)
        # The mean of a block hides differences between its calls.
        batches_alternate = loops > 1 and timer.clock is Clock.WALL and _alternates_singly(run, timer)
    seconds = [block.seconds / loops for block in blocks]
    lost = watch.blocks
    counted = which_count(lost)
    calm = {i: seconds[i] for i in counted}
    noisy = [i for i in range(len(seconds)) if i not in calm]
    causes = dict.fromkeys(cause for i in counted for cause in lost[i])
    starved = sum(block.starved for block in blocks) > STARVED * len(blocks)
    flags = {
        LAUNCH_BOUND: starved,
        "not_steady": not warm.steady,
        "not_converged": not settled(list(calm.values())),
        NEVER_QUIET: bool(causes),
        **dict.fromkeys(causes, True),
        "trend": has_trend(list(calm.values())),
        # If the device starves, long and short spins take turns (event_timer.py), so the times alternate.
        "alternating": batches_alternate or (loops == 1 and not starved and _alternates(calm)),
    }
    earned = tuple(flag for flag, is_earned in flags.items() if is_earned)
    claimed = timer.total - before + collecting
    discarded: dict[str, float] = {}
    for i in noisy:
        cause = max(lost[i], key=lost[i].__getitem__)
        discarded[cause] = discarded.get(cause, 0.0) + blocks[i].seconds
    disturbance = math.fsum(max(lost[i].values(), default=0.0) for i in counted) / len(counted)
    return Series(metric, timer.clock, tuple(seconds), loops, tuple(noisy), earned, claimed, discarded, disturbance)


def _collect(now: Callable[[], float]) -> float:
    begin = now()
    gc.collect()
    return now() - begin


def which_count(lost: Sequence[Lost], fewest: int = FEWEST_BLOCKS) -> list[int]:
    """Return the blocks that count: the calm ones or, of fewer than `fewest`, the less disturbed half of all.

    lost: what each block has lost, by cause. Blocks that lost as much as one that counts do so as well.
    """
    calm = [i for i, each in enumerate(lost) if not each]
    if len(calm) >= min(fewest, len(lost)):
        return calm
    worst = [max(each.values(), default=0.0) for each in lost]
    enough = max(min(fewest, len(lost)), math.ceil(len(lost) / 2))
    most = sorted(worst)[enough - 1]
    return [i for i, share in enumerate(worst) if share <= most]


def _alternates(calls: Mapping[int, float]) -> bool:
    """Return whether every second call differs from its neighbours. calls: seconds by call number, some left out."""
    odd, even = ([each for i, each in calls.items() if i % 2 == parity] for parity in (1, 0))
    return alternates(odd, even)


def _alternates_singly(run: Call, timer: Timer) -> bool:
    """Return whether every second call of a batch differs from its neighbours, in two tries.

    One try is not enough: other work on the same cores has made every second of 40 calls wait.
    """
    return all(_alternates(dict(enumerate(timed_singly(run, timer)))) for _ in range(2))


def _spin(steps: int) -> None:
    for _ in range(steps):
        pass


def timed_singly(run: Call, timer: Timer, pause: Callable[[int], None] = _spin) -> list[float]:
    """Return the seconds of SINGLES calls, timed one at a time.

    Each includes the overhead of the timer, which makes relative differences of very short calls smaller.

    pause: waits for a number of steps. Calls in step with a coarse clock would last a tick more and a tick less in turn
    (1.05 us by ticks of 0.1 us, begun every 1.55 us); pauses of random length prevent that.
    """
    draw = random.Random(0)  # noqa: S311 - no secret
    seconds = []
    for _ in range(SINGLES):
        pause(draw.randrange(_LONGEST_PAUSE))
        seconds.append(_time(run, timer, 1).seconds)
    return seconds


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The result of the warm-up.

    per_call: the least seconds per call, of blocks that did not starve if there were any. steady: whether two
    consecutive groups of calls agreed. calls: number of calls in the last block. starved: whether the device ran out of
    work in a block of the last group.
    """

    per_call: float
    steady: bool
    calls: int = 1
    starved: bool = False


def warm_up(run: Call, timer: Timer, durations: Durations, now: Callable[[], float] = perf_counter) -> WarmUp:
    """Call until two consecutive groups of calls agree, or until `durations.warmup_cap` is reached."""
    begin, previous, calls, least = now(), math.inf, 1, math.inf
    while True:
        group: list[float] = []
        fed: list[float] = []  # blocks in which the device did not starve
        group_begin = now()
        while not group or (now() - group_begin < durations.warmup / 2 and now() - begin < durations.warmup_cap):
            block = _time(run, timer, calls)
            group.append(block.seconds / calls)
            if not block.starved:
                fed.append(block.seconds / calls)
            last, calls = calls, _longer(calls, block, timer)
        elapsed = now() - begin
        current, least = median(group), min(fed, default=least)
        steady = abs(current - previous) <= STEADY * current
        if (steady and elapsed >= durations.warmup) or elapsed >= durations.warmup_cap:
            per_call = least if math.isfinite(least) else min(group)
            return WarmUp(per_call, steady, last, starved=len(fed) < len(group))
        previous = current


def _longer(calls: int, block: Timed, timer: Timer) -> int:
    """Return the number of calls of the next block: it doubles until a block is long enough to judge by."""
    return 2 * calls if block.seconds < timer.block else calls


def _held_back(run: Call, timer: Timer, loops: int) -> int:
    """Return how many calls, at most `loops`, the host can queue during a spin; `loops` if no number works.

    The queue of a GPU holds 1024 launches, and the longest spin covers 20 ms of queueing. In a block of less than
    0.1 ms, the events themselves would take a large share.
    """
    for calls in (loops, loops // 2, loops // 4, 1):
        for _ in range(2 if calls else 0):  # the first may be disturbed
            block = _time(run, timer, calls)
            if not block.starved and block.seconds >= 0.9 * BATCH_BELOW:
                return calls
    return loops


def _time(run: Call, timer: Timer, calls: int) -> Timed:
    """Time a block; raises ClockStandsStill if the time is impossibly short for the number of calls."""
    took = timer.time(run, calls)
    if calls >= _STANDSTILL_CALLS and took.seconds < _STANDSTILL:
        raise ClockStandsStill(
            f"{calls} calls took {took.seconds:.2g} s by the {timer.clock} clock: it stopped, or they do no work"
        )
    return took


def inner_loops(per_call: float, timer: Timer) -> int:
    """Return the number of calls per block of a timer: one or, of short calls, as many as fill a block."""
    return 1 if per_call >= timer.batch_below else math.ceil(timer.block / max(per_call, 1e-9) - 1e-6)


def settled(seconds: list[float]) -> bool:
    """Return whether the interval of the median is narrow enough to stop."""
    return len(seconds) >= FEWEST_BLOCKS and stats.relative_half_width(seconds) <= CONVERGED


def _blocks(
    run: Call, timer: Timer, durations: Durations, loops: int, watch: Watch, now: Callable[[], float]
) -> list[Timed]:
    """Time blocks until the median of the calm ones has converged or the budget is spent; `watch` knows which are calm.

    A disturbed block is not repeated at once, when what disturbed it may go on: more blocks follow in any case.
    """
    blocks: list[Timed] = []
    watch.begin()
    begin, spent, looked = now(), 0.0, 0
    while True:
        block = _time(run, timer, loops)
        watch.note()
        blocks.append(block)
        before, spent = spent, now() - begin
        # If calls are much longer than the budget, stop with fewer than FEWEST_BLOCKS.
        enough = len(blocks) >= FEWEST_BLOCKS or spent >= FEWEST_BLOCKS * durations.budget
        if spent >= durations.budget and enough:
            watch.settle()
            return blocks
        if _may_stop(watch.calm, looked, before, spent, durations):
            watch.settle()  # which may find that fewer are calm
            if _may_stop(watch.calm, looked, before, spent, durations):
                looked = watch.calm
                if settled([block.seconds for block, lost in zip(blocks, watch.blocks, strict=True) if not lost]):
                    return blocks


def _may_stop(counted: int, looked: int, before: float, spent: float, durations: Durations) -> bool:
    """Return whether convergence is checked now: at the block counts CHECK_AT, and once `least` seconds are spent.

    counted: undisturbed blocks; looked: how many there were at the last check. before, spent: seconds until the last
    block began and until it ended.
    """
    due = any(looked < count <= counted for count in CHECK_AT) or before < durations.least
    return due and spent >= durations.least and counted >= CHECK_AT[0]


def rotate(runs: list[Call]) -> Call:
    """Return one callable that calls the given ones in turn."""
    if len(runs) == 1:
        return runs[0]
    turn = itertools.cycle(runs)

    def run() -> object:
        return next(turn)()

    return run
