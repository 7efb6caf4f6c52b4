"""Lay out a comparison for people: sections of lines and tables, without markup.

The order is fixed: the answer (headline.py); rankings of several sides; ratios; best GPU against best CPU; cases that
were not compared; implausible values; notes; differences between the environments (differences.py); input files.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench_core.compare.result import CLAIMS, WHO, WORK, Comparison, Entry, Key, Result, Verdict
from bench_core.records import LAUNCH_BOUND, Clock
from bench_core.render import differences, headline
from bench_core.render.text_table import Table
from bench_core.text import printable
from bench_core.units import show

short = functools.partial(printable, longest=200)  # every text from a file must pass through this
_UNSAID = {"", "default", "ieee", "resident", "hot"}  # the usual values, which labels omit
_MOST_NAMED = 3
VERDICT = "Verdict"  # the title of the first section


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with lines and tables below it."""

    title: str
    lines: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(slots=True)
class _Footnotes:
    """The footnotes of a table: distinct texts, referenced by number."""

    texts: list[str] = field(default_factory=list)

    def mark(self, *texts: str) -> str:
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
        return "".join(f" ({self.texts.index(text) + 1})" for text in dict.fromkeys(texts))

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(f"({number}) {printable(text, 300)}" for number, text in enumerate(self.texts, start=1))


def sections(result: Result, sides_per_table: int = 99, most_rows: int | None = None) -> list[Section]:
    """Return a comparison as sections; empty sections are left out.

    most_rows: the most rows of a table of cases. Claimed changes are kept before others, and a line says how many rows
    are left out.
    """
    every = (
        Section(VERDICT, headline.answer(result)),
        *(Section(title, tables=(table,)) for title, table in headline.rankings(result)),
        *_ratios(result, max(1, sides_per_table), most_rows),
        _best(result, most_rows),
        _unmatched(result),
        Section("Implausible values", _first(result.implausible, 20)),
        Section("Notes", _notes(result)),
        _environment(result),
        _read(result),
    )
    return [section for section in every if section.lines or section.tables]


def _first(lines: Sequence[str], most: int) -> tuple[str, ...]:
    more = (f"... and {len(lines) - most:,} more: see --format json",) if len(lines) > most else ()
    return (*(short(line) for line in lines[:most]), *more)


def _notes(result: Result) -> tuple[str, ...]:
    mean = (
        "The interval of a geometric mean is the widest: it assumes that the errors of all cases are fully correlated."
    )
    return (*_first(result.notes, 12), *((mean,) if result.means else ()))


def _environment(result: Result) -> Section:
    table, lines = differences.table(result), differences.lines(result)
    every = (*lines, "Every fact that differs: --format json") if table.rows or lines else ()
    return Section("Environment differences", every, (table,) if table.rows else ())


def _read(result: Result) -> Section:
    rows = []
    for source in result.input_files:
        statuses = ", ".join(f"{count:,} {status}" for status, count in source.statuses)
        runs = f"{len(source.run_ids)} runs, " if len(source.run_ids) > 1 else ""
        what = f"{runs}{source.rows:,} rows: {statuses}" if source.rows else "no rows"
        name = source.label or ", ".join(source.machines[:_MOST_NAMED])
        rows.append((short(name), short(source.path), what))
    return Section("Read", tables=(Table(("side", "file", "rows"), tuple(rows)),))


