"""Proofs that a backend waits for its device when it says so, and that the device's clock sees all of the work."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

from bench_core.backends.base import Backend, finish
from bench_core.workload import Call

TRIES = 3  # each must show it: one may be disturbed
JITTER = 50e-6  # seconds, of a copy


def itself(result: Any) -> Any:
    """Return a result that is an array."""
    return result


def unfinished(
    run: Call,
    calls: int,
    backend: Backend,
    array: Callable[[Any], Any] = itself,
    now: Callable[[], float] = perf_counter,
) -> tuple[Any, float | None]:
    """Return what the last call returned, and the seconds of work left when the backend said that all was done.

    run: queues work on the device. array: returns an array that holds the result, given what `run` returned.
    The seconds are None if the backend kept its word.

    A copy to the host has to wait for the result. So the first copy after a synchronisation must not take longer than
    the second. If it does, by more than half of what the calls claimed to take, in each of three tries, then
    `synchronize` does not wait, or the result was not computed before it was asked for.
    """
    least = math.inf
    for _ in range(TRIES):
        backend.synchronize()
        start = now()
        for _ in range(calls - 1):
            run()
        result = run()
        finish(backend, result)
        claimed = now()
        held = array(result)
        backend.to_host(held)
        first_copy = now()
        backend.to_host(held)
        left = (first_copy - claimed) - (now() - first_copy)
        if left < (claimed - start) / 2 + JITTER:
            return result, None
        least = min(least, left)
    return result, least


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
