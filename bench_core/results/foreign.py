"""Recognise what other tools make of a table: read what is unambiguous, name anything else in one line.

A file is recognised by its first bytes before it is decoded, then by its first text. This module does not depend on
the schema.
"""

from __future__ import annotations

import importlib
import io
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from bench_core.errors import TableError
from bench_core.files import MOST_BYTES, decoded, read_bytes
from bench_core.text import printable

# The first bytes of compressed files, and the module of the standard library that unpacks them.
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma", b"]\x00\x00": "lzma"}

_EXPORT, _EXCEL, _UNPACK = "export the table as CSV", "save it as CSV UTF-8", "unpack it"
_RUN = "name the folder of the run, or the results.csv in it"
_PICKLES = tuple((0, bytes([0x80, protocol]), "a Python pickle", _EXPORT) for protocol in range(2, 6))
# Offset, bytes there, what the file is, what to do. Of several that match, the first one is right.
_BINARY = (
    (0, b"PAR1", "a Parquet file", _EXPORT),
    (0, b"ARROW1", "an Arrow or Feather file", _EXPORT),
    (0, b"\xff\xff\xff\xff", "an Arrow stream", _EXPORT),
    (0, b"Obj\x01", "an Avro file", _EXPORT),
    (0, b"SQLite format 3", "an SQLite database", _EXPORT),
    (8, b"DUCK", "a DuckDB database", _EXPORT),
    (0, b"\x89HDF", "an HDF5 file", _EXPORT),
    (0, b"\x93NUMPY", "an array of NumPy", _EXPORT),
    (0, b"MATLAB ", "a MATLAB file", _EXPORT),
    (0, b"<stata_dta>", "a Stata file", _EXPORT),
    (0, b"RDX", "an R workspace", _EXPORT),
    (0, b"X\n\x00\x00", "an R object", _EXPORT),
    *_PICKLES,
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", _EXCEL),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", _UNPACK),
    (0, b"x\x9c", "compressed by zlib", _UNPACK),
    (0, b"x\xda", "compressed by zlib", _UNPACK),
    (0, b"\x1f\x9d", "compressed by compress", _UNPACK),
    *((0, magic, f"packed by {name}, twice", _UNPACK) for magic, name in _PACKED.items()),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"%PDF-", "a PDF", _RUN),
    (0, b"\x89PNG", "a PNG picture", _RUN),
    (0, b"\xff\xd8\xff", "a JPEG picture", _RUN),
    (0, b"GIF8", "a GIF picture", _RUN),
    (8, b"WEBP", "a WebP picture", _RUN),
    (0, b"\x7fELF", "a program", _RUN),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # of an empty one: the second
# A name of a member of a ZIP archive, what the archive is then, what to do.
_ZIPPED = (
    (r"xl/.*", "an Excel workbook", _EXCEL),
    (r"content\.xml", "a LibreOffice document", "save it as CSV"),
    (r"Index/.*\.iwa", "a document of Apple Numbers", _EXPORT),
    (r"word/.*", "a Word document", _EXPORT),
    (r"([^/]*/)?data\.pkl", "a file of PyTorch", _EXPORT),
    (r".*\.npy", "arrays of NumPy", _EXPORT),
    (r".*", "a ZIP archive", _UNPACK),
)

