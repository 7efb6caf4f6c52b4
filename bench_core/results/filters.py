"""Parse --filter: comparisons of columns with constants, combined by and, or, not and parentheses.

    workload == 'matmul' and (dtype in ('float32', 'bfloat16') or threads > 1) and not flags == ''

A recursive-descent parser turns the text into a function. The text is never evaluated as Python. Grammar:

    either  := both ("or" both)*
    both    := one ("and" one)*
    one     := "not" one | "(" either ")" | COLUMN comparison
    comparison := ("==" | "!=" | "<" | "<=" | ">" | ">=") constant | ["not"] "in" "(" constant ("," constant)* ")"
    constant := 'text' | "text" | number | true | false | none

An empty cell equals only `none`; `<` and `>` are false for it.
Numbers inside texts are compared by value: '512' < '1024'. So are sizes: '64KiB' < '1MiB'.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from bench_core.errors import UsageError
from bench_core.results.schema import COLUMNS, KINDS, WORDS
from bench_core.results.table import Table
from bench_core.text import no_such, printable, quoted
from bench_core.units import natural, size_order

Predicate = Callable[[Any], bool]  # of a row, or of another record that has the columns
_LONGEST, _DEEPEST = 4000, 50
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'[^']*'|"[^"]*")|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<sign>==|!=|<=|>=|<|>|\(|\)|,))""",
    re.ASCII,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTANTS = {"true": True, "false": False, "none": None}
_KEYWORDS = {"and", "or", "not", "in", *_CONSTANTS}


def parse(text: str, known: Collection[str] = COLUMNS) -> Predicate:
    """Return the filter as a function that returns whether to keep a row; an empty text keeps every row.

    known: the columns that may be asked for. Raises UsageError for a text that is too long or not a filter.
    """
    if not text.strip():
        return lambda _: True
    if len(text) > _LONGEST:
        raise UsageError(f"--filter: {len(text):,} characters, but at most {_LONGEST:,} are allowed")
    return _Parser(text, known).whole()


def selected(rows: Table, text: str) -> Table:
    """Return the rows that a filter keeps. Raises UsageError as `parse` does."""
    return rows.where(parse(text)) if text.strip() else rows


class _Parser:
    """The parser of one filter; it reads the tokens from left to right."""

    def __init__(self, text: str, known: Collection[str]) -> None:
        self._text = text
        self._known = known
        self._tokens = _tokenise(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> Predicate:
        predicate = self._either()
        if self._next < len(self._tokens):
            raise self._error("expected and, or, or the end")
        return predicate

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._accept("word", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._accept("word", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _one(self) -> Predicate:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UsageError(f"--filter: nested more than {_DEEPEST} deep")
        predicate = self._negated_or_grouped()
        self._depth -= 1
        return predicate

    def _negated_or_grouped(self) -> Predicate:
        if self._accept("word", "not"):
            inner = self._one()
            return lambda row: not inner(row)
        if self._accept("sign", "("):
            inner = self._either()
            self._expect("sign", ")")
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        kind, column = self._take()
        if kind != "word" or column in _KEYWORDS:
            raise self._error("expected a column", back=1)
        if column not in self._known:
            raise UsageError(f"--filter: {no_such('column', column, self._known)}")
        get = operator.attrgetter(column)
        negated = self._accept("word", "not")
        if self._accept("word", "in"):
            allowed = self._constants(column)
            return lambda row: (get(row) in allowed) != negated
        kind, sign = self._take()
        if negated or kind != "sign" or sign not in _COMPARE:
            raise self._error("expected ==, !=, <, <=, >, >=, in or not in", back=1)
        compare, constant = _COMPARE[sign], self._constant(column)
        if sign in {"==", "!="}:
            return lambda row: compare(get(row), constant)
        if constant is None:
            raise self._error("none can be compared only with ==, !=, in and not in", back=1)
        if isinstance(constant, str):
            order: Callable[[str], Any] = size_order if column == "size" else natural
            bound = order(constant)
            return lambda row: compare(order(get(row)), bound)
        return lambda row: get(row) is not None and compare(get(row), constant)

    def _constants(self, column: str) -> tuple[Any, ...]:
        self._expect("sign", "(")
        values = [self._constant(column)]
        while self._accept("sign", ","):
            values.append(self._constant(column))
        self._expect("sign", ")")
        return tuple(values)

    def _constant(self, column: str) -> Any:
        kind, text = self._take()
        if kind == "text":
            value: Any = text[1:-1]
        elif kind == "number":
            value = float(text)
        elif kind == "word" and text.lower() in _CONSTANTS:
            value = _CONSTANTS[text.lower()]
        else:
            raise self._error("expected a constant: 'text' in quotes, a number, true, false or none", back=1)
        kinds = {str: (str,), int: (float,), float: (float,), bool: (bool,)}[KINDS[column]]
        if value is not None and not isinstance(value, kinds):
            raise UsageError(f"--filter: column {column!r} holds a {KINDS[column].__name__}, not {printable(text, 40)}")
        if isinstance(value, str) and value not in (words := WORDS.get(column, (value,))):
            raise UsageError(f"--filter: {no_such(column, value, words)}")
        return value

    def _take(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise self._error("the filter is incomplete")
        self._next += 1
        kind, text, _ = self._tokens[self._next - 1]
        return kind, text

    def _accept(self, kind: str, text: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next][:2] == (kind, text):
            self._next += 1
            return True
        return False

    def _expect(self, kind: str, text: str) -> None:
        if not self._accept(kind, text):
            raise self._error(f"expected {text!r}")

    def _error(self, message: str, back: int = 0) -> UsageError:
        place = self._next - back
        where = self._tokens[place][2] if place < len(self._tokens) else len(self._text)
        return UsageError(f"--filter: {message}, at {quoted(self._text[where:], 20)} (character {where + 1})")


# What other languages write, with what is written here.
_MEANT = {"=": "==", "&": "and", "|": "or", "!": "not", "`": "'text' in quotes", "\u2018": "'text' in quotes"}


def _unreadable(tokens: Sequence[tuple[str, str, int]], rest: str, position: int) -> UsageError:
    """Return the error for what cannot be read: a column before it that is none, else its place."""
    kind, word, _ = tokens[-1] if tokens else ("", "", 0)
    if rest.startswith("=") and kind == "word" and word not in COLUMNS:
        return UsageError(f"--filter: {no_such('column', word, COLUMNS)}")
    meant = next((f"; write {said}" for sign, said in _MEANT.items() if rest.startswith(sign)), "")
    return UsageError(f"--filter: cannot read {quoted(rest, 20)} (character {position + 1}){meant}")


def _tokenise(text: str) -> list[tuple[str, str, int]]:
    tokens: list[tuple[str, str, int]] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _unreadable(tokens, text[position:].lstrip(), position)
        tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        position = match.end()
    return tokens
