"""Tasks run on the calling thread and its helpers: each once, results in order, and nothing runs on after the call."""

import threading
import time

import pytest

from benchmarks.threads import in_parallel, pool


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_every_task_runs_once_and_results_are_in_order(threads, count):
    ran = []

    def task(number):
        ran.append(number)
        return number * number

    results = in_parallel(threads, [lambda number=number: task(number) for number in range(count)])
    assert results == [number * number for number in range(count)]
    assert sorted(ran) == list(range(count))


def test_the_calling_thread_runs_every_third_task_of_three_threads():
    ran_on = in_parallel(3, [threading.get_ident] * 7)
    mine = [ident == threading.get_ident() for ident in ran_on]
    assert mine == [True, False, False, True, False, False, True]


def test_all_threads_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=20)  # passed only if all three tasks are there at once
    assert sorted(in_parallel(3, [meeting.wait] * 3)) == [0, 1, 2]


def test_one_thread_needs_no_helper():
    assert set(in_parallel(1, [threading.get_ident] * 5)) == {threading.get_ident()}


def test_a_pool_has_one_thread_less_than_compute_and_is_kept():
    assert pool(4) is pool(4)
    meeting = threading.Barrier(3, timeout=20)
    assert sorted(helper.result() for helper in [pool(4).submit(meeting.wait) for _ in range(3)]) == [0, 1, 2]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_exception_is_raised_after_the_other_threads_are_done(failing):
    entered, done = threading.Event(), []

    def fail():
        entered.wait(20)  # the other task is running by now
        raise ValueError(f"task {failing}")

    def work():
        entered.set()
        time.sleep(0.05)
        done.append(True)

    tasks = [fail, work] if failing == 0 else [work, fail]
    with pytest.raises(ValueError, match=f"task {failing}"):
        in_parallel(2, tasks)
    assert done == [True]
