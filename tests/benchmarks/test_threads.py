"""Tasks run on the calling thread and its helpers: each once, results in order, and nothing runs on after the call."""

import threading
import time

import pytest

from benchmarks.threads import helpers, in_parallel


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


def test_helpers_are_threads_of_their_own_and_are_kept():
    assert helpers(3) is helpers(3)
    meeting = threading.Barrier(3, timeout=20)
    assert sorted(future.result() for future in [one.submit(meeting.wait) for one in helpers(3)]) == [0, 1, 2]


def test_every_thread_has_the_same_tasks_in_every_call():
    """However long the tasks of one thread take: it is its own memory that a thread finds again."""

    def who(number, slow):
        time.sleep(0.01 * (number == slow))
        return threading.get_ident()

    calls = [in_parallel(4, [lambda n=n, slow=slow: who(n, slow) for n in range(8)]) for slow in (1, 2, 3, 6)]
    assert all(call == calls[0] for call in calls)
    assert calls[0][:4] == calls[0][4:]
    assert len(set(calls[0])) == 4


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
