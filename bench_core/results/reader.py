"""Read results.csv, check every cell, and return rows or a pandas frame.

Every problem of a file raises TableError, whose text begins with `file:line`.
"""

from __future__ import annotations

import operator
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench_core.errors import TableError, warn_of
from bench_core.files import is_folder, is_link, why_unreadable
from bench_core.records import Row, Status
from bench_core.results.columns import Coded, Column, Numbers, numbered
from bench_core.results.legacy import ADDED_LATER, migrate
from bench_core.results.roofline import SHARES, cut_shares
from bench_core.results.schema import (
    COLUMNS,
    IDENTITY,
    JOURNAL,
    KINDS,
    RESULTS,
    RUN,
    SAMPLES,
    UNFINISHED,
    converter,
    require_words,
    rounded,
)
from bench_core.results.strict_csv import Csv, read_csv
from bench_core.results.table import Table
from bench_core.text import harmless, printable, quoted
from bench_core.units import counted, size_value

if TYPE_CHECKING:
    import pandas as pd


SIZE_VALUE = "size_value"  # the column that only `load` adds; in a file that was written from its frame it is read anew
_NAMES = ("workload", "size", "dtype", "backend", "device", "metric", "run_id")  # of a result, for people
_PACKED = {".gz", ".bz2", ".xz", ".lzma", ".zip", ".zst"}
_MOST_REASONS = 3  # why there is no results.csv that are given
_MOST_NAMED = 8  # unknown columns that are named in a warning
_PANDAS = {int: "Int64", float: "Float64", bool: "boolean"}


