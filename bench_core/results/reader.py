"""Read results.csv, check every cell, and return rows or a pandas frame.

Every problem of a file raises TableError, whose text begins with `file:line`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_core.errors import TableError, warn_of
from bench_core.files import is_folder, is_link, why_unreadable
from bench_core.records import Row
from bench_core.results.legacy import ADDED_LATER, migrate
from bench_core.results.roofline import cut_shares
from bench_core.results.schema import (
    COLUMNS,
    CONVERT,
    IDENTITY,
    KINDS,
    RESULTS,
    SAMPLES,
    UNFINISHED,
    is_rounded,
    require_words,
)
from bench_core.results.strict_csv import Csv, read_csv
from bench_core.text import harmless, printable
from bench_core.units import size_value

if TYPE_CHECKING:
    import pandas as pd


SIZE_VALUE = "size_value"  # the column that only `load` adds; in a file that was written from its frame it is read anew
_NAMES = ("workload", "size", "dtype", "backend", "device", "metric", "run_id")  # of a result, for people
_MOST_NAMED = 8  # unknown columns that are named in a warning
_PANDAS = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}


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
    return _completed(pd.concat(frames, ignore_index=True))


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with "" for each missing text and the column that only frames have."""
    for name, kind in rows.dtypes.items():  # one by one: fillna of a frame takes the square of its columns
        if kind == "string" and rows[name].hasnans:  # a column that only some of the files have
            rows[name] = rows[name].fillna("")
    values = {size: size_value(size) for size in rows["size"].unique()}
    rows[SIZE_VALUE] = rows["size"].map(values).astype("Float64")
    return rows


def find_results(path: Path) -> list[Path]:
    """Return the results.csv files at or under a path, sorted; raises TableError if there is none.

    Folders named `unfinished` below the path are skipped: their runs are parts of a measurement that is still running
    or failed. `path` itself may be a symbolic link. Links inside a folder are skipped with a warning: a folder from
    another source must not choose which files of this machine are read. So are folders that cannot be read.
    """
    if not is_folder(path):
        return [path]
    found: list[Path] = []
    unread: list[OSError] = []
    left_out: list[str] = []
    for folder, folders, files in os.walk(path, onerror=unread.append, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]  # .git, .venv: never results
        links = [link for name in (*folders, *files) if is_link(link := Path(folder, name))]
        for link in links:
            warn_of(link, "a symbolic link inside a folder is not followed")
        if RESULTS in files and Path(folder, RESULTS) not in links:
            found.append(Path(folder, RESULTS))
        if UNFINISHED in folders:
            folders.remove(UNFINISHED)
            left_out.append(f"{Path(folder, UNFINISHED)}: read only if the path names it")
        left_out += [f"{Path(folder, name)}: unpack it, or name it" for name in files if name.startswith(f"{RESULTS}.")]
    closed = {error.filename: why_unreadable(error) for error in unread}
    if not found:
        reasons = [*(f"{name}: {why}" for name, why in closed.items()), *left_out][:3] + [
            f"to read single tables, name them: {path}/*.csv"
        ] * _has_tables(path)
        raise TableError(path, f"no {RESULTS} here" + "".join(f"; {reason}" for reason in reasons))
    for name, why in closed.items():
        warn_of(name, why)
    return sorted(found)


def _has_tables(folder: Path) -> bool:
    """Return whether there are CSV files in a folder other than those that belong to a results.csv."""
    try:
        return any(path.suffix == ".csv" and path.name != SAMPLES for path in folder.iterdir())
    except OSError:
        return False


def read_results(path: Path) -> pd.DataFrame:
    """Return one results.csv as a validated frame; raises TableError with the line of the problem."""
    return _frame(read_columns(path))


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows that were not read from a file as the frame that `load` would return."""
    return _completed(_frame({name: [getattr(row, name) for row in rows] for name in COLUMNS}))


def _frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - see load

    return pd.DataFrame({name: pd.Series(v, dtype=_PANDAS[KINDS.get(name, str)]) for name, v in columns.items()})


def read_rows(path: Path) -> list[Row]:
    """Return the rows of one results.csv. Columns that this version does not know are dropped, with a warning.

    Raises TableError with the line of the problem.
    """
    columns = read_columns(path)
    return [
        Row(**dict(zip(COLUMNS, cells, strict=True))) for cells in zip(*map(columns.__getitem__, COLUMNS), strict=True)
    ]


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Return the columns of one results.csv, parsed and checked, in the order of the file.

    Raises TableError with the line of the problem.
    """
    table = _distinct(migrate(read_csv(path, required=[name for name in COLUMNS if name not in ADDED_LATER])))
    header = [name for name in table.header if name != SIZE_VALUE]
    unknown = [name for name in header if name not in KINDS]
    if unknown:
        names = ", ".join(printable(name, 40) for name in unknown[:_MOST_NAMED])
        more = f" and {len(unknown) - _MOST_NAMED:,} more" if len(unknown) > _MOST_NAMED else ""
        warn_of(path, f"columns that this version does not know: {names}{more}", 1)
    columns = {harmless(name): table.column(name, CONVERT[KINDS.get(name, str)]) for name in header}
    _warn_of_rounding(table)
    for name in ADDED_LATER - columns.keys():
        columns[name] = ["" if KINDS[name] is str else None] * len(table.records)
    require_words(table, columns)
    if cut := cut_shares(columns):
        warn_of(path, f"{cut} shares above 1 by an earlier rule are cut off or left out")
    return columns


def _distinct(table: Csv) -> Csv:
    """Return a table without rows that occur twice, with a warning.

    Raises TableError for two rows that say different things of the same result.
    """
    lines: dict[tuple[str, ...], int] = {}
    kept: list[int] = []
    twice: list[tuple[int, int]] = []
    identities = zip(*(table.texts(name) for name in IDENTITY if name in table.header), strict=True)
    for i, identity in enumerate(identities):
        first = lines.setdefault(identity, i)
        if first == i:
            kept.append(i)
        elif table.records[first] == table.records[i]:
            twice.append((table.lines[first], table.lines[i]))
        else:
            what = printable(" ".join(table.texts(name)[i] for name in _NAMES), 100)
            message = f"two different rows for {what}, on lines {table.lines[first]} and {table.lines[i]}"
            raise TableError(table.path, message, table.lines[i])
    if not twice:
        return table
    more = f", and {len(twice) - 1:,} more such pairs" if len(twice) > 1 else ""
    warn_of(table.path, f"the same row on lines {twice[0][0]} and {twice[0][1]}{more}: counted once")
    return replace(table, records=[table.records[i] for i in kept], lines=[table.lines[i] for i in kept])


def _warn_of_rounding(table: Csv) -> None:
    """Warn of numbers that a spreadsheet has rounded: it saves what it shows."""
    for name in (name for name in table.header if KINDS.get(name) is float):
        shown = next((text for text in table.texts(name) if is_rounded(text)), None)
        if shown:
            message = f"numbers such as {shown} in column {name!r} are rounded, as a spreadsheet shows them"
            warn_of(table.path, message)
            return