def _ratios(result: Result, sides_per_table: int, most_rows: int | None) -> Iterator[Section]:
    """Yield a section for each metric and clock that has a ratio."""
    kinds = dict.fromkeys((c.key.metric, c.key.clock, c.key.unit) for c in result.compared)
    contenders = result.sides[1:]
    for metric, clock, unit in kinds:
        mine = [c for c in result.comparisons if (c.key.metric, c.key.clock, c.key.unit) == (metric, clock, unit)]
        fields, constants = label_fields([c.key for c in mine if c.ratio is not None], result.row_fields)
        chunks = [contenders[i : i + sides_per_table] for i in range(0, len(contenders), sides_per_table)]
        make = _pair_table if len(contenders) == 1 else _matrix
        kept = _strongest(mine, most_rows)
        tables = (make(kept, result, sides, fields) for sides in chunks)
        bases = ", ".join(dict.fromkeys(c.basis for c in mine if c.basis))
        lines = [f"Baseline: {short(result.baseline)}. Values and their ratios are of the {bases}."]
        lines += [f"The same for all: {', '.join(constants)}."] if constants else []
        lines += _left_out(len({c.key for c in mine if c.ratio is not None} - {c.key for c in kept}))
        title = f"{metric} ({clock} clock)" if clock else metric
        yield Section(title, tuple(lines), tuple(table for table in tables if table.rows))


_STRENGTH = (Verdict.SLOWER, Verdict.FASTER, Verdict.INDICATED)  # the rows to keep first in a table that is cut


def _strongest(comparisons: Sequence[Comparison], most: int | None) -> list[Comparison]:
    """Return the comparisons of the `most` keys whose verdicts matter most, in their order; all if `most` is None."""
    ranks: dict[Key, int] = {}
    for c in (c for c in comparisons if c.ratio is not None):
        rank = _STRENGTH.index(c.verdict) if c.verdict in _STRENGTH else len(_STRENGTH)
        ranks[c.key] = min(rank, ranks.get(c.key, rank))
    if most is None or len(ranks) <= most:
        return list(comparisons)
    kept = set(sorted(ranks, key=ranks.__getitem__)[:most])
    return [c for c in comparisons if c.key in kept]


def _left_out(count: int) -> list[str]:
    rows = "row is" if count == 1 else "rows are"
    return [f"{count:,} {rows} left out, claimed changes last: --format md shows all"] if count else []


def _pair_table(mine: Sequence[Comparison], result: Result, sides: Sequence[str], fields: Sequence[str]) -> Table:
    notes = _Footnotes()
    rows = []
    for c in mine:
        if c.ratio is not None and c.side in sides:
            values = [show(value, c.key.unit) for value in c.values or ()]
            rows.append((label(c.key, fields), *values, c.change, c.interval, c.word + _marks(c, notes)))
    header = ("case", short(result.baseline), short(sides[0]), "change", _interval_title(result), "verdict")
    return Table(header, tuple(rows), frozenset({1, 2, 3}), notes.lines)


def _matrix(mine: Sequence[Comparison], result: Result, sides: Sequence[str], fields: Sequence[str]) -> Table:
    notes = _Footnotes()
    by_key: dict[Key, dict[str, Comparison]] = {}
    for c in mine:
        by_key.setdefault(c.key, {})[c.side] = c
    rows = []
    for key, by_side in by_key.items():
        here = [by_side.get(side) for side in sides]
        if any(c and c.ratio is not None for c in here):
            first = next(show(c.values[0], key.unit) for c in here if c and c.values)
            rows.append((label(key, fields), first, *(_matrix_cell(c, notes) for c in here)))
    return Table(("case", short(result.baseline), *map(short, sides)), tuple(rows), frozenset({1}), notes.lines)


def _matrix_cell(c: Comparison | None, notes: _Footnotes) -> str:
    if c is None or c.ratio is None:
        return (c.verdict if c else "missing") + (notes.mark(c.reason) if c else "")
    return f"{c.change}\n{c.interval}\n{c.word}{_marks(c, notes)}"


def _marks(c: Comparison, notes: _Footnotes) -> str:
    """Return the footnote marks of the qualifications of a ratio; what a cell says itself is not repeated."""
    reason = c.reason.partition("; ")[2] if c.verdict in (*CLAIMS, Verdict.INDICATED) else c.reason
    return notes.mark(*([reason] if reason else []), *map(str, c.conditions), *c.implausible, *_not_the_device(c))


