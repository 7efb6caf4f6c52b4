"""Recognise cold streams whose buffers were probably not cold.

A cold stream rotates through sets of buffers of three times the last-level cache that the machine reports. A virtual
machine may report less than there is. The sets then stay in the cache, and the rate is that of the cache. It shows in
the hot stream over the same arrays: these fit in a cache, so that it should be clearly faster than the cold one.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench_core.records import Cache, Row
from bench_core.results.roofline import fits, flagged, interval
from bench_core.results.traits import TraitsOf

COLD_AS_HOT = "cold_as_hot"
# A cold call should take longer than a hot one by at least this factor. From memory instead of a cache, it takes 1.4
# times as long or more where one core computes a sum, which it limits itself, and 2 to 4 times in most cases. The
# median of a quiet machine is known within 1 to 2 %, so two equal times are within 1.04.
LEAST_RATIO = 1.15
# Share of the hot time that may be the fixed cost of a call. It is in both times, and makes them equal. If it is half
# of the hot time, a ratio below 1.15 means that the rest took less than 1.3 times as long.
MOST_OVERHEAD = 0.5


def with_cold_as_hot(rows: Sequence[Row], traits: TraitsOf) -> list[Row]:
    """Return the rows, those of cold streams flagged `cold_as_hot` if they are as fast as the hot stream in a cache.

    The flag is set if even the upper end of the ratio of times, cold / hot, is below LEAST_RATIO: the noise of wide
    intervals sets no flag. Arrays so small that the fixed cost of a call may be more than MOST_OVERHEAD of the hot time
    are not judged. That cost is at most the time of the smallest hot arrays of the same operation. A cold stream of
    1 MiB needs this: a GPU reads it in less time than a launch takes.
    """
    times = [row for row in rows if row.metric == "time" and row.has_value and row.value and traits(row).is_stream]
    hot = {(_operation(row), _arrays(row)): row for row in times if row.cache == Cache.HOT}
    overhead: dict[tuple[object, ...], float] = {}
    for (operation, _), row in hot.items():
        overhead[operation] = min(row.value or 0.0, overhead.get(operation, row.value or 0.0))
    warm = set()
    for cold in times:
        match = hot.get((_operation(cold), _arrays(cold))) if cold.cache == Cache.COLD else None
        if match is None or not fits(match.flags):
            continue
        slowest, fastest = interval(cold)[1], interval(match)[0]
        if slowest < LEAST_RATIO * fastest and overhead[_operation(cold)] <= MOST_OVERHEAD * fastest:
            warm.add(_series(cold))
    return [flagged(row, COLD_AS_HOT) if _series(row) in warm else row for row in rows]


def _operation(row: Row) -> tuple[object, ...]:
    """Return the key of the rows that differ only in their arrays, and in whether these are hot or cold."""
    what = (row.suite, row.workload, row.workload_version, row.dtype, row.precision, row.scope)
    return (row.run_id, row.device, row.device_name, row.backend, row.implementation, row.threads, row.clock, *what)


def _arrays(row: Row) -> tuple[str, str]:
    return row.size, row.params


def _series(row: Row) -> tuple[object, ...]:
    return row.run_id, row.identity, row.clock
