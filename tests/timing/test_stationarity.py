"""Calls that are not alike are found; those that differ by chance are not."""

import numpy as np
import pytest

from bench_core.timing import stationarity
from bench_core.timing.stationarity import alternates, has_trend

NOISES = {
    "normal, 2 %": lambda rng, n: 1 + 0.02 * rng.standard_normal(n),
    "normal, 20 %": lambda rng, n: 1 + 0.2 * rng.standard_normal(n),
    "lognormal": lambda rng, n: np.exp(0.3 * rng.standard_normal(n)),
    "two speeds": lambda rng, n: np.where(rng.random(n) < 0.25, 1.2, 1.0),
    "two speeds, 1 %": lambda rng, n: np.where(rng.random(n) < 0.25, 1.2, 1.0) * (1 + 0.01 * rng.standard_normal(n)),
}
LENGTHS = (6, 10, 15, 18, 20, 24, 30, 40, 60, 200)


def alternating(seconds):
    return alternates(seconds[1::2], seconds[0::2])


def alarms(judge, noise, series=10_000):
    """Return how many of so many series of independent calls a sign is found in, lengths in turn."""
    rng = np.random.default_rng(11)
    return sum(judge(noise(rng, LENGTHS[i % len(LENGTHS)]).tolist()) for i in range(series))


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("judge", [has_trend, alternating])
def test_fewer_than_one_in_a_thousand_series_of_independent_calls_is_flagged(judge, noise):
    assert alarms(judge, NOISES[noise]) < 10


@pytest.mark.parametrize("judge", [has_trend, alternating])
def test_by_the_effect_alone_chance_would_be_flagged(judge, monkeypatch):
    monkeypatch.setattr(stationarity, "_RARE", 0.0)
    assert alarms(judge, NOISES["lognormal"], series=1000) > 10


def slowing(calls, each, noise):
    return (1 + each * np.arange(calls)) * (1 + noise * np.random.default_rng(5).standard_normal(calls))


@pytest.mark.parametrize("calls", [500, 1000, 5000])
def test_calls_slower_by_two_hundredths_of_a_percent_each_are_found_and_so_are_faster_ones(calls):
    seconds = slowing(calls, 2e-4, 0.02).tolist()
    assert has_trend(seconds)
    assert has_trend(seconds[::-1])
    assert not alternating(seconds)


@pytest.mark.parametrize(("over_all", "found"), [(0.04, False), (0.045, False), (0.06, True), (0.5, True)])
@pytest.mark.parametrize("calls", [10, 30, 300, 3001])
def test_a_trend_is_measured_over_the_whole_series(calls, over_all, found):
    """The thirds' centres lie but two thirds of it apart."""
    assert has_trend(slowing(calls, over_all / calls, 0.0).tolist()) is found


def test_nine_blocks_are_a_trend_if_but_two_neighbours_are_out_of_order():
    rising = [1.0 + 0.1 * i for i in range(9)]
    one_pair, two_pairs = [1.1, 1.0, *rising[2:]], [1.1, 1.0, 1.3, 1.2, *rising[4:]]
    assert [has_trend(seconds) for seconds in (rising, one_pair, two_pairs, rising[:8])] == [True, True, False, False]
    assert not any(has_trend([1.0, 2.0, 3.0, 4.0][:n]) for n in range(5))


def test_one_slow_start_is_no_trend():
    assert not has_trend([3.0, 2.0, *([1.0, 1.01] * 10)])


@pytest.mark.parametrize(("other", "found"), [(0.0, True), (0.93, True), (0.96, False), (1.06, True), (1.04, False)])
def test_every_second_call_is_compared_with_those_between(other, found):
    noise = 1 + 0.005 * np.random.default_rng(7).standard_normal(40)
    assert alternating((np.tile([1.0, other], 20) * noise).tolist()) is found


@pytest.mark.parametrize(("calls", "found"), [(20, False), (400, True)])
def test_a_difference_within_the_spread_is_told_apart_by_many_calls(calls, found):
    noise = 1 + 0.2 * np.random.default_rng(7).standard_normal(calls)
    assert alternating((np.tile([1.0, 1.1], calls // 2) * noise).tolist()) is found


@pytest.mark.parametrize(
    ("seconds", "found"), [([1, 0.4] * 3, True), ([1, 0.6] * 3, False), ([1, 0.01, 1, 0.01], False)]
)
def test_of_few_long_calls_only_those_of_half_the_time_are_found(seconds, found):
    assert alternating(seconds) is found


def test_work_in_every_third_call_is_not_seen():
    """What is written of it in the module is so."""
    assert not alternating([1.0, 0.0, 0.0] * 40)
