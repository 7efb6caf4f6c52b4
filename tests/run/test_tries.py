"""Cases that are measured again: which, while how much time is left, which try counts, and what is told of it."""

from dataclasses import replace

import pytest

from bench_core.records import Clock, Measurement, Part, Series, Status
from bench_core.run.tries import EXTRA, LONGEST_WAIT, Purse, better, disturbed_seconds, is_disturbed, wait_of
from tests.support.measurements import measurement

CASE = measurement().case


def tried(*, disturbance=0.0, lost=0, each=1.0, spent=None, **more):
    """Return a measurement of ten blocks of `each` seconds, of which `lost` blocks do not count."""
    more["spent"] = {Part(name): seconds for name, seconds in (spent or {}).items()}
    flags, causes = ("never_quiet",) * (disturbance > 0), {"steal": lost * each} if lost else {}
    series = Series("time", Clock.WALL, (each,) * 10, 1, tuple(range(lost)), flags, 0.0, causes, disturbance)
    return Measurement(CASE, Status.OK, series=(series,), **more)


@pytest.mark.parametrize(
    ("done", "worth"),
    [
        (tried(), False),
        (tried(lost=5), False),
        (tried(lost=6), True),
        (tried(disturbance=0.1), True),
        (replace(tried(disturbance=0.1), status=Status.INVALID), False),
        (Measurement(CASE, Status.OK), False),
    ],
)
def test_a_case_is_worth_another_try_if_most_of_its_time_does_not_count_or_none_was_calm(done, worth):
    assert is_disturbed(done) is worth


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ({"disturbance": 0.3}, {}, "second"),
        ({"disturbance": 0.3}, {"disturbance": 0.2}, "second"),
        ({"disturbance": 0.3}, {"disturbance": 0.4}, "first"),
        ({"disturbance": 0.3}, {"disturbance": 0.3}, "first"),
        ({"lost": 6}, {"lost": 3}, "second"),
        ({"lost": 6}, {"disturbance": 0.1}, "first"),
    ],
)
@pytest.mark.parametrize("faster", [0.5, 2.0])
def test_the_calmer_try_counts_whichever_was_faster(first, second, counts, faster):
    one = tried(**first, spent={"build": 2.0, "timed": 10.0})
    two = tried(**second, each=faster, spent={"timed": 4.0, "waiting": 0.5})
    kept = better(one, two)
    assert kept.series == (one if counts == "first" else two).series
    assert kept.other_s == (10 * faster if counts == "first" else 10.0)
    assert kept.spent == {"build": 2.0, "timed": 14.0, "waiting": 0.5}


def test_a_wrong_answer_counts_and_another_failure_of_the_second_try_is_a_flag():
    first = tried(disturbance=0.3)
    wrong = Measurement(CASE, Status.INVALID, "wrong_answer", "wrong")
    assert better(first, wrong) == wrong
    kept = better(first, Measurement(CASE, Status.CRASHED, "crashed_measure", "died"))
    assert (kept.status, kept.flags, kept.series) == (Status.OK, ("crashed_when_repeated",), first.series)


def test_second_tries_take_what_is_left_of_budgets_and_a_tenth_more():
    purse = Purse(100.0)
    assert purse.seconds == EXTRA * 100.0
    assert not purse.take(8.0)  # with a wait of 5 s
    purse.first(tried(spent={"timed": 1.0}), 4.0)
    purse.first(tried(spent={"timed": 9.0}), 4.0)
    purse.first(Measurement(CASE, Status.ERROR), 4.0)
    assert purse.seconds == 13.0
    assert purse.take(8.0)
    assert purse.seconds == 0.0
    assert not purse.take(0.1)
    purse.second(tried(spent={"timed": 7.5, "waiting": 1.0}), 8.0)
    assert purse.seconds == 4.5


def test_a_short_case_waits_no_longer_than_it_measures():
    assert (wait_of(0.04), wait_of(60.0)) == (0.04, LONGEST_WAIT)


def test_what_does_not_count_is_told_by_cause():
    done = [tried(lost=2), tried(disturbance=0.1, lost=5, other_s=10.0), Measurement(CASE, Status.ERROR)]
    assert disturbed_seconds(done) == {
        "timed_s": 30.0,
        "lost_s": {"measured_again": 10.0, "steal": 7.0},
        "never_quiet": 1,
    }
    assert disturbed_seconds([]) == {"timed_s": 0.0, "lost_s": {}, "never_quiet": 0}
