"""The measuring algorithm on fake clocks: exact numbers, no real time."""

import gc
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from bench_core.backends.base import Timed
from bench_core.errors import CaseError, ClockStandsStill
from bench_core.records import Clock
from bench_core.timing.sampling import (
    BLOCK,
    SINGLES,
    DeviceTimer,
    Durations,
    WallTimer,
    inner_loops,
    rotate,
    sample_series,
    settled,
    timed_singly,
    warm_up,
    which_count,
)
from bench_core.timing.stationarity import alternates
from bench_core.timing.watch import Watch
from tests.support.fakes import FakeClock, FakeDevice, FakeFutures
from tests.support.watches import Counter, calm, losing

PLAN = Durations(budget=1.0, least=0.2, warmup=0.2, warmup_cap=2.0)


def timer_for(device, synchronize=None):
    return WallTimer(synchronize or device.synchronize, device.clock)


def test_a_steady_long_call_is_timed_singly_and_stops_at_the_first_look_past_the_least_time():
    device = FakeDevice(work=0.015)
    series = sample_series("time", device.run, timer_for(device), PLAN, calm(), device.clock)
    assert series.clock is Clock.WALL
    assert series.inner_loops == 1
    assert series.seconds == pytest.approx([0.015001] * 14)  # 10 blocks are 0.15 s: too little
    assert series.flags == ()


def test_a_short_call_is_batched_to_a_millisecond():
    device = FakeDevice(work=5e-6, launch=1e-7)
    series = sample_series("time", device.run, timer_for(device), PLAN, calm(), device.clock)
    assert series.inner_loops * 5e-6 >= BLOCK * 0.99
    assert series.seconds[0] == pytest.approx(5e-6, rel=1e-2)


def test_a_short_call_of_which_the_latency_is_asked_is_timed_by_itself():
    """A batch would hide the time from launch to end behind the work of the calls before."""
    device = FakeDevice(work=5e-6, launch=3e-6)
    series = sample_series("time", device.run, timer_for(device), PLAN, calm(), device.clock, singly=True)
    assert series.inner_loops == 1
    assert series.seconds[0] == pytest.approx(8e-6)


def test_a_call_of_unsteady_length_is_measured_until_the_budget_and_flagged():
    device = FakeDevice(work=lambda i: 0.01 if i % 2 else 0.02)
    series = sample_series("time", device.run, timer_for(device), PLAN, calm(), device.clock)
    assert "not_converged" in series.flags
    assert 1.0 <= sum(series.seconds) <= 1.03


def test_one_call_longer_than_the_budget_is_measured_few_times_and_never_not_at_all():
    device = FakeDevice(work=10.0)
    series = sample_series("time", device.run, timer_for(device), PLAN, calm(), device.clock)
    assert len(series.seconds) == 1
    assert set(series.flags) == {"not_steady", "not_converged"}


@pytest.mark.parametrize(("each", "blocks"), [(0.25, 4), (3.0, 1)])
def test_no_block_begins_once_the_budget_is_spent_to_the_last_bit(each, blocks):
    """Four quarters of a second are a second; three seconds are the budget so often that one block is enough."""
    device = FakeDevice(work=each, launch=0.0)
    series = sample_series("time", device.run, timer_for(device), PLAN, calm(), device.clock)
    assert series.seconds == (each,) * blocks


def test_warm_up_goes_on_while_the_calls_get_faster():
    """The first 100 calls are slow: a fixed warm-up of a few calls would end among them."""
    device = FakeDevice(work=lambda i: 0.02 * 0.96**i if i < 100 else 0.02 * 0.96**100)
    warm = warm_up(device.run, timer_for(device), PLAN, device.clock)
    assert warm.steady
    assert warm.per_call < 0.01


def test_a_warm_up_that_never_settles_ends_at_its_cap_and_says_so():
    device = FakeDevice(work=lambda i: 0.01 * 1.05 ** min(i, 100))
    assert not warm_up(device.run, timer_for(device), PLAN, device.clock).steady
    assert device.clock() < 2 * PLAN.warmup_cap + 2


