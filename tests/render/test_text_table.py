"""A table that is too wide gives way where it holds words; numbers are shown whole."""

from dataclasses import replace

import pytest

from bench_core.render import text_table
from bench_core.render.text_table import Table, fold, layout

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


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("cnn_train resnet18-32x32-b128 float32", 14, ["cnn_train", "resnet18-", "32x32-b128", "float32"]),
        ("indicated (3 against 1 runs)", 10, ["indicated", "(3 against", "1 runs)"]),
        ("results/amd-epyc-2c/results.csv", 20, ["results/amd-epyc-2c/", "results.csv"]),
        ("fast_accumulation", 12, ["fast_", "accumulation"]),
        ("1024x4096x4096x1000", 12, ["1024x4096x", "4096x1000"]),
        ("x" * 20, 8, ["x" * 8, "x" * 8, "x" * 4]),
        ("\u8a9e" * 5, 8, ["\u8a9e" * 4, "\u8a9e"]),
        ("1.2e-05 --runs", 8, ["1.2e-05", "--runs"]),
        ("", 8, [""]),
    ],
)
def test_a_text_is_broken_between_words_then_within_names_and_only_then_anywhere(text, width, lines):
    assert fold(text, width) == lines


def test_the_first_line_of_a_text_and_the_others_have_their_own_indents():
    assert fold("one two three", 8, indent=1, hanging=2) == [" one two", "  three"]


def test_a_long_header_over_numbers_is_broken_and_no_word_of_the_rows():
    machine, case = "nvidia-h100-80gb-hbm3_intel-xeon-16c", "cnn_train resnet18-32x32-b128"
    *header, rule, row = layout(Table(("case", machine), ((case, "1.00 s"),), frozenset({1})), 50)
    assert "".join(line.removeprefix("case").strip() for line in header) == machine
    assert 1 < len(header) < 4
    assert len(rule) == 50
    assert row.startswith(f"{case}  ")
    assert len(list(layout(Table(("case", machine), (), frozenset({1})), 30))) > 2, "without rows"


def test_no_word_and_no_letter_is_measured_twice(monkeypatch):
    """The cells of a long table repeat them."""
    measured = []
    columns = text_table.columns
    monkeypatch.setattr(text_table, "columns", lambda line: measured.append(line) or columns(line))
    assert text_table._longest(["one two", "two one"] * 9, str.split) == 3
    assert sorted(measured) == ["one", "two"]


def test_a_text_in_many_cells_of_a_column_is_broken_once(monkeypatch):
    broken = []
    monkeypatch.setattr(text_table, "fold", lambda *of: broken.append(of) or fold(*of))
    many = Table(("a", "b"), (("one two three", "four five six"),) * 5)
    header, rule, *body = layout(many, 17)
    once = list(layout(replace(many, rows=many.rows[:1]), 17))
    assert [header, rule, *body] == [*once[:2], *(once[2:] * 5)]
    assert len(broken) == 2 * 2
