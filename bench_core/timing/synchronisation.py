"""Proofs that a backend waits for its device when it says so, and that the device's clock sees all of the work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench_core.backends.base import Backend, finish
from bench_core.workload import Call

TRIES = 3  # each must show it: one may be disturbed
JITTER = 50e-6  # seconds, of a copy


def itself(result: Any) -> Any:
    """Return a result that is an array."""
    return result


@dataclass(frozen=True, slots=True)
class Awaited:
    """What some calls came to.

    result: what the last of them returned. seconds: of a call, until the backend said that all was done. left: seconds
    of work that went on after that; None if the backend kept its word.
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
    """Make some calls, and tell whether they were done when the backend said so.

    run: queues work on the device. array: returns an array that holds the result, given what `run` returned.

    If a result was late by more than half of what the calls claimed to take, in each of three tries, then `synchronize`
    does not wait, or the result was not computed before it was asked for.
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

    A copy has to wait for the result. So the first one after a synchronisation must not take longer than the second.
    Naming the array is a part of both: for a model with hundreds of arrays it takes longer than a captured step of it.
    """
    start = now()
    backend.to_host(array(result))
    copied = now()
    backend.to_host(array(result))
    return (copied - start) - (now() - copied)


def is_late(seconds: float, claimed: float) -> bool:
    """Whether a result came later than noise explains, after calls that claimed to take so many seconds."""
    return seconds >= claimed / 2 + JITTER


def hidden_work(
    run: Call, calls: int, backend: Backend, seen: float, now: Callable[[], float] = perf_counter
) -> float | None:
    """Return the seconds a call for which the host waits for a device whose clock sees less; None if it sees all.

    seen: seconds of a call by the device's clock.

    Once all calls are queued, what is left to wait for is at most all of their work. If it is half as much again as
    the device's clock has seen of that, in each of three tries, then work runs where the clock does not look, as in
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