_COMPARED = ("the result of `bench-core compare`, not a table of runs", "name the runs that it was made of")
_PRICED = ("the result of `bench-core cost`, not a table of runs", "name the runs that it was made of")
# The programs whose output `bench-core import` reads.
TOOLS = ("pytest-benchmark", "google-benchmark", "nvbench", "babelstream", "nvbandwidth")
_IMPORT = "`bench-core import FILE -o results` makes a table of it"
_PROLOG = re.compile(r"(<\?xml[^>]*>|<!--.*?-->|\s)*", re.DOTALL)  # what may stand before the first tag
# How texts begin, after a prolog of XML and in lower case: what the file is, what to do. Of several that match, the
# first one is right.
_TEXTS = (
    (r"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (r"<!doctype html|<html", "an HTML page, not a table", "of a report, name the run folder; of a site, its raw file"),
    (r"<table", "an HTML table", _EXPORT),
    (r"<testsuite", "the JUnit XML of pytest, not a table", _RUN),
    (r"<svg|<!doctype svg", "an SVG picture, not a table", _RUN),
    (r"<[a-z!?]", "XML, not a table", _EXPORT),
    (r'\[?\s*\{\s*"schema_version"\s*:\s*(\d+\s*,\s*"run_id"|[\[{])', "a table as JSON", _EXPORT),
    (r'\{\s*"(columns|schema)"\s*:\s*[\[{].*"schema_version"', "a table as JSON", _EXPORT),
    (r'\{\s*"schema_version"\s*:\s*\d', "the run.json of a run", "name results.csv in the same folder"),
    (r'\{\s*"head"', "the journal of an unfinished run", "`bench-core run --resume` makes a results.csv of it"),
    (r'\{\s*"noise_version"', "what `bench-core noise` measured", _RUN),
    (r'\{\s*"comparison_version"', *_COMPARED),
    (r'\{\s*"cost_version"', *_PRICED),
    (r'\{\s*("|\}|$)|\[\s*(["{\[\]\d-]|null|true|false|$)', "JSON, not a table", _RUN),
    (r"\[[^\]\n]+\]\s*(\n|$)", "a file of settings (INI or TOML), not a table", _RUN),
    (r"\{\\rtf", "a document (RTF), not a table", _EXPORT),
    (r"\|[^\n]*\|\s*\n\|[\s:|-]+\|\s*(\n|$)", "a table in Markdown", _EXPORT),
    (r"diff --git |--- a/", "a difference (diff), not a file", "apply it, or name the whole file"),
    (r"--( [^\n]*)?\n|pragma foreign_keys|begin transaction;|create table |insert into ", "SQL", _EXPORT),
    (r"(## )?verdict\s*\n", "what `bench-core compare` shows, not a table", "name the runs that it was made of"),
)
# The other tables of bench-core, and that of pytest-benchmark, by columns that only they have.
_OTHER_TABLES = {
    ("case_id", "process", "round", "seconds"): ("the samples.csv of a run", "name results.csv in the same folder"),
    ("comparison_version",): _COMPARED,
    ("cost_version",): _PRICED,
    ("name", "stddev", "iqr", "outliers"): (
        "the CSV of pytest-benchmark",
        "save its JSON (--benchmark-json), of which `bench-core import` makes a table",
    ),
}
# How the output of each program begins as JSON, and the fields that it has, in whatever order.
_JSON_OF_TOOLS = (
    ("pytest-benchmark", r'"machine_info"', {"machine_info", "benchmarks"}),
    ("google-benchmark", r'"context"', {"context", "benchmarks"}),
    ("nvbench", r'"meta"\s*:\s*\{\s*"argv"|"devices"\s*:\s*\[\s*\{\s*"id"', {"devices", "benchmarks"}),
    ("nvbandwidth", r'"nvbandwidth"', {"nvbandwidth"}),
)
# A line of each as text; what a job has printed may stand before it.
_TEXT_OF_TOOLS = (
    ("nvbench", r"\s*Benchmark,Device,Device Name,"),
    ("babelstream", r"(?s:.*?)^(BabelStream\s*$|(phase|function)(\W+)(num_times|n_elements)\b)"),
    ("nvbandwidth", r"(?s:.*?)^(nvbandwidth Version: |Running \w+_(memcpy|latency|copy)\w*\.\s*$)"),
)
_LOOKED_AT = 4000  # characters at the beginning of a text by which its kind is told
_CONFLICT = re.compile(r"^(<{7}|>{7}|\|{7})( |$)|^={7}$", re.MULTILINE)
_MARKERS = tuple(7 * sign for sign in "<>|=")


def read_table_text(path: Path) -> str:
    """Return the text of a table, which may be packed by gzip, bzip2 or xz, and encoded as `files.decoded` reads.

    Raises TableError for any other file, which says what the file is and what to do, and for one that is larger than
    MOST_BYTES before or after unpacking.
    """
    text = decoded(path, unpacked(path, read_bytes(path)))
    _refuse(path, text)
    return text


def tool_of(text: str) -> str:
    """Return which of TOOLS has written a text, "" if none has.

    JSON that was cut off is recognised by its beginning.
    """
    start = text.lstrip()[:_LOOKED_AT]
    if not start.startswith("{"):
        return next((tool for tool, line in _TEXT_OF_TOOLS if re.match(line, start, re.MULTILINE)), "")
    begun = (tool for tool, opening, _ in _JSON_OF_TOOLS if re.match(rf"\{{\s*({opening})", start))
    if found := next(begun, ""):
        return found
    try:
        fields = json.loads(text, parse_int=str, parse_float=str).keys()
    except (ValueError, RecursionError):
        return ""
    return next((tool for tool, _, needed in _JSON_OF_TOOLS if needed <= fields), "")


def kind_of(path: Path, text: str) -> str:
    """Return what a text is that is no output of TOOLS: a file of bench-core, a page, ...; "" for what is not known."""
    header = text.lstrip().partition("\n")[0]
    if header.startswith("schema_version,run_id,"):
        return "the results.csv of a run"
    try:
        _refuse(path, text)
        refuse_other_table(path, header.split(","), 1)
    except TableError as error:
        return str(error).removeprefix(f"{path}:1: ").partition(": ")[0]
    return ""


def unpacked(path: Path, raw: bytes) -> bytes:
    """Return the bytes of a file that may be packed by gzip, bzip2 or xz.

    Raises TableError for a binary file that is known, which says what it is and what to do.
    """
    raw = _unpacked(path, raw)
    for offset, magic, what, to_do in _BINARY:
        if raw.startswith(magic, offset):
            raise TableError(path, f"{what}: {to_do}")
    if raw.startswith(_ZIP):
        _refuse_zip(path, raw)
    return raw


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


def _refuse_zip(path: Path, raw: bytes) -> NoReturn:
    """Raise TableError for a ZIP archive: many programs save their documents as one, in any order of members."""
    import zipfile  # noqa: PLC0415 - rarely needed

    try:
        names = zipfile.ZipFile(io.BytesIO(raw)).namelist()
    except Exception as error:  # noqa: BLE001 - of a damaged file: BadZipFile, OSError, struct.error, ...
        what = f"a ZIP archive or a workbook, and damaged ({printable(str(error), 80)})"
        raise TableError(path, f"{what}: get it once more") from None
    if not names:
        raise TableError(path, "an empty ZIP archive")
    kinds = (kind for member, *kind in _ZIPPED if any(re.fullmatch(member, name, re.DOTALL) for name in names))
    raise TableError(path, ": ".join(next(kinds)))


def _refuse(path: Path, text: str) -> None:
    """Raise TableError for a text that is no table, or one with the markers of a merge conflict."""
    content = text.lstrip()
    if not content:
        raise TableError(path, "the file is empty", 1)
    line = text.count("\n", 0, len(text) - len(content)) + 1
    if tool := tool_of(content):
        raise TableError(path, f"the output of {tool}, not a table: {_IMPORT}", line)
    start = _PROLOG.sub("", content[:_LOOKED_AT], count=1).lower()
    for opening, what, to_do in _TEXTS:
        if re.match(opening, start, re.DOTALL):
            raise TableError(path, f"{what}: {to_do}", line)
    # To search for the markers as such takes a tenth of the time, and for a character a tenth of that.
    if any(marker[0] in text and marker in text for marker in _MARKERS) and (conflict := _CONFLICT.search(text)):
        raise TableError(path, "a merge conflict marker", text.count("\n", 0, conflict.start()) + 1)


def refuse_other_table(path: Path, header: Collection[str], line: int) -> None:
    """Raise TableError if these are the columns of another table that bench-core or pytest-benchmark writes."""
    for columns, (what, to_do) in _OTHER_TABLES.items():
        if all(name in header for name in columns):
            raise TableError(path, f"{what}: {to_do}", line)
