"""Columns of a table, in a few bytes a cell.

Most columns have few distinct values: `Coded` keeps each once, and a number a cell. The others are `Numbers`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]  # of rows, numbered from 0
Mask = NDArray[np.bool_]
_MOST = 1 << 40  # products of numbers of distinct values that are counted without renumbering: far below 2**63


@dataclass(frozen=True, slots=True)
class Coded:
    """A column. values: the distinct ones, in the order in which they appear first. codes: the place of each cell's."""

    values: Sequence[Any]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, cells: Iterable[Hashable]) -> Coded:
        """Return a column of these cells."""
        known: dict[Hashable, int] = {}
        codes = [known.setdefault(value, len(known)) for value in cells]
        return cls(list(known), np.array(codes, np.int32))

    @classmethod
    def constant(cls, value: Hashable, size: int) -> Coded:
        """Return a column of one value."""
        return cls([value], np.zeros(size, np.int32))

    def cells(self, places: Places | None = None) -> list[Any]:
        """Return the cells at these places, of all by default."""
        if len(self.values) == 1:
            return list(self.values) * len(self.codes if places is None else places)
        codes = self.codes if places is None else self.codes[places]
        return list(map(self.values.__getitem__, codes.tolist()))

    def mask(self, is_wanted: Callable[[Any], bool]) -> Mask:
        """Return for each cell whether its value is wanted; each value is asked about once."""
        wanted: Mask = np.fromiter(map(is_wanted, self.values), np.bool_, len(self.values))
        return wanted[self.codes]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of floating-point numbers, NaN where there is none."""

    array: NDArray[np.float64]

    @classmethod
    def of(cls, cells: Iterable[float | None]) -> Numbers:
        """Return a column of these cells."""
        return cls(np.array(list(cells), np.float64))

    def cells(self, places: Places | None = None) -> list[float | None]:
        """Return the cells at these places, of all by default; None where there is no number."""
        numbers: list[float | None] = (self.array if places is None else self.array[places]).tolist()
        return [None if x != x else x for x in numbers]  # noqa: PLR0124 - only NaN differs from itself


Column = Coded | Numbers


def numbered(columns: Iterable[NDArray[np.int32]], size: int) -> tuple[Places, Places]:
    """Return the number of each row's combination of codes, in the order in which they appear first, and where.

    >>> [part.tolist() for part in numbered([np.array([3, 1, 3]), np.array([0, 0, 0])], 3)]
    [[0, 1, 0], [0, 1]]
    """
    numbers = np.zeros(size, np.int64)
    count = 1
    for codes in columns:
        span = int(codes.max(initial=0)) + 1
        if count * span > _MOST:
            numbers = np.unique(numbers, return_inverse=True)[1]
            count = int(numbers.max(initial=0)) + 1
        if span > 1:
            numbers = numbers * span + codes
            count *= span
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks[inverse], first[order]
