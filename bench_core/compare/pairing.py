"""Decide which rows measure the same work and may be compared.

Every field that is not a column of the comparison is part of the key, so results of different backends, devices
or implementations are neither compared with each other nor pooled.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from statistics import mode

import numpy as np

from bench_core.compare.loading import Reading
from bench_core.compare.options import SIDES, CompareOptions
from bench_core.compare.replicates import Found
from bench_core.compare.result import QUANTITY, WORK, Key
from bench_core.errors import TableError
from bench_core.records import NOT_TRIED, Row, Status, is_several, type_of
from bench_core.results.columns import Mask
from bench_core.results.reader import first_difference
from bench_core.results.schema import COLUMNS, IDENTITY
from bench_core.results.table import Table
from bench_core.units import counted, natural

_identity = attrgetter(*IDENTITY)
_cells = attrgetter(*COLUMNS)

FIRST_BACKEND = "numpy"  # every machine has this backend, so it is the default baseline


@dataclass(slots=True)
class Grid:
    """Rows by key and side.

    duplicates: each row that was counted once and a repetition of it in another file. absent: the backends or devices
    of one machine that are not sides, with the reason: no case could be tried, or no other side can do their work.
    """

    sides: tuple[str, ...]
    cells: dict[Key, dict[str, list[Found]]] = field(default_factory=dict)
    duplicates: Sequence[tuple[Found, Found]] = ()
    absent: dict[str, str] = field(default_factory=dict)


def arrange(readings: Sequence[Reading], options: CompareOptions) -> Grid:
    """Return the rows by key and side.

    Raises TableError if two rows identify the same result but differ.
    """
    readings, duplicates = _distinct(readings)
    absent = {side: f"no case could be tried: {why}" for side, why in _absent(readings, options).items()}
    absent |= _alone_together(readings, options)
    if absent:
        readings = [reading.only(~_are_of(absent, reading.rows, options.columns)) for reading in readings]
    grid = Grid(_sides(readings, options.columns), duplicates=duplicates, absent=absent)
    wanted: list[Found] = []
    failures: list[Found] = []
    for reading in readings:
        rows = reading.rows
        is_ok, is_asked = rows.mask("status", Status.OK.__eq__), rows.mask("metric", options.metrics.__contains__)
        wanted += [(reading, row) for row in rows.only(is_ok & is_asked)]
        failures += [(reading, row) for row in rows.only(~is_ok)]
    paired = {} if "device" in options.columns else _devices_together(readings)
    for key, cells in _by_key(wanted, options, paired).items():
        _spread_threads(grid.cells, key, cells)
    _add_failures(grid.cells, failures, options, paired)
    return grid


Paired = Mapping[tuple[str, str, str], str]  # the device by which a row is paired, by machine, device and case_id


def _has_devices_together(readings: Sequence[Reading]) -> bool:
    return any(is_several(device) for reading in readings for (device,) in reading.rows.distinct("device"))


def _devices_together(readings: Sequence[Reading]) -> Paired:
    """Return for work across ranks the device by which it is paired: as many devices as it needs ("cuda:x2").

    A machine with eight GPUs and one with four have its ranks in common, though not its target. If a machine has
    several targets on which it was done, the smallest is paired, and the others as they are. On a CPU the target
    decides how many cores a rank has: there, another target is another device.
    """
    found: dict[tuple[str, str, str], Row] = {}
    for reading in readings if _has_devices_together(readings) else ():
        for row in reading.rows.only(reading.rows.mask("device", is_several)):
            if row.device_type != "cpu":
                found.setdefault((row.machine, row.device, row.case_id), row)
    smallest: dict[tuple[str, str, str], str] = {}
    for machine, device, case_id in sorted(found, key=lambda key: natural(key[1])):
        smallest.setdefault((machine, type_of(device), case_id), device)
    return {
        (machine, device, case_id): f"{kind}:x{found[machine, device, case_id].ranks}"
        for (machine, kind, case_id), device in smallest.items()
    }


def _as_paired(row: Row, paired: Paired) -> Row:
    """Return a row with the device by which it is paired."""
    device = paired.get((row.machine, row.device, row.case_id)) if paired else None
    return replace(row, device=device) if device else row


def _sides(readings: Iterable[Reading], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the sides in order: machines as given; other sides CPU first, NumPy first, then by backend and name.

    The order of rows cannot be used: a run may measure its cases in random order.
    """
    if "machine" in columns:
        return tuple(dict.fromkeys(side_name(v) for reading in readings for v in reading.rows.distinct(*columns)))
    places: dict[str, tuple[object, ...]] = {}
    for reading in readings:
        for *values, device_type, backend in reading.rows.distinct(*columns, "device_type", "backend"):
            side = side_name(values)
            place = (device_type != "cpu", backend != FIRST_BACKEND, backend, natural(side))
            places[side] = min(place, places.get(side, place))
    return tuple(sorted(places, key=places.__getitem__))


