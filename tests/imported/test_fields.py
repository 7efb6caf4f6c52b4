"""JSON of any origin is read field by field, and each problem names the file and the field."""

import pytest

from bench_core.errors import TableError
from bench_core.imported.fields import Node, parsed_number


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": [1, 2', "f.json:1: ends in the middle: it was cut off"),
        ('{"a": 1,,}', "f.json:1: not JSON: "),
        ("[1]", "f.json: JSON, but not an object"),
        ('{"a":' + "[" * 60 + "]" * 60 + "}", "f.json: JSON that is nested more than 40 deep"),
        ('{"a":' * 100_000, "f.json"),
        ('{"a": "x\x01"}', "f.json:1: not JSON: Invalid control character"),
    ],
    ids=range(6),
)
def test_what_is_no_object_is_refused_in_one_line(text, said):
    with pytest.raises(TableError) as raised:
        Node.of_text("f.json", text)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ('"x"', "number", "f.json: a: 'x' is not a number"),
        ("NaN", "number", "f.json: a: nan is not a number that can be measured"),
        ("1e999", "number", "f.json: a: inf is not a number that can be measured"),
        ("9" * 5000, "number", "f.json: a: inf is not a number that can be measured"),
        ("1e-200", "number", "f.json: a: 1e-200 is not a number that can be measured"),
        ("true", "number", "f.json: a: True is not a number"),
        ("-1", "count", "f.json: a: -1 is not a count"),
        ("1.5", "count", "f.json: a: 1.5 is not a count"),
        ("3", "text", "f.json: a: not a text"),
        ('" "', "text", "f.json: a: is empty"),
        ("3", "fields", "f.json: a: not an object"),
        ("null", "text", "f.json: a: is missing"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(value, kind, said):
    node = Node.of_text("f.json", f'{{"a": {value}}}').optional("a")
    with pytest.raises(TableError) as raised:
        getattr(node, kind)
    assert str(raised.value) == said


def test_the_place_of_a_field_in_lists_and_objects_is_named_and_control_characters_in_it_are_shown():
    root = Node.of_text("f.json", r'{"a": [{"b\u202e": [1, {}]}]}')
    (item,) = root["a"]
    first, second = item["b\u202e"]
    assert first.number == 1
    with pytest.raises(TableError, match=r"f.json: a\[0\].b\\u202e\[1\].c: is missing"):
        second["c"]


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1_0", "\u0661", "1e400", "1e-300"])
def test_a_text_that_is_no_number_is_none(text):
    assert parsed_number(text) is None
