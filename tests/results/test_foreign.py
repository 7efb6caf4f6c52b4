"""What other tools make of a table is read where it can mean only one thing; any other file is named in one line."""

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import time
import warnings
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench_core import load, render
from bench_core.compare import compare, read
from bench_core.render import cost
from bench_core.results import foreign
from bench_core.results.reader import read_rows
from bench_core.results.schema import COLUMNS, KINDS, STATISTICS
from bench_core.results.strict_csv import csv_text
from bench_core.results.writer import results_text
from tests.support.table_files import complaint, good_table  # noqa: F401 - a fixture
from tests.support.tables import processes, reading, write

WIDTH = len(COLUMNS)


def again(text, *, delimiter=",", change=lambda record: record, **style):
    """Return a table as another program writes it. change: what it does to each line of cells."""
    out = io.StringIO()
    records = csv.reader(io.StringIO(text))
    csv.writer(out, delimiter=delimiter, lineterminator="\n", **style).writerows(map(change, records))
    return out.getvalue()


def with_pandas(text, **options):
    return pd.read_csv(io.StringIO(text)).to_csv(**options)


def with_row_numbers(text):
    header, *lines = text.splitlines()
    return "\n".join([f'"",{header}', *(f'"{i}",{line}' for i, line in enumerate(lines, start=1)), ""])


def with_decimals(text):
    """Write integers as pandas does in a column with missing values."""
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    integers = [name for name in COLUMNS if KINDS[name] is int]
    return frame.assign(**{name: frame[name].map(lambda cell: cell and f"{cell}.0") for name in integers}).to_csv()


def with_missing_as(word):
    """Write a table as R and DuckDB do: every missing value is a word, truths are upper case."""

    def change(record):
        return [word if not cell else {"true": "TRUE", "false": "FALSE"}.get(cell, cell) for cell in record]

    return lambda text: again(text, change=change)


def with_moments(written):
    return lambda text: text.replace("2001-01-01T00:00:00+00:00", written)


HARMLESS = {
    "pandas": lambda t: with_pandas(t, index=False),
    "pandas with its index": with_pandas,
    "pandas twice": lambda t: with_pandas(with_pandas(t)),
    "row numbers of R": with_row_numbers,
    "empty columns": lambda t: again(t, change=lambda r: [*r, "", ""]),
    "empty columns by pandas": lambda t: with_pandas(again(t, change=lambda r: [*r, "", ""]), index=False),
    "empty cells beyond the header": lambda t: t.replace("\n", ",,\n").replace(",,\n", "\n", 1),
    "empty lines of cells": lambda t: t + 3 * ("," * t.partition("\n")[0].count(",") + "\n"),
    "semicolons": lambda t: again(t, delimiter=";"),
    "tabs": lambda t: again(t, delimiter="\t"),
    "bars, everything in quotes": lambda t: again(t, delimiter="|", quoting=csv.QUOTE_ALL),
    "integers as decimals": with_decimals,
    "R": with_missing_as("NA"),
    "pandas with a word for missing values": lambda t: with_pandas(t, index=False, na_rep="nan"),
    "polars with a word for missing values": with_missing_as("null"),
    "MySQL": with_missing_as(r"\N"),
    "a spreadsheet with errors": with_missing_as("#N/A"),
    "moments of pandas": with_moments("2001-01-01 00:00:00+00:00"),
    "moments of DuckDB": with_moments("2001-01-01 01:00:00+01"),
    "moments of PyArrow": with_moments("2001-01-01 00:00:00.000000000Z"),
    "moments without a zone": with_moments("2001-01-01 00:00:00"),
    "a declared delimiter": lambda t: "sep=;\r\n" + again(t, delimiter=";"),
    "a declared comma": lambda t: "SEP=,\n" + t,
    "a last line of blanks": lambda t: t + "    \n \t \n",
    "many lines above": lambda t: "\n" * 4001 + t,
    "carriage returns": lambda t: t.replace("\n", "\r"),
    "Unicode text": lambda t: again(t, delimiter="\t").replace("\n", "\r\n").encode("utf-16"),
    "big-endian": lambda t: b"\xfe\xff" + t.encode("utf-16-be"),
    "gzip": lambda t: gzip.compress(t.encode()),
    "bzip2": lambda t: bz2.compress(t.encode()),
    "xz": lambda t: lzma.compress(t.encode()),
    "lzma": lambda t: lzma.compress(t.encode(), lzma.FORMAT_ALONE),
    "UTF-32": lambda t: t.encode("utf-32"),
}


