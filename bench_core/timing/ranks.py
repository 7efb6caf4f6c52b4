"""Measure in several processes (ranks) at once: they begin together, agree on what they see, and fail together.

All ranks run the same code (`case.py` and what it calls), so they must take the same turns in it: a collective that one
of them leaves out blocks the others for ever. What a turn depends on, and may differ between them, is agreed upon here:
seconds, disturbances, and errors.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Any

from bench_core.backends.base import Backend, Ranks, Timed
from bench_core.errors import CaseError, RankFailed, WrongAnswer
from bench_core.records import Clock, Status
from bench_core.timing.watch import Watch
from bench_core.workload import Call

# Seconds of a block of several calls. Exchanges that follow each other overlap, and so they take less or more than one
# alone; what others measure are 20 in a row (nccl-tests).
BLOCK = 20e-3
SHORTEST_LEAD, LONGEST_LEAD = 0.2e-3, 20e-3  # seconds from an agreement to the common begin of a block
SPIN = 0.2e-3  # seconds before it for which a rank does not sleep: longer than waking up takes on an idle core
LATE = 20e-6  # seconds after the common begin, from which on the next lead is longer


class RanksTimer:
    """Host seconds from the moment when all members have begun until all are done.

    The members are the ranks that have a part in the work. The ranks of one host read one clock. So they begin at a
    moment that they agree on, and the time is that from the last begin to the last end of a member. Ranks of several
    hosts begin after a message to all, and the time is the longest of any member. Ranks without a part take the same
    turns, but when they begin and end does not count.

    takes_part: whether this rank is a member. members: the numbers of those that are, on all ranks the same.
    total: see Timer. Raises CaseError if no rank is a member.
    """

    clock = Clock.WALL
    batch_below = block = BLOCK

    def __init__(
        self,
        backend: Backend,
        ranks: Ranks,
        now: Callable[[], float] = perf_counter,
        sleep: Callable[[float], None] = sleep,
        *,
        takes_part: bool = True,
    ) -> None:
        self._synchronize, self._ranks, self._now, self._sleep = backend.synchronize, ranks, now, sleep
        self._lead, self._per_call = SHORTEST_LEAD, 0.0
        told = ranks.numbers([now(), float(takes_part)])
        self._agreed = told[0][0]
        self.members = [rank for rank, (_, has_part) in enumerate(told) if has_part]
        if not self.members:
            raise CaseError("no_rank_takes_part", "no rank has a part in the work, so there is nothing to time")
        self._each: list[tuple[int, list[float]]] = []
        self.total = 0.0

    def agreed_now(self) -> float:
        """Return the time of the last agreement: a clock that shows the same to all ranks."""
        return self._agreed

    def collect(self) -> float:
        """Collect garbage, agree on the time, and return the seconds that this took here."""
        begin = self._now()
        gc.collect()
        self._agreed = self._ranks.numbers([self._now()])[0][0]
        return self._now() - begin

    def time(self, run: Call, calls: int) -> Timed:
        entered = self._now()
        self._synchronize()
        # Before several calls one is made that is not timed: what has slept, as threads of gloo do, wakes up by it.
        waking = self._per_call if calls > 1 else 0.0
        planned = max(at for (at,) in self._ranks.numbers([self._now()])) + self._lead + waking
        start = self._now()
        if self._ranks.has_one_clock:
            # Who spins for long where others want the core is the next to lose it.
            if (long := planned - SPIN - waking - start) > 0:
                self._sleep(long)
            if calls > 1:
                run()
                self._synchronize()
                start = self._now()
            while start < planned:
                start = self._now()
        for _ in range(calls):
            run()
        self._synchronize()
        end = self._now()
        told = self._ranks.numbers([start, end])
        self._agreed = told[0][1]
        at_work = [told[rank] for rank in self.members]
        begun = max(start for start, _ in at_work)
        self._lead = self._next_lead(begun - planned)
        each = [end - start for start, end in at_work]
        seconds = max(end for _, end in at_work) - begun if self._ranks.has_one_clock else max(each)
        if seconds < 0 or min(each) < 0:
            raise CaseError("clock_backwards", f"the clock went back by {-min(seconds, *each):.2g} s during a call")
        self._per_call = seconds / calls
        self._each.append((calls, [own / calls for own in each]))
        self.total += self._now() - entered
        return Timed(seconds)

    def by_rank(self, calls: int) -> list[list[float]]:
        """Return, for each block of so many calls, the seconds per call of each member, from its begin to its end."""
        return [each for made, each in self._each if made == calls]

    def _next_lead(self, late: float) -> float:
        """Return the next lead: twice as long if a member began late, and else a little shorter."""
        return min(max(self._lead * (2.0 if late > LATE else 0.9), SHORTEST_LEAD), LONGEST_LEAD)


class RanksWatch(Watch):
    """A watch over all ranks: a block was calm if none of them saw it disturbed, which they agree on in `settle`."""

    def __init__(self, own: Watch, ranks: Ranks) -> None:
        super().__init__([])
        self._own, self._ranks = own, ranks

    def begin(self) -> None:
        super().begin()
        self._own.begin()

    def note(self) -> None:
        super().note()
        self._own.note()

    def settle(self) -> None:
        self._own.settle()
        seen = self._ranks.every(self._own.blocks)
        self.blocks = [_most(each) for each in zip(*seen, strict=True)]
        self.calm = sum(not each for each in self.blocks)


def _most(seen: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return what one of several ranks has lost at most, by cause."""
    causes = dict.fromkeys(cause for each in seen for cause in each)
    return {cause: max(each.get(cause, 0.0) for each in seen) for cause in causes}


def most(ranks: Ranks, seconds: float) -> float:
    """Return the largest number of all ranks."""
    return max(number for (number,) in ranks.numbers([seconds])) if ranks.size > 1 else seconds


def any_of(ranks: Ranks, is_so: bool) -> bool:
    """Return whether something is so on any rank."""
    return most(ranks, float(is_so)) > 0


@contextmanager
def failing_together(ranks: Ranks) -> Iterator[None]:
    """Raise on every rank the CaseError that one of them raises in this context, with its number.

    Nothing in the context may wait for other ranks.
    """
    if ranks.size == 1:
        yield
        return
    own: CaseError | None = None
    try:
        yield
    except CaseError as error:
        own = error
    mine = [own.status, own.code, str(own), _finite(getattr(own, "rel_error", None))] if own else None
    for rank, found in enumerate(ranks.every(mine)):
        if found is not None:
            status, code, text, rel_error = found
            reason = f"rank {rank}: {text}"
            raise WrongAnswer(reason, rel_error, code) if status == Status.INVALID else RankFailed(status, code, reason)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


# What is told of a device by each rank, and how one number is made of theirs.
_OF_ALL: Mapping[str, Callable[[list[float]], float]] = {
    "gpu_power": math.fsum,
    "gpu_clock": min,
    "gpu_temperature": max,
}


def told_by_all(
    ranks: Ranks, flags: Sequence[str], values: Mapping[str, float]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Return the flags of any rank, and one value of each quantity for all ranks.

    It is the sum of power, the lowest clock, and of every other value the largest.
    """
    if ranks.size == 1:
        return tuple(flags), dict(values)
    told: list[Any] = ranks.every([list(flags), dict(values)])
    every = dict.fromkeys(flag for flags, _ in told for flag in flags)
    names = dict.fromkeys(name for _, values in told for name in values)
    found = {name: [values[name] for _, values in told if name in values] for name in names}
    return tuple(every), {name: _OF_ALL.get(name, max)(numbers) for name, numbers in found.items()}
