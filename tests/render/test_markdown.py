"""Markup in text from files has no effect in Markdown; a comment on GitHub is folded, and not longer than it may be."""

import re
from html.parser import HTMLParser

import pytest

from bench_core import render
from bench_core.compare import compare
from bench_core.render.markdown import LONGEST_COMMENT, inert
from tests.support.comparisons import FIVE
from tests.support.hostile import CELL_TEXTS
from tests.support.imaginary_machines import hostile, two
from tests.support.tables import processes, reading, work


@pytest.mark.parametrize("write_down", [render.markdown, render.github])
@pytest.mark.parametrize("text", [*CELL_TEXTS, "@someone, see GH-1 and owner/name#1", "</details>"])
def test_markdown_from_a_file_stays_text(text, write_down):
    """Text that is not plain is put into a code span, where HTML, links, mentions and cell borders have no effect."""
    shown = write_down(hostile(text))
    outside = re.sub(r"`[^`]*`", "", shown)
    assert not re.search(r"<(?!br>|/?details>|/?summary>)|\]\(|@|//|GH-|#\d", outside)
    assert outside.count("<details>") == outside.count("</details>")
    rows = [line for line in shown.split("\n") if line.startswith("|")]
    assert rows
    assert {row.count("|") for row in rows} <= {4, 3, 5, 7}


class Folded(HTMLParser):
    """The summaries of the folded parts, and the text outside of them."""

    def __init__(self, text):
        super().__init__()
        self.depth, self.summaries, self.open, self.in_summary = 0, [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.depth += tag == "details"
        self.in_summary = tag == "summary"

    def handle_endtag(self, tag):
        self.depth -= tag == "details"
        self.in_summary = False

    def handle_data(self, data):
        if self.in_summary:
            self.summaries.append(data)
        elif not self.depth:
            self.open += data


def test_a_comment_shows_the_verdict_and_the_gates_and_folds_the_rest():
    shown = Folded(render.github(two()))
    assert shown.open.startswith("**FAILED missing: 3 of 7 cases without a comparable value any more: ")
    assert "- box-b is 2.00x faster than box-a (1.95x to 2.05x), geometric mean over 4 of 7 " in shown.open
    assert "|" not in shown.open
    assert shown.summaries == [
        "time (wall clock): 4 rows",
        "Best GPU against best CPU: 2 rows",
        "Not compared",
        "Notes",
        "Environment differences",
        "Read: 4 rows",
    ]
    assert shown.depth == 0


def many(cases, slower):
    """Two machines with this many cases, of which those in `slower` are slower on the second."""
    sizes = range(10, 10 + cases)
    of_a = [m for n in sizes for m in processes(FIVE, work(str(n)))]
    of_b = [m for n in sizes for m in processes([2 * t if n in slower else t for t in FIVE], work(str(n)))]
    return compare([reading(of_a, "a"), reading(of_b, "b")])


@pytest.mark.parametrize("longest", [3_000, 5_000])
def test_a_comment_that_is_too_long_loses_rows_without_a_change_first_and_says_how_many(longest):
    result = many(60, {40, 69})
    whole, cut = render.github(result, 10**6), render.github(result, longest)
    assert len(cut) <= longest < len(whole)
    rows = [line for line in cut.split("\n") if line.startswith("| matmul")]
    assert 10 < len(rows) < 60
    assert f"{60 - len(rows)} rows are left out; claimed changes are kept first: `--format` md shows all" in cut
    assert sum("| slower (1) |" in row for row in rows) == 2
    assert "matmul 69" in rows[-1], "rows keep their order"


def test_a_comment_always_fits_and_the_verdict_stays():
    result = many(20, set())
    for longest in range(300, len(render.github(result)), 500):
        cut = render.github(result, longest)
        assert len(cut) <= longest
        assert cut.startswith("**b is claimed to be the same as a in ")
        assert "left out" in cut
    assert len(render.github(many(3, set()))) < LONGEST_COMMENT


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("matmul 64 float32", "matmul 64 float32"),
        ("a|b", "`a¦b`"),
        ("`x`", "`'x'`"),
        ("@someone", "`@someone`"),
        ("http://x", "`http://x`"),
        ("a__b__", "`a__b__`"),
        ("huge_pages", "huge_pages"),
        ("_a_", "`_a_`"),
        ("fixes GH-1", "`fixes GH-1`"),
        (":tada:", "`:tada:`"),
        (":+1: and :-1:", "`:+1: and :-1:`"),
        ("12:30:45", "`12:30:45`"),
        ("", ""),
        ("bench-core run --runs 5 on each", "bench-core run `--runs` 5 on each"),
        ("as before (--format md)", "as before (`--format` md)"),
        ("--runs @someone", "`--runs @someone`"),
        ("a --_b_ c", "`a --_b_ c`"),
        ("a--b", "`a--b`"),
    ],
)
def test_inert_puts_text_that_is_not_plain_into_a_code_span(text, shown):
    assert inert(text) == shown