@pytest.mark.parametrize("tool", HARMLESS)
def test_what_means_only_one_thing_is_read_without_a_warning(good, tool):
    rows = read_rows(good)
    written = HARMLESS[tool](good.read_text(encoding="utf-8"))
    good.write_bytes(written if isinstance(written, bytes) else written.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_rows(good) == rows
        assert len(load(good)) == len(rows)


def test_a_moment_without_a_zone_is_not_one_of_the_readers_zone(good, monkeypatch):
    rows = read_rows(good)
    good.write_text(with_moments("2001-01-01 00:00:00")(good.read_text()))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert read_rows(good) == rows
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["soon", "2001-01-01", "2001-13-45 00:00:00", "01/02/2001 10:00", "0001-01-01 00:00:00+23:00"]
)
def test_a_moment_in_an_unknown_form_is_kept(good, text):
    good.write_text(with_moments(text)(good.read_text()))
    assert {row.started_at for row in read_rows(good)} == {text}


def test_a_column_without_a_name_that_holds_words_is_left_out_with_a_warning(good):
    rows = read_rows(good)
    header, *lines = good.read_text().splitlines()
    good.write_text("\n".join([f"{header},", *(f"{line},bad run" for line in lines), ""]))
    with pytest.warns(UserWarning, match=rf"^{good}:1: columns without a name are not read: number {WIDTH + 1}$"):
        assert read_rows(good) == rows


def many_rows(path, times):
    """Write a table of one row for each of these times, each in its own run."""
    (row, *_) = reading(processes([1.0])).rows
    rows = [replace(row, run_id=f"r{i}", **dict.fromkeys(STATISTICS, t)) for i, t in enumerate(times)]
    path.write_text(results_text(rows))
    return path


def rounded_to(decimals):
    return lambda path: path.write_text(with_pandas(path.read_text(), index=False, float_format=f"%.{decimals}f"))


@pytest.mark.parametrize(("decimals", "shown"), [(2, "0.02"), (4, "0.0183")])
def test_numbers_with_few_decimals_are_noted_as_rounded(tmp_path, decimals, shown):
    """18.3 ms in seconds are 0.02 then."""
    path = many_rows(tmp_path / "t.csv", [0.0183066 * (1 + i) for i in range(25)])
    rounded_to(decimals)(path)
    with pytest.warns(UserWarning, match=rf"numbers such as {shown} in column 'value' are rounded, as a spreadsheet"):
        assert read_rows(path)[0].value == float(shown)


@pytest.mark.parametrize(
    ("times", "decimals"),
    [
        ([0.0183066 * (1 + i) for i in range(25)], 6),  # enough digits
        ([0.0183066 * (1 + i) for i in range(10)], 4),  # few rows may be short by chance
        ([1000.0 + i for i in range(25)], 4),  # nothing is lost
        ([0.0] * 25, 1),
    ],
)
def test_numbers_that_lose_little_are_not_noted(tmp_path, times, decimals):
    path = many_rows(tmp_path / "t.csv", times)
    rounded_to(decimals)(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_rows(path)) == len(times)


def test_numbers_that_a_spreadsheet_has_rounded_are_noted(good):
    good.write_text(good.read_text().replace(",1000000.0,", ",1.00E+06,"))
    with pytest.warns(UserWarning, match=r"numbers such as 1\.00E\+06 in column 'flops' are rounded, as a spreadsheet"):
        assert read_rows(good)[0].flops == 1e6


@pytest.mark.timeout(60)
def test_a_header_of_100_000_names_is_read_in_linear_time(good):
    """A quadratic search takes many minutes."""
    names = [f"c{i}" for i in range(100_000)]
    rows, known = read_rows(good), good.read_text()
    first, *others = known.splitlines()
    empty = "," * len(names)
    good.write_text("\n".join([f"{first},{','.join(names)}", *(line + empty for line in others), ""]))
    with pytest.warns(UserWarning, match=r"does not know: c0, c1, c2, c3, c4, c5, c6, c7 and 99,992 more$"):
        assert read_rows(good) == rows
    good.write_text(known.replace("\n", empty + "\n"))
    assert read_rows(good) == rows
    good.write_text(",".join(names) + "\n")
    assert complaint(good).startswith(":1: none of the columns of this table is here")


# ---------------------------------------------------------------- other files


