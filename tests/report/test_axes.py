"""Every axis has few ticks inside its range, each labelled in a scaled unit."""

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


@pytest.mark.parametrize("scale", [1e-100, 3e-9, 1.0, 7e99])
@pytest.mark.parametrize("span", [0.05, 0.3, 4.0])
def test_linear_ticks_are_round_inside_few_and_have_labels_that_differ(scale, span):
    low, high = scale, scale * (1 + span)
    ticks = axes.linear_ticks(low, high, "B/s")
    assert 3 <= len(ticks) <= axes.MOST_TICKS
    assert all(low <= tick <= high for tick in ticks)
    assert len(set(ticks.values())) == len(ticks)


def test_linear_ticks_have_the_digits_of_their_step():
    assert list(axes.linear_ticks(0.00096, 0.00105, "s").values()) == [
        *("960 µs", "980 µs", "1.00 ms", "1.02 ms", "1.04 ms"),
    ]
    assert list(axes.linear_ticks(0, 10, "s").values()) == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]
