"""What is measured of several ranks, and which of them is told to be slow."""

from types import SimpleNamespace

import numpy as np
import pytest

from bench_core.errors import WrongAnswer
from bench_core.timing import over_ranks
from bench_core.timing.over_ranks import fewest_to_tell, measure_over_ranks, require_alike, slow_rank, spread
from bench_core.timing.ranks import RanksTimer, RanksWatch
from bench_core.timing.sampling import Durations
from bench_core.timing.watch import Watch
from bench_core.workload import Kernel
from tests.support.fake_ranks import TickingClock, Together

PLAN = Durations(budget=1.0, least=1.0, warmup=0.1, warmup_cap=0.2)


def measured(
    monkeypatch, size, seconds, alone=None, *, is_calm=lambda block: True, alike=None, is_exchange=False, idle=()
):
    """Return what is taken on each rank. seconds: of a call, by rank; alone: of a call of the probe.

    is_calm: whether a block, by its number, is not disturbed. alike: what each rank holds afterwards. idle: the ranks
    without a part in the work.
    """
    together, clocks = Together(size), [TickingClock() for _ in range(size)]

    def timer(on, ranks, **named):
        clock = clocks[ranks.rank]
        return RanksTimer(on, ranks, clock, clock.pass_, **named)

    monkeypatch.setattr(over_ranks, "RanksTimer", timer)

    class Disturbed(Watch):
        def note(self):
            self.blocks.append({} if is_calm(len(self.blocks)) else {"steal": 0.5})

        def settle(self): ...

        def begin(self):
            self.blocks = []

    def work(ranks):
        def of(all_seconds, **more):
            has_part = ranks.rank not in idle
            return Kernel(lambda: clocks[ranks.rank].pass_(all_seconds[ranks.rank]), takes_part=has_part, **more)

        on = SimpleNamespace(synchronize=lambda: None, ranks=ranks, to_host=np.asarray)
        more = {"alike": lambda: alike[ranks.rank]} if alike else {}
        kernel = of(seconds, probes={"time_alone": of(alone)} if alone else {}, **more)
        return measure_over_ranks([kernel], on, PLAN, RanksWatch(Disturbed([]), ranks), is_exchange=is_exchange)

    return together.run(work)


def test_every_rank_has_the_series_of_all_and_their_spread(monkeypatch):
    for taken in measured(monkeypatch, 2, [2e-3, 3e-3], alone=[1e-3, 1e-3]):
        assert [series.metric for series in taken.series] == ["time", "time_alone"]
        assert taken.series[0].seconds[0] == pytest.approx(3e-3, rel=0.01)
        assert taken.values == {"rank_spread": pytest.approx(0.4, rel=0.05)}
        assert taken.flags == ("slow_rank_1",)


@pytest.mark.parametrize(("call", "calls"), [(50e-6, 400), (2e-3, 10), (21e-3, 1)])
def test_a_block_of_several_ranks_has_as_many_calls_as_fill_twenty_milliseconds(monkeypatch, call, calls):
    """nccl-tests makes 20 calls in a row; those of one device are timed one by one from 0.1 ms on."""
    series = measured(monkeypatch, 2, [call] * 2)[0].series[0]
    assert series.inner_loops == calls
    assert series.seconds[0] == pytest.approx(call, rel=0.02)


def test_a_rank_that_is_slow_without_an_exchange_is_named_though_in_it_all_take_as_long(monkeypatch):
    for taken in measured(monkeypatch, 3, [3e-3] * 3, alone=[1e-3, 1e-3, 2e-3]):
        assert taken.flags == ("slow_rank_2",)


def test_the_root_of_an_exchange_is_not_told_to_be_fast_nor_the_others_slow(monkeypatch):
    """A rank ends by its place in an exchange; in all other work a rank that ends late is slow."""
    for taken in measured(monkeypatch, 2, [2e-3, 3e-3], is_exchange=True):
        assert taken.flags == ()
        assert taken.values["rank_spread"] > 0