def side_name(values: Iterable[object]) -> str:
    """Return the side of a row: its values of the fields that are columns of the comparison."""
    return " ".join(str(value) for value in values if value is not None)


@functools.cache
def namer(columns: tuple[str, ...]) -> Callable[[Row], str]:
    """Return the function that returns the side of a row. It makes a text once for all rows of a side."""
    values, is_one = attrgetter(*columns), len(columns) == 1
    known: dict[object, str] = {}

    def name(row: Row) -> str:
        value = values(row)
        side = known.get(value)
        if side is None:
            side = known[value] = side_name((value,) if is_one else value)
        return side

    return name


def _absent(readings: Sequence[Reading], options: CompareOptions) -> dict[str, str]:
    """Return the sides on which no case could be tried, with the most frequent reason.

    A machine always stays a side, even without results: a gate on missing results must see it.
    """
    if "machine" in options.columns:
        return {}
    statuses: dict[str, set[str]] = {}
    for reading in readings:
        for *values, status in reading.rows.distinct(*options.columns, "status"):
            statuses.setdefault(side_name(values), set()).add(status)
    absent = [side for side, found in statuses.items() if side != options.baseline and NOT_TRIED.issuperset(found)]
    return {
        side: mode(
            reason
            for reading in readings
            for reason in reading.rows.only(_are_of({side}, reading.rows, options.columns)).cells("reason")
        )
        for side in absent
    }


def _alone_together(readings: Sequence[Reading], options: CompareOptions) -> dict[str, str]:
    """Return the sides that are devices together and have no case in common with any other, with the reason.

    Beside single devices all their work would be missing on the other sides, and that of the others on theirs.
    """
    if "machine" in options.columns or "device" not in options.columns or not _has_devices_together(readings):
        return {}
    cases: dict[str, set[str]] = {}
    single: set[str] = set()
    for reading in readings:
        for *values, device, case_id in reading.rows.distinct(*options.columns, "device", "case_id"):
            side = side_name(values)
            cases.setdefault(side, set()).add(case_id)
            single |= set() if is_several(device) else {side}
    sides = Counter(case_id for found in cases.values() for case_id in found)
    alone = [side for side, found in cases.items() if side not in single and all(sides[case] == 1 for case in found)]
    if len(alone) == len(cases) or options.baseline in alone:
        return {}
    return {
        side: f"no other side measured its {counted(len(cases[side]), 'case')} of devices together" for side in alone
    }


def _are_of(sides: Collection[str], rows: Table, columns: Sequence[str]) -> Mask:
    """Return for every row whether it is of one of these sides."""
    found, numbers = rows.groups(columns)
    of_sides: Mask = np.array([side_name(values) in sides for values in found], np.bool_)
    return of_sides[numbers]


def _distinct(readings: Sequence[Reading]) -> tuple[list[Reading], list[tuple[Found, Found]]]:
    """Return the readings without rows that occur again, and each of these after the one that was kept.

    Only rows of a run that is in several tables can occur again, unless somebody put a table together.
    """
    runs = Counter(run for reading in readings for run in reading.rows.distinct("run_id", "machine"))
    kept: dict[tuple[object, ...], Found] = {}
    duplicates: list[tuple[Found, Found]] = []
    distinct = []
    for reading in readings:
        rows = reading.rows
        found, numbers = rows.groups(("run_id", "machine"))
        suspect: Mask = np.array([not rows.are_distinct or runs[run] > 1 for run in found], np.bool_)
        is_new = np.ones(len(rows), np.bool_)
        suspects = suspect[numbers]
        for i, row in zip(np.flatnonzero(suspects).tolist(), rows.only(suspects), strict=True):
            mine = reading, row
            first = kept.setdefault(_identity(row), mine)
            if first is not mine:
                is_new[i] = False
                duplicates += _repeated(first, mine)
        distinct.append(reading if is_new.all() else reading.only(is_new))
    return distinct, duplicates


def _repeated(first: Found, again: Found) -> Iterator[tuple[Found, Found]]:
    """Yield two rows of one result, if they are two. Raises TableError if they differ."""
    (other_reading, other), (reading, row) = first, again
    if other != row:
        where = f"two different rows for {row.workload} {row.size} {row.backend} {row.device} of run {row.run_id}"
        differ = first_difference(COLUMNS, _cells(other), _cells(row))
        raise TableError(reading.place(row), f"{where}, see {other_reading.place(other)}: {differ}")
    if other is not row:
        yield first, again