def test_without_synchronising_the_launch_would_be_timed():
    """The first error of the field, made on purpose: the same device and a timer that does not wait."""
    honest, launch_only = FakeDevice(work=1e-3), FakeDevice(work=1e-3)
    assert timer_for(honest).time(honest.run, 10).seconds == pytest.approx(0.010001)
    assert timer_for(launch_only, synchronize=lambda: None).time(launch_only.run, 10).seconds == pytest.approx(10e-6)


def test_a_clock_that_goes_backwards_gives_no_time():
    device = FakeDevice(work=1e-3)
    timer = WallTimer(device.synchronize, iter([10.0, 9.5]).__next__)
    with pytest.raises(CaseError, match=r"went back by 0\.5 s") as caught:
        timer.time(device.run, 1)
    assert caught.value.code == "clock_backwards"


def test_work_queued_before_a_block_is_not_counted_in_it():
    device = FakeDevice(work=1e-3)
    for _ in range(50):
        device.run()
    assert timer_for(device).time(device.run, 1).seconds == pytest.approx(1.001e-3)


PLANTED = (10, 13, 14, 20)  # calls that are disturbed, all in the timed part: warm-up takes 4 calls


def disturbed_series(calls=PLANTED, plan=PLAN, every=0.0, extra=0.1, each=0.05):
    """Return the series of calls of 50 ms; other work adds `extra` seconds, which a counter has, to each of `calls`."""
    lost = lambda: extra * sum(device.calls > call for call in calls)  # noqa: E731 - one expression of the device
    device = FakeDevice(work=lambda i: each + extra * (i in calls))
    watch = losing(lost, device.clock, every=every)
    return sample_series("time", device.run, timer_for(device), plan, watch, device.clock)


def test_disturbed_blocks_do_not_count_and_more_are_timed_within_the_budget():
    quiet, series = disturbed_series(()), disturbed_series()
    assert quiet.calm == quiet.seconds
    assert len(quiet.seconds) == 10
    assert [i for i, seconds in enumerate(series.seconds) if seconds > 0.1] == list(series.noisy) == [6, 9, 10]
    assert len(series.seconds) == 13
    assert series.calm == pytest.approx(quiet.calm)
    assert series.lost == {"steal": pytest.approx(3 * 0.150001)}
    assert series.flags == ()


def test_a_series_whose_calm_blocks_agree_has_converged_though_every_second_block_is_disturbed():
    blocks, lost = itertools.count(), [0.0]

    def work(_):
        hit = not gc.isenabled() and next(blocks) % 2  # in warm-up it is on
        lost[0] += 0.02 * hit
        return 0.02 + 0.02 * hit

    device = FakeDevice(work)
    series = sample_series(
        "time", device.run, timer_for(device), PLAN, losing(lambda: lost[0], device.clock), device.clock
    )
    assert (len(series.calm), len(series.seconds)) == (10, 19)
    assert series.flags == ()


def test_the_budget_ends_a_series_however_many_blocks_do_not_count():
    series = disturbed_series(range(4, 11))
    assert sum(series.seconds) == pytest.approx(1.0, abs=0.2)
    assert len(series.calm) < 10


def test_blocks_between_two_readings_share_their_verdict():
    """A counter that is read after three blocks: a disturbed one takes two more with it. The last are judged too."""
    series = disturbed_series((12,), every=0.12)
    assert series.noisy == (6, 7, 8)
    assert len(series.calm) == 10
    assert disturbed_series((4,), replace(PLAN, budget=0.05, least=0.05), every=9.0).noisy == ()
    assert "never_quiet" in disturbed_series((4,), replace(PLAN, budget=0.05, least=0.05), every=9.0).flags


