"""Pandas, PyArrow, Polars and DuckDB see in a table what was written; each is asked where it is installed."""

from dataclasses import replace

import pandas as pd
import pytest

from bench_core.results.schema import COLUMNS, KINDS
from bench_core.results.strict_csv import cell
from bench_core.results.writer import results_text
from tests.support.any_rows import any_rows
from tests.support.properties import given, settings
from tests.support.tables import processes, reading, work


def with_pandas(path):
    frame = pd.read_csv(path, dtype={"git_commit": str, "case_id": str})
    return (
        frame["value"].tolist(),
        frame["case_id"].tolist(),
        frame["git_commit"].tolist(),
        frame["reason"].isna().tolist(),
    )


def with_pyarrow(path):
    pyarrow, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
    convert = csv.ConvertOptions(column_types={"git_commit": pyarrow.string()})
    read = csv.read_csv(path, convert_options=convert)
    plain = read.to_pydict()
    return plain["value"], plain["case_id"], plain["git_commit"], [not text for text in plain["reason"]]


def with_polars(path):
    polars = pytest.importorskip("polars")
    read = polars.read_csv(path, schema_overrides={"git_commit": polars.String})
    return (
        read["value"].to_list(),
        read["case_id"].to_list(),
        read["git_commit"].to_list(),
        read["reason"].is_null().to_list(),
    )


def with_duckdb(path):
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(
        f"select value, case_id, git_commit, reason is null from read_csv('{path}', types={{'git_commit': 'VARCHAR'}})"
    )
    return tuple(map(list, zip(*found.fetchall(), strict=True)))


@pytest.mark.parametrize("reader", [with_pandas, with_pyarrow, with_polars, with_duckdb])
def test_other_readers_see_the_same_numbers(tmp_path, reader):
    """Values come back to the last bit, ids as texts, empty cells as missing."""
    rows = [
        replace(r, git_commit="00e1234")
        for r in reading([*processes([0.1, 1 / 3]), *processes([1e-9, 1e5], work("2"))]).rows
    ]
    path = tmp_path / "t.csv"
    path.write_text(results_text(rows), encoding="utf-8")
    values, ids, commits, empty = reader(path)
    assert values == [row.value for row in rows]
    assert ids == [row.case_id for row in rows]
    assert commits == ["00e1234"] * len(rows)
    assert empty == [True] * len(rows)


def pandas_columns(path):
    types = schema(str="string", float="Float64", int="Int64", bool="boolean")
    frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    return {name: [None if pd.isna(v) else v for v in frame[name]] for name in COLUMNS}


def pyarrow_columns(path):
    pyarrow, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
    types = schema(str=pyarrow.string(), float=pyarrow.float64(), int=pyarrow.int64(), bool=pyarrow.bool_())
    convert = csv.ConvertOptions(column_types=types, null_values=[""])
    return csv.read_csv(path, convert_options=convert).to_pydict()


def polars_columns(path):
    polars = pytest.importorskip("polars")
    types = schema(str=polars.String, float=polars.Float64, int=polars.Int64, bool=polars.Boolean)
    return polars.read_csv(path, schema=types).to_dict(as_series=False)


def duckdb_columns(path):
    duckdb = pytest.importorskip("duckdb")
    types = schema(str="VARCHAR", float="DOUBLE", int="BIGINT", bool="BOOLEAN")
    found = duckdb.read_csv(str(path), dtype=types, header=True, delimiter=",", quotechar='"', escapechar='"')
    return dict(zip(found.columns, map(list, zip(*found.fetchall(), strict=True)), strict=True))


def schema(**types):
    """Return the type of every column, given a reader's names of Python's types."""
    return {name: types[kind.__name__] for name, kind in KINDS.items()}


@pytest.mark.parametrize("columns_of", [pandas_columns, pyarrow_columns, polars_columns, duckdb_columns])
@settings(max_examples=25, deadline=None)
@given(rows=any_rows().filter(bool))
def test_any_table_comes_back_from_every_reader(tmp_path_factory, columns_of, rows):
    """Told the types: numbers to the last bit, truths, empty cells as missing, texts as their cells were written."""
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(results_text(rows), encoding="utf-8")
    columns = columns_of(path)
    assert tuple(columns) == COLUMNS
    for name, values in columns.items():
        written = [getattr(row, name) for row in rows]
        if KINDS[name] is str:
            assert [value or "" for value in values] == [cell(text) for text in written]
        else:
            assert [None if value is None else KINDS[name](value) for value in values] == written
