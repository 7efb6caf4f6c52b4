"""Intervals and tests of a median that hold whenever measuring stops: exactly, by counting and by simulation."""

import itertools
import math

import numpy as np
import pytest

from bench_core import sequential
from bench_core.sequential import FIRST, LOOKS, Difference, Median, boundary, crossing, interval, p_of_zero


def test_the_probability_of_a_crossing_is_that_of_all_walks_counted_one_by_one():
    """All 2^10 walks to the second look; limits that none reaches afterwards."""
    limits = (5, 6, *(n + 2 for n in LOOKS[2:]))
    walks = list(itertools.product((-1, 1), repeat=LOOKS[1]))
    crossed = sum(abs(sum(w[: LOOKS[0]])) >= 5 or abs(sum(w)) >= 6 for w in walks)
    assert crossing(limits) == pytest.approx(crossed / len(walks), abs=1e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.95, 0.975, 0.99, 0.999])
def test_the_looks_together_miss_as_often_as_allowed_and_hardly_less(confidence):
    limits = boundary(confidence)
    assert crossing(limits) <= 1 - confidence
    lower = [(*limits[:i], limit - 2, *limits[i + 1 :]) for i, limit in enumerate(limits) if limit > 2]
    assert min(map(crossing, lower)) > 1 - confidence


def test_the_interval_of_the_first_look_is_the_range_and_there_is_none_before():
    values = [3.0, 1.0, 7.0, 2.0, 6.0, 5.0, 4.0]
    assert interval(values[:-1]) is None
    assert interval(values) == (1.0, 7.0)
    assert interval(values, 0.99) is None


def test_values_after_a_look_count_at_the_next_one():
    values = [float(i) for i in range(FIRST)]
    assert interval([*values, -50.0, 50.0]) == interval(values)
    assert interval([*values, -50.0, 50.0, 3.5]) == (0.0, 6.0)


SHAPES = {
    "log-normal": lambda rng, n: np.exp(0.1 * rng.standard_normal((n, LOOKS[-1]))) / 1.0,
    "skewed": lambda rng, n: rng.exponential(size=(n, LOOKS[-1])) / math.log(2),
    "whole numbers": lambda rng, n: rng.choice([0.5, 1.0, 1.0, 2.0], (n, LOOKS[-1])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_interval_misses_the_median_at_any_look_in_at_most_a_twentieth_of_all_sequences(shape):
    """Whoever stops as soon as the interval is on one side of the median is wrong no more often than stated."""
    draws = SHAPES[shape](np.random.default_rng(1), 3000)
    missed = np.zeros(len(draws), dtype=bool)
    for n, limit in zip(LOOKS, boundary(), strict=True):
        ordered = np.sort(draws[:, :n], axis=1)
        k = (n - limit) // 2 + 1
        low, high = ordered[:, k - 1], ordered[:, n - k]
        assert interval(list(draws[0, :n])) == (low[0], high[0])
        missed |= (low > 1.0) | (high < 1.0)
    assert missed.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / len(draws))
    assert missed.mean() >= (0.0 if shape == "whole numbers" else 0.035)


def test_the_least_p_of_any_look_is_rarely_small():
    rng = np.random.default_rng(2)
    least = [p_of_zero(list(rng.standard_normal(LOOKS[-1]))) for _ in range(2000)]
    for level in (0.2, 0.05, 0.01):
        assert np.mean(np.array(least) <= level) <= level + 2 * math.sqrt(level / len(least))


def test_p_is_of_the_largest_trend_that_any_look_has_seen_and_never_rises():
    up = [1.0] * 14
    values = [*up, *([-1.0] * 14)]
    found = [p_of_zero(values[:n]) for n in range(len(values) + 1)]
    assert found[FIRST - 1] == 1.0
    assert found == sorted(found, reverse=True)
    assert found[-1] == p_of_zero(up) == pytest.approx(sequential._reached(math.sqrt(14)))


def test_equal_values_are_no_trend():
    assert p_of_zero([0.0] * 48) == 1.0
    assert p_of_zero([0.0, *[1.0] * 20]) > p_of_zero([1.0] * 21)


def test_an_estimate_can_be_shifted_and_contains_its_mean():
    estimate = Median((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 9.0, 9.0))
    low, high = estimate.interval()
    assert (low, high) == (0.0, 0.6)
    assert estimate.shifted(1.0).interval() == (1.0, 1.6)
    assert estimate.shifted(1.0).mean == pytest.approx(estimate.mean + 1.0)
    assert Median((1.0,) * 7 + (9.0,) * 2 + (1.0,)).interval()[1] >= 1.0


def test_sides_that_lie_apart_differ_and_sides_that_do_not_have_no_small_p():
    rng = np.random.default_rng(3)
    near, far = (Median(tuple(m + 0.1 * rng.standard_normal(21))) for m in (0.0, 1.0))
    assert Difference(near, far).p() < 0.001
    assert Difference(near, far).interval()[0] > 0.5
    assert Difference(near, Median(near.values)).p() == 1.0
    assert Difference(near, Median(far.values[:6])).p() == 1.0
    assert Difference(near, far).shifted(-1.0).p() > 0.05


def test_a_difference_of_equal_sides_is_rarely_found():
    rng = np.random.default_rng(4)
    pairs = [Difference(*(Median(tuple(rng.exponential(size=n))) for n in (10, 21))) for _ in range(600)]
    assert np.mean([d.p() <= 0.05 for d in pairs]) <= 0.05
    assert np.mean([d.interval()[0] > 0 or d.interval()[1] < 0 for d in pairs]) <= 0.05
