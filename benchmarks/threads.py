"""Host threads that compute together: NumPy uses one thread, but releases the GIL while it computes on an array.

So a kernel splits its arrays into blocks and runs them on several threads. The calling thread computes as well; the
others wait in a pool, because starting a thread for each call would take longer than many calls do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return a pool of `threads - 1` threads (at least one), which help the calling thread; always the same one."""
    return ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="helper")


def in_parallel(threads: int, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all tasks on `threads` threads and return their results in order.

    Of every `threads` consecutive tasks, the calling thread runs the first, each helper of `pool(threads)` one of the
    others. A thread runs its tasks in order, and the calling thread always has the same ones; which helper has which
    may change from call to call. Returns when all threads are done, also if a task raises: then the first exception, in
    the order of threads, is raised, and the thread whose task raised has left out the rest of its tasks.

    A task must not call `in_parallel` itself: a helper that waits for helpers may wait for ever.
    """
    mine, *others = [tasks[first::threads] for first in range(max(1, min(threads, len(tasks))))]
    helpers = [pool(threads).submit(_run, theirs) for theirs in others]
    try:
        done = [_run(mine)]
    finally:
        wait(helpers)  # tasks may still be writing to the caller's arrays
    done += [helper.result() for helper in helpers]
    results: list[Any] = [None] * len(tasks)
    for first, some in enumerate(done):
        results[first::threads] = some
    return results


def _run(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    return [task() for task in tasks]
