"""Columns keep what they were made of, and combinations of them are numbered as dictionaries would number them."""

import numpy as np

from bench_core.results import columns
from bench_core.results.columns import Coded, Numbers, numbered
from tests.support.properties import given, settings, st


def test_cells_are_what_a_column_was_made_of_and_an_empty_one_is_none():
    assert Coded.of(["b", "a", "b"]).cells() == ["b", "a", "b"]
    assert Coded.of(["b", "a", "b"]).cells(np.array([1, 0])) == ["a", "b"]
    assert Numbers.of([1.5, None, -0.0]).cells() == [1.5, None, -0.0]
    assert Numbers.of([1.5, None]).cells(np.array([1])) == [None]


def test_each_distinct_value_is_asked_about_once():
    asked = []
    assert Coded.of("abab").mask(lambda value: asked.append(value) or value == "b").tolist() == [False, True] * 2
    assert asked == ["a", "b"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 4), max_size=12), st.sampled_from([1, 3, 1 << 40]))
def test_rows_are_numbered_in_the_order_in_which_their_combination_appears_first(rows, most):
    """However soon the products of numbers would be too large."""
    codes = [Coded.of(cells).codes for cells in zip(*rows, strict=True)]
    known = {}
    expected = [known.setdefault(row, len(known)) for row in rows]
    before, columns._MOST = columns._MOST, most
    try:
        numbers, first = numbered(codes, len(rows))
    finally:
        columns._MOST = before
    assert numbers.tolist() == expected
    assert [rows[i] for i in first.tolist()] == list(known)
