"""Several ranks take the same turns: what they agree on, and that they fail together."""

import math
import random
from types import SimpleNamespace

import pytest

from bench_core.backends.base import ALONE
from bench_core.errors import CaseError, RankFailed, Unsupported, WrongAnswer
from bench_core.timing import sampling
from bench_core.timing.ranks import (
    LONGEST_LEAD,
    SHORTEST_LEAD,
    RanksTimer,
    RanksWatch,
    any_of,
    failing_together,
    most,
    told_by_all,
)
from bench_core.timing.sampling import Durations, sample_series
from bench_core.timing.watch import Watch
from tests.support.fake_ranks import TickingClock, Together

NO_DEVICE = SimpleNamespace(synchronize=lambda: None)


def timed(together, durations, calls=1, late=None, begin=0.0, idle=()):
    """Time a block in each rank, which takes that rank so long; return what each timer says, and the timers.

    late: seconds that a rank loses between the agreement on a common begin and its own begin, by its number.
    idle: the numbers of ranks that have no part in the work.
    """
    timers = [None] * len(together.ranks)

    def work(ranks):
        clock = TickingClock(begin)
        timers[ranks.rank] = timer = RanksTimer(NO_DEVICE, ranks, clock, takes_part=ranks.rank not in idle)
        ranks.after = lambda: clock.pass_((late or {}).get(ranks.rank, 0.0))
        return timer.time(lambda: clock.pass_(durations[ranks.rank]), calls).seconds

    return together.run(work), timers


def test_the_time_is_that_from_the_last_begin_to_the_last_end_on_every_rank():
    seconds, timers = timed(Together(3), (2e-3, 5e-3, 3e-3))
    assert len(set(seconds)) == 1
    assert seconds[0] == pytest.approx(5e-3, abs=5e-6)
    for timer in timers:
        assert timer.by_rank(1)[0] == pytest.approx([2e-3, 5e-3, 3e-3], abs=5e-6)


def test_what_others_have_done_before_the_last_has_begun_does_not_count():
    seconds, _ = timed(Together(2), (2e-3, 2e-3), late={1: 3e-3})
    assert seconds[0] == seconds[1] == pytest.approx(2e-3, abs=5e-6)


@pytest.mark.parametrize("idle", [0, 2])
@pytest.mark.parametrize("late", [1e-3, 3e-3])
def test_an_idle_rank_that_begins_late_makes_no_time_shorter(late, idle):
    seconds, timers = timed(Together(3), (2e-3, 2e-3, 2e-3), late={idle: late}, idle=[idle])
    assert len(set(seconds)) == 1
    assert seconds[0] == pytest.approx(2e-3, abs=5e-6)
    for timer in timers:
        assert timer._lead == SHORTEST_LEAD, "nobody begins later for a rank that has no part"


@pytest.mark.parametrize("one_clock", [True, False])
@pytest.mark.parametrize("idle", [0, 2])
def test_an_idle_rank_that_ends_late_makes_no_time_longer(idle, one_clock):
    together, durations = Together(3), [2e-3] * 3
    durations[idle] = 9e-3
    for ranks in together.ranks:
        ranks.has_one_clock = one_clock
    seconds, timers = timed(together, durations, idle=[idle])
    assert len(set(seconds)) == 1
    assert seconds[0] == pytest.approx(2e-3, abs=5e-6)
    for timer in timers:
        assert timer.members == [rank for rank in range(3) if rank != idle]
        assert timer.by_rank(1)[0] == pytest.approx([2e-3, 2e-3], abs=5e-6)


def test_what_one_member_has_done_before_the_last_has_begun_does_not_count_beside_an_idle_rank():
    seconds, _ = timed(Together(3), (2e-3, 2e-3, 0.0), late={1: 3e-3, 2: 4e-3}, idle=[2])
    assert seconds == pytest.approx([2e-3] * 3, abs=5e-6)


def test_work_in_which_no_rank_has_a_part_is_an_error_on_all():
    for error in timed(Together(2), (1e-3, 1e-3), idle=[0, 1])[0]:
        assert isinstance(error, CaseError)
        assert error.code == "no_rank_takes_part"