def load(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """Return the rows of runs, folders of runs or single CSV files as one validated frame.

    Columns have the names of the CSV file and pandas' nullable types. A missing number or truth is <NA>, a missing text
    (`params`, `flags`, `reason`) is "". Columns that this version does not know are kept, with a warning. Raises
    TableError for an invalid file.

    One column is added, `size_value`: the number that `size` begins with, for axes and for sorting: bytes of "64KiB",
    the leading dimension of "96x1024x64", <NA> for "gpt2-up".

    `size`, `flags`, `min`, `max`, `mean` and `std` are also attributes of any frame: `rows.size` is the number of its
    cells. Write `rows["size"]`; in `rows.query("size == '2048'")` they are the columns. results/README.md has recipes.

    `machine` is a label and does not prove that two runs are of one computer: it is made of the names of CPU and GPUs
    and the number of cores, or chosen by the user. Before pooling runs, compare their `device_name`, and the facts of
    their run.json: the host's, and those of the worker that is named by `env_id`. `bench-core compare`, `report`,
    `plot` and `cost` keep two computers with one name apart (bench_core/compare/computers.py); this function does not.
    """
    import pandas as pd  # noqa: PLC0415 - the import takes a third of a second, and only frames need it

    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    frames = [read_results(file) for path in several for file in find_results(Path(path))]
    names = list(dict.fromkeys(str(name) for frame in frames for name in frame))
    alike = [_with_texts(frame, names) for frame in frames]
    return _completed(pd.concat(alike, ignore_index=True))


def _with_texts(rows: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Return a frame with the columns of these names that only other files have: texts of this one that are missing."""
    lacking = {name: [""] * len(rows) for name in names if name not in rows}
    return rows.join(_frame(lacking)) if lacking else rows


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the column that only frames have."""
    values = {size: size_value(size) for size in rows["size"].unique()}
    rows[SIZE_VALUE] = rows["size"].map(values).astype("Float64")
    return rows


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in a folder of runs.

    tables: the results.csv files, sorted. skipped: what could not be read, or is packed or has another name. left_out:
    runs that did not end, or lost their table. Both are a path, and why or what to do.
    """

    tables: tuple[Path, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def find_results(path: Path) -> list[Path]:
    """Return the results.csv files at or under a path, sorted; raises TableError if there is none.

    What is skipped in a folder (see `survey`) causes a warning. `path` itself may be a symbolic link.
    """
    if not is_folder(path):
        return [path]
    found = survey(path)
    if not found.tables:
        reasons = [f"{name}: {why}" for name, why in [*found.skipped, *found.left_out][:_MOST_REASONS]]
        reasons += [f"to read single tables, name them: {path}/*.csv"] * _has_tables(path)
        raise TableError(path, f"no {RESULTS} here" + "".join(f"; {reason}" for reason in reasons))
    for name, why in found.skipped:
        warn_of(name, why)
    return list(found.tables)


def survey(path: Path) -> Survey:
    """Return what is in a folder of runs.

    Folders named `unfinished` below the path are left out: their runs are parts of a measurement that is still running
    or failed. Links inside a folder are not followed, with a warning: a folder from another source must not choose
    which files of this machine are read.
    """
    found: list[Path] = []
    unread: list[OSError] = []
    misnamed: list[tuple[str, str]] = []
    left_out: list[tuple[str, str]] = []
    for folder, folders, files in os.walk(path, onerror=unread.append, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]  # .git, .venv: never results
        links = _links(Path(folder), (*folders, *files))
        if RESULTS not in files:
            misnamed += _misnamed(Path(folder), files)
            left_out += _remains(Path(folder), files)
        elif Path(folder, RESULTS) not in links:
            found.append(Path(folder, RESULTS))
        if UNFINISHED in folders:
            folders.remove(UNFINISHED)
            left_out.append((str(Path(folder, UNFINISHED)), "read only if the path names it"))
    skipped = [*((error.filename, why_unreadable(error)) for error in unread), *sorted(misnamed)]
    return Survey(tuple(sorted(found)), tuple(skipped), tuple(sorted(left_out)))


def _links(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the symbolic links of these names in a folder, with a warning for each."""
    links = [link for name in names if is_link(link := folder / name)]
    for link in links:
        warn_of(link, "a symbolic link inside a folder is not followed")
    return links


def _misnamed(folder: Path, files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the path of each results.csv with another name or packed, in a folder without one, and what to do."""
    for name in files:
        if name.lower().startswith(RESULTS):
            is_packed = name.lower().removeprefix(RESULTS) in _PACKED
            yield str(folder / name), f"{'unpack it' if is_packed else f'rename it to {RESULTS}'}, or name it"


def _remains(folder: Path, files: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield a folder that has no results.csv, and what it has of a run and what to do."""
    if JOURNAL in files:
        yield str(folder), unfinished(folder)
    elif RUN in files or SAMPLES in files:
        there = " and ".join(name for name in (RUN, SAMPLES) if name in files)
        yield str(folder), f"{there} of a run without its table"


def unfinished(folder: Path) -> str:
    """Return what to do about the folder of a run that did not end."""
    return f"a run that did not end: finish it with `bench-core run --resume {shlex.quote(str(folder))}`"


def _has_tables(folder: Path) -> bool:
    """Return whether there are CSV files in a folder other than those that belong to a results.csv."""
    try:
        return any(path.suffix == ".csv" and path.name != SAMPLES for path in folder.iterdir())
    except OSError:
        return False


def read_results(path: Path) -> pd.DataFrame:
    """Return one results.csv as a validated frame; raises TableError with the line of the problem."""
    return _frame({name: column.cells() for name, column in _read_columns(path)[1].items()})


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows that were not read from a file as the frame that `load` would return."""
    return _completed(_frame({name: [getattr(row, name) for row in rows] for name in COLUMNS}))


def _frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - see load

    # All texts in one array, in which each column is a slice: to make an array takes as long as thousands of cells.
    texts = {name: cells for name, cells in columns.items() if KINDS.get(name, str) is str}
    every = pd.array([cell for cells in texts.values() for cell in cells], dtype="string")
    slices: dict[str, Any] = {}
    start = 0
    for name, cells in texts.items():
        slices[name] = every[start : start + len(cells)]
        start += len(cells)
    return pd.DataFrame(
        {
            name: slices[name] if name in slices else pd.Series(cells, dtype=_PANDAS[KINDS[name]])
            for name, cells in columns.items()
        }
    )


def read_rows(path: Path) -> list[Row]:
    """Return the rows of one results.csv. Columns that this version does not know are dropped, with a warning.

    Raises TableError with the line of the problem.
    """
    return list(read_table(path)[1])


def read_table(path: Path) -> tuple[list[int], Table]:
    """Return the rows of one results.csv as `read_rows` does, after the line of each in the file."""
    lines, columns = _read_columns(path)
    return lines, Table.of_columns({name: columns[name] for name in COLUMNS}, len(lines))


def _read_columns(path: Path) -> tuple[list[int], dict[str, Column]]:
    """Return the lines of the rows of one results.csv, and its columns, parsed and checked, in the order of the file.

    Raises TableError with the line of the problem.
    """
    table = _distinct(migrate(read_csv(path, required=[name for name in COLUMNS if name not in ADDED_LATER])))
    header = [name for name in table.header if name != SIZE_VALUE]
    unknown = [name for name in header if name not in KINDS]
    if unknown:
        names = ", ".join(printable(name, 40) for name in unknown[:_MOST_NAMED])
        more = f" and {len(unknown) - _MOST_NAMED:,} more" if len(unknown) > _MOST_NAMED else ""
        warn_of(path, f"columns that this version does not know: {names}{more}", 1)
    columns = {harmless(name): _column(table, name) for name in header}
    _warn_of_rounding(table)
    for name in ADDED_LATER - columns.keys():
        missing = Coded.constant("", len(table.lines)) if KINDS[name] is str else Numbers.of([None] * len(table.lines))
        columns[name] = missing
    require_words(table, columns)
    _warn_of_lost_values(table, columns)
    if cut := cut_shares(columns):
        warn_of(path, f"{cut} shares above 1 by an earlier rule are cut off or left out")
    return table.lines, columns


def _column(table: Csv, name: str) -> Column:
    return (table.numbers if KINDS.get(name) is float else table.column)(name, converter(name))


def _warn_of_lost_values(table: Csv, columns: Mapping[str, Column]) -> None:
    """Warn of rows with the status ok and no value. A share may have been left out (cut_shares)."""
    rows = Table.of_columns(columns, len(table.lines))
    is_ok, is_share = rows.mask("status", Status.OK.__eq__), rows.mask("metric", SHARES.__contains__)
    lost = np.flatnonzero(np.isnan(rows.numbers("value")) & is_ok & ~is_share)
    if len(lost):
        more = f", and {counted(len(lost) - 1, 'more such row')}" if len(lost) > 1 else ""
        line = table.lines[int(lost[0])]
        warn_of(table.path, f"column 'value' holds no number, although the status is ok{more}", line)


def _distinct(table: Csv) -> Csv:
    """Return a table without rows that occur twice, with a warning.

    Raises TableError for two rows that say different things of the same result.
    """
    again = _repetitions(table)
    if not again:
        return table
    differ: set[int] = set()
    for name in table.header:
        texts = table.texts(name)
        differ.update(i for i, first in again.items() if texts[i] != texts[first])
    if differ:
        i = min(differ)
        first = again[i]
        what = printable(" ".join(table.texts(name)[i] for name in _NAMES), 100)
        message = f"two different rows for {what}, on lines {table.lines[first]} and {table.lines[i]}"
        records = zip(*(operator.itemgetter(first, i)(table.texts(name)) for name in table.header), strict=True)
        raise TableError(table.path, f"{message}: {first_difference(table.header, *records)}", table.lines[i])
    i, first = next(iter(again.items()))
    more = f", and {len(again) - 1:,} more such pairs" if len(again) > 1 else ""
    warn_of(table.path, f"the same row on lines {table.lines[first]} and {table.lines[i]}{more}: counted once")
    return table.only([i for i in range(len(table.lines)) if i not in again])


def _repetitions(table: Csv) -> dict[int, int]:
    """Return the records, numbered from 0, whose identity an earlier one has, each with the first of these."""
    size = len(table.lines)
    texts = [table.coded(name).codes for name in IDENTITY if name in table.header]
    identities, first = numbered(texts, size)
    if len(first) == size:
        return {}
    earlier = first[identities].tolist()
    return {i: place for i, place in enumerate(earlier) if place != i}


def first_difference(names: Iterable[str], first: Iterable[object], second: Iterable[object]) -> str:
    """Return the first of these columns in which two rows differ, with both values; None is an empty cell.

    >>> first_difference(["n", "value"], [3, 1.5], [3, None])
    "value is '1.5' and ''"
    """
    pairs = zip(names, first, second, strict=True)
    name, *values = next((name, one, other) for name, one, other in pairs if one != other)
    one, other = (quoted("" if value is None else str(value)) for value in values)
    return f"{printable(name, 40)} is {one} and {other}"


def _warn_of_rounding(table: Csv) -> None:
    """Warn of numbers that another program has rounded, because it saves what it shows."""
    for name in (name for name in table.header if KINDS.get(name) is float):
        if shown := rounded(table.blocks(name)):
            message = f"numbers such as {shown} in column {name!r} are rounded, as a spreadsheet shows them"
            warn_of(table.path, message)
            return
