"""A ratio and its interval read as the same factor in both directions."""

import pytest

from bench_core.compare.result import change, interval


@pytest.mark.parametrize(
    ("ratio", "unit", "said"),
    [
        (2.0, "s", "2.00x faster"),
        (0.5, "s", "2.00x slower"),
        (2.0, "FLOP/s", "2.00x faster"),
        (0.5, "B", "2.00x worse"),
        (1.001, "s", "1.00x"),
        (1 / 1.001, "s", "1.00x"),
        (None, "s", ""),
        (1234.0, "s", "1,234x faster"),
    ],
)
def test_a_ratio_and_its_inverse_read_as_the_same_factor(ratio, unit, said):
    assert change(ratio, unit) == said


def test_an_interval_reads_in_the_words_of_its_ratio():
    assert interval(2.0, 1.9, 2.1, "s") == "1.90x to 2.10x"
    assert interval(0.5, 0.4, 0.625, "s") == "1.60x to 2.50x"
    assert interval(1.1, 0.8, 1.3, "s") == "1.25x slower to 1.30x faster"
    assert interval(None, None, None, "s") == ""
