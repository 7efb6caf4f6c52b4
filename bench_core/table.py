"""Records <-> files: the schema, its validation, atomic writes.

    results/<machine>/<run_id>/
        results.csv     one row a metric of a case; stands alone when mailed to someone
        samples.csv     one row a raw sample
        run.json        environment, plan, options, counts, sha256 of the two tables
        journal.jsonl   while the run goes on, after it was killed, and where it is to be kept

Whatever is wrong with a file raises TableError, whose text begins with `file:line`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.csvfile import Csv, printable, read_csv
from bench_core.errors import TableError
from bench_core.model import SCHEMA_VERSION, Measurement, Row, Status

if TYPE_CHECKING:
    import pandas as pd

RESULTS, SAMPLES, RUN = "results.csv", "samples.csv", "run.json"
UNFINISHED = "unfinished"  # the folder of runs that are still to be merged into one: read only if it is named
COLUMNS = tuple(f.name for f in fields(Row))
SAMPLE_COLUMNS = (
    *("case_id", "backend", "implementation", "device", "threads", "metric", "clock"),
    *("process", "round", "seconds", "noisy"),
)
# What makes a spreadsheet run a cell, in ASCII and full width (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")
_INTEGERS = range(-(2**63), 2**63)


def _kind(annotation: Any) -> type:
    """Return the scalar type of a column, `float` for `float | None`."""
    members = [t for t in typing.get_args(annotation) if t is not types.NoneType]
    return members[0] if members else annotation  # type: ignore[no-any-return]


KINDS: dict[str, type] = {name: _kind(hint) for name, hint in typing.get_type_hints(Row).items()}
_PANDAS = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}


# ---------------------------------------------------------------- writing


def cell(value: Any) -> str:
    """Return the text of one cell: "" for None, repr for a float; never a formula, never a control character.

    Text goes on one line. One that a spreadsheet would run gets a leading apostrophe, which reading takes
    off again. Raises ValueError for a float that is not finite.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a value that is not finite has no place in a table")
        return repr(value)
    if isinstance(value, int):
        return str(value)
    text = " ".join(str(value).translate(_CONTROLS).split())
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair has no UTF-8
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def results_text(rows: Iterable[Row]) -> str:
    """Return results.csv as text: RFC 4180 quoting, line feeds."""
    return csv_text(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows))


def samples_text(measurements: Iterable[Measurement]) -> str:
    """Return samples.csv as text: every raw sample, in the order in which it was taken."""
    return csv_text(SAMPLE_COLUMNS, (line for m in measurements for line in _sample_lines(m)))


def _sample_lines(m: Measurement) -> Iterator[Sequence[Any]]:
    for series in m.series:
        noisy = frozenset(series.noisy)
        for i, seconds in enumerate(series.seconds):
            yield (*m.identity, series.metric, series.clock, m.process, i, seconds, i in noisy)


def csv_text(header: Sequence[str], lines: Iterable[Iterable[Any]]) -> str:
    """Return a table as CSV (RFC 4180 quoting, line feeds), each value written by `cell`."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell(value) for value in line] for line in lines)
    return buffer.getvalue()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it, not even after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except OSError:
        # Some network and FUSE file systems cannot rename over a file that is there.
        if not path.exists():
            raise
        path.unlink()
        temporary.rename(path)


def write_run(folder: Path, rows: Sequence[Row], measurements: Sequence[Measurement], about: Mapping[str, Any]) -> None:
    """Write the three files of a run. run.json comes last: a folder that has one is complete."""
    tables = {RESULTS: results_text(rows), SAMPLES: samples_text(measurements)}
    for name, text in tables.items():
        write_atomically(folder / name, text)
    files = {name: {"sha256": digest(text), "rows": text.count("\n") - 1} for name, text in tables.items()}
    document = {"schema_version": SCHEMA_VERSION, **about, "files": files}
    write_atomically(folder / RUN, json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n")


def digest(text: str) -> str:
    """Return the sha256 of a file's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- reading


