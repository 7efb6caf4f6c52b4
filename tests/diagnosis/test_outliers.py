"""Numbers that are out of line are found beside several others, and normal ones as rarely as their p-values say."""

import numpy as np
import pytest

from bench_core.diagnosis.outliers import FEWEST, core, places
from tests.support.properties import given, settings, st


def p_values(values):
    return np.array([place.p() if place else 1.0 for place in places(np.asarray(values))])


@pytest.mark.parametrize("nodes", [5, 6, 8, 12, 20, 50])
def test_p_values_of_normal_numbers_are_not_more_frequent_than_they_say(nodes):
    drawn = np.random.default_rng(2)
    p = np.concatenate([p_values(drawn.standard_normal(nodes)) for _ in range(10_000 // nodes)])
    assert (p <= 0.01).mean() <= 1.2 * 0.01
    assert (p <= 0.001).mean() <= 2.5 * 0.001
    assert (p <= 0.05).mean() >= 0.2 * 0.05


@pytest.mark.parametrize("out", [1, 4, 6])
def test_numbers_far_out_do_not_hide_each_other(out):
    drawn = np.random.default_rng(3)
    values = drawn.standard_normal((100, 20))
    values[:, :out] += 10
    p = np.array([p_values(fleet) for fleet in values])
    assert (p[:, :out] < 0.001).mean() > 0.98
    assert (p[:, out:] < 0.001).mean() < 0.003
    assert not any(core(fleet)[:out].any() for fleet in values[:20])


def test_the_distance_is_from_the_others_with_the_error_of_one_more_of_them():
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 3.0])
    (last,) = places(values)[-1:]
    others = values[:5]
    # Normal numbers within 2.5 standard deviations have 0.955 times their standard deviation (variance 0.911).
    spread = others.std(ddof=1) / 0.9546
    assert last.mean == pytest.approx(2.0)
    wider = 1.75 + (2.0 - 1.75) * (1 / 6 - 1 / 8) / (1 / 5 - 1 / 8)  # between those of 8 and 5 numbers
    assert last.error == pytest.approx(wider * spread * (1 + 1 / 5) ** 0.5, rel=1e-3)
    assert last.dof == 4


def test_where_numbers_agree_exactly_the_floor_is_their_spread():
    values = np.array([1.0] * 9 + [1.004])
    assert places(values, floor=0.01)[-1].p() > 0.5
    assert places(values, floor=0.0001)[-1].p() < 1e-6
    assert core(values, floor=0.01).all()


def test_a_number_needs_others_to_be_judged_by():
    assert places(np.array([1.0])) == [None]
    few = places(np.array([0.0, 0.1, 0.2]))
    assert few == [None] * 3
    assert FEWEST == 3
    assert None not in places(np.array([0.0, 0.1, 0.2, 0.15]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0.001, 1000), st.floats(-100, 100))
def test_the_unit_and_the_zero_of_the_numbers_do_not_matter(seed, nodes, factor, shift):
    values = np.random.default_rng(seed).standard_t(2, nodes)
    healthy = core(values, 0.1)
    assert healthy.any()
    assert (core(values * factor + shift, 0.1 * factor) == healthy).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 30))
def test_the_order_of_the_numbers_does_not_matter(seed, nodes):
    drawn = np.random.default_rng(seed)
    values, order = drawn.standard_t(2, nodes), drawn.permutation(nodes)
    before, after = places(values), places(values[order])
    for place, i in zip(after, order, strict=True):
        assert (place is None) == (before[i] is None)
        if place is not None:
            assert place.mean == pytest.approx(before[i].mean, rel=1e-9, abs=1e-12)
            assert place.error == pytest.approx(before[i].error, rel=1e-9)
