"""Terminal output has no line that is too wide, colour only on request, and no control characters from files."""

import re

import pytest

from bench_core import render
from bench_core.render.text_table import columns
from tests.support.hostile import CELL_TEXTS
from tests.support.imaginary_machines import five, hostile, two


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("result", [two, five])
def test_no_line_is_wider_than_the_terminal(width, result):
    assert max(map(columns, render.text(result(), width).split("\n"))) <= width


def test_colour_adds_nothing_but_colour():
    plain, painted = render.text(two(), 100), render.text(two(), 100, colour=True)
    assert "\x1b[32m" in painted
    assert re.sub(r"\x1b\[\d*m", "", painted) == plain


@pytest.mark.parametrize("text", CELL_TEXTS)
def test_a_terminal_gets_no_control_character_from_a_file(text):
    shown = render.text(hostile(text), 100)
    assert all(c == "\n" or c.isprintable() for c in shown)