def load(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return the rows of runs, folders of runs or lone CSV files as one validated table.

    Columns have pandas' nullable types: a missing value is <NA>, never a number. Columns that this
    version does not know are kept and warned of. Raises TableError.
    """
    import pandas as pd  # noqa: PLC0415 - a third of a second that only those who want a frame should pay

    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    frames = [read_results(file) for path in several for file in find_results(Path(path))]
    return pd.concat(frames, ignore_index=True)


def find_results(path: Path) -> list[Path]:
    """Return the results.csv files at or under a path, in order; raises TableError if there is none.

    A folder `unfinished` below the path is left out: its runs are parts of a measurement that goes on or
    failed. A symbolic link that is named is followed; one found inside a folder is not, and is warned of: a
    folder from somebody else must not choose which files of this machine are read.
    """
    if not path.is_dir():
        if not path.exists():
            raise TableError(path, "no such file or folder")
        return [path]
    found, left_out = [], ""
    for folder, folders, files in os.walk(path, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]  # .git, .venv: nothing of ours
        links = [Path(folder, name) for name in (*folders, *files) if Path(folder, name).is_symlink()]
        for link in links:
            warnings.warn(f"{link}: a symbolic link inside a folder is not followed", stacklevel=2)
        if RESULTS in files and Path(folder, RESULTS) not in links:
            found.append(Path(folder, RESULTS))
        if UNFINISHED in folders:
            folders.remove(UNFINISHED)
            left_out = f" but in {Path(folder, UNFINISHED)}, which is read only if it is named"
    if not found:
        raise TableError(path, f"no {RESULTS} here{left_out}")
    return sorted(found)


def read_results(path: Path) -> pd.DataFrame:
    """Return one results.csv as a validated frame; raises TableError with the line at fault."""
    import pandas as pd  # noqa: PLC0415 - see load

    columns = read_columns(path)
    return pd.DataFrame({name: pd.Series(v, dtype=_PANDAS[KINDS.get(name, str)]) for name, v in columns.items()})


def read_rows(path: Path) -> list[Row]:
    """Return one results.csv as records, columns that this version does not know left out (and warned of).

    Raises TableError with the line at fault.
    """
    columns = read_columns(path)
    return [
        Row(**dict(zip(COLUMNS, cells, strict=True))) for cells in zip(*map(columns.__getitem__, COLUMNS), strict=True)
    ]


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Return the columns of one results.csv, parsed and checked, in the file's order.

    Raises TableError with the line at fault.
    """
    table = _migrate(read_csv(path, required=[name for name in COLUMNS if name not in _ADDED_LATER]))
    unknown = [name for name in table.header if name not in KINDS]
    if unknown:
        names = ", ".join(printable(name) for name in unknown)
        warnings.warn(f"{path}:1: columns that this version does not know: {names}", stacklevel=2)
    columns = {name: table.column(name, _CONVERT[KINDS.get(name, str)]) for name in table.header}
    for name in _ADDED_LATER - columns.keys():
        columns[name] = ["" if KINDS[name] is str else None] * len(table.records)
    _require_words(table, columns)
    return columns


def _require_words(table: Csv, columns: Mapping[str, list[Any]]) -> None:
    """Raise TableError where a column that every row needs is empty, or says a word that it does not have."""
    for name in _NEVER_EMPTY:
        for line, value in zip(table.lines, columns[name], strict=True):
            if value == "" or value is None:
                raise TableError(table.path, f"column {name!r} is empty", line)
    for name, allowed in _WORDS.items():
        for line, word in zip(table.lines, columns[name], strict=True):
            if word not in allowed:
                message = f"column {name!r} holds {printable(word)!r}, which is none of: {', '.join(allowed)}"
                raise TableError(table.path, message, line)


_ADDED_LATER = frozenset({"device_name", "library", "least_bytes"})
_WORDS = {"better": ("lower", "higher"), "status": tuple(Status)}
_NEVER_EMPTY = ("run_id", "machine", "case_id", "workload", "workload_version", "backend", "device", "metric", "unit")

# What turns the texts of schema version n into those of n + 1, by n. A function gets and returns a Csv.
MIGRATIONS: dict[int, Callable[[Csv], Csv]] = {}


def _migrate(table: Csv) -> Csv:
    """Return the table in this version's schema; raises TableError for a newer one or a mixture."""
    versions = table.column("schema_version", _integer)
    version = versions[0] if versions else SCHEMA_VERSION
    for line, other in zip(table.lines, versions, strict=True):
        if other is None or other > SCHEMA_VERSION:
            message = f"schema version {other}: this bench-core reads up to {SCHEMA_VERSION}, so a newer one is needed"
            raise TableError(table.path, message if other else "the schema version is empty", line)
        if other != version:
            raise TableError(table.path, f"schema version {other} among rows of version {version}", line)
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise TableError(table.path, f"schema version {version} is not known", table.lines[0])
        table = MIGRATIONS[version](table)
        version += 1
    return table


def _text(text: str) -> str:
    return text[1:] if text[:1] == "'" else text


def _integer(text: str) -> int | None:
    if not text:
        return None
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 20 or int(text) not in _INTEGERS:
        raise ValueError("not an integer")
    return int(text)


def _number(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value):
        raise ValueError("not a finite number; a missing value is an empty cell")
    if "_" in text or not text.isascii():
        raise ValueError("not a number")
    return value


def _truth(text: str) -> bool | None:
    word = text.lower()  # pandas writes True, spreadsheets TRUE
    if word not in {"", "true", "false"}:
        raise ValueError("neither true nor false")
    return word == "true" if word else None


_CONVERT: dict[type, Callable[[str], Any]] = {str: _text, int: _integer, float: _number, bool: _truth}
