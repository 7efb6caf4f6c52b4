"""Measure a case again that was disturbed most of the time: which one, for how long, and which of two tries counts.

It is done at most once for each case, later in the run, and takes no longer than other cases have left of their budgets
plus a share of the run's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bench_core.records import NEVER_QUIET, Measurement, Part, Status

MOSTLY = 0.5  # share of the timed seconds that must not count, for a case to be measured again
EXTRA = 0.1  # share of the run's budget that is added for all second tries
LONGEST_WAIT = 5.0  # seconds to wait for a quiet machine before a second try, at most
REPEATED = "measured_again"  # the cause of seconds that do not count because another try of the case does


def is_disturbed(done: Measurement) -> bool:
    """Return whether a case was disturbed most of the time, so that it is worth another try."""
    if done.status is not Status.OK or not done.series:
        return False
    return any(NEVER_QUIET in series.flags for series in done.series) or _disturbance(done)[1] > MOSTLY


def better(first: Measurement, second: Measurement) -> Measurement:
    """Return the try that counts: the calmer one, however long its calls took; what both have spent is kept in it.

    A wrong answer counts in any case. A second try that ended otherwise without a value only adds a flag to the first.
    """
    parts = first.spent.keys() | second.spent.keys()
    spent = {part: first.spent.get(part, 0.0) + second.spent.get(part, 0.0) for part in Part if part in parts}
    if second.status is Status.INVALID:
        return replace(second, spent=spent)
    if second.status is not Status.OK:
        return replace(first, flags=(*first.flags, f"{second.status}_when_repeated"), spent=spent)
    kept, other = (second, first) if _disturbance(second) < _disturbance(first) else (first, second)
    return replace(kept, other_s=sum(series.timed_s for series in other.series), spent=spent)


def _disturbance(done: Measurement) -> tuple[float, float]:
    """Return the largest share of time that blocks which count have lost, and the share of blocks that do not count."""
    timed = sum(series.timed_s for series in done.series)
    left_out = sum(sum(series.lost.values()) for series in done.series)
    return max(series.disturbance for series in done.series), left_out / timed if timed else 0.0


class Purse:
    """The seconds that are left for second tries.

    budget: the seconds that all cases of the run are given.
    """

    def __init__(self, budget: float) -> None:
        self.seconds = EXTRA * budget

    def first(self, done: Measurement, given: float) -> None:
        """Add what a case left of the seconds that it was given, if it was measured."""
        if done.status is Status.OK:
            self.seconds += max(0.0, given - done.measuring_s)

    def take(self, given: float) -> bool:
        """Take what a second try of a case may need, and return True; return False if there is less."""
        if self.seconds < given + wait_of(given):
            return False
        self.seconds -= given + wait_of(given)
        return True

    def second(self, done: Measurement, given: float) -> None:
        """Give back what a second try did not need."""
        self.seconds += given + wait_of(given) - done.measuring_s - done.spent.get(Part.WAITING, 0.0)


def wait_of(given: float) -> float:
    """Return the seconds that a case with a budget may wait for a quiet machine."""
    return min(LONGEST_WAIT, given)


def disturbed_seconds(measurements: Iterable[Measurement]) -> dict[str, Any]:
    """Return how much of the timed seconds does not count, by cause, and how many cases had hardly a calm block."""
    lost: dict[str, float] = {}
    timed, never_quiet = 0.0, 0
    for m in measurements:
        timed += m.other_s + sum(series.timed_s for series in m.series)
        never_quiet += any(NEVER_QUIET in series.flags for series in m.series)
        causes = [pair for series in m.series for pair in series.lost.items()]
        for cause, seconds in (*causes, *([(REPEATED, m.other_s)] if m.other_s else [])):
            lost[cause] = lost.get(cause, 0.0) + seconds
    return {"timed_s": timed, "lost_s": dict(sorted(lost.items())), "never_quiet": never_quiet}