def test_where_no_block_is_calm_the_least_disturbed_half_counts_and_is_flagged():
    """Blocks 0 to 8: each is disturbed more than the one before."""
    amounts = [0.0] * 4 + [0.05 * i for i in range(1, 10)]
    device = FakeDevice(work=lambda i: 0.05 + amounts[min(i, 12)])
    lost = lambda: sum(amounts[: device.calls])  # noqa: E731 - one expression of the device
    series = sample_series(
        "time", device.run, timer_for(device), PLAN, losing(lost, device.clock, "context_switches"), device.clock
    )
    count = len(series.seconds)
    assert series.calm == series.seconds[: math.ceil(count / 2)]
    assert {"never_quiet", "context_switches"} <= set(series.flags)
    assert sum(series.lost.values()) == pytest.approx(sum(series.seconds) - sum(series.calm))


@pytest.mark.parametrize(
    ("lost", "counted"),
    [
        ([0, 0, 0, 1], [0, 1, 2]),
        ([0, 0, 0.5, 0.5], [0, 1, 2, 3]),
        ([0.5] * 4, [0, 1, 2, 3]),
        ([0.3, 0.1, 0.2, 0.9, 0.8, 0.7], [0, 1, 2]),
        ([0, 0.9, 0.2, 0.8, 0.7, 0.6, 0.5, 0.4], [0, 2, 6, 7]),
        ([0.5], [0]),
        ([0, 0.5], [0, 1]),
        ([0, 0], [0, 1]),
    ],
)
def test_never_are_fewer_than_three_blocks_counted_if_there_are_three(lost, counted):
    assert which_count([{"steal": share} if share else {} for share in lost]) == counted


def test_the_worst_of_several_causes_is_the_one_that_is_told():
    device = FakeDevice(work=lambda i: 0.05 + 0.15 * (i == 10))
    lost = [
        Counter(lambda share=share: share * (device.calls > 10), cause) for cause, share in (("a", 0.01), ("b", 0.15))
    ]
    series = sample_series("time", device.run, timer_for(device), PLAN, Watch([*lost], device.clock), device.clock)
    assert series.lost == {"b": pytest.approx(0.200001)}


def test_the_median_of_the_calm_blocks_is_that_without_disturbances_but_for_chance():
    """Disturbances are independent of a block's own time, and there are many: nothing is chosen by how long it took."""
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(60):
        own = 1e-3 * rng.lognormal(0.0, 0.1, 4000)
        hit = rng.random(4000) < 0.4
        extra = hit * 1e-3 * rng.exponential(0.5, 4000)
        stolen = np.concatenate([[0.0], np.cumsum(extra)])
        device = FakeDevice(work=lambda i, own=own, extra=extra: float(own[i % 4000] + extra[i % 4000]), launch=0.0)
        lost = lambda device=device, stolen=stolen: float(stolen[min(device.calls, 4000)])  # noqa: E731
        plan = Durations(budget=0.3, least=0.2, warmup=0.02, warmup_cap=0.05)
        series = sample_series("time", device.run, timer_for(device), plan, losing(lost, device.clock), device.clock)
        assert series.inner_loops == 1
        assert 0.3 < len(series.noisy) / len(series.seconds) < 0.5
        errors.append(math.log(np.median(series.calm) / 1e-3))
    assert abs(np.mean(errors)) < 3 * np.std(errors) / math.sqrt(len(errors))
    assert np.std(errors) < 0.02


def test_garbage_collection_is_off_inside_blocks_and_back_on_after_them():
    device = FakeDevice(work=0.02)
    seen = []
    sample_series(
        "time", lambda: (seen.append(gc.isenabled()), device.run()), timer_for(device), PLAN, calm(), device.clock
    )
    assert seen[-1] is False
    assert gc.isenabled()


class EventClock:
    """A device whose events tell 20 ms a call; `starved` says of each block whether the device ran dry."""

    def __init__(self, starved, seconds=0.02):
        self.clock, self.blocks, self._starved, self._seconds = FakeClock(), 0, starved, seconds

    def device_time(self, call, calls):
        self.blocks += 1
        self.clock.pass_(self._seconds * calls)
        return Timed(self._seconds * calls, self._starved(self.blocks))


