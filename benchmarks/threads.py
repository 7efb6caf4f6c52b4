"""Host threads that compute together: NumPy uses one thread, but releases the GIL while it computes on an array.

So a kernel splits its arrays into blocks and runs them on several threads. The calling thread computes as well; the
others are kept, because starting a thread for each call would take longer than many calls do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any


@cache
def helpers(count: int) -> tuple[ThreadPoolExecutor, ...]:
    """Return `count` threads that help the calling thread, always the same ones; each has a queue of its own."""
    return tuple(ThreadPoolExecutor(1, thread_name_prefix=f"helper-{number}") for number in range(1, count + 1))


def in_parallel(threads: int, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all tasks on `threads` threads and return their results in order.

    Of every `threads` consecutive tasks, the calling thread runs the first, and each helper always the same one of the
    others, in this call and in the next. So a thread finds in its caches, and in the memory next to it, what it wrote
    there in an earlier call. Returns when all threads are done, also if a task raises: then the first exception, in the
    order of threads, is raised, and the thread whose task raised has left out the rest of its tasks.

    A task must not call `in_parallel` itself: a helper that waits for helpers may wait for ever.
    """
    mine, *others = [tasks[first::threads] for first in range(max(1, min(threads, len(tasks))))]
    helping = helpers(max(0, threads - 1))
    futures = [helper.submit(_run, theirs) for helper, theirs in zip(helping, others, strict=False)]
    try:
        done = [_run(mine)]
    finally:
        wait(futures)  # tasks may still be writing to the caller's arrays
    done += [future.result() for future in futures]
    results: list[Any] = [None] * len(tasks)
    for first, some in enumerate(done):
        results[first::threads] = some
    return results


def _run(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    return [task() for task in tasks]
