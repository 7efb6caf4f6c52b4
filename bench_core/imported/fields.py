"""Read JSON of unknown origin field by field. Each problem raises TableError, which names the file and the field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_core.errors import TableError
from bench_core.records import is_quantity
from bench_core.text import printable, quoted

_DEEPEST = 40  # levels; the formats that are read have ten
_MOST_DIGITS = 300


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a JSON file. where: its place, as in `benchmarks[3].stats.mean`; "" for the whole file."""

    path: Path
    value: Any
    where: str = ""

    @classmethod
    def of_text(cls, path: Path, text: str) -> Node:
        """Return the object that a JSON text is.

        Raises TableError if it is none, or is nested deeper than any known format. NaN and infinities are read, as some
        programs write them, and refused by `number`.
        """
        try:
            found = json.loads(text, parse_float=float, parse_int=_integer)
        except json.JSONDecodeError as error:
            what = "ends in the middle: it was cut off" if error.pos >= len(text.rstrip()) else f"not JSON: {error.msg}"
            raise TableError(path, what, error.lineno) from None
        except RecursionError:
            raise TableError(path, f"JSON that is nested more than {_DEEPEST} deep") from None
        level = [found]
        for _ in range(_DEEPEST):
            level = [item for value in level if isinstance(value, dict | list) for item in _items(value)]
        if level:
            raise TableError(path, f"JSON that is nested more than {_DEEPEST} deep")
        if not isinstance(found, dict):
            raise TableError(path, "JSON, but not an object")
        return cls(path, found)

    def refuse(self, what: str) -> TableError:
        """Return the error for this value."""
        return TableError(self.path, f"{printable(self.where, 120) or 'the file'}: {what}")

    def has(self, name: str) -> bool:
        """Return whether a field is there and not null."""
        return isinstance(self.value, Mapping) and self.value.get(name) is not None

    def __getitem__(self, name: str) -> Node:
        """Return a field. Raises TableError if it is missing or null."""
        if not isinstance(self.value, Mapping):
            raise self.refuse(f"not an object, so that it has no {name}")
        found = self.optional(name)
        if found.value is None:
            raise found.refuse("is missing")
        return found

    def optional(self, name: str) -> Node:
        """Return a field, with the value None if there is none."""
        value = self.value.get(name) if isinstance(self.value, Mapping) else None
        return Node(self.path, value, f"{self.where}.{name}".lstrip("."))

    def __iter__(self) -> Iterator[Node]:
        """Yield the items of a list; none of null."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.refuse("not a list")
        for i, item in enumerate(self.value):
            yield Node(self.path, item, f"{self.where}[{i}]")

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of an object; none of null."""
        if self.value is None:
            return {}
        if not isinstance(self.value, Mapping):
            raise self.refuse("not an object")
        return self.value

    @property
    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.value, str):
            raise self.refuse("is missing" if self.value is None else "not a text")
        if not self.value.strip():
            raise self.refuse("is empty")
        return self.value

    @property
    def text_or_empty(self) -> str:
        """A text, "" for anything else."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def number(self) -> float:
        """A finite number within the range of a quantity, or 0."""
        return checked_number(self.value, self)

    @property
    def count(self) -> int:
        """An integer of at least 0."""
        number = self.number
        if number != int(number) or not 0 <= number < 2**53:
            raise self.refuse(f"{_shown(self.value)} is not a count")
        return int(number)


def checked_number(value: Any, node: Node) -> float:
    """Return a JSON number as a float. Raises TableError of this node for any other value, or one beyond quantities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise node.refuse("is missing" if value is None else f"{_shown(value)} is not a number")
    if not math.isfinite(value) or (value != 0 and not is_quantity(abs(value))):
        raise node.refuse(f"{_shown(value)} is not a number that can be measured")
    return float(value)


def parsed_number(text: str, refuse: Node | None = None) -> float | None:
    """Return the number that a text of a table is, None if it is none; with a node, TableError is raised instead."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if math.isfinite(value) and (value == 0 or is_quantity(abs(value))):
        return value
    if refuse is not None:
        raise refuse.refuse(f"{quoted(text)} is not a number that can be measured")
    return None


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else printable(repr(value), 40)


def _items(value: dict[str, Any] | list[Any]) -> Any:
    return value.values() if isinstance(value, dict) else value


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _MOST_DIGITS else math.inf