def _not_the_device(c: Comparison) -> Iterator[str]:
    """Yield a note if times by the device clock were limited by the host."""
    if c.key.clock == Clock.DEVICE:
        sides = [entry.side for entry in (c.baseline, c.contender) if entry and LAUNCH_BOUND in entry.flags]
        if sides:
            yield f"{LAUNCH_BOUND} in {', '.join(sides)}: the device waited for the host; this is the host's time"


def _interval_title(result: Result) -> str:
    return f"{100 * result.confidence:g} % interval"


def _best(result: Result, most_rows: int | None) -> Section:
    notes = _Footnotes()
    kept = result.best[:most_rows]
    fields, _ = label_fields([b.comparison.key for b in result.best], result.row_fields)
    rows = []
    for best in kept:
        c = best.comparison
        what = label(c.key, fields) + (f" ({c.key.clock})" if c.key.clock != "wall" else "")
        gpu, cpu = _ranked(c.contender, best.gpu_runner_up), _ranked(c.baseline, best.cpu_runner_up)
        rows.append((what, gpu, cpu, f"{c.change}\n{c.interval}\n{c.word}{_marks(c, notes)}"))
    header = ("work", "best GPU, runner-up", "best CPU, runner-up", "GPU against CPU")
    tables = (Table(header, tuple(rows), footnotes=notes.lines),) if rows else ()
    luck = "The best of many equal rows is partly the luckiest, which favours the side that has more of them."
    lines = (luck, *_left_out(len(result.best) - len(kept))) if result.best else ()
    return Section("Best GPU against best CPU", lines, tables)


def _ranked(first: Entry | None, second: Entry | None) -> str:
    lines = [f"{show(e.value, e.row.unit)}: {short(e.name)}" for e in (first, second) if e]
    return "\n".join(lines if second else [*lines, "no other"])


def _unmatched(result: Result) -> Section:
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for c in result.unmatched:
        # The reason names the side without a value.
        word = f"incomparable in {short(c.side)}" if c.verdict is Verdict.INCOMPARABLE else str(c.verdict)
        groups.setdefault(("without a value on any side" if c.nowhere else word, c.reason), []).append(c)
    lines = []
    for (word, reason), cases in groups.items():
        fields, _ = label_fields([c.key for c in cases], (*result.row_fields, "backend", "implementation", "device"))
        names = dict.fromkeys(label(c.key, fields) for c in cases)
        more = ", ..." if len(names) > _MOST_NAMED else ""
        some = ", ".join(list(names)[:_MOST_NAMED])
        lines.append(f"{len(cases):,} {word} ({short(reason)}): {some}{more}")
    return Section("Not compared", _first(lines, 40))


def label_fields(keys: Sequence[Key], chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the fields that distinguish these keys, `chosen` first, and the values that all keys share, as text."""
    fields = list(chosen)
    rest = [name for name in (*WHO, *WORK) if name not in fields and name != "suite"]
    distinct = len({key.work + key.who for key in keys})
    labels = [tuple(key.get(name) for name in fields) for key in keys]
    for name in rest:
        longer = [(*text, key.get(name)) for text, key in zip(labels, keys, strict=True)]
        if len(set(labels)) < distinct and len(set(longer)) > len(set(labels)):
            fields.append(name)
            labels = longer
    shared = [name for name in rest if name not in fields and name not in {"params", "workload_version"}]
    values = [{key.get(name) for key in keys} for name in shared]
    return fields, [short(v) for only in values if len(only) == 1 for v in only if v not in _UNSAID]


def label(key: Key, fields: Sequence[str]) -> str:
    """Return the label of a row: the values of `fields`, without the usual values."""
    parts = []
    for name in fields:
        text = key.get(name)
        if text not in _UNSAID:
            parts.append(
                f"v{text}"
                if name == "workload_version"
                else f"{text} thread{'s' * (text != '1')}"
                if name == "threads"
                else text
            )
    return short(" ".join(parts)) or "everything"
