"""Any text is shown on one line, without control characters and never too long."""

import re
import unicodedata

import pytest

from bench_core.text import (
    decoded,
    file_name,
    harmless,
    is_visible,
    no_such,
    one_line,
    printable,
    printable_lines,
    quoted,
)
from tests.support.properties import given, st


@given(st.text(max_size=400))
def test_a_printable_text_is_one_line_without_invisible_characters(text):
    shown = printable(text)
    assert len(shown) <= 300
    assert "\n" not in shown
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in shown if c != "\u200d")


@given(st.text(st.sampled_from("a\u00e9\u200d\ufe0f\U0001f469\U0001f4bb"), max_size=9))
def test_a_joiner_is_kept_only_between_parts_of_an_emoji(text):
    shown = printable(text)
    parts = "\ufe0f\U0001f469\U0001f4bb"
    for i in (i for i, c in enumerate(shown) if c == "\u200d"):
        assert shown[i - 1 : i] in parts
        assert shown[i + 1 : i + 2] in parts
        assert 0 < i < len(shown) - 1


@pytest.mark.parametrize(
    "text", ["\U0001f469\u200d\U0001f4bb", "\u2764\ufe0f\u200d\U0001f525", "\U0001f3f3\ufe0f\u200d\U0001f308"]
)
def test_an_emoji_of_several_is_shown_as_it_is(text):
    assert (printable(text), harmless(text), quoted(text)) == (text, text, f"'{text}'")


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("a", True),
        ("\U0001f680", True),
        ("\u0915\u093f", True),
        ("\ufe0f", False),
        ("\u3164\u2800", False),
        (" ", False),
    ],
)
def test_marks_and_fillers_alone_cannot_be_seen(text, visible):
    assert is_visible(text) is visible


def test_escapes_are_spelt_out_and_plain_texts_left_alone():
    assert printable("\x1b[31mred\x00\u202e") == r"\x1b[31mred\x00\u202e"
    assert printable("NVIDIA H100 80GB · 2 µm") == "NVIDIA H100 80GB · 2 µm"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain µs", "plain µs"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb", "a b"),
        ("\u202eback", r"\u202eback"),
        ("x" * 50, "x" * 37 + "..."),
    ],
)
def test_escapes_line_feeds_and_long_texts_become_one_short_line(text, shown):
    assert printable(text, 40) == shown


def test_lines_are_kept_and_what_is_invisible_on_them_is_spelt_out():
    assert printable_lines("File x\n    \x1b[2J µ\n", 40) == "File x\n    \\x1b[2J µ\n"


def test_many_lines_keep_their_ends():
    assert printable_lines("a" * 50 + "b" * 50, 10) == "aaaaa\n...\nbbbbb"


def test_one_line_turns_every_run_of_white_space_into_one_space():
    assert one_line("  a\tb\r\n\n c\u00a0d ") == "a b c d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ok ", "'ok '"),
        ("  ", "'  '"),
        ("", "''"),
        ("a\nb", r"'a\nb'"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
        ("it's", '"it\'s"'),
        ("x" * 50, "'" + "x" * 37 + "...'"),
    ],
)
def test_a_quoted_text_keeps_its_blanks_and_spells_out_what_cannot_be_seen(text, shown):
    assert quoted(text) == shown


def test_a_part_of_a_name_is_near_it():
    assert no_such("fact", "cpu", ["gpu.driver", "cpu.model"]).startswith("no fact 'cpu'; did you mean 'cpu.model'? ")
    assert no_such("fact", "c", ["c.model"]) == "no fact 'c'; available: c.model"


@given(st.text(max_size=200))
def test_a_part_of_a_file_name_names_no_other_folder(text):
    name = file_name(text)
    assert re.fullmatch(r"([a-z0-9_]([a-z0-9._-]*[a-z0-9_])?)?", name)
    assert len(name) <= 60


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("josn", "no format 'josn'; did you mean 'json'? available: table, json"),
        ("JSON", "no format 'JSON'; did you mean 'json'? available: table, json"),
        ("xml", "no format 'xml'; available: table, json"),
        ("\x1b[31m" + "j" * 9999, f"no format '\\x1b[31m{'j' * 29}...'; available: table, json"),
    ],
)
def test_a_word_that_is_none_of_those_available_is_named_with_the_nearest(word, said):
    assert no_such("format", word, ["table", "json"]) == said


@pytest.mark.parametrize(("raw", "text"), [("GPU", "GPU"), (b"GPU", "GPU"), (b"GPU\xff", "GPU\ufffd")])
def test_a_name_that_a_library_gives_as_bytes_is_text_whatever_the_bytes(raw, text):
    assert decoded(raw) == text
