"""What other tools make of a table is read where it can mean only one thing; any other file is named in one line."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import warnings
import zipfile

import pandas as pd
import pytest

from bench_core import load, render
from bench_core.compare import compare, read
from bench_core.render import cost
from bench_core.results import foreign
from bench_core.results.reader import read_rows
from bench_core.results.schema import COLUMNS, KINDS
from bench_core.results.strict_csv import csv_text
from tests.support.table_files import complaint, good_table  # noqa: F401 - a fixture
from tests.support.tables import processes, write

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
    "carriage returns": lambda t: t.replace("\n", "\r"),
    "Unicode text": lambda t: again(t, delimiter="\t").replace("\n", "\r\n").encode("utf-16"),
    "big-endian": lambda t: b"\xfe\xff" + t.encode("utf-16-be"),
    "gzip": lambda t: gzip.compress(t.encode()),
    "bzip2": lambda t: bz2.compress(t.encode()),
    "xz": lambda t: lzma.compress(t.encode()),
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


def test_a_column_without_a_name_that_holds_words_is_left_out_with_a_warning(good):
    rows = read_rows(good)
    header, *lines = good.read_text().splitlines()
    good.write_text("\n".join([f"{header},", *(f"{line},bad run" for line in lines), ""]))
    with pytest.warns(UserWarning, match=rf"^{good}:1: columns without a name are not read: number {WIDTH + 1}$"):
        assert read_rows(good) == rows


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


def zipped(name, content=b""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
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


SPREADSHEET = b"application/vnd.oasis.opendocument.spreadsheet"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (parquet, ": a Parquet file: export the table as CSV"),
        (feather, ": an Arrow or Feather file: export the table as CSV"),
        (database, ": an SQLite database: export the table as CSV"),
        (lambda: bytes(8) + b"DUCK" + bytes(99), ": a DuckDB database: export the table as CSV"),
        (lambda: zipped("[Content_Types].xml"), ": an Excel workbook: save it as CSV UTF-8"),
        (lambda: zipped("mimetype", SPREADSHEET), ": a LibreOffice document: save it as CSV"),
        (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), ": an Excel workbook (.xls): save it as CSV UTF-8"),
        (lambda: zipped("results.csv"), ": a ZIP archive: unpack it"),
        (tarred, ": a tar archive: unpack it"),
        (lambda: b"\x28\xb5\x2f\xfd\x00", ": compressed by zstd: unpack it"),
        (lambda: gzip.compress(b"a,b\n" * 99)[:-9], ": packed by gzip, and damaged: "),
        (lambda: lzma.compress(b"a,b\n" * 99)[:-9], ": packed by lzma, and damaged: "),
        (lambda: gzip.compress(b"RDX3\nX\n"), ": an R workspace: export the table as CSV"),
        (lambda: b"<?xml version='1.0'?>\n<testsuites/>", ":1: the JUnit XML of pytest, not a table: name the folder"),
        (lambda: b'{\n  "machine_info": {"node": "x"}}', ":1: the JSON of pytest-benchmark, which lacks the checks"),
        (lambda: b'[{"schema_version": 1}]', ":1: JSON, not a table: name the folder of the run"),
        (lambda: b"<table><tr></tr></table>", ":1: an HTML table: export the table as CSV"),
        (lambda: csv_text(cost.COLUMNS, []).encode(), ":1: the result of `bench-core cost`, not a table of runs: name"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named(tmp_path, content, said):
    path = tmp_path / "t.csv"
    path.write_bytes(content())
    assert complaint(path).startswith(said)


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
