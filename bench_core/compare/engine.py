"""Run a comparison: from the rows of several tables to one Result.

The modules in the order of the data flow: loading (files), pairing (which rows are the same work), replicates (the
processes of each side), spread (assumed for single runs), ratio (with its interval), verdicts (which claims are
supported), best, conditions, implausible, gates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from itertools import groupby
from operator import attrgetter, itemgetter

from bench_core import stats
from bench_core.compare import conditions, gates, implausible, pairing
from bench_core.compare.best import Ranking, best_of, rank
from bench_core.compare.labels import row_name
from bench_core.compare.loading import Reading
from bench_core.compare.options import BEST_CPU, CompareOptions
from bench_core.compare.replicates import Replicates, collect_replicates
from bench_core.compare.result import Comparison, Key, Mean, Result, Verdict
from bench_core.compare.spread import Spreads
from bench_core.compare.verdicts import Pair, judge, verdict_of_mean
from bench_core.errors import NothingToCompare, UsageError
from bench_core.results import filters
from bench_core.text import no_such


def compare(readings: Sequence[Reading], options: CompareOptions | None = None) -> Result:
    """Compare the tables and return the Result.

    Raises UsageError for an invalid filter or baseline, TableError for tables that contradict each other,
    NothingToCompare if no two results are of the same work, IncompatibleError if a condition of `require_same`
    differs.
    """
    options = options or CompareOptions()
    kept = [replace(reading, rows=filters.selected(reading.rows, options.where)) for reading in readings]
    grid = pairing.arrange(kept, options)
    rankings = rank(kept, options, needs_both=options.baseline != BEST_CPU)
    sides = _sides(grid.sides, options.baseline)
    spreads = Spreads.of(readings)
    comparisons = judge(_pairs(grid, sides, rankings), options.min_effect, options.confidence, spreads)
    best = best_of(rankings, options, spreads)
    if not best and all(c.ratio is None for c in comparisons):
        raise NothingToCompare(_why_nothing(readings, grid, options, comparisons))
    known = conditions.gather(kept, options.columns)
    conditions.require_same(options.require_same, known, comparisons, grid.sides)
    tables = [reading.rows for reading in kept]
    found = implausible.implausible_rows(tables)
    strange = {id(row): text for row, text in found}
    if strange:
        marked = ((c, _implausible_in(c, strange)) for c in comparisons)
        comparisons = [replace(c, implausible=texts) if texts else c for c, texts in marked]
    lines = tuple(dict.fromkeys(f"{row_name(row)}: {text}" for row, text in found))
    return Result(
        input_files=tuple(reading.input_file for reading in readings),
        sides=sides,
        baseline=sides[0],
        columns=options.columns,
        row_fields=options.rows,
        environment=conditions.differences(known, grid.sides),
        comparisons=tuple(comparisons),
        best=best,
        means=tuple(_means(comparisons, options.min_effect)),
        implausible=lines,
        notes=tuple(_notes(readings, grid, comparisons)),
        gates=gates.judged(comparisons, tables, lines, options),
        min_effect=options.min_effect,
        confidence=options.confidence,
    )


def _sides(sides: Sequence[str], baseline: str) -> tuple[str, ...]:
    """Return the sides with the baseline first."""
    if baseline == BEST_CPU:
        return (BEST_CPU, *sides)
    if baseline and baseline not in sides:
        raise UsageError(f"--baseline: {no_such('side', baseline, (*sides, BEST_CPU))}")
    first = baseline or next(iter(sides), "")
    return (first, *(side for side in sides if side != first))


def _pairs(grid: pairing.Grid, sides: Sequence[str], rankings: Sequence[Ranking]) -> list[Pair]:
    """Return a Pair for every key and contender with an entry on either side, in the order of the keys."""
    entries = {
        key: {side: collect_replicates(side, found) for side, found in cells.items()}
        for key, cells in grid.cells.items()
    }
    if sides[0] == BEST_CPU:
        best = {ranking.key.work: ranking.cpu[0] for ranking in rankings if ranking.cpu and ranking.is_checked}
        for key, cells in entries.items():
            if key.work in best:
                cells[BEST_CPU] = best[key.work]
    pairs: list[Pair] = []
    for side in sides[1:]:
        pairs += _pairs_of(entries, sides[0], side)
    places = {side: place for place, side in enumerate(sides)}
    ranks: dict[int, int] = {}  # of the keys by their id, equal ones of equal order: each order is made once
    orders = sorted(((key.order, id(key)) for key in entries), key=itemgetter(0))
    for place, (_, alike) in enumerate(groupby(orders, key=itemgetter(0))):
        ranks.update((key, place) for _, key in alike)
    return sorted(pairs, key=lambda pair: (ranks[id(pair.key)], places[pair.side]))


def _pairs_of(entries: dict[Key, dict[str, Replicates]], against: str, side: str) -> list[Pair]:
    left = [key for key, cells in entries.items() if against in cells and side not in cells]
    right = [key for key, cells in entries.items() if side in cells and against not in cells]
    valued = (
        [key for key in left if entries[key][against].entry.ok],
        [key for key in right if entries[key][side].entry.ok],
    )
    twins = pairing.twins(*valued)
    taken = {twin for twin, _ in twins.values()}
    otherwise = _measured_otherwise(*valued) | _measured_otherwise(*reversed(valued))
    pairs = []
    for key, cells in entries.items():
        if key in twins:
            twin, fields = twins[key]
            pairs.append(Pair(key, side, against, cells[against], entries[twin][side], fields))
        elif key not in taken and (against in cells or side in cells):
            both = cells.get(against), cells.get(side)
            pairs.append(Pair(key, side, against, *both, otherwise=otherwise.get(key, "")))
    return pairs


def _measured_otherwise(keys: Iterable[Key], others: Iterable[Key]) -> dict[Key, str]:
    """Return how the other side measured the same, by the keys of one side that only a clock or a suite tells apart."""
    named = {_without_clock_and_suite(other): other for other in others}
    said: dict[Key, str] = {}
    for key in keys:
        other = named.get(_without_clock_and_suite(key), key)
        if other.clock != key.clock:
            said[key] = f"measured by the {other.clock} clock only" if other.clock else "measured by no clock only"
        elif other.suite != key.suite:
            said[key] = f"measured in the suite {other.suite} only"
    return said


_without_clock_and_suite = attrgetter(
    *(f.name for f in fields(Key) if f.compare and f.name not in {"case_id", "suite", "clock"})
)


def _means(comparisons: Sequence[Comparison], min_effect: float) -> Iterator[Mean]:
    """Yield the geometric mean of each side over the keys that all sides have, by metric, clock and unit.

    If there is no such key, yield that of each side over the keys that it and the baseline have.
    """
    kinds: dict[tuple[str, str, str], dict[Key, list[Comparison]]] = {}
    for c in (c for c in comparisons if not c.nowhere):
        kinds.setdefault((c.key.metric, c.key.clock, c.key.unit), {}).setdefault(c.key, []).append(c)
    sides = list(dict.fromkeys(c.side for c in comparisons))
    for by_key in kinds.values():
        common = [cs for cs in by_key.values() if len(cs) == len(sides) and all(c.ratio is not None for c in cs)]
        for side in sides:
            mine = [c for cs in (common or by_key.values()) for c in cs if c.side == side]
            valued = [c for c in mine if c.ratio is not None]
            if valued:
                of = len(by_key) if common else len(mine)
                yield _mean(valued, of, min_effect, is_common=bool(common))


def _mean(mine: Sequence[Comparison], of: int, min_effect: float, *, is_common: bool) -> Mean:
    ratios = [(c.ratio or 1.0, c.ci_low or 1.0, c.ci_high or 1.0) for c in mine]
    ratio, low, high = (stats.geometric_mean(xs) for xs in zip(*ratios, strict=True))
    weakest = min(mine, key=lambda c: (c.verdict is Verdict.IDENTICAL, c.support))
    verdict = verdict_of_mean((ratio, low, high), weakest.support, min_effect)
    side, key = mine[0].side, mine[0].key
    evidence = (verdict, weakest.evidence, weakest.lacking)
    return Mean(side, key.metric, key.clock, key.unit, ratio, low, high, len(mine), of, *evidence, is_common)


def _implausible_in(c: Comparison, strange: dict[int, str]) -> tuple[str, ...]:
    rows = [row for entry in (c.baseline, c.contender) if entry for row in entry.rows]
    return tuple(dict.fromkeys(f"{row.machine}: {strange[id(row)]}" for row in rows if id(row) in strange))


def _notes(readings: Sequence[Reading], grid: pairing.Grid, comparisons: Sequence[Comparison]) -> list[str]:
    entries = [entry for c in comparisons for entry in (c.baseline, c.contender) if entry]
    notes = [*conditions.pooling_notes(entries), *(note for reading in readings for note in reading.notes)]
    notes += [f"{side}: left out, {reason}" for side, reason in grid.absent.items()]
    if grid.duplicates:
        count = len(grid.duplicates)
        rows, were, such = ("1 row occurs", "was", "") if count == 1 else (f"{count:,} rows occur", "were", "such as ")
        first, again = (reading.place(row) for reading, row in grid.duplicates[0])
        notes.append(f"{rows} in more than one file and {were} counted once: {such}{first} and {again}")
    return list(dict.fromkeys(notes))


def _why_nothing(
    readings: Sequence[Reading], grid: pairing.Grid, options: CompareOptions, comparisons: Sequence[Comparison]
) -> str:
    """Return why no two results could be compared, and how to fix it."""
    rows = sum(len(reading.rows) for reading in readings)
    if not grid.cells:
        left = "the filter and --metric leave none of them" if rows else "there are none"
        return f"nothing to compare: {rows:,} rows read, {left}"
    if len(grid.sides) == 1 and len(readings) > 1 and options.columns == ("machine",):
        return (
            f"nothing to compare: all tables are of machine {grid.sides[0]!r}; to compare its runs with each other, "
            "give them labels: before=A after=B"
        )
    if len(grid.sides) == 1:
        return (
            f"nothing to compare: {grid.sides[0]!r} is the only side; give a second table, or other columns with --col"
        )
    (commonest, count), *others = Counter(c.reason for c in comparisons).most_common()
    often = f"in {count:,} of {len(comparisons):,} comparisons: " if others else ""
    return f"nothing to compare: no case has values on two of the sides {', '.join(grid.sides)} ({often}{commonest})"
