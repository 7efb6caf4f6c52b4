"""The rows of a table, made of its columns when they are asked for.

What is asked of all rows is asked of the columns, at once: most rows are never looked at, and need not be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from bench_core.records import Row
from bench_core.results.columns import Coded, Column, Mask, Numbers, Places, numbered
from bench_core.results.schema import KINDS

_BATCH = 1 << 10  # rows that are made at a time, column by column: they fit in a cache


@dataclass(slots=True)
class _Store:
    """What tables of the same rows share: all columns or all rows. The others are made when they are asked for."""

    columns: dict[str, Column]
    rows: list[Row | None]

    def column(self, name: str) -> Column:
        if name not in self.columns:
            cells = map(attrgetter(name), self.rows)
            self.columns[name] = Numbers.of(cells) if KINDS[name] is float else Coded.of(cells)
        return self.columns[name]

    def rows_at(self, places: Sequence[int]) -> Iterator[Row]:
        missing = [i for i in places if self.rows[i] is None]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            where = np.array(batch)
            columns = {name: column.cells(where) for name, column in self.columns.items()}
            for i, row in zip(batch, Row.of_columns(columns, len(batch)), strict=True):
                self.rows[i] = row
        return map(self.rows.__getitem__, places)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Table(Sequence[Row]):
    """Rows of results.csv: those at some places of the table that was read. Each row is one object.

    are_distinct: whether it is known that no two rows have one identity (schema.IDENTITY).
    """

    _store: _Store
    _places: Places
    are_distinct: bool = False

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Table:
        """Return a table of these rows."""
        if isinstance(rows, Table):
            return rows
        every: list[Row | None] = list(rows)
        return cls(_Store({}, every), np.arange(len(every)))

    @classmethod
    def of_columns(cls, columns: Mapping[str, Column], size: int) -> Table:
        """Return a table of all columns of a file, which has `size` rows of different identities."""
        return cls(_Store(dict(columns), [None] * size), np.arange(size), are_distinct=True)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Row]:
        return self._store.rows_at(self._places.tolist())

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Table: ...
    def __getitem__(self, place: int | slice) -> Row | Table:
        if isinstance(place, slice):
            return replace(self, _places=self._places[place])
        return next(self._store.rows_at([int(self._places[place])]))

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def place(self, row: Row) -> int:
        """Return the number of one of these rows, counted from 0, in the table that was read."""
        return next(i for i, mine in enumerate(self._store.rows) if mine is row)

    def only(self, mask: Mask) -> Table:
        """Return the rows that a mask marks."""
        return replace(self, _places=self._places[mask])

    def where(self, keep: Callable[[Row], bool]) -> Table:
        """Return the rows that `keep` accepts. Every row is made for it."""
        return self.only(np.fromiter(map(keep, self), np.bool_, len(self)))

    def cells(self, name: str) -> list[Any]:
        """Return one field of every row."""
        return self._store.column(name).cells(self._places)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a field of floating-point numbers of every row, NaN where there is none."""
        column = self._store.column(name)
        assert isinstance(column, Numbers), name  # noqa: S101 - the caller names a column of such numbers
        return column.array[self._places]

    def mask(self, name: str, is_wanted: Callable[[Any], bool]) -> Mask:
        """Return for every row whether a field, which is no floating-point number, has a value that is wanted."""
        return self._coded(name).mask(is_wanted)[self._places]

    def groups(self, names: Sequence[str]) -> tuple[list[tuple[Any, ...]], Places]:
        """Return the distinct values of these fields, in the order of their first rows, and each row's number."""
        codes = [self._coded(name).codes[self._places] for name in names]
        numbers, first = numbered(codes, len(self))
        values = [self._store.column(name).cells(self._places[first]) for name in names]
        return list(zip(*values, strict=True)), numbers

    def distinct(self, *names: str) -> list[tuple[Any, ...]]:
        """Return the distinct values of these fields, in the order in which they appear first."""
        return self.groups(names)[0]

    def of_machines(self, names: Sequence[str], numbers: Places) -> Table:
        """Return a table in which the machine of each row is the name that its number stands for."""
        if not self._store.columns.keys() >= KINDS.keys():  # of rows, not of columns
            named = zip(self, numbers.tolist(), strict=True)
            return Table.of(replace(row, machine=names[number]) for row, number in named)
        machines = Coded.of(names)
        codes = np.zeros(len(self._store.rows), np.int32)
        codes[self._places] = machines.codes[numbers]
        columns = {**self._store.columns, "machine": Coded(machines.values, codes)}
        return replace(self, _store=_Store(columns, [None] * len(codes)))

    def _coded(self, name: str) -> Coded:
        column = self._store.column(name)
        assert isinstance(column, Coded), name  # noqa: S101 - the caller names a column of texts or integers
        return column