def device_series(backend):
    return sample_series("time", lambda: None, DeviceTimer(backend), PLAN, calm(), backend.clock)


@pytest.mark.parametrize(("seconds", "loops"), [(150e-6, 7), (0.6e-3, 2), (1e-3, 1)])
def test_by_the_device_s_clock_every_block_fills_a_millisecond(seconds, loops):
    """The events' own 2 us are in it."""
    assert device_series(EventClock(lambda block: False, seconds)).inner_loops == loops


def test_a_starved_device_is_flagged_launch_bound_once():
    series = device_series(EventClock(lambda block: True))
    assert series.clock is Clock.DEVICE
    assert series.flags == ("launch_bound",)


def test_a_device_that_starved_while_it_warmed_up_is_not_launch_bound():
    """There the spin is still sized for another call, and modules are loaded."""
    assert device_series(EventClock(lambda block: block <= 5)).flags == ()


def test_one_starved_block_in_ten_does_not_make_a_series_launch_bound():
    series = device_series(backend := EventClock(lambda block: block == 15))
    assert len(series.seconds) == 10
    assert backend.blocks > 15
    assert series.flags == ()


def test_a_budget_is_of_the_host_whatever_the_device_says():
    """A call that keeps the host for 20 ms and the device for 20 us must not be measured a thousand times longer."""
    backend = EventClock(lambda block: False)
    backend.device_time = lambda call, calls: backend.clock.pass_(0.02) or Timed(20e-6 * calls * (1 + 0.5 * calls % 2))
    device_series(backend)
    assert backend.clock() < PLAN.warmup_cap + PLAN.budget + 0.1


@pytest.mark.parametrize("clock", ["device", "wall"])
def test_a_call_that_did_nothing_does_not_make_a_block_endless(clock):
    """The least time of a call, here 5 ns, is then no measure of the others, which take 20 ms."""
    device = FakeDevice(work=lambda i: 0.02 * (i % 2), launch=5e-9)
    timer = timer_for(device)
    if clock == "device":
        device.device_time = timer.time
        timer = DeviceTimer(device, device.clock)
    plan = Durations(budget=0.1, least=0.0, warmup=0.0, warmup_cap=0.0)  # so that the first call is all it knows
    sample_series("time", device.run, timer, plan, calm(), device.clock)
    assert device.clock() < 2.0


def test_events_that_lie_two_microseconds_apart_whatever_is_called_are_no_time():
    backend = EventClock(lambda block: False)
    backend.device_time = lambda call, calls: backend.clock.pass_(1e-4) or Timed(2e-6)
    with pytest.raises(ClockStandsStill, match="2e-06 s by the device clock"):
        device_series(backend)


@pytest.mark.parametrize(("per_call", "loops"), [(1.0, 1), (100e-6, 1), (99e-6, 11), (1e-6, 1000), (0.0, 1_000_000)])
def test_inner_loops_fill_a_millisecond_below_100_microseconds(per_call, loops):
    assert inner_loops(per_call, WallTimer(lambda: None)) == loops


def test_two_blocks_never_settle_a_series():
    assert not settled([1.0, 1.0])
    assert settled([1.0, 1.0, 1.0])


def test_a_clock_that_stands_still_is_an_error_not_an_endless_warm_up():
    """So does the clock of a device for calls that do nothing there."""
    device = FakeDevice(work=0.0, launch=0.0)
    with pytest.raises(CaseError, match="took 0 s by the wall clock") as caught:
        warm_up(device.run, timer_for(device), PLAN, device.clock)
    assert caught.value.code == "clock_stands_still"


# ---------------------------------------------------------------- calls that are not alike