def test_without_one_clock_the_time_is_the_longest_of_any_rank():
    together = Together(2)
    for ranks in together.ranks:
        ranks.has_one_clock = False
    clocks = [TickingClock(0.0), TickingClock(1e6)]

    def work(ranks):
        clock = clocks[ranks.rank]
        timer = RanksTimer(NO_DEVICE, ranks, clock)
        return timer.time(lambda: clock.pass_((4e-3, 1e-3)[ranks.rank]), 1).seconds

    assert together.run(work) == pytest.approx([4e-3, 4e-3], abs=1e-5)


@pytest.mark.parametrize(
    ("late", "least", "most_"), [(1e-3, LONGEST_LEAD, LONGEST_LEAD), (0.0, SHORTEST_LEAD, SHORTEST_LEAD)]
)
def test_the_lead_grows_while_a_rank_begins_late_and_shrinks_otherwise(late, least, most_):
    """A rank that is late by more than the lead has missed the common begin."""
    together, leads = Together(2), []

    def work(ranks):
        clock = TickingClock()
        timer = RanksTimer(NO_DEVICE, ranks, clock)
        if not late:
            timer._lead = LONGEST_LEAD
        ranks.after = lambda: clock.pass_(late and timer._lead + late if ranks.rank else 0.0)
        for _ in range(60):
            timer.time(lambda: clock.pass_(1e-3), 1)
        leads.append(timer._lead)

    together.run(work)
    assert leads == pytest.approx([least, most_])


def test_all_ranks_read_one_agreed_clock_whatever_their_own_says():
    together, read = Together(2), [[], []]

    def work(ranks):
        clock = TickingClock(float(ranks.rank) * 0.01)
        timer = RanksTimer(NO_DEVICE, ranks, clock)
        read[ranks.rank].append(timer.agreed_now())
        for _ in range(3):
            clock.pass_(random.random() * 1e-3)
            timer.time(lambda: clock.pass_(1e-3), 1)
            read[ranks.rank].append(timer.agreed_now())

    together.run(work)
    assert read[0] == read[1]
    assert read[0] == sorted(set(read[0]))


def test_blocks_are_told_apart_by_their_calls():
    together = Together(2)

    def work(ranks):
        clock = TickingClock()
        timer = RanksTimer(NO_DEVICE, ranks, clock)
        for calls in (1, 8, 8):
            timer.time(lambda: clock.pass_(1e-3), calls)
        return timer.by_rank(8)

    for blocks in together.run(work):
        assert blocks == [pytest.approx([1e-3, 1e-3], abs=1e-5)] * 2


def test_a_clock_that_goes_back_on_one_rank_is_an_error_on_all():
    together = Together(2)

    def work(ranks):
        clock = TickingClock(10.0)
        timer = RanksTimer(NO_DEVICE, ranks, clock)
        timer.time(lambda: clock.pass_(-1.0 if ranks.rank else 1e-3), 1)

    for error in together.run(work):
        assert isinstance(error, CaseError)
        assert error.code == "clock_backwards"


def test_ranks_of_different_speeds_take_the_same_turns_in_a_whole_series():
    """Each decision of the algorithm is one of all: no rank waits for an exchange that another leaves out."""
    together = Together(3)

    def work(ranks):
        clock, draw = TickingClock(ranks.rank * 1e-3), random.Random(ranks.rank)
        timer = RanksTimer(NO_DEVICE, ranks, clock)
        watch = RanksWatch(Seen(draw, clock), ranks)
        kernel = lambda: clock.pass_(30e-6 * (1 + draw.random()))  # noqa: E731
        return sample_series("time", kernel, timer, Durations(0.4, 0.1, 0.04, 0.2), watch, timer.agreed_now)

    series = together.run(work)
    assert len({each.seconds for each in series}) == 1, series
    assert len({each.noisy for each in series}) == 1
    assert series[0].noisy, "no rank has seen a disturbance"


def test_collecting_garbage_takes_none_of_the_time_to_measure(monkeypatch):
    """The agreed clock stands still between blocks, so it has to be told that garbage was collected."""

    def blocks(collecting):
        together = Together(2)

        def work(ranks):
            clock = TickingClock()
            monkeypatch.setattr(sampling.gc, "collect", lambda: None)
            timer = RanksTimer(NO_DEVICE, ranks, clock)
            timer.collect = lambda: clock.pass_(collecting) or RanksTimer.collect(timer) + collecting
            watch = RanksWatch(Watch([]), ranks)
            plan = Durations(budget=0.4, least=0.4, warmup=0.04, warmup_cap=0.08)
            return sample_series("time", lambda: clock.pass_(5e-3), timer, plan, watch, timer.agreed_now)

        return together.run(work)

    quick, slow = blocks(0.0)[0], blocks(0.5)[0]
    assert len(slow.seconds) == len(quick.seconds) > 10
    assert slow.claimed_s == pytest.approx(quick.claimed_s + 0.5, abs=1e-3)


