"""SQL over the cache of a folder of runs.

DuckDB answers, with all of its functions, from two views: `rows` and `runs`. It may open the files of the cache and no
others, on this machine or any other, loads no extension, and takes nothing but one SELECT; its settings are locked.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench_core.errors import UsageError
from bench_core.history.store import Part, Store, as_parquet, require_extra
from bench_core.results.schema import KINDS
from bench_core.text import one_line, printable
from bench_core.units import counted

if TYPE_CHECKING:
    import duckdb
    import pyarrow

# From the start. What is left is set and locked once the views are there. Without a folder for temporary files a query
# that needs more than the memory fails: DuckDB's own is `.tmp` in the current folder.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "allow_unsigned_extensions": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # else the names of tables may be those of Python's variables
    "temp_directory": "",
}
_GLOB = re.compile(r"([*?\[])")
_PLACE = re.compile(r"\n+LINE \d+: .*", re.DOTALL)  # of an error in the SQL, with a caret in the next line
_BATCH = 10_000  # rows
_T = TypeVar("_T")
# The columns whose values together are one series of runs, and those of each point of it.
SERIES = (
    *("machine", "suite", "workload", "workload_version", "size", "dtype", "precision", "params", "case_id", "backend"),
    *("implementation", "device", "threads", "metric", "unit", "better", "clock", "scope", "cache"),
)
POINT = ("run_id", "started_at", "value", "ci_low", "ci_high", "env_id", "git_commit", "git_dirty", "flags")


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of an answer. is_cut: whether there are more than were asked for."""

    table: pyarrow.Table
    is_cut: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.table.column_names)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows as Python's values: None for what is missing, dicts for maps and structs.

        Raises UsageError for a value that Python has no type for, such as an infinite date or a map by lists.
        """
        try:
            columns = [column.to_pylist(maps_as_pydicts="lossy") for column in self.table.columns]
        except (OverflowError, TypeError, ValueError) as error:
            raise UsageError(f"a value of the answer cannot be shown: {error}") from None
        return list(zip(*columns, strict=True))

    def parquet(self) -> bytes:
        """Return the answer as a Parquet file. Raises UsageError for a type that Parquet lacks, such as INTERVAL."""
        import pyarrow as pa  # noqa: PLC0415 - an extra

        try:
            return as_parquet(self.table)
        except pa.ArrowException as error:
            raise UsageError(f"the answer as Parquet: {one_line(error)}; cast it in the SQL") from None


class History:
    """An open connection to the views `rows` and `runs` of a store; a context manager.

    rows: the columns of results.csv (results/README.md), `started_at` as a TIMESTAMP in UTC, and `month` ("2026-11").
    runs: `run_id`, `machine`, `started_at`, `month`, `git_commit`, `git_dirty`, `preset`, `rows` (their number),
    `env_ids`, `facts` (a MAP of texts: the facts of the host in run.json, and those on which all of its workers agree)
    and `workers` (a MAP of such MAPs by env_id). Missing texts are "", other missing values NULL.

    Opening raises UsageError if a library is missing or there are no runs, TableError for a cache that cannot be read.
    """

    def __init__(self, store: Store) -> None:
        require_extra()
        self._store = store
        self._parts: list[Part] = []
        self._connection: duckdb.DuckDBPyConnection
        self._open()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, sql: str, limit: int | None = None) -> Answer:
        """Return what one SELECT of a stranger answers, of at most `limit` rows.

        Raises UsageError for SQL that is wrong or no SELECT, and KeyboardInterrupt for Ctrl-C.
        """
        import duckdb  # noqa: PLC0415 - an extra

        if any("\ud800" <= character <= "\udfff" for character in sql):  # of a byte of the command line, as a rule
            raise UsageError(f"the query: is not UTF-8: {printable(sql)}")
        with _told("the query"):
            statements = self._connection.extract_statements(sql)
        if len(statements) != 1:
            raise UsageError(f"the query: one SELECT is asked for, not {counted(len(statements), 'statement')}")
        if (kind := _kind(statements[0])) != duckdb.StatementType.SELECT.name:
            raise UsageError(f"the query: one SELECT is asked for, not {kind}")
        while True:
            with _told("the query"):
                try:
                    return self._asked(statements[0], limit)
                except duckdb.Error:
                    if self._parts == self._store.parts():
                        raise
            # While this was open, another process has replaced a part of the cache, or removed one.
            self._connection.close()
            self._open()

    def table(self, sql: str, parameters: Sequence[Any] = ()) -> pyarrow.Table:
        """Return what a query of this package answers; `?` in it stand for the parameters."""
        with _told(f"query {one_line(sql)}"):
            found: pyarrow.Table = self._waited(
                lambda opened: opened.sql(sql, params=list(parameters)).to_arrow_table()
            )
            return found

    def values(self, **wanted: Any) -> pyarrow.Table:
        """Return the values that are ok, one row a run, sorted by `SERIES` and then by time: all series, or some.

        wanted: values of columns, as `metric="time", clock="wall", machine="a"`; None for a missing number. The columns
        are those of `SERIES` and `POINT`.
        """
        conditions = ["status = 'ok'", "value IS NOT NULL"]
        conditions += [f"{_name(name)} IS NOT DISTINCT FROM ?" for name in wanted]
        columns = ", ".join(map(_name, (*SERIES, *POINT)))
        order = ", ".join(map(_name, (*SERIES, "started_at", "run_id")))
        sql = f"SELECT {columns} FROM rows WHERE {' AND '.join(conditions)} ORDER BY {order}"  # noqa: S608 - columns
        return self.table(sql, list(wanted.values()))

    def _open(self) -> None:
        while True:
            self._parts = self._store.parts()
            if not self._parts:
                raise UsageError(f"{self._store.folder}: no runs in the history: `bench-core history add` adds them")
            try:
                self._connection = _connected(self._parts)
            except UsageError:
                if self._parts == self._store.parts():
                    raise
            else:
                return

    def _asked(self, statement: duckdb.Statement, limit: int | None) -> Answer:
        import pyarrow as pa  # noqa: PLC0415 - an extra

        def work(opened: duckdb.DuckDBPyConnection) -> Answer:
            found = opened.sql(statement)
            if limit is None:
                return Answer(found.to_arrow_table())
            with found.limit(limit + 1).to_arrow_reader(_BATCH) as reader:
                table = pa.Table.from_batches(list(reader), reader.schema)
            return Answer(table.slice(0, limit), len(table) > limit)

        return self._waited(work)

    def _waited(self, work: Callable[[duckdb.DuckDBPyConnection], _T]) -> _T:
        """Return what a function does with the connection, or raise KeyboardInterrupt at once.

        It runs in another thread, because DuckDB looks for signals only between the parts of its work: some take hours.
        """
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(work, self._connection)
            try:
                return future.result()
            except KeyboardInterrupt:
                while not future.done():  # more than once: it may not have begun
                    self._connection.interrupt()
                    wait([future], 0.05)
                raise


def _connected(parts: Sequence[Part]) -> duckdb.DuckDBPyConnection:
    """Return a connection that sees the views and can open no file but these."""
    import duckdb  # noqa: PLC0415 - an extra

    connection = duckdb.connect(":memory:", config=_SETTINGS)
    files = {"rows": [part.rows for part in parts], "runs": [part.run for part in parts]}
    with _told("the cache"):
        allowed = {path for paths in files.values() for path in map(_absolute, paths)}
        connection.execute("SET allowed_paths = ?", [sorted(allowed | set(map(_pattern, allowed)))])
        connection.execute("SET enable_external_access = false")
        for name, paths in files.items():
            listed = ", ".join(_literal(_pattern(_absolute(path))) for path in paths)
            source = f"read_parquet([{listed}], hive_partitioning = false)"
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}")  # noqa: S608 - names of our files
        connection.execute("SET lock_configuration = true")
    return connection


def _kind(statement: duckdb.Statement) -> str:
    """Return the name of the kind of a statement."""
    try:
        return str(statement.type.name)
    except ValueError:  # of a kind that DuckDB knows and its module for Python does not, as UPDATE EXTENSIONS
        return "another kind of statement"


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - without `..`, as DuckDB compares it


def _pattern(path: str) -> str:
    """Return the pattern that only this path matches: DuckDB takes every name of a file for a pattern."""
    return _GLOB.sub(r"[\1]", path)


def _name(column: str) -> str:
    """Return the name of a column in SQL. Raises KeyError for one that rows do not have."""
    KINDS[column]
    return f'"{column}"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn an error of DuckDB into a UsageError."""
    import duckdb  # noqa: PLC0415 - an extra

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise UsageError(f"{what} needs more memory than there is: {_first_line(error)}") from None
    except duckdb.Error as error:
        raise UsageError(f"{what}: {one_line(_PLACE.sub('', str(error)))}") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
