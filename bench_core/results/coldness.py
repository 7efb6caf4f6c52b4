"""Recognise cold streams whose buffers were probably not cold.

A cold stream rotates through sets of buffers of three times the last-level cache that the machine reports. A virtual
machine may report less than there is. The sets then stay in the cache, and the rate is that of the cache. It shows in
the hot stream over the same arrays, which is then no faster, although its arrays fit in a cache; or, where they nearly
fit, in both being faster than the same stream over arrays in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench_core.records import COLD_AS_HOT, Cache, Row
from bench_core.results.roofline import fits, flagged, in_memory
from bench_core.results.traits import TraitsOf

# A cold call should take longer than a hot one by at least this factor. From memory instead of a cache, it takes 1.4
# times as long or more where one core computes a sum, which it limits itself, and 2 to 4 times in most cases. The
# median of a quiet machine is known within 1 to 2 %, so two equal times are within 1.04.
LEAST_RATIO = 1.15
# Share of the hot time that may be the fixed cost of a call. It is in both times, and makes them equal. If it is half
# of the hot time, a ratio below 1.15 means that the rest took less than 1.3 times as long.
MOST_OVERHEAD = 0.5
# A rate above that of the same operation in memory by this factor needs a cache: rates in memory depend on the size by
# about a tenth.
BEYOND_MEMORY = 1.25


def with_cold_as_hot(rows: Sequence[Row], traits: TraitsOf) -> list[Row]:
    """Return the rows, those of cold streams flagged `cold_as_hot` if they are as fast as the hot stream in a cache.

    The flag is set if the ratio of the medians of the times, cold / hot, is below LEAST_RATIO, and either the hot
    arrays fit in a cache, or the cold rate is above that of the same operation on its largest arrays (BEYOND_MEMORY).

    Arrays so small that the fixed cost of a call may be more than MOST_OVERHEAD of the hot time are not judged. That
    cost is at most the time of the smallest hot arrays of the same operation. A cold stream of 1 MiB needs this: a GPU
    reads it in less time than a launch takes.
    """
    times = [row for row in rows if row.metric == "time" and row.has_value and row.value and traits(row).is_stream]
    hot = {(_operation(row), _arrays(row)): row for row in times if row.cache == Cache.HOT}
    overhead: dict[tuple[object, ...], float] = {}
    largest: dict[tuple[object, ...], Row] = {}
    for (operation, _), row in hot.items():
        overhead[operation] = min(row.value or 0.0, overhead.get(operation, row.value or 0.0))
        if in_memory(row):
            largest[operation] = max(largest.get(operation, row), row, key=lambda row: row.bytes or 0.0)
    warm = set()
    for cold in times:
        operation = _operation(cold)
        match = hot.get((operation, _arrays(cold))) if cold.cache == Cache.COLD else None
        if match is None or (cold.value or 0.0) >= LEAST_RATIO * (match.value or 0.0):
            continue
        needs_cache = operation in largest and _rate(cold) > BEYOND_MEMORY * _rate(largest[operation])
        if (fits(match.flags) or needs_cache) and overhead[operation] <= MOST_OVERHEAD * (match.value or 0.0):
            warm.add(_series(cold))
    return [flagged(row, COLD_AS_HOT) if _series(row) in warm else row for row in rows]


def _rate(row: Row) -> float:
    """Return the B/s of a row of times; 0 if its bytes are unknown."""
    return (row.bytes or 0.0) / row.value if row.value else 0.0


def _operation(row: Row) -> tuple[object, ...]:
    """Return the key of the rows that differ only in their arrays, and in whether these are hot or cold."""
    what = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope)
    return (row.run_id, row.device, row.device_name, row.backend, row.implementation, row.threads, row.clock, *what)


def _arrays(row: Row) -> tuple[str, str]:
    return row.size, row.params


def _series(row: Row) -> tuple[object, ...]:
    return row.run_id, row.identity, row.clock
