"""Every logarithmic axis has few ticks inside its range, each labelled in a scaled unit."""

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
