"""The hand-over to pytest-benchmark: it records exactly the seconds that a worker measured, by its public API."""

from __future__ import annotations

from typing import Any

from bench_core.analysis import summary
from bench_core.records import Measurement


class ReplayClock:
    """A clock for pytest-benchmark that advances only by the seconds measured in a worker.

    Each reading resets it to zero, so that the difference of two readings is exactly the sample.
    """

    __name__ = "bench_core worker"

    def __init__(self) -> None:
        self._elapsed = 0.0

    def __call__(self) -> float:
        now, self._elapsed = self._elapsed, 0.0
        return now

    def advance(self, seconds: float) -> None:
        """Advance the clock by `seconds` for the next reading."""
        self._elapsed = seconds


def replay(done: Measurement, benchmark: Any, clock: ReplayClock) -> None:
    """Pass the exact wall samples of a measurement to pytest-benchmark; without samples, mark the fixture as used."""
    samples = next((series.calm for series in done.series if series.metric == "time"), ())
    if not samples:
        leave_unused(benchmark)
        return
    ready = iter(samples)
    benchmark.extra_info.update(summary.extra_info(done))
    benchmark.pedantic(lambda: clock.advance(next(ready)), rounds=len(samples))


def leave_unused(benchmark: Any) -> None:
    """Keep a test without a time out of pytest-benchmark's table, and pytest-benchmark from warning of it."""
    benchmark.disabled = True
    benchmark.pedantic(lambda: None)
