"""Markup in text from files has no effect in Markdown output."""

import re

import pytest

from bench_core import render
from bench_core.render.markdown import inert
from tests.support.hostile import CELL_TEXTS
from tests.support.imaginary_machines import hostile


@pytest.mark.parametrize("text", CELL_TEXTS)
def test_markdown_from_a_file_stays_text(text):
    """Text that is not plain is put into a code span, where HTML, links, mentions and cell borders have no effect."""
    shown = render.markdown(hostile(text))
    outside = re.sub(r"`[^`]*`", "", shown)
    assert not re.search(r"<(?!br>)|\]\(|@|//", outside)
    rows = [line for line in shown.split("\n") if line.startswith("|")]
    assert rows
    assert {row.count("|") for row in rows} <= {4, 3, 5, 7}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("matmul 64 float32", "matmul 64 float32"),
        ("a|b", "`a¦b`"),
        ("`x`", "`'x'`"),
        ("@someone", "`@someone`"),
        ("http://x", "`http://x`"),
        ("a__b__", "`a__b__`"),
        ("", ""),
    ],
)
def test_inert_puts_text_that_is_not_plain_into_a_code_span(text, shown):
    assert inert(text) == shown
