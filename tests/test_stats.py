"""Statistics agree with exact arithmetic and with SciPy, and moments with those of the whole sample."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from scipy import special
from scipy import stats as reference

from bench_core import stats
from bench_core.stats import Moments


def exact_rank(n: int) -> int:
    """Return the rank of the median interval's lower end, in exact binomial sums."""
    tail, k = 0, 0
    while k < n // 2:
        tail += math.comb(n, k)
        if 2 * tail > (1 - Fraction(stats.CONFIDENCE)) * 2**n:
            break
        k += 1
    return max(k, 1)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 10, 30, 101, 1029, 1030, 1240, 5000])
def test_median_interval_has_the_exact_ranks_for_any_number_of_blocks(n):
    """Beyond 1029 values a binomial coefficient is too large for a float; a fast call has more blocks than that."""
    low, high = stats.median_interval(list(range(1, n + 1)))
    assert (low, high) == (exact_rank(n), n + 1 - exact_rank(n))


@pytest.mark.parametrize(("n", "level"), [(2, 0.5), (3, 0.75), (5, 0.9375), (6, 0.95), (30, 0.95)])
def test_a_few_values_claim_no_more_confidence_than_their_whole_range_has(n, level):
    """The median lies outside the range of n values when all n fall on one side of it: 2 * 0.5**n."""
    assert stats.summarise(range(1, n + 1)).ci_level == level


def test_moments_add_up_to_those_of_the_pooled_sample():
    rng = np.random.default_rng(7)
    a, b = rng.normal(0, 1, 4), rng.normal(5, 2, 7)
    pooled = Moments.of([*a, *b])
    added = Moments.of(list(a)) + Moments.of(list(b))
    assert (added.n, added.mean, added.squares) == pytest.approx((pooled.n, pooled.mean, pooled.squares))


def test_welch_and_paired_tests_agree_with_scipy():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0, 1, 5), rng.normal(0.5, 3, 9)
    ours, theirs = stats.welch(Moments.of(a), Moments.of(b)), reference.ttest_ind(b, a, equal_var=False)
    assert ours.p() == pytest.approx(theirs.pvalue)
    assert ours.interval() == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    ours, theirs = stats.paired(b[:5] - a), reference.ttest_rel(b[:5], a)
    assert ours.p() == pytest.approx(theirs.pvalue)
    assert ours.interval(0.9) == pytest.approx(tuple(theirs.confidence_interval(0.9)))


def test_benjamini_hochberg_agrees_with_scipy():
    p = [0.01, 0.5, 0.02, 0.9, 0.01, 0.04]
    assert stats.benjamini_hochberg(p) == pytest.approx(list(reference.false_discovery_control(p)))
    assert stats.benjamini_hochberg([]) == []


def test_the_half_width_that_stops_a_series_is_that_of_mcgill_tukey_and_larsen():
    """Nine values with median 10 and quartiles 8 and 12; 1.96 is the normal distribution's quantile 0.975."""
    half_width = stats.relative_half_width([14, 6, 8, 10, 12, 7, 9, 11, 13])
    assert half_width == pytest.approx(1.959963984540054 * 1.25 * (12 - 8) / (1.35 * 9**0.5) / 10, rel=1e-12)
    assert stats.relative_half_width([0.0, 0.0, 1.0]) == math.inf


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_interval_of_a_mean_of_logarithms_is_student_s_to_the_last_digit(n, confidence):
    values = np.random.default_rng(n).lognormal(-7, 0.1, n).tolist()
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / n
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / (n - 1) / n)
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2)) * error
    assert stats.log_mean_interval(values, confidence) == (math.exp(mean - half), math.exp(mean + half))
    theirs = reference.t(n - 1, mean, reference.sem(logs)).interval(confidence)
    assert stats.log_mean_interval(values, confidence) == pytest.approx(tuple(map(math.exp, theirs)))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_quantile_of_the_half_width_is_the_normal_one_to_the_last_digit(confidence):
    """Without scipy, whose OpenBLAS must not run in a worker."""
    values = [14, 6, 8, 10, 12, 7, 9, 11, 13]
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    assert stats.relative_half_width(values, confidence) == z * 1.25 * (12 - 8) / (1.35 * math.sqrt(9)) / 10


def test_a_quantile_of_equal_degrees_of_freedom_is_computed_once(monkeypatch):
    asked = []
    special = stats._special
    monkeypatch.setattr(stats, "_special", lambda: asked.append(1) or special())
    stats._quantile.cache_clear()
    ends = {stats.Estimate(0.0, 1.0, 4).interval() for _ in range(9)}
    assert len(ends) == len(asked) == 1
    assert max(ends)[1] == pytest.approx(reference.t.ppf(0.975, 4))
