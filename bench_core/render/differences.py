"""Lay out what differs between the environments of the sides: one line for each family of facts.

Result.environment has every difference, and so does JSON. Here thread variables, packages, CPU facts, ... are a line
each, and what repeats another line is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from bench_core.compare.conditions import MIXED, NOT_MEASURED, owner_of
from bench_core.compare.result import Result
from bench_core.machine.host import THREAD_VARIABLES
from bench_core.render.text_table import Table
from bench_core.text import printable

_FAMILIES = {"package": "packages", "env": "environment variables"}
_POOLS = "threadpools"
_THREADS_OF_A_POOL = re.compile(r" with \d+ threads")
_FEWEST_COMMON = 3  # words that all sides share are left out of a list from this number on
_MOST_NAMED = 6
_LONGEST = 600  # characters of a family on one side


@dataclass(frozen=True, slots=True)
class _Item:
    """A fact that differs: its owners (see owner_of), its name, and its text on each side; "" if unknown."""

    owners: tuple[str, ...]
    name: str
    texts: tuple[str, ...]

    @property
    def family(self) -> str:
        """The family: "packages", "cpu", "threads"; the name itself of a fact that belongs to none."""
        if _counts_threads(self):
            return "threads"
        first = self.name.partition(".")[0]
        return _FAMILIES.get(first, first)

    @property
    def label(self) -> str:
        """The name inside its family, with the owner if that is not the host."""
        name = self.name.partition(".")[2] or self.name
        return f"{name} of {', '.join(self.owners)}" if any(self.owners) else name


def table(result: Result) -> Table:
    """Return a table with a line for each family; without rows if nothing differs."""
    families: dict[str, list[_Item]] = {}
    for item in _items(result):
        if all(item.texts):
            families.setdefault(item.family, []).append(item)
    rows = [(name, _cells(name, items)) for name, items in families.items()]
    sides = _sides(result)
    if len(sides) == 2:
        return Table(("what", *sides), tuple((name, *cells) for name, cells in rows))
    return Table(("what", "value"), tuple((name, _stacked(sides, cells)) for name, cells in rows))


def lines(result: Result) -> tuple[str, ...]:
    """Return a line for each set of sides that do not know some facts, which others do."""
    unknown: dict[tuple[str, ...], list[_Item]] = {}
    sides = _sides(result)
    for item in _items(result):
        lacking = tuple(side for side, text in zip(sides, item.texts, strict=True) if not text)
        if lacking:
            unknown.setdefault(lacking, []).append(item)
    return tuple(f"Not known of {', '.join(lacking)}: {_known_elsewhere(items)}" for lacking, items in unknown.items())


def _known_elsewhere(items: Sequence[_Item]) -> str:
    """Return the facts that a side lacks: first those of a backend, whose rows are compared, with their values."""
    first = sorted(items, key=lambda item: not any(item.owners))
    names = [
        f"{item.label} (elsewhere {' and '.join(dict.fromkeys(t for t in item.texts if t not in {'', NOT_MEASURED}))})"
        if any(item.owners)
        else item.name
        for item in first[:_MOST_NAMED]
    ]
    more = len(first) - _MOST_NAMED
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _sides(result: Result) -> tuple[str, ...]:
    """Return the sides of the environment, which all differences share."""
    return tuple(printable(side, 200) for side, _ in result.environment[0].values) if result.environment else ()


def _items(result: Result) -> Iterator[_Item]:
    """Yield the differences without repetition: a fact of several owners with equal values is one."""
    owners: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for difference in result.environment:
        owner, name = owner_of(difference.name)
        texts = tuple(printable(text, 200) for _, text in difference.values)
        owners.setdefault((printable(name, 200), texts), []).append(printable(owner, 200))
    names = {name for name, _ in owners}
    says_threads = _every_row_says_its_threads(result)
    for (name, texts), named in owners.items():
        if name in named and f"package.{name}" in names:
            continue  # a worker repeats the version of its library
        item = _Item(tuple(dict.fromkeys(named)), name, texts)
        if says_threads:
            item = _without_threads(item)
        if len(set(item.texts)) > 1:
            yield item


def _every_row_says_its_threads(result: Result) -> bool:
    entries = (entry for c in result.compared for entry in (c.baseline, c.contender) if entry)
    return all(row.threads is not None for e in entries for row in e.rows if row.device_type == "cpu")


def _without_threads(item: _Item) -> _Item:
    """Return an item without differences of threads that follow from which thread counts were measured.

    Rows are paired by their threads. So a side that was measured with 1 and 2 threads does not differ from one that was
    measured with 2.
    """
    if item.name == _POOLS:
        pools = ({_THREADS_OF_A_POOL.sub("", text): None for text in each.split(MIXED)} for each in item.texts)
        return replace(item, texts=tuple(MIXED.join(each) for each in pools))
    if _counts_threads(item):
        sets = [set(text.split(MIXED)) for text in item.texts]
        if all(one <= other or other <= one for one, other in combinations(sets, 2)):
            return replace(item, texts=("",) * len(item.texts))
    return item


def _counts_threads(item: _Item) -> bool:
    variable = item.name.removeprefix("env.") in THREAD_VARIABLES
    return variable or (any(item.owners) and item.name.endswith(".threads"))


def _cells(family: str, items: Sequence[_Item]) -> tuple[str, ...]:
    """Return the text of a family on each side: "model AMD EPYC; cores 2", or the value alone of a single fact."""
    by_texts: dict[tuple[str, ...], list[_Item]] = {}
    for item in _agreeing(items) if family == "threads" else items:
        by_texts.setdefault(_without_common(item.texts), []).append(item)
    parts = [(_label(family, alike), texts) for texts, alike in by_texts.items()]
    cells = (
        "; ".join(f"{label} {texts[i]}".strip() for label, texts in parts if texts[i] != NOT_MEASURED)
        for i in range(len(items[0].texts))
    )
    return tuple(printable(cell or NOT_MEASURED, _LONGEST) for cell in cells)


def _agreeing(items: Sequence[_Item]) -> Iterator[_Item]:
    """Yield items with the texts of all that do not contradict them where they were not measured themselves."""
    for item in items:
        texts = item.texts
        for other in (other.texts for other in items):
            pairs = list(zip(texts, other, strict=True))
            if all(one == two or NOT_MEASURED in {one, two} for one, two in pairs):
                texts = tuple(two if one == NOT_MEASURED else one for one, two in pairs)
        yield replace(item, texts=texts)


def _label(family: str, items: Sequence[_Item]) -> str:
    if family == "threads":
        names = list(dict.fromkeys(item.name.removeprefix("env.") for item in items))
        return f"{len(names)} variables:" if len(names) > 1 else f"{names[0]}:"
    if [item.name for item in items] == [family]:
        return ""
    return ", ".join(item.label for item in items)


def _without_common(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return lists without the words that all sides share: "the common 7, avx512_fp16"; other texts unchanged."""
    words = [text.split(", ") for text in texts]
    common = set(words[0]).intersection(*words[1:])
    if len(common) < _FEWEST_COMMON:
        return texts
    rest = ([word for word in each if word not in common] for each in words)
    return tuple(", ".join([f"the common {len(common)}", *each]) for each in rest)


def _stacked(sides: Iterable[str], cells: Iterable[str]) -> str:
    """Return a line for each value, with the sides that have it."""
    by_value: dict[str, list[str]] = {}
    for side, cell in zip(sides, cells, strict=True):
        if cell != NOT_MEASURED:
            by_value.setdefault(cell, []).append(side)
    return "\n".join(f"{', '.join(named)}: {cell}" for cell, named in by_value.items())
