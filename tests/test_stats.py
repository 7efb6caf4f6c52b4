"""Statistics against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from bench_core import stats


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