def noisy(work):
    """Return the work of a call by its number, with 2 % of noise."""
    noise = 1 + 0.02 * np.random.default_rng(3).standard_normal(9973)
    return lambda i: work(i) * float(noise[i % len(noise)])


def flags_of(work, plan=PLAN):
    device = FakeDevice(work=work, launch=1e-7)
    return sample_series("time", device.run, timer_for(device), plan, calm(), device.clock).flags


@pytest.mark.parametrize("each", [5e-6, 1e-3])
def test_calls_that_slow_by_two_hundredths_of_a_percent_each_are_a_trend(each):
    """In a second of calls; 200 calls of 1 ms would slow by 4 %."""
    plan = replace(PLAN, least=1.0)
    assert "trend" in flags_of(noisy(lambda i: each * (1 + 2e-4 * max(0, i - 0.2 / each))), plan)


@pytest.mark.parametrize("each", [5e-6, 1e-3, 20e-3])
def test_calls_that_are_alike_but_for_noise_are_neither_a_trend_nor_alternating(each):
    assert {"trend", "alternating"}.isdisjoint(flags_of(noisy(lambda i: each)))


@pytest.mark.parametrize("disturbed", [True, False])
def test_disturbed_blocks_make_no_trend(disturbed):
    """From the 20th block on every second one is slow, and more so each time."""
    blocks, lost = itertools.count(), [0.0]

    def work(_):
        block = 0 if gc.isenabled() else next(blocks)  # in warm-up it is on
        if block < 20 or block % 2:
            return 0.02
        more = 0.02 * (0.5 + 0.05 * block)
        lost[0] += more * disturbed
        return 0.02 + more

    device = FakeDevice(work)
    plan = replace(PLAN, least=1.5, budget=2.0)
    watch = losing(lambda: lost[0], device.clock)
    series = sample_series("time", device.run, timer_for(device), plan, watch, device.clock)
    assert (len(series.noisy) > 8) is disturbed
    assert ("trend" in series.flags) is not disturbed


def test_work_in_every_second_long_call_is_alternating():
    assert "alternating" in flags_of(noisy(lambda i: 0.01 if i % 2 else 0.0))


def test_work_in_every_second_call_of_a_batch_is_alternating_though_the_blocks_are_alike():
    work = noisy(lambda i: 10e-6 if i % 2 else 0.0)
    device = FakeDevice(work=work, launch=1e-7)
    series = sample_series("time", device.run, timer_for(device), PLAN, calm(), device.clock)
    assert series.inner_loops > 1
    assert max(series.seconds) < 1.1 * min(series.seconds)
    assert series.flags == ("alternating",)


class Noting(WallTimer):
    """A timer that notes how many calls each block had."""

    def __init__(self, device):
        super().__init__(device.synchronize, device.clock)
        self.blocks = []

    def time(self, run, calls):
        self.blocks.append(calls)
        return super().time(run, calls)


@pytest.mark.parametrize(("each", "singly"), [(5e-6, SINGLES), (1e-3, 0)])
def test_calls_timed_singly_after_batches_are_no_samples(each, singly):
    device = FakeDevice(work=each, launch=1e-7)
    timer = Noting(device)
    series = sample_series("time", device.run, timer, PLAN, calm(), device.clock)
    ends = len(timer.blocks) - singly
    assert timer.blocks[ends - len(series.seconds) :] == [series.inner_loops] * len(series.seconds) + [1] * singly
    assert SINGLES % 2 == 0


@pytest.mark.parametrize(("until", "found"), [(1, False), (2, True)])
def test_an_alternation_that_a_second_look_does_not_find_was_other_work(until, found):
    """In so many looks every second call waits."""
    singles = itertools.count()

    def work(i):
        if gc.isenabled() or timer.blocks[-1] > 1:  # warm-up or a batch
            return 5e-6
        return 10e-6 if next(singles) < until * SINGLES and i % 2 else 5e-6

    device = FakeDevice(work, launch=1e-7)
    timer = Noting(device)
    series = sample_series("time", device.run, timer, PLAN, calm(), device.clock)
    assert ("alternating" in series.flags) is found
    assert timer.blocks[-2 * SINGLES :] == [1] * 2 * SINGLES