def test_what_any_rank_tells_is_told_of_all():
    told = [
        (("drift",), {"gpu_power": 300.0, "gpu_clock": 1.9e9, "gpu_temperature": 40.0, "peak_memory": 5.0}),
        (("throttled", "drift"), {"gpu_power": 200.0, "gpu_clock": 1.2e9, "gpu_temperature": 70.0}),
    ]
    for flags, values in Together(2).run(lambda ranks: told_by_all(ranks, *told[ranks.rank])):
        assert flags == ("drift", "throttled")
        assert values == {"gpu_power": 500.0, "gpu_clock": 1.2e9, "gpu_temperature": 70.0, "peak_memory": 5.0}
    assert told_by_all(ALONE, *told[0]) == told[0]


class Seen:
    """A watch that sees one block in five disturbed, and says so when it settles."""

    def __init__(self, draw, clock):
        self._draw, self.blocks = draw, []

    def begin(self):
        self.blocks = []

    def note(self):
        self.blocks.append({"steal": 0.1} if self._draw.random() < 0.2 else {})

    def settle(self): ...


def test_a_block_is_disturbed_on_all_ranks_if_one_has_seen_it():
    lost = [[{}, {"steal": 0.2}, {}], [{}, {"steal": 0.1, "throttled": 0.3}, {"other": 0.4}]]
    together = Together(2)

    def work(ranks):
        own = SimpleNamespace(blocks=lost[ranks.rank], begin=int, note=int, settle=int)
        watch = RanksWatch(own, ranks)
        watch.begin()
        for _ in range(3):
            watch.note()
        before = watch.calm
        watch.settle()
        return before, watch.calm, watch.blocks

    done = together.run(work)
    assert done[0] == done[1] == (3, 1, [{}, {"steal": 0.2, "throttled": 0.3}, {"other": 0.4}])


def failed(together, errors):
    """Return what each rank raises, of which some raise an error in the context."""

    def work(ranks):
        with failing_together(ranks):
            if ranks.rank in errors:
                raise errors[ranks.rank]
        return "passed"

    return together.run(work)


def test_a_wrong_answer_of_one_rank_is_one_of_all_with_its_number():
    for error in failed(Together(3), {1: WrongAnswer("is wrong", 0.5, "wrong_second_look")}):
        assert isinstance(error, WrongAnswer)
        assert (str(error), error.rel_error, error.code) == ("rank 1: is wrong", 0.5, "wrong_second_look")


def test_an_error_that_is_not_finite_is_a_message_all_the_same():
    for error in failed(Together(2), {0: WrongAnswer("is wrong", math.inf)}):
        assert (str(error), error.rel_error) == ("rank 0: is wrong", None)


def test_any_other_error_of_a_case_keeps_its_status_and_code():
    for error in failed(Together(2), {0: Unsupported("no", "cannot"), 1: WrongAnswer("later")}):
        assert isinstance(error, RankFailed)
        assert (error.status, error.code, str(error)) == ("unsupported", "no", "rank 0: cannot")


def test_without_an_error_all_pass_and_alone_an_error_is_raised_as_it_is():
    assert failed(Together(2), {}) == ["passed", "passed"]
    mine = WrongAnswer("mine")
    with pytest.raises(WrongAnswer) as caught, failing_together(ALONE):
        raise mine
    assert caught.value is mine


def test_ranks_agree_on_the_largest_number_and_on_what_is_so_on_any():
    assert Together(3).run(lambda ranks: most(ranks, float(ranks.rank))) == [2.0] * 3
    assert Together(2).run(lambda ranks: any_of(ranks, ranks.rank == 1)) == [True, True]
    assert Together(2).run(lambda ranks: any_of(ranks, False)) == [False, False]
    assert most(ALONE, 5.0) == 5.0
