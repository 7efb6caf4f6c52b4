"""Numbers for people have three digits and a scaled unit, and nothing where there is no value; sizes are read back."""

import pytest

from bench_core.units import dimensions, show, significant, size_number, size_order, size_value, spelled
from tests.support.properties import given, st


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.00123, "s", "1.23 ms"),
        (4.2e12, "FLOP/s", "4.20 TFLOP/s"),
        (59.96e9, "B/s", "60.0 GB/s"),
        (0.9997, "s", "1.00 s"),
        (999.6e-3, "s", "1.00 s"),
        (5e-10, "s", "0.500 ns"),
        (0.25, "B/s", "0.250 B/s"),
        (1234567, "1/s", "1.23 M/s"),
        (12, "1/s", "12.0 /s"),
        (0.5, "1", "0.500"),
        (0.0, "s", "0 s"),
        (2048, "B", "2.05 kB"),
        (None, "s", ""),
        (float("nan"), "s", ""),
        (700.0, "W", "700 W"),
        (1.98e9, "Hz", "1.98 GHz"),
    ],
)
def test_show_gives_three_digits_and_a_scaled_unit(value, unit, shown):
    assert show(value, unit) == shown


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (0.012345, "0.0123"), (9.999, "10.0"), (1e7, "1.00e+07"), (0, "0")]
)
def test_significant_keeps_three_digits(value, text):
    assert significant(value) == text


@given(st.floats(1e-9, 1e17))
def test_what_is_shown_is_within_half_a_digit_of_the_value(value):
    number, _, unit = show(value, "s").partition(" ")
    scale = {"n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    shown = float(number.replace(",", "")) * scale[unit.removesuffix("s")]
    assert shown == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("size", "number"),
    [("2048", 2048.0), ("64KiB", 65536.0), ("2MiB", 2.0**21), ("1.5GiB", 1.5 * 2**30), ("64x64", None), ("", None)],
)
def test_a_size_with_or_without_a_binary_suffix_is_a_number_and_any_other_is_none(size, number):
    assert size_number(size) == number


@pytest.mark.parametrize(
    ("size", "value"),
    [
        *[
            ("2048", 2048.0),
            ("64KiB", 65536.0),
            ("1MiB-pinned", 2.0**20),
            ("4096-normal", 4096.0),
            ("96x1024x64", 96.0),
        ],
        *[("gpt2-up", None), ("6L6H384-t256-b1", None), ("b8-h12", None), ("", None), ("-", None)],
    ],
)
def test_a_size_has_the_value_of_the_number_that_it_begins_with(size, value):
    assert size_value(size) == value


def test_sizes_are_in_the_order_of_their_values_and_those_without_one_are_last():
    sizes = ["b10-t1", "1MiB-pinned", "512-nn", "64KiB-pinned", "b2-t9", "1MiB-pageable", "512", "4KiB-pinned"]
    ordered = ["512", "512-nn", "4KiB-pinned", "64KiB-pinned", "1MiB-pageable", "1MiB-pinned", "b2-t9", "b10-t1"]
    assert sorted(sizes, key=size_order) == ordered


@pytest.mark.parametrize(
    ("above", "below", "unit"),
    [
        (["FLOP"], ["s"], "FLOP/s"),
        (["Hz", "s"], [], "1"),
        (["W", "s"], ["B"], "J/B"),
        (["FLOP/s"], ["B/s"], "FLOP/B"),
        (["1"], ["s", "s"], "1/s/s"),
        (["J", "s"], ["1"], "J*s"),
        (["FLOP"], ["s", "W"], "FLOP/J"),
        (["FLOP"], ["B", "J"], "FLOP/B/J"),
        ([], [], "1"),
    ],
)
def test_units_multiply_and_cancel(above, below, unit):
    assert spelled(dimensions(above, below)) == unit


@given(st.dictionaries(st.sampled_from(["s", "B", "FLOP", "J"]), st.integers(-3, 3).filter(bool)))
def test_a_unit_that_was_spelled_out_is_read_back(what):
    assert dimensions([spelled(what)]) == what