def zipped(*names):
    """An archive with these members in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return out.getvalue()


def tarred():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("results.csv"))
    return out.getvalue()


def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a)")
    return connection.serialize()


def parquet():
    pytest.importorskip("pyarrow")
    return pd.DataFrame({"a": [1]}).to_parquet()


def feather():
    pytest.importorskip("pyarrow")
    out = io.BytesIO()
    pd.DataFrame({"a": [1]}).to_feather(out)
    return out.getvalue()


def stream():
    pyarrow = pytest.importorskip("pyarrow")
    out = io.BytesIO()
    table = pyarrow.table({"a": [1]})
    with pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def orc():
    orc = pytest.importorskip("pyarrow.orc")
    out = io.BytesIO()
    orc.write_table(pytest.importorskip("pyarrow").table({"a": [1]}), out)
    return out.getvalue()


def npz():
    out = io.BytesIO()
    np.savez(out, a=np.arange(3))
    return out.getvalue()


WORKBOOK = ("docProps/app.xml", "docProps/core.xml", "xl/workbook.xml", "[Content_Types].xml")  # as openpyxl writes it
KINDS_BY_BYTES = [
    (parquet, "a Parquet file: export the table as CSV"),
    (feather, "an Arrow or Feather file: export the table as CSV"),
    (stream, "an Arrow stream: export the table as CSV"),
    (lambda: b"Obj\x01\x04\x14avro.codec", "an Avro file: export the table as CSV"),
    (database, "an SQLite database: export the table as CSV"),
    (lambda: bytes(8) + b"DUCK" + bytes(99), "a DuckDB database: export the table as CSV"),
    (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file: export the table as CSV"),
    (lambda: b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a MATLAB file: export the table as CSV"),
    (lambda: b"<stata_dta><header><release>118", "a Stata file: export the table as CSV"),
    (lambda: gzip.compress(b"RDX3\nX\n"), "an R workspace: export the table as CSV"),
    *(
        (lambda p=p: pickle.dumps({"a": 1}, protocol=p), "a Python pickle: export the table as CSV")
        for p in range(2, 6)
    ),
    (lambda: zipped(*WORKBOOK), "an Excel workbook: save it as CSV UTF-8"),
    (lambda: zipped("mimetype", "content.xml"), "a LibreOffice document: save it as CSV"),
    (lambda: zipped("Index/Document.iwa"), "a document of Apple Numbers: export the table as CSV"),
    (lambda: zipped("[Content_Types].xml", "word/document.xml"), "a Word document: export the table as CSV"),
    (lambda: zipped("model/data.pkl", "model/version"), "a file of PyTorch: export the table as CSV"),
    (npz, "arrays of NumPy: export the table as CSV"),
    (lambda: zipped("results.csv"), "a ZIP archive: unpack it"),
    (zipped, "an empty ZIP archive"),
    (lambda: zipped(*WORKBOOK)[:-9], "a ZIP archive or a workbook, and damaged (File is not a zip file): get it once"),
    (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "an Excel workbook (.xls): save it as CSV UTF-8"),
    (tarred, "a tar archive: unpack it"),
    (lambda: b"\x28\xb5\x2f\xfd\x00", "compressed by zstd: unpack it"),
    (lambda: b"\x04\x22\x4d\x18\x64", "compressed by lz4: unpack it"),
    (lambda: zlib.compress(b"a,b\n" * 99), "compressed by zlib: unpack it"),
    (lambda: zlib.compress(b"a,b\n" * 99, 9), "compressed by zlib: unpack it"),
    (lambda: b"\x1f\x9d\x90abc", "compressed by compress: unpack it"),
    (lambda: gzip.compress(gzip.compress(b"a,b\n")), "packed by gzip, twice: unpack it"),
    (lambda: gzip.compress(lzma.compress(b"a,b\n")), "packed by lzma, twice: unpack it"),
    (lambda: b"7z\xbc\xaf\x27\x1c\x00", "a 7-Zip archive: unpack it"),
    (lambda: b"Rar!\x1a\x07\x01", "a RAR archive: unpack it"),
    (lambda: gzip.compress(b"a,b\n" * 99)[:-9], "packed by gzip, and damaged: "),
    (lambda: lzma.compress(b"a,b\n" * 99)[:-9], "packed by lzma, and damaged: "),
    (lambda: b"%PDF-1.7\n", "a PDF: name the folder of the run"),
    (lambda: b"\x89PNG\r\n\x1a\n", "a PNG picture: name the folder of the run"),
    (lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG picture: name the folder of the run"),
    (lambda: b"GIF89a\x01", "a GIF picture: name the folder of the run"),
    (lambda: b"RIFF\x24\x00\x00\x00WEBPVP8 ", "a WebP picture: name the folder of the run"),
    (lambda: b"\x7fELF\x02" + bytes(99), "a program: name the folder of the run"),
    (orc, "a binary file of an unknown kind"),
]
KINDS_BY_TEXT = [
    ("<?xml version='1.0'?>\n<testsuites/>", "the JUnit XML of pytest, not a table: name the folder"),
    ("<?xml version='1.0'?><!-- c -->\n<testsuites/>", "the JUnit XML of pytest, not a table: name the folder"),
    ("<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC '-'>", "an HTML page, not a table: of a report, name"),
    ("<!-- saved from url -->\n<html>", "an HTML page, not a table: of a report, name"),
    ("<?xml version='1.0'?>\n<data><row/></data>", "XML, not a table: export the table as CSV"),
    ("<?xml version='1.0'?>\n<svg/>", "an SVG picture, not a table: name the folder of the run"),
    ("<table><tr></tr></table>", "an HTML table: export the table as CSV"),
    ('{\n  "machine_info": {"node": "x"}}', "the output of pytest-benchmark, not a table: `bench-core import"),
    ('{"head": {}}\n', "the journal of an unfinished run: `bench-core run --resume` makes a results.csv of it"),
    ('{"schema_version":1,"run_id":"r"}\n{"schema_version":1}\n', "a table as JSON: export the table as CSV"),
    ('[{"schema_version": 1, "run_id": "r"}]', "a table as JSON: export the table as CSV"),
    ('{"schema_version":{"0":1}}', "a table as JSON: export the table as CSV"),
    ('{"columns":["schema_version"],"data":[[1]]}', "a table as JSON: export the table as CSV"),
    ('[{"a": 1}]', "JSON, not a table: name the folder of the run"),
    ("[a]\nb=1\n", "a file of settings (INI or TOML), not a table: name the folder"),
    ("{\\rtf1\\ansi a}", "a document (RTF), not a table: export the table as CSV"),
    ("| a | b |\n|---|--:|\n| 1 | 2 |\n", "a table in Markdown: export the table as CSV"),
    ("diff --git a/results.csv b/results.csv\n", "a difference (diff), not a file: apply it"),
    ("--- a/results.csv\n+++ b/results.csv\n", "a difference (diff), not a file: apply it"),
    ("-- MySQL dump 10.13\n", "SQL: export the table as CSV"),
    ("--\n-- PostgreSQL database dump\n--\n", "SQL: export the table as CSV"),
    ("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n", "SQL: export the table as CSV"),
    ("name,min,max,mean,stddev,median,iqr,outliers,ops,rounds,iterations\n", "the CSV of pytest-benchmark: save"),
    (csv_text(cost.COLUMNS, []), "the result of `bench-core cost`, not a table of runs: name"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), KINDS_BY_BYTES, ids=[said for _, said in KINDS_BY_BYTES])
def test_a_binary_file_is_named_by_its_bytes(tmp_path, content, said):
    path = tmp_path / "t.csv"
    path.write_bytes(content())
    assert complaint(path).startswith(f": {said}")


@pytest.mark.parametrize(("content", "said"), KINDS_BY_TEXT, ids=[content[:30] for content, _ in KINDS_BY_TEXT])
def test_a_text_of_another_kind_is_named(tmp_path, content, said):
    path = tmp_path / "t.csv"
    path.write_text(content)
    assert complaint(path).startswith(f":1: {said}")
    path.write_text("\n" + content)
    assert complaint(path).startswith(f":2: {said}")


def test_a_table_whose_rows_and_columns_are_swapped_lacks_no_header(good):
    good.write_text(pd.read_csv(good, dtype=str).sample(99, replace=True).reset_index(drop=True).T.to_csv())
    assert complaint(good).startswith(":1: none of the columns of this table is here")


@pytest.mark.parametrize("text", ["{a}\n1\n", "[ a b ], c\n1,2\n", "- a,b\n"])
def test_a_table_of_strangers_is_not_taken_for_json_or_settings(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert complaint(path).startswith(":1: none of the columns of this table is here")


def test_what_compare_shows_is_no_table(tmp_path):
    write(tmp_path / "runs", processes([1.0]), "a")
    write(tmp_path / "runs", processes([2.0]), "b")
    path = tmp_path / "t"
    path.write_text(render.text(compare(read([str(tmp_path / "runs")])), 80))
    assert complaint(path) == ":1: what `bench-core compare` shows, not a table: name the runs that it was made of"


def test_the_other_files_of_bench_core_are_recognised_and_the_right_one_named(tmp_path):
    folders = [write(tmp_path, processes([t]), machine) for machine, t in (("a", 1.0), ("b", 2.0))]
    for name in ("samples.csv", "run.json"):
        assert complaint(folders[0] / name) == f":1: the {name} of a run: name results.csv in the same folder"
    compared = compare(read([str(tmp_path)]))
    path = tmp_path / "t"
    for written in (render.as_csv(compared), render.as_json(compared)):
        path.write_text(written)
        assert complaint(path).startswith(":1: the result of `bench-core compare`, not a table of runs: name the runs")
    path.write_text(json.dumps({"noise_version": 1, "spreads": []}))
    assert complaint(path).startswith(":1: what `bench-core noise` measured: name the folder of the run")


def test_a_packed_file_is_read_up_to_the_limit_of_a_plain_one(good, monkeypatch):
    good.write_bytes(gzip.compress(good.read_bytes() + b"\n" * 100_000))
    assert read_rows(good)
    monkeypatch.setattr(foreign, "MOST_BYTES", 100_000)
    assert complaint(good) == ": unpacked, more than the 100,000 bytes that are read"
