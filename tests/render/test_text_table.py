"""A table that is too wide gives way where it holds words; numbers are shown whole."""

import pytest

from bench_core.render.text_table import Table, layout

WORDS, NUMBER = "one two three four five six seven", "123,456,789,012.345"
TABLE = Table(("case", "value"), ((WORDS, NUMBER),), frozenset({1}))


@pytest.mark.parametrize(("width", "words"), [(80, 33), (54, 33), (53, 32), (40, 19), (30, 9), (29, 8), (10, 8)])
def test_words_wrap_as_narrow_as_need_be_and_numbers_are_never_broken(width, words):
    """The number is 19 wide, and the gap 2. Below 8 columns words give way no further."""
    header, rule, *body = layout(TABLE, width)
    assert len(rule) == min(width, words + 2 + len(NUMBER))
    assert header == "case" + " " * (words - 4 + 2 + len(NUMBER) - 5) + "value"
    assert body[0].endswith(f"  {NUMBER}")
    assert " ".join([body[0].removesuffix(NUMBER).strip(), *(line.strip() for line in body[1:])]) == WORDS
    assert max(map(len, body)) == words + 2 + len(NUMBER)


def test_the_widest_column_of_words_gives_way_first():
    """All are as wide as 14 columns before any is less."""
    table = Table(("a", "b"), (("x" * 40, "y" * 20),))
    assert [len(line.split("  ")[0].strip()) for line in layout(table, 46)][2] == 24
    _, rule, first, *_ = layout(table, 30)
    assert (len(rule), first) == (30, "x" * 14 + "  " + "y" * 14)
