"""A table that was read makes a row when somebody asks for it, once, and answers for all rows without any."""

from dataclasses import replace

import pytest

from bench_core.records import Row
from bench_core.results.reader import read_table
from bench_core.results.table import Table
from tests.support.table_files import good_table  # noqa: F401 - a fixture
from tests.support.tables import processes, reading, work


@pytest.fixture(name="both")
def a_table_read_and_one_made_of_its_rows(good):
    read = read_table(good)[1]
    return read, Table.of(list(read_table(good)[1]))


@pytest.fixture(name="made")
def numbers_of_rows_that_are_made(monkeypatch):
    made = []
    of_columns = Row.of_columns
    monkeypatch.setattr(Row, "of_columns", lambda columns, size: made.append(size) or of_columns(columns, size))
    return made


def test_what_is_asked_of_all_rows_makes_none(good, made):
    table = read_table(good)[1]
    is_time = table.mask("metric", "time".__eq__)
    assert table.only(is_time).distinct("metric", "unit") == [("time", "s")]
    assert table.only(is_time).numbers("value").tolist() == table.only(is_time).cells("value")
    assert len(table.of_machines(["x"], table.groups(("machine",))[1])) == len(table)
    assert not made


def test_a_row_is_made_once_whichever_part_of_the_table_is_asked_for_it(good, made):
    table = read_table(good)[1]
    few = table.only(table.mask("metric", "time".__eq__))
    first = list(few)
    assert made == [len(few)]
    assert [row for row in table if row.metric == "time"] == first
    assert all(any(row is one for row in table) for one in first)
    assert sum(made) == len(table)


def test_a_table_of_columns_and_one_of_rows_answer_alike(both):
    read, of_rows = both
    assert read == of_rows
    assert read == tuple(of_rows)
    for ask in (
        lambda table: table.groups(("metric", "clock"))[0],
        lambda table: table.groups(("metric", "clock"))[1].tolist(),
        lambda table: table.only(table.mask("clock", "wall".__eq__)).cells("value"),
        lambda table: table.where(lambda row: row.metric == "time").numbers("p10").tolist(),
        lambda table: [row.machine for row in table.of_machines(["x"], table.groups(("machine",))[1])],
        lambda table: next(iter(table[1:])),
        lambda table: table.place(table[1]),
    ):
        assert ask(read) == ask(of_rows)


def test_only_the_machine_is_another_under_another_name(both):
    for table in both:
        part = table.only(table.mask("metric", "time".__eq__))
        named = part.of_machines(["x"], part.groups(("machine",))[1])
        assert list(named) == [replace(row, machine="x") for row in part]
        assert {row.machine for row in part} != {"x"}


def test_rows_of_a_file_are_distinct_and_those_that_somebody_put_together_may_not_be(both):
    read, of_rows = both
    assert read.are_distinct
    assert not of_rows.are_distinct


def test_a_row_keeps_its_line_in_a_part_of_the_table():
    whole = replace(reading([*processes([1.0]), *processes([1.0], of=work("32"))]), lines=tuple(range(2, 99)))
    last = whole.only(whole.rows.mask("size", "32".__eq__))
    assert [last.place(row) for row in last.rows] == [whole.place(row) for row in whole.rows if row.size == "32"]


def test_rows_are_made_in_batches_that_fit_in_a_cache_and_are_the_same(good, made, monkeypatch):
    at_once = list(read_table(good)[1])
    monkeypatch.setattr("bench_core.results.table._BATCH", 1)
    assert list(read_table(good)[1]) == at_once
    assert made == [2, 1, 1]
