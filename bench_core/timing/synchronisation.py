"""Verify that a backend waits for its device when it says so, and that the device's clock sees all of the work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench_core.backends.base import Backend, finish
from bench_core.workload import Call

TRIES = 3  # every try must show the fault, because a single one may be disturbed
JITTER = 50e-6  # seconds by which the time of a copy varies


def itself(result: Any) -> Any:
    """Return the result itself, if it is an array: the default for `array`."""
    return result


@dataclass(frozen=True, slots=True)
class Awaited:
    """The outcome of calls that were awaited.

    result: what the last of them returned. seconds: per call, until the backend said that all was done. left: seconds
    of work that went on after that; None if the backend did wait.
    """

    result: Any
    seconds: float
    left: float | None


def unfinished(
    run: Call,
    calls: int,
    backend: Backend,
    array: Callable[[Any], Any] = itself,
    now: Callable[[], float] = perf_counter,
) -> Awaited:
    """Make some calls, and determine whether they were done when the backend said so.

    run: queues work on the device. array: returns an array that holds the result, given what `run` returned.

    If a result was late by more than half of the time that the calls claimed to take, in each of three tries, then
    `synchronize` does not wait, or the result was computed only when it was read.
    """
    least = math.inf
    for _ in range(TRIES):
        backend.synchronize()
        start = now()
        for _ in range(calls - 1):
            run()
        result = run()
        finish(backend, result)
        claimed = now() - start
        left = late(backend, result, array, now)
        seconds = claimed / calls
        if not is_late(left, claimed):
            return Awaited(result, seconds, None)
        least = min(least, left)
    return Awaited(result, seconds, least)


def late(
    backend: Backend, result: Any, array: Callable[[Any], Any] = itself, now: Callable[[], float] = perf_counter
) -> float:
    """Return by how many seconds the first copy of a result to the host takes longer than the second.

    A copy waits for the result, so the first copy after a synchronisation must not take longer than the second. Both
    include the call of `array`: for a model with hundreds of arrays, it takes longer than a captured step of the model.
    """
    start = now()
    backend.to_host(array(result))
    copied = now()
    backend.to_host(array(result))
    return (copied - start) - (now() - copied)


def is_late(seconds: float, claimed: float) -> bool:
    """Return whether a result was later than noise explains. claimed: seconds that the calls claimed to take."""
    return seconds >= claimed / 2 + JITTER


def hidden_work(
    run: Call, calls: int, backend: Backend, seen: float, now: Callable[[], float] = perf_counter
) -> float | None:
    """Return the seconds per call that the host waits for the device, if its clock sees less; None if it sees all.

    seen: seconds per call by the device's clock.

    Once all calls are queued, the host waits at most for all of their work. If it waits 1.5 times as long as the
    device's clock has seen, in each of three tries, then there is work that the clock does not see, for example in
    another stream.
    """
    least = math.inf
    for _ in range(TRIES):
        backend.synchronize()
        for _ in range(calls):
            run()
        queued = now()
        backend.synchronize()
        waited = now() - queued
        if waited < 1.5 * calls * seen + 4 * JITTER:
            return None
        least = min(least, waited / calls)
    return least
