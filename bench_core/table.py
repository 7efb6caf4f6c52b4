"""Records <-> files: the schema, its validation, the journal, atomic writes.

    results/<machine>/<run_id>/
        results.csv     one row a metric of a case; stands alone when mailed to someone
        samples.csv     one row a raw sample
        run.json        environment, plan, options, counts, sha256 of the two tables
        journal.jsonl   only while the run goes on, or after it was killed

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import pandas as pd

from bench_core.errors import TableError
from bench_core.model import SCHEMA_VERSION, Measurement, Row, measurement_from_json, to_json

RESULTS, SAMPLES, RUN, JOURNAL = "results.csv", "samples.csv", "run.json", "journal.jsonl"
COLUMNS = tuple(f.name for f in fields(Row))
SAMPLE_COLUMNS = (
    *("case_id", "backend", "implementation", "device", "threads", "metric", "clock"),
    *("process", "round", "seconds", "noisy"),
)
_FREE_TEXT = frozenset({"machine", "reason", "device_name", "library", "backend_version", "flags", "params"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _kind(annotation: Any) -> type:
    """Return the scalar type of a column, `float` for `float | None`."""
    members = [t for t in typing.get_args(annotation) if t is not types.NoneType]
    return members[0] if members else annotation  # type: ignore[no-any-return]


KINDS: dict[str, type] = {name: _kind(hint) for name, hint in typing.get_type_hints(Row).items()}
_PANDAS = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}


# ---------------------------------------------------------------- writing


def cell(value: Any, *, guard: bool = False) -> str:
    """Return the text of one cell: "" for None, repr for a float, and never a formula.

    A free text that a spreadsheet would run gets a leading apostrophe, which reading takes off again.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a value that is not finite has no place in a table")
        return repr(value)
    text = " ".join(str(value).split()) if guard else str(value)
    return f"'{text}" if guard and text.startswith((*_FORMULA, "'")) else text


def results_text(rows: Iterable[Row]) -> str:
    """Return results.csv as text: RFC 4180 quoting, line feeds."""
    guards = [name in _FREE_TEXT for name in COLUMNS]
    lines = ([cell(v, guard=g) for v, g in zip(astuple(row), guards, strict=True)] for row in rows)
    return _csv_text(COLUMNS, lines)


def samples_text(measurements: Iterable[Measurement]) -> str:
    """Return samples.csv as text: every raw sample, in the order in which it was taken."""
    return _csv_text(SAMPLE_COLUMNS, (line for m in measurements for line in _sample_lines(m)))


def _sample_lines(m: Measurement) -> Iterator[list[str]]:
    case = m.case
    who = (case.work.case_id, case.backend, case.implementation, case.device, m.threads)
    for series in m.series:
        noisy = frozenset(series.noisy)
        for i, seconds in enumerate(series.seconds):
            values = (*who, series.metric, series.clock, m.process, i, seconds, i in noisy)
            yield [cell(value) for value in values]


def _csv_text(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return buffer.getvalue()


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing: a reader never sees half of it, not even after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_run(folder: Path, rows: Sequence[Row], measurements: Sequence[Measurement], about: Mapping[str, Any]) -> None:
    """Write the three files of a run and, once they are safe, remove its journal.

    run.json comes last: a folder that has one is complete.
    """
    tables = {RESULTS: results_text(rows), SAMPLES: samples_text(measurements)}
    for name, text in tables.items():
        write_atomically(folder / name, text)
    files = {name: {"sha256": digest(text), "rows": text.count("\n") - 1} for name, text in tables.items()}
    document = {"schema_version": SCHEMA_VERSION, **about, "files": files}
    write_atomically(folder / RUN, json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n")
    (folder / JOURNAL).unlink(missing_ok=True)


def digest(text: str) -> str:
    """Return the sha256 of a file's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """Measurements as they come, one JSON line each, on disk before the next case starts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self._file = self.path.open("a", encoding="utf-8")

    def append(self, measurement: Measurement) -> None:
        """Write one line and wait until the disk has it."""
        self._file.write(json.dumps(to_json(measurement), separators=(",", ":"), allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> list[Measurement]:
    """Return the measurements of a journal; a torn last line (the run was killed) is left out.

    Raises TableError for any other line that is not a measurement.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    measurements = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            measurements.append(measurement_from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(path, f"not a journal line: {error}", number) from None
    return measurements


# ---------------------------------------------------------------- reading


def load(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return the rows of runs, folders of runs or lone CSV files as one validated table.

    Columns have pandas' nullable types: a missing value is <NA>, never a number. Columns that this
    version does not know are kept and warned of. Raises TableError.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    frames = [read_results(file) for path in several for file in find_results(Path(path))]
    return pd.concat(frames, ignore_index=True)


def find_results(path: Path) -> list[Path]:
    """Return the results.csv files at or under a path, in order; raises TableError if there is none."""
    if path.is_file():
        return [path]
    found = sorted(path.rglob(RESULTS)) if path.is_dir() else []
    if not found:
        raise TableError(path, f"no {RESULTS} here" if path.is_dir() else "no such file or folder")
    return found


def read_results(path: Path) -> pd.DataFrame:
    """Return one results.csv as a validated table; raises TableError with the line at fault."""
    header, records, lines = _read_csv(path)
    missing = [name for name in COLUMNS if name not in header and name not in _ADDED_LATER]
    if missing:
        raise TableError(path, f"column {missing[0]!r} is missing (of {len(missing)})", 1)
    unknown = [name for name in header if name not in KINDS]
    if unknown:
        warnings.warn(f"{path}: unknown columns kept: {', '.join(unknown)}", stacklevel=2)
    columns: dict[str, Any] = {}
    for position, name in enumerate(header):
        kind = KINDS.get(name, str)
        texts = [record[position] for record in records]
        values = [_parse(path, line, name, kind, text) for line, text in zip(lines, texts, strict=True)]
        columns[name] = pd.Series(values, dtype=_PANDAS[kind])
    frame = pd.DataFrame(columns)
    for name in COLUMNS:
        if name not in frame:
            frame[name] = pd.Series([None] * len(frame), dtype=_PANDAS[KINDS[name]])
    for line, version in zip(lines, frame["schema_version"], strict=True):
        if pd.isna(version) or version > SCHEMA_VERSION:
            raise TableError(path, f"schema version {version}: this bench-core reads up to {SCHEMA_VERSION}", line)
    return frame


_ADDED_LATER = frozenset({"device_name", "library"})


def _read_csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, records and the line on which each record ends; every record as wide as the header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(path, f"cannot be read: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records, lines = [], []
    try:
        header = next(reader, [])
        if len(set(header)) != len(header) or not header:
            raise TableError(path, "a column stands twice" if header else "the file is empty", 1)
        for record in reader:
            if len(record) != len(header):
                message = f"{len(record)} cells where the header has {len(header)}"
                raise TableError(path, message, reader.line_num)
            records.append(record)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise TableError(path, str(error), reader.line_num) from None
    return header, records, lines


def _parse(path: Path, line: int, name: str, kind: type, text: str) -> Any:
    if kind is str:
        return text[1:] if name in _FREE_TEXT and text.startswith("'") else text
    if text == "":
        return None
    try:
        if kind is bool:
            return {"true": True, "false": False}[text]
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
    except (ValueError, KeyError):
        raise TableError(path, f"column {name!r} holds {text[:40]!r}, which is not a {kind.__name__}", line) from None
    return value
