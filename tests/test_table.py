"""Tables: round trips through every reader, and whatever may be wrong with a file from elsewhere."""

import csv
import io
import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench_core import load, table
from bench_core.csvfile import Csv
from bench_core.errors import TableError
from bench_core.model import SCHEMA_VERSION, Row, Status
from bench_core.table import COLUMNS, KINDS, cell, read_results, read_rows, results_text
from tests.properties import given, settings, st
from tests.tables import processes, reading, work, write

WIDTH = len(COLUMNS)
HOSTILE = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\uff1d1+1",
    "'quoted",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://x\x07link",
    "a\nb\r\nc",
    "nul\0byte",
    'quote " and , comma',
    "\ud800half a pair",
    "\u202eright to left",
    "| table | [link](http://x) `code`",
)


@pytest.fixture
def good(tmp_path):
    """A good table: its path and its text."""
    path = tmp_path / "t.csv"
    path.write_text(results_text(reading(processes([1.0, 1.1])).rows), encoding="utf-8")
    return path


def spoil(path, change):
    """Rewrite a file's text."""
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def complaint(path):
    """What is said of a file: one line that begins with the file."""
    with pytest.raises(TableError) as caught:
        read_rows(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text.removeprefix(str(path))


# ---------------------------------------------------------------- round trips

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.none() | st.integers(-(2**63), 2**63 - 1)
SCALARS = {str: TEXT, float: NUMBER, int: COUNT, bool: st.none() | st.booleans()}
NEEDED = ("run_id", "machine", "case_id", "workload", "backend", "device", "metric", "unit")


def as_written(text):
    """A text as any table holds it: on one line, without control characters."""
    return table._text(cell(text))


@st.composite
def any_rows(draw):
    """Rows with anything in them that a cell may hold."""
    fields = {name: SCALARS[kind] for name, kind in KINDS.items()}
    fields |= dict.fromkeys(NEEDED, TEXT.map(as_written).filter(bool))
    fields["schema_version"] = st.just(SCHEMA_VERSION)
    fields["workload_version"] = st.integers(1, 9)
    fields |= {"better": st.sampled_from(["lower", "higher"]), "status": st.sampled_from([s.value for s in Status])}
    row = st.builds(Row, **{name: s.map(as_written) if KINDS[name] is str else s for name, s in fields.items()})
    return draw(st.lists(row, max_size=4))


@settings(max_examples=60, deadline=None)
@given(any_rows())
def test_what_is_written_is_read(tmp_path_factory, rows):
    """Every float to the last bit, every text but its control characters, every empty cell as None."""
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text(results_text(rows), encoding="utf-8")
    assert read_rows(path) == rows
    frame = read_results(path)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == len(rows)
    for name in ("value", "threads", "git_dirty"):
        assert [None if pd.isna(v) else v for v in frame[name]] == [getattr(row, name) for row in rows]


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


def test_ids_that_look_like_numbers_stay_ids(tmp_path):
    rows = [
        replace(r, case_id="00e1", git_commit="12e45", run_id="0123", size="007")
        for r in reading(processes([1.0])).rows
    ]
    path = tmp_path / "t.csv"
    path.write_text(results_text(rows), encoding="utf-8")
    frame = load(path)
    assert [frame[name][0] for name in ("case_id", "git_commit", "run_id", "size")] == ["00e1", "12e45", "0123", "007"]


# ---------------------------------------------------------------- writing for spreadsheets, terminals, pages


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_runs_in_a_spreadsheet_or_a_terminal(text):
    """A cell begins with no sign that a spreadsheet obeys, and holds no control character."""
    written = cell(text)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))
    assert all(ord(c) >= 0x20 and not 0x7F <= ord(c) < 0xA0 for c in written)
    written.encode("utf-8")


@pytest.mark.parametrize("name", [n for n in COLUMNS if KINDS[n] is str and n not in {"better", "status"}])
def test_every_column_of_text_is_guarded(tmp_path, name):
    (row, *_) = reading(processes([1.0])).rows
    path = tmp_path / "t.csv"
    path.write_text(results_text([replace(row, **{name: "=1+1"})]), encoding="utf-8")
    with path.open(encoding="utf-8", newline="") as file:
        (record,) = csv.DictReader(file)
    assert record[name] == "'=1+1"
    assert getattr(read_rows(path)[0], name) == "=1+1"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_not_written(value):
    with pytest.raises(ValueError, match="not finite"):
        cell(value)


# ---------------------------------------------------------------- files from elsewhere


def line(number, change):
    """Change one line (counted from 1) of a text."""

    def spoiled(text):
        lines = text.split("\n")
        lines[number - 1] = change(lines[number - 1])
        return "\n".join(lines)

    return spoiled