def _by_key(
    found: Iterable[Found], options: CompareOptions, paired: Paired
) -> dict[Key, dict[str, dict[int | None, list[Found]]]]:
    """Return rows by key (without threads), side and thread count."""
    by_identity: dict[tuple[object, ...], dict[str, dict[int | None, list[Found]]]] = {}
    cells: dict[Key, dict[str, dict[int | None, list[Found]]]] = {}
    who, name = _who(options), namer(options.columns)
    identify = attrgetter("case_id", *WORK, *QUANTITY, *who)
    has_threads = "threads" in options.columns  # then each count is a side of its own
    for reading, row in found:
        as_paired = _as_paired(row, paired)
        identity = identify(as_paired)
        by_side = by_identity.get(identity)
        if by_side is None:
            by_side = by_identity[identity] = cells[_key(as_paired, who)] = {}
        count = None if has_threads else row.threads
        by_side.setdefault(name(row), {}).setdefault(count, []).append((reading, row))
    return cells


def _who(options: CompareOptions) -> tuple[str, ...]:
    """Return the fields in `Key.who`: those that are not columns, without threads (see `_spread_threads`)."""
    return tuple(name for name in SIDES if name not in {*options.columns, "threads"})


def _spread_threads(
    cells: dict[Key, dict[str, list[Found]]], key: Key, sides: Mapping[str, Mapping[int | None, list[Found]]]
) -> None:
    """Add each side's largest thread count under the key without threads, and each smaller count under its own key.

    The table does not record whether a thread count was chosen or is the maximum. So the largest counts of the
    sides are compared with each other, and a footnote reports counts that differ.
    """
    largest = {side: max(counts, key=lambda count: count or 0) for side, counts in sides.items()}
    cells[key] = {side: list(counts[largest[side]]) for side, counts in sides.items()}
    smaller = {n for side, counts in sides.items() for n in counts if n is not None and n != largest[side]}
    for count in sorted(smaller):
        named = replace(key, who=(*key.who, ("threads", str(count))))
        cells[named] = {side: list(counts[count]) for side, counts in sides.items() if count in counts}


def _add_failures(
    cells: dict[Key, dict[str, list[Found]]], failures: Sequence[Found], options: CompareOptions, paired: Paired
) -> None:
    """Add rows without a value to every key of their case: a failed case has one row for all metrics."""
    who, side_of_row = _who(options), namer(options.columns)
    case_of_key, case_of_row = attrgetter("case_id", *WORK), attrgetter("case_id", *WORK, *who)
    by_case: dict[tuple[object, ...], list[tuple[str | None, dict[str, list[Found]]]]] = {}
    for key, by_side in cells.items():
        named = dict(key.who)
        address = named.get("device", "")
        # A machine without a GPU has rows for "cuda", which match "cuda:0" of other machines.
        for device in {address, type_of(address)}:
            measured_by = (device if name == "device" else named[name] for name in who)
            by_case.setdefault((*case_of_key(key), *measured_by), []).append((named.get("threads"), by_side))
    for reading, row in failures:
        as_paired = _as_paired(row, paired)
        places = by_case.get(case_of_row(as_paired))
        if places is None:
            places = [(None, cells.setdefault(_key(as_paired, who), {}))]
        side = side_of_row(row)
        for threads, by_side in places:
            if threads is None or str(row.threads) == threads:
                by_side.setdefault(side, []).append((reading, row))


_work = attrgetter("case_id", *WORK, *QUANTITY)  # in the order of the fields of Key


def _key(row: Row, who: Sequence[str]) -> Key:
    who_is = tuple((name, getattr(row, name)) for name in who)
    return Key(*_work(row), who_is)  # type: ignore[call-arg]


def twins(left: Iterable[Key], right: Iterable[Key]) -> dict[Key, tuple[Key, tuple[str, ...]]]:
    """Return the near match on the right of each unmatched key on the left, and the fields that differ.

    Keys are near matches if suite, workload, size, metric, clock and `who` are equal. If there are several, the one
    with the fewest differing fields is used.
    """
    free = list(right)
    matched: dict[Key, tuple[Key, tuple[str, ...]]] = {}
    by_name: dict[tuple[object, ...], list[Key]] = {}
    for key in free:
        by_name.setdefault(_name(key), []).append(key)
    for key in left:
        near = by_name.get(_name(key), [])
        if not near:
            continue
        best = min(near, key=lambda other: len(_differing(key, other)))
        near.remove(best)
        matched[key] = (best, _differing(key, best) or ("case_id",))
    return matched


def _name(key: Key) -> tuple[object, ...]:
    return (key.suite, key.workload, key.size, key.metric, key.clock, key.who)


def _differing(first: Key, second: Key) -> tuple[str, ...]:
    return tuple(name for name in (*WORK, *QUANTITY) if first.get(name) != second.get(name))