def test_calls_that_keep_step_with_the_ticks_of_a_coarse_clock_alternate_only_without_pauses():
    """A call of 1.05 us by ticks of 0.1 us: begun every 1.55 us it lasts 1.0 and 1.1 us in turn."""

    def singly(pause):
        device = FakeDevice(work=0.0, launch=1.05e-6)
        device.clock.pass_(0.01e-6)
        timer = WallTimer(device.synchronize, lambda: math.floor(device.clock() / 0.1e-6) * 0.1e-6)
        seconds = timed_singly(device.run, timer, lambda steps: device.clock.pass_(pause(steps)))
        assert {round(each * 1e7) for each in seconds} == {10, 11}
        return alternates(seconds[1::2], seconds[0::2])

    assert singly(lambda steps: 0.5e-6)
    assert not singly(lambda steps: 20e-9 * steps)


@pytest.mark.parametrize("starved", [True, False])
def test_a_starved_device_whose_spins_alternate_is_not_alternating(starved):
    backend = EventClock(lambda block: starved)
    backend.device_time = lambda call, calls: _in_turn(backend, starved)
    assert ("alternating" in device_series(backend).flags) is not starved


def _in_turn(backend, starved):
    backend.blocks += 1
    seconds = 0.02 if backend.blocks % 2 else 0.01
    backend.clock.pass_(seconds)
    return Timed(seconds, starved)


# ---------------------------------------------------------------- what the timers tell


def test_each_result_that_is_a_future_is_awaited_before_the_next_call():
    lazy = FakeFutures(work=1e-3)
    assert WallTimer(lazy.synchronize, lazy.clock, lazy.wait_for).time(lazy.run, 2).seconds == pytest.approx(2.002e-3)
    assert lazy.said == ["synchronize", "run", "wait", "run", "wait", "synchronize"]


def test_without_awaiting_a_future_would_never_be_worked_on():
    lazy = FakeFutures(work=1e-3)
    assert WallTimer(lazy.synchronize, lazy.clock).time(lazy.run, 2).seconds == pytest.approx(2e-6)


def test_the_timer_of_a_backend_awaits_where_the_backend_can():
    lazy, plain = FakeFutures(work=1e-3), FakeDevice(work=1e-3)
    WallTimer.of(lazy).time(lazy.run, 3)
    WallTimer.of(plain).time(plain.run, 3)
    assert (lazy.said.count("wait"), plain.calls) == (3, 3)
    assert plain.clock() == plain.busy_until


def test_a_series_claims_all_seconds_in_which_its_timer_was_at_work():
    """On a clock that moves in calls only, these are all there are: warm-up, blocks, calls timed singly."""
    device = FakeDevice(work=5e-6, launch=1e-7)
    timer = timer_for(device)
    claimed = [
        sample_series("time", device.run, timer, PLAN, calm(), device.clock, singly=singly).claimed_s
        for singly in (False, True)
    ]
    assert sum(claimed) == pytest.approx(device.clock()) == pytest.approx(timer.total)
    assert min(claimed) > PLAN.warmup + PLAN.least


def test_a_device_timer_counts_the_seconds_of_the_host():
    backend = EventClock(lambda block: False)
    backend.device_time = lambda call, calls: backend.clock.pass_(0.03) or Timed(0.02)
    timer = DeviceTimer(backend, backend.clock)
    assert timer.time(lambda: None, 1).seconds == 0.02
    assert timer.total == pytest.approx(0.03)


def test_rotate_takes_every_callable_in_its_turn():
    seen = []
    turn = rotate([lambda i=i: seen.append(i) for i in range(3)])
    for _ in range(7):
        turn()
    assert seen == [0, 1, 2, 0, 1, 2, 0]
