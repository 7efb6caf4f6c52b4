"""Verify that `Backend.synchronize` waits for the device, and that the clock of the device includes all work."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bench_core.backends.base import Backend, Compiles, Futures, finish, ranks_of
from bench_core.errors import CaseError
from bench_core.timing.ranks import most
from bench_core.workload import Call, result_alone

TRIES = 3  # every try must show the fault, because a single one may be disturbed
FUTURES = 5  # tries where results are futures: a model has a copy of each output, any of which may be disturbed
MOST = 10  # tries of short calls: on a busy machine three in a row may be disturbed by more than a call takes
ENOUGH = 0.1  # seconds that tries of short calls may take together
JITTER = 50e-6  # seconds by which the time of a copy varies
NAMING = 5e-6  # seconds that naming an output may take: a model has a hundred (1.5e-6 measured on an H100's host)


@dataclass(frozen=True, slots=True)
class Awaited:
    """The outcome of calls followed by a synchronisation.

    result: the result of the last call. seconds: per call, until `synchronize` returned. left: seconds of work that
    continued after that; None if `synchronize` did wait.
    """

    result: Any
    seconds: float
    left: float | None


def unfinished(
    run: Call,
    calls: int,
    backend: Backend,
    outputs: Callable[[Any], Mapping[str, Any]] = result_alone,
    now: Callable[[], float] = perf_counter,
) -> Awaited:
    """Make calls, synchronise, and check whether all work was complete when `synchronize` returned.

    run: queues work on the device. outputs: names the arrays that hold the result, given what `run` returned.

    A copy to the host has to wait for the result. So the first copy after a synchronisation must not take longer than
    the second, each with the cutting out of what is copied. If it does, by more than half of what the calls claimed to
    take, in each of several tries, then `synchronize` does not wait, or the result was not computed before it was asked
    for. Where results are futures, each output is one by itself, so a piece of each is copied. A try in which the
    cutting had to be compiled proves nothing; it does not count, once. Of several ranks the one that is latest counts.
    """
    least, spent, ranks = math.inf, 0.0, ranks_of(backend)
    is_future = isinstance(backend, Futures)
    wait_for = backend.wait_for if isinstance(backend, Futures) else _ignore  # as the timer does
    compiled, tries = False, 0
    while _goes_on(tries, spent, FUTURES if is_future else TRIES):
        backend.synchronize()
        start = now()
        for _ in range(calls - 1):
            wait_for(run())
        result = run()
        finish(backend, result)
        claimed, programs = now(), _programs(backend)
        named = outputs(result)
        parts: list[Mapping[str, Any]] = [{name: array} for name, array in named.items()] if is_future else []
        for each in parts or [named]:
            backend.to_host(piece(each))
        first_copy = now()
        for each in parts or [named]:
            backend.to_host(piece(each))
        left = most(ranks, (first_copy - claimed) - (now() - first_copy))
        seconds = most(ranks, claimed - start) / calls
        if not is_late(left - NAMING * len(named), seconds * calls):
            return Awaited(result, seconds, None)
        if _programs(backend) != programs and not compiled:
            compiled = True
            continue
        tries, spent, least = tries + 1, spent + seconds * calls + left, min(least, left)
    return Awaited(result, seconds, least)


def _programs(backend: Backend) -> int:
    """Return how many programs were compiled so far."""
    return backend.compilations if isinstance(backend, Compiles) else 0


def _ignore(result: Any) -> None:
    """Do not wait for the result of a call: the device computes in the order of the calls."""


def piece(outputs: Mapping[str, Any]) -> Any:
    """Return one element of an output: a copy of it takes no time of its own, and waits for all that it depends on.

    Copies of whole outputs would distort the comparison: the first needs new host memory, which the second reuses.
    Raises CaseError if there are no outputs.
    """
    if not outputs:
        raise CaseError("no_outputs", "the kernel names no outputs: nothing of it can be checked")
    array = next(iter(outputs.values()))
    with contextlib.suppress(TypeError):  # arrays of some libraries can be copied to the host and nothing else
        shape = getattr(array, "shape", ())
        # One step: a library that compiles would compile for each.
        return array[(0,) * (len(shape) - 1) + (slice(0, 1),)] if all(shape[:-1]) and shape else array
    return array


def is_late(seconds: float, claimed: float) -> bool:
    """Return whether a result was later than noise explains. claimed: seconds that the calls claimed to take."""
    return seconds >= claimed / 2 + JITTER


def hidden_work(
    run: Call, calls: int, backend: Backend, seen: float, now: Callable[[], float] = perf_counter
) -> float | None:
    """Return the seconds per call that the host waits for the device, if its clock sees less; None if it sees all.

    seen: seconds per call by the device's clock.

    Once all calls are queued, the host waits at most for all of their work. If it waits 1.5 times as long as the
    device's clock has seen, in each of several tries, then there is work that the clock does not see, for example in
    another stream.
    """
    least, spent, tries = math.inf, 0.0, 0
    while _goes_on(tries, spent, TRIES):
        backend.synchronize()
        start = now()
        for _ in range(calls):
            run()
        queued = now()
        backend.synchronize()
        end = now()
        waited = end - queued
        if waited < 1.5 * calls * seen + 4 * JITTER:
            return None
        tries, spent, least = tries + 1, spent + end - start, min(least, waited / calls)
    return least


def _goes_on(tries: int, spent: float, fewest: int) -> bool:
    """Return whether a fault that every try has shown so far needs another one. spent: seconds of all tries."""
    return tries < fewest or (tries < MOST and spent < ENOUGH)
