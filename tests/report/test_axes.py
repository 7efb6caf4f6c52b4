"""Every logarithmic axis has few ticks inside its range, each labelled in a scaled unit."""

import re

import pytest

from bench_core.report import axes
from tests.support.properties import given, st


@given(
    st.lists(st.floats(1e-9, 1e18), min_size=1, max_size=5),
    st.sampled_from(["s", "FLOP/s", "B/s", "1/s", "x", "n", "bytes", "FLOP/B"]),
)
def test_ticks_lie_on_the_axis_and_each_has_a_label(values, unit):
    axis = axes.log_axis(values, unit)
    assert axis.low < min(values) <= max(values) < axis.high
    assert 1 <= len(axis.ticks) <= axes.MOST_TICKS
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert all(axis.labels)
    assert len(axis.labels) == len(axis.ticks)


def test_labels_carry_scaled_units():
    assert axes.log_axis([2e9, 5e11], "FLOP/s").labels[:2] == ("3 GFLOP/s", "10 GFLOP/s")
    assert axes.log_axis([2.0**14, 2.0**20], "bytes").labels[:2] == ("16 KiB", "32 KiB")


@given(st.lists(st.floats(1e-3, 1e15), min_size=1, max_size=5), st.sampled_from(["FLOP/s", "B/s", "x", "n", "FLOP/B"]))
def test_no_label_has_an_exponent(values, unit):
    assert not [label for label in axes.log_axis(values, unit).labels if re.search(r"\de[-+]?\d", label)]


@pytest.mark.parametrize(
    ("tick", "unit", "label"),
    [
        (2.0**20, "n", "1,048,576"),
        (4096.0, "n", "4096"),
        (1e6, "x", "1,000,000x"),
        (0.05, "x", "0.05x"),
        (2.0**26, "bytes", "64 MiB"),
        (1e6, "FLOP/B", "1,000,000"),
    ],
)
def test_plain_numbers_are_written_out(tick, unit, label):
    assert label in axes.log_axis([tick], unit, margin=1.01).labels


def test_a_position_on_the_axis_is_that_of_its_value():
    axis = axes.log_axis([1.0, 1000.0], "x", margin=10.0)
    assert [axis.share(x) for x in (axis.low, 1.0, axis.high)] == pytest.approx([0.0, 0.2, 1.0])
    assert axis.at(axis.share(30.0)) == pytest.approx(30.0)
