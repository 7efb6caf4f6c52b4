"""Where the time of a case goes: each second belongs to one part, the innermost that has begun.

    with accounted() as account:
        with part(Part.BUILD):
            ...
    account.spent

What spends the time says so by `part`, and need not know whether anybody keeps an account.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from time import perf_counter

from bench_core.records import Part


class Account:
    """A stopwatch with one hand per part. now: a clock, in seconds."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._seconds: dict[Part, float] = {}
        self._open: list[Part] = []
        self._since = now()

    @contextlib.contextmanager
    def part(self, part: Part) -> Iterator[None]:
        """Count the time until the end of this context to `part`, except for the parts that begin within it."""
        self._credit()
        self._open.append(part)
        try:
            yield
        finally:
            self._credit()
            self._open.pop()

    def _credit(self) -> None:
        """Count the time since the last change to the part that has been the innermost; outside of all, to none."""
        before, self._since = self._since, self._now()
        if self._open:
            part = self._open[-1]
            self._seconds[part] = self._seconds.get(part, 0.0) + max(0.0, self._since - before)

    @property
    def spent(self) -> dict[Part, float]:
        """The seconds of each part that has begun, in the order of `Part`."""
        return {part: self._seconds[part] for part in Part if part in self._seconds}


_CURRENT: ContextVar[Account | None] = ContextVar("account", default=None)


@contextlib.contextmanager
def accounted(now: Callable[[], float] = perf_counter) -> Iterator[Account]:
    """Yield a new account, which gets the seconds of every `part` until the end of this context."""
    account = Account(now)
    before = _CURRENT.set(account)
    try:
        yield account
    finally:
        _CURRENT.reset(before)


def part(part: Part) -> contextlib.AbstractContextManager[None]:
    """Return a context whose seconds count to a part of the current account, if there is one."""
    account = _CURRENT.get()
    return account.part(part) if account else contextlib.nullcontext()
