"""An answer in each form: numbers as numbers, what is missing empty, and no text that does harm."""

import csv
import io
import json
from collections import namedtuple
from datetime import UTC, date, datetime, time
from decimal import Decimal

from bench_core.render import answer_csv, answer_json, answer_text


class Answer:
    """What a query answers, without the library that computes it."""

    def __init__(self, names, *rows):
        self.names, self._rows = names, rows

    def rows(self):
        return list(self._rows)


NUMBERS = Answer(("text", "number", "truth"), ("a", 1234.56789, True), ("b", None, None), ("", float("nan"), False))


def lines(answer, width=100):
    return list(answer_text(answer, width))


def test_a_table_has_numbers_to_the_right_and_nothing_for_what_is_missing():
    assert lines(NUMBERS) == ["text   number  truth", "─" * 20, "a     1234.57  true", "b", "               false"]


def test_an_answer_without_rows_has_its_names():
    assert lines(Answer(("a", "b")))[0] == "a  b"
    assert answer_csv(Answer(("a", "b"))) == "a,b\n"
    assert answer_json(Answer(("a", "b"))) == "[]\n"


def test_csv_and_json_have_every_digit_and_nothing_for_what_is_missing_or_not_finite():
    assert answer_csv(NUMBERS) == "text,number,truth\na,1234.56789,true\nb,,\n,,false\n"
    assert json.loads(answer_json(NUMBERS))[1:] == [
        {"text": "b", "number": None, "truth": None},
        {"text": "", "number": None, "truth": False},
    ]


def test_values_of_other_types_are_as_json_has_them():
    values = {
        "moment": (datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), "2001-02-03T04:05:06+00:00"),
        "day": (date(2001, 2, 3), "2001-02-03"),
        "hour": (time(4, 5), "04:05:00"),
        "sum": (Decimal(10**30), 10**30),
        "share": (Decimal("0.25"), 0.25),
        "list": ([1, None, float("inf")], [1, None, None]),
        "map": ({"a": [Decimal(1)], 2: "b"}, {"a": [1], "2": "b"}),
        "bytes": (b"\x00\xff", "00ff"),
        "interval": (namedtuple("Arrow", "months days nanoseconds")(0, 150, 1_500_000_000), "P0M150DT1.5S"),
    }
    answer = Answer(tuple(values), tuple(given for given, _ in values.values()))
    plain = {name: expected for name, (_, expected) in values.items()}
    assert json.loads(answer_json(answer)) == [plain]
    (row,) = csv.DictReader(io.StringIO(answer_csv(answer)))
    assert json.loads(row["map"]) == plain["map"]
    assert (row["sum"], row["moment"], row["list"]) == (str(10**30), plain["moment"], "[1, null, null]")


def test_no_text_of_an_answer_does_harm():
    evil = "\x1b]0;owned\x07\u202e=1+1\n\rb"
    answer = Answer((evil, "list", "map"), (evil, [evil], {evil: evil}))
    for text in ("\n".join(lines(answer)), answer_csv(answer), answer_json(answer)):
        assert not {"\x1b", "\x07", "\u202e", "\r"} & set(text)
    assert next(csv.reader(io.StringIO(answer_csv(Answer(("a",), ("=1+1",))).partition("\n")[2]))) == ["'=1+1"]