def cells(number, **changed):
    """Change cells of one line."""

    def change(text):
        lines = list(csv.DictReader(io.StringIO(text)))
        for name, value in changed.items():
            lines[number - 2][name] = value
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return out.getvalue()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: "", ":1: the file is empty"),
        (lambda t: "\n \n", ":1: the file is empty"),
        (line(2, lambda s: s + ",extra"), f":2: {WIDTH + 1} cells where the header has {WIDTH}"),
        (line(3, lambda s: s.rpartition(",")[0]), f":3: {WIDTH - 1} cells where the header has {WIDTH}"),
        (lambda t: t[: len(t) - 60], "; the file may be cut off"),
        (lambda t: t[: len(t) // 3].rpartition("\n")[0] + '\n"half a', ":2: unexpected end of data"),
        (lambda t: t.replace(",", ";"), ":1: cells are separated by semicolons: this table needs commas"),
        (lambda t: t.replace(",", "\t"), ":1: cells are separated by tabs: this table needs commas"),
        (line(1, lambda s: s.replace("case_id", "machine")), ":1: column 'machine' stands twice"),
        (line(1, lambda s: s.replace("case_id", "id")), ":1: column 'case_id' is missing: not this table, or damaged"),
        (lambda t: "a,b\n1,2\n", ":1: column 'schema_version' is missing (and "),
        (lambda t: t + t, ":4: the header again: name the files one by one, do not join them"),
        (line(2, lambda s: f"<<<<<<< HEAD\n{s}\n=======\n{s}\n>>>>>>> other"), ":2: a merge conflict marker"),
        (line(3, lambda s: s.replace("numpy", "num\0py")), ":3: holds a NUL byte: damaged, or not text"),
        (line(3, lambda s: s.replace("numpy", "n" * 200_000)), ":3: field larger than field limit (131072)"),
        (line(2, lambda s: "9" + s[1:]), ":2: schema version 9: this bench-core reads up to 1"),
        (line(3, lambda s: "0" + s[1:]), ":3: schema version 0 among rows of version 1"),
        (line(2, lambda s: s[1:]), ":2: the schema version is empty"),
        (lambda t: "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ":1: a Git LFS pointer"),
        (lambda t: "<!DOCTYPE html><html></html>", ":1: an HTML page, not a table"),
        (lambda t: '{"rows": []}', ":1: JSON, not a table"),
        (cells(3, value="nan"), ":3: column 'value' holds 'nan': not a finite number; a missing"),
        (cells(3, value="1e999"), ":3: column 'value' holds '1e999': not a finite number"),
        (cells(2, value="1,5"), ":2: column 'value' holds '1,5': not a number"),
        (cells(2, value="1_000"), ":2: column 'value' holds '1_000': not a number"),
        (cells(2, value="\x1b[31m1"), ":2: column 'value' holds '?[31m1': not a number"),
        (cells(3, n="1.5"), ":3: column 'n' holds '1.5': not an integer"),
        (cells(3, n="9" * 25), ":3: column 'n' holds '9999999999999999999999999': not an integer"),
        (cells(3, n="\uff19"), ":3: column 'n' holds '\uff19': not an integer"),
        (cells(3, git_dirty="maybe"), ":3: column 'git_dirty' holds 'maybe': neither true nor false"),
        (cells(3, status="fine"), ":3: column 'status' holds 'fine', which is none of: ok, skipped"),
        (cells(3, better="faster"), ":3: column 'better' holds 'faster', which is none of: lower, higher"),
        (cells(2, case_id=""), ":2: column 'case_id' is empty"),
    ],
)  # fmt: skip
def test_a_fault_is_one_line_with_its_place(good, change, said):
    spoil(good, change)
    assert said in complaint(good)


def test_bytes_that_are_no_text_are_named_by_line(good):
    good.write_bytes(good.read_bytes().replace(b"numpy", b"n\xffmpy", 1))
    assert complaint(good) == ":2: is not UTF-8 text"
    good.write_bytes("a,b".encode("utf-16"))
    assert complaint(good) == ":1: is UTF-16: save it as UTF-8"


def test_paths_that_are_no_table_are_named(tmp_path):
    assert complaint(tmp_path / "nothing.csv") == ": no such file or folder"
    assert complaint(tmp_path) == ": not a file"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert complaint(pipe) == ": not a file"


def test_what_a_spreadsheet_changes_without_harm_is_read(good):
    """A byte order mark, CR LF, capital booleans, blank lines, no last line feed: nothing is lost."""
    rows = read_rows(good)
    spoil(good, lambda t: "\ufeff" + t.replace(",false,", ",FALSE,").replace("\n", "\r\n") + "\r\n\r\n")
    assert read_rows(good) == rows
    spoil(good, lambda t: t.strip())
    with pytest.warns(UserWarning, match=r"t\.csv:3: the last line has no end: the file may be cut off"):
        assert read_rows(good) == rows


def test_columns_in_another_order_are_read(good):
    rows = read_rows(good)
    pd.read_csv(good, dtype=str, keep_default_na=False)[list(reversed(COLUMNS))].to_csv(good, index=False)
    assert read_rows(good) == rows


def test_unknown_columns_are_kept_and_warned_of(good):
    frame = pd.read_csv(good, dtype=str, keep_default_na=False)
    frame["later"] = "x"
    frame.to_csv(good, index=False)
    with pytest.warns(UserWarning, match=r"t\.csv:1: columns that this version does not know: later"):
        assert load(good)["later"].tolist() == ["x", "x"]


def test_columns_added_later_may_be_absent(good):
    pd.read_csv(good, dtype=str, keep_default_na=False).drop(columns=["library", "device_name"]).to_csv(
        good, index=False
    )
    assert {row.library for row in read_rows(good)} == {""}


def test_an_older_schema_migrates(good, monkeypatch):
    """A step per version; a version without a step is refused."""
    rows = read_rows(good)
    spoil(good, lambda t: t.replace("\n1,", "\n0,").replace("case_id", "case", 1))
    monkeypatch.setattr(table, "COLUMNS", tuple(n for n in COLUMNS if n != "case_id"))
    assert ":2: schema version 0 is not known" in complaint(good)
    monkeypatch.setattr(table, "COLUMNS", COLUMNS)

    def rename(old: Csv) -> Csv:
        header = tuple("case_id" if name == "case" else name for name in old.header)
        return Csv(old.path, header, [["1", *record[1:]] for record in old.records], old.lines)

    monkeypatch.setitem(table.MIGRATIONS, 0, rename)
    monkeypatch.setattr(table, "_ADDED_LATER", frozenset({"case_id"}))
    assert read_rows(good) == rows


# ---------------------------------------------------------------- folders


def test_links_inside_a_folder_are_not_followed(tmp_path):
    """A folder from somebody else must not choose which files of this machine are read."""
    secret = write(tmp_path / "elsewhere", processes([1.0]), "secret")
    write(tmp_path / "given", processes([1.0]), "a")
    (tmp_path / "given" / "b").mkdir()
    (tmp_path / "given" / "b" / "results.csv").symlink_to(secret / "results.csv")
    (tmp_path / "given" / "c").symlink_to(secret, target_is_directory=True)
    (tmp_path / "given" / "loop").symlink_to(tmp_path / "given", target_is_directory=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = table.find_results(tmp_path / "given")
    assert [path.parts[-3] for path in found] == ["a"]
    assert sum("is not followed" in str(w.message) for w in caught) == 3
    assert table.find_results(tmp_path / "given" / "c") == [tmp_path / "given" / "c" / "results.csv"]


def test_unfinished_runs_are_read_only_where_they_are_named(tmp_path):
    """They would be pooled in silence with the runs that were merged."""
    done = write(tmp_path, processes([1.0]), "a") / "results.csv"
    parts = [write(tmp_path / "unfinished" / "s" / name, processes([1.0])) / "results.csv" for name in ("000", "001")]
    assert table.find_results(tmp_path) == [done]
    assert table.find_results(tmp_path / "unfinished") == parts
    assert table.find_results(parts[0].parent) == parts[:1]
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(TableError) as caught:
        table.find_results(tmp_path)
    left_out = f"but in {tmp_path}/unfinished, which is read only if it is named"
    assert str(caught.value) == f"{tmp_path}: no results.csv here {left_out}"


def test_a_folder_without_tables_is_an_error(tmp_path):
    with pytest.raises(TableError, match=r"no results\.csv here"):
        table.find_results(tmp_path)


# ---------------------------------------------------------------- the run's own files


def test_a_run_is_written_whole(tmp_path):
    folder = write(tmp_path, processes([1.0, 2.0]))
    about = json.loads((folder / "run.json").read_text())
    for name in ("results.csv", "samples.csv"):
        text = (folder / name).read_text()
        assert about["files"][name] == {"sha256": table.digest(text), "rows": text.count("\n") - 1}
    assert sorted(path.name for path in folder.iterdir()) == ["results.csv", "run.json", "samples.csv"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    table.write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        table.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in Path(tmp_path).iterdir()] == ["t.csv"]