@pytest.mark.parametrize("calm", [1, 5, 12])
def test_a_slow_rank_is_named_on_a_machine_with_few_calm_blocks(monkeypatch, calm):
    """Three calm blocks are enough for a value; to tell that a rank of two is slow takes eight."""
    for taken in measured(monkeypatch, 2, [2e-3, 3e-3], is_calm=lambda block: block % 3 == 0 and block < 3 * calm):
        assert len(taken.series[0].seconds) > 30
        assert taken.flags == ("slow_rank_1",)


def test_what_must_be_equal_on_all_ranks_is_compared_after_the_timed_calls(monkeypatch):
    same = [np.arange(3.0)]
    assert not any(isinstance(t, Exception) for t in measured(monkeypatch, 2, [1e-3] * 2, alike=[same, same]))
    for error in measured(monkeypatch, 2, [1e-3] * 2, alike=[same, [np.array([0.0, 1.0, 3.0])]]):
        assert isinstance(error, WrongAnswer)


@pytest.mark.parametrize(("prints", "differs"), [("aaa", None), ("aab", 2), ("abb", 1)])
def test_ranks_that_hold_different_numbers_are_refused_by_all(prints, differs):
    for error in Together(3).run(lambda ranks: require_alike(ranks, prints[ranks.rank])):
        if differs is None:
            assert error is None
        else:
            assert isinstance(error, WrongAnswer)
            assert error.code == "ranks_differ"
            assert f"rank {differs} holds other numbers than rank 0" in str(error)


@pytest.mark.parametrize(
    ("by_rank", "slow"),
    [
        ([[1.0, 1.0, 1.2]] * 10, 2),
        ([[1.0, 1.0, 1.2]] * 9 + [[1.0, 1.0, 1.0]] * 2, 2),
        ([[1.0, 1.0, 1.2]] * 7 + [[1.0, 1.0, 1.0]] * 3, None),  # not in most blocks
        ([[1.0, 1.2, 1.0], [1.2, 1.0, 1.0]] * 5, None),  # now this one, now that
        ([[1.0, 1.0, 1.04]] * 10, None),
        ([[1.0, 1.5]] * 8, 1),
        ([[1.0, 1.5]] * 7, None),  # by chance in one of 64 series of equal ranks
        ([[1.0, 1.0, 1.5]] * 5, None),
        ([[1.0, 1.0, 1.5]] * 6, 2),
        ([], None),
    ],
)
def test_a_rank_is_slow_that_takes_longer_than_the_others_in_most_blocks(by_rank, slow):
    assert slow_rank(by_rank) == slow


def test_the_spread_is_that_of_the_ranks_in_the_median_block():
    assert spread([[1.0, 1.0, 1.5], [1.0, 1.0, 1.1], [1.0, 1.0, 1.2]]) == pytest.approx(0.2)
    assert spread([]) == spread([[0.0, 0.0]]) == 0.0


@pytest.mark.parametrize("idle", [1e-6, 9e-3])
def test_ranks_that_only_wait_have_no_part_in_time_spread_and_slow_rank(monkeypatch, idle):
    """However long they take. The probe has another slow rank; the number told is that among all ranks."""
    seconds, alone = [idle, 2.0e-3, idle, 2.2e-3, 2.2e-3], [idle, 1e-3, idle, 1e-3, 2e-3]
    for taken in measured(monkeypatch, 5, seconds, alone=alone, idle=[0, 2]):
        assert taken.series[0].seconds[0] == pytest.approx(2.2e-3, rel=0.01)
        assert taken.series[1].seconds[0] == pytest.approx(2e-3, rel=0.01)
        assert taken.values == {"rank_spread": pytest.approx(0.2 / 2.2, rel=0.05)}
        assert taken.flags == ("slow_rank_4",)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 64])
def test_so_many_blocks_tell_a_rank_that_is_last_in_all_of_them_and_one_less_does_not(ranks):
    late = [1.0] * (ranks - 1) + [2.0]
    fewest = fewest_to_tell(ranks)
    assert slow_rank([late] * fewest) == ranks - 1
    assert slow_rank([late] * (fewest - 1)) is None
