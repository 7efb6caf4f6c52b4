"""The line through time over bytes finds the latency and bandwidth it was drawn with."""

import numpy as np
import pytest

from bench_core import fit
from tests.properties import given, st

SIZES = [4096, 65536, 1 << 20, 1 << 24, 1 << 28]


@given(st.floats(1e-7, 1e-3), st.floats(1e8, 1e13))
def test_an_exact_line_is_found_exactly(latency, bandwidth):
    line = fit.line(SIZES, [latency + size / bandwidth for size in SIZES])
    assert line.latency.mean == pytest.approx(latency, rel=1e-6)
    assert 1 / line.slope.mean == pytest.approx(bandwidth, rel=1e-6)
    assert line.residual < 1e-6


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    """1000 sweeps with 3 % noise: 95 % intervals hold latency and slope in 93 to 97 % of them."""
    rng = np.random.default_rng(3)
    truth = np.array([10e-6 + size / 25e9 for size in SIZES])
    held = np.zeros(2)
    for _ in range(1000):
        line = fit.line(SIZES, list(truth * (1 + 0.03 * rng.standard_normal(len(SIZES)))))
        for i, (estimate, true) in enumerate([(line.latency, 10e-6), (line.slope, 1 / 25e9)]):
            low, high = estimate.interval()
            held[i] += low <= true <= high
    assert (held > 930).all()
    assert (held < 970).all()


def test_small_sizes_are_not_drowned_by_the_largest():
    """An unweighted fit would put the latency anywhere within 1 % of the largest time, 100 us here."""
    seconds = [10e-6 + size / 25e9 for size in SIZES]
    seconds[-1] *= 1.01
    assert fit.line(SIZES, seconds).latency.mean == pytest.approx(10e-6, rel=0.05)


def test_points_off_the_line_show_as_its_residual():
    seconds = [1e-5, 1e-5, 1e-5, 1e-2, 1.1e-2]
    assert fit.line(SIZES, seconds).residual > fit.POOR


@pytest.mark.parametrize(
    ("sizes", "seconds"),
    [
        ([1, 2], [1.0, 2.0]),  # no point to judge by
        ([5, 5, 5], [1.0, 2.0, 3.0]),  # no spread
        ([1, 2, 3], [3.0, 2.0, 1.0]),  # faster when larger
        ([1, 2, 3], [0.0, 1.0, 2.0]),  # a clock that stood still
    ],
)
def test_no_line_is_better_than_a_wrong_one(sizes, seconds):
    assert fit.line(sizes, seconds) is None
