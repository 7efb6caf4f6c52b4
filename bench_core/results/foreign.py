"""Recognise what other tools make of a table: read what is unambiguous, name anything else in one line.

A file is recognised by its first bytes before it is decoded, then by its first text. This module does not depend on
the schema.
"""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Collection
from pathlib import Path

from bench_core.errors import TableError
from bench_core.files import MOST_BYTES, decoded, read_bytes

# The first bytes of compressed files, and the module of the standard library that unpacks them.
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}

_EXPORT, _UNPACK = "export the table as CSV", "unpack it"
_RUN = "name the folder of the run, or the results.csv in it"
# Offset, bytes there, what the file is, what to do. Of several that match, the first one is right.
_BINARY = (
    (0, b"PAR1", "a Parquet file", _EXPORT),
    (0, b"ARROW1", "an Arrow or Feather file", _EXPORT),
    (0, b"SQLite format 3", "an SQLite database", _EXPORT),
    (8, b"DUCK", "a DuckDB database", _EXPORT),
    (0, b"\x89HDF", "an HDF5 file", _EXPORT),
    (0, b"\x93NUMPY", "an array of NumPy", _EXPORT),
    (0, b"RDX", "an R workspace", _EXPORT),
    (0, b"X\n\x00\x00", "an R object", _EXPORT),
    (0, b"\x80\x04\x95", "a Python pickle", _EXPORT),
    (0, b"\x80\x05\x95", "a Python pickle", _EXPORT),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", "save it as CSV UTF-8"),
    (30, b"mimetypeapplication/vnd.oasis.opendocument", "a LibreOffice document", "save it as CSV"),
    (30, b"[Content_Types].xml", "an Excel workbook", "save it as CSV UTF-8"),
    (30, b"_rels/", "an Excel workbook", "save it as CSV UTF-8"),
    (30, b"xl/", "an Excel workbook", "save it as CSV UTF-8"),
    (0, b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"%PDF-", "a PDF", _RUN),
    (0, b"\x89PNG", "a PNG picture", _RUN),
)

_COMPARED = ("the result of `bench-core compare`, not a table of runs", "name the runs that it was made of")
_PRICED = ("the result of `bench-core cost`, not a table of runs", "name the runs that it was made of")
# How texts begin, in lower case: what the file is, what to do. Of several that match, the first one is right.
_TEXTS = (
    (r"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (r"<!doctype html|<html", "an HTML page, not a table", "of a report, name the run folder; of a site, its raw file"),
    (r"<table", "an HTML table", _EXPORT),
    (r"(<\?xml[^>]*>\s*)?<testsuite", "the JUnit XML of pytest, not a table", _RUN),
    (r"(<\?xml[^>]*>\s*)?<svg", "an SVG picture, not a table", _RUN),
    (r'\{\s*"machine_info"', "the JSON of pytest-benchmark, which lacks the checks and the environment", _RUN),
    (r'\{\s*"schema_version"\s*:\s*\d', "the run.json of a run", "name results.csv in the same folder"),
    (r'\{\s*"head"', "the journal of an unfinished run", "`bench-core run --resume` makes a results.csv of it"),
    (r'\{\s*"noise_version"', "what `bench-core noise` measured", _RUN),
    (r'\{\s*"comparison_version"', *_COMPARED),
    (r'\{\s*"cost_version"', *_PRICED),
    (r"[{\[]", "JSON, not a table", _RUN),
)
# The other tables that bench-core writes, by columns that only they have.
_OWN_TABLES = {
    ("case_id", "process", "round", "seconds"): ("the samples.csv of a run", "name results.csv in the same folder"),
    ("comparison_version",): _COMPARED,
    ("cost_version",): _PRICED,
}
_CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7})( |$)|^={7}$", re.MULTILINE)


def read_table_text(path: Path) -> str:
    """Return the text of a table, which may be packed by gzip, bzip2 or xz, and encoded in UTF-8 or UTF-16.

    Raises TableError for any other file, which says what the file is and what to do, and for one that is larger than
    MOST_BYTES before or after unpacking.
    """
    raw = _unpacked(path, read_bytes(path))
    for offset, magic, what, to_do in _BINARY:
        if raw.startswith(magic, offset):
            raise TableError(path, f"{what}: {to_do}")
    text = decoded(path, raw)
    _refuse(path, text)
    return text


def _unpacked(path: Path, raw: bytes) -> bytes:
    name = next((name for magic, name in _PACKED.items() if raw.startswith(magic)), None)
    if name is None:
        return raw
    try:
        with importlib.import_module(name).open(io.BytesIO(raw)) as file:
            plain: bytes = file.read(MOST_BYTES + 1)
    except ImportError:
        raise TableError(path, f"packed by {name}, which this Python lacks: {_UNPACK}") from None
    except Exception as error:  # noqa: BLE001 - of a damaged file: OSError, EOFError, zlib.error, lzma.LZMAError, ...
        raise TableError(path, f"packed by {name}, and damaged: {error}") from None
    if len(plain) > MOST_BYTES:
        raise TableError(path, f"unpacked, more than the {MOST_BYTES:,} bytes that are read")
    return plain


def _refuse(path: Path, text: str) -> None:
    """Raise TableError for a text that is no table, or one with the markers of a merge conflict."""
    start = text[:4000].lstrip().lower()
    if not start:
        raise TableError(path, "the file is empty", 1)
    for opening, what, to_do in _TEXTS:
        if re.match(opening, start):
            raise TableError(path, f"{what}: {to_do}", 1)
    if conflict := _CONFLICT.search(text):
        raise TableError(path, "a merge conflict marker", text.count("\n", 0, conflict.start()) + 1)


def refuse_own_table(path: Path, header: Collection[str], line: int) -> None:
    """Raise TableError if these are the columns of another table that bench-core writes."""
    for columns, (what, to_do) in _OWN_TABLES.items():
        if all(name in header for name in columns):
            raise TableError(path, f"{what}: {to_do}", line)
