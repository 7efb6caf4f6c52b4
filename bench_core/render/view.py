"""Lay out a comparison for people: sections of lines and tables, without markup.

The order is fixed: the answer (headline.py); rankings of several sides; ratios; best GPU against best CPU; cases that
were not compared; implausible values; notes; differences between the environments (differences.py); input files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bench_core.compare.conditions import NOT_MEASURED
from bench_core.compare.labels import label, label_fields, short
from bench_core.compare.result import CLAIMS, BestPair, Comparison, Entry, Key, Result, Verdict
from bench_core.records import LAUNCH_BOUND, Clock
from bench_core.render import differences, headline
from bench_core.render.text_table import Table
from bench_core.text import printable
from bench_core.units import counted, show

_MOST_NAMED = 3
_MOST_REASONS = 5  # lines of one kind of cases that were not compared
VERDICT = "Verdict"  # the title of the first section


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with lines and tables below it."""

    title: str
    lines: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(slots=True)
class _Footnotes:
    """The footnotes of a table: distinct texts, referenced by number.

    doubts: what qualifies each ratio, by the id of its comparison. said: a side and a text that stands above the table,
    because it is true of all cases of the side, and is not repeated.
    """

    doubts: Mapping[int, Sequence[str]]
    said: frozenset[tuple[str, str]] = frozenset()
    texts: list[str] = field(default_factory=list)

    def mark(self, *texts: str) -> str:
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
        return "".join(f" ({self.texts.index(text) + 1})" for text in dict.fromkeys(texts))

    def of(self, c: Comparison) -> str:
        """Return the marks of the qualifications of a ratio."""
        return self.mark(*(text for text in self.doubts[id(c)] if (c.side, text) not in self.said))

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
    return (*_first(result.notes, 12), *([mean] if any(mean.cases > 1 for mean in result.means) else []))


def _environment(result: Result) -> Section:
    table, lines = differences.table(result), differences.lines(result)
    every = (*lines, "Every fact that differs: --format json") if table.rows or lines else ()
    return Section("Environment differences", every, (table,) if table.rows else ())


def _read(result: Result) -> Section:
    rows = []
    for source in result.input_files:
        statuses = ", ".join(f"{count:,} {status}" for status, count in source.statuses)
        runs = f"{len(source.run_ids)} runs, " if len(source.run_ids) > 1 else ""
        what = f"{runs}{counted(source.rows, 'row')}: {statuses}" if source.rows else "no rows"
        name = source.label or ", ".join(source.machines[:_MOST_NAMED])
        rows.append((short(name), short(source.path), what))
    return Section("Read", tables=(Table(("side", "file", "rows"), tuple(rows)),))


def _ratios(result: Result, sides_per_table: int, most_rows: int | None) -> Iterator[Section]:
    """Yield a section for each metric and clock that has a ratio."""
    kinds = dict.fromkeys((c.key.metric, c.key.clock, c.key.unit) for c in result.compared)
    needed = headline.lacking(result)
    for metric, clock, unit in kinds:
        mine = [c for c in result.comparisons if (c.key.metric, c.key.clock, c.key.unit) == (metric, clock, unit)]
        compared = [c for c in mine if c.ratio is not None]
        fields, constants = label_fields([c.key for c in compared], result.row_fields)
        shown = {c.side for c in compared}
        contenders = [side for side in result.sides[1:] if side in shown]
        tables_needed = -(-len(contenders) // sides_per_table)
        size = -(-len(contenders) // tables_needed)  # all tables of about one width
        chunks = [contenders[i : i + size] for i in range(0, len(contenders), size)]
        make = _pair_table if len(contenders) == 1 else _matrix
        kept = _strongest(mine, most_rows)
        cases = _cases(kept, fields)
        doubts = _doubts(compared, needed)
        said = _said_of_all(compared, doubts)
        tables = (make(cases, result, sides, _Footnotes(doubts, said)) for sides in chunks)
        bases = ", ".join(dict.fromkeys(c.basis for c in compared))
        lines = [f"Baseline: {short(result.baseline)}. Values and their ratios are of the {bases}."]
        lines += [f"The same for all: {', '.join(constants)}."] if constants else []
        others = [short(side) for side in result.sides[1:] if side not in shown]
        lines += [f"Without a case in common with the baseline: {', '.join(others)}."] if others else []
        lines += _above(said, contenders)
        lines += _left_out(len({c.key for c in compared} - {c.key for c in kept}))
        title = f"{metric} ({clock} clock)" if clock else metric
        yield Section(title, tuple(lines), tuple(table for table in tables if table.rows))


def _doubts(compared: Iterable[Comparison], needed: frozenset[str]) -> dict[int, list[str]]:
    """Return what qualifies each ratio, by the id of its comparison; what claims need is left out if it is `needed`."""
    return {id(c): _qualifications(c, needed) for c in compared}


def _said_of_all(compared: Sequence[Comparison], doubts: Mapping[int, list[str]]) -> frozenset[tuple[str, str]]:
    """Return the sides with the qualifications that all their cases have, of sides with several cases."""
    texts: dict[str, list[list[str]]] = {}
    for c in compared:
        texts.setdefault(c.side, []).append(doubts[id(c)])
    several = {side: each for side, each in texts.items() if len(each) > 1}
    return frozenset((side, text) for side, each in several.items() for text in set(each[0]).intersection(*each[1:]))


def _above(said: frozenset[tuple[str, str]], contenders: Sequence[str]) -> Iterator[str]:
    """Yield a line for each text that is true of all cases of some sides."""
    for text in sorted({text for _, text in said}):
        sides = [side for side in contenders if (side, text) in said]
        of = "" if len(sides) == len(contenders) else f" of {_listed(list(map(short, sides)))}"
        yield f"In every case{of}: {printable(text, 300)}."


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


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
    return [f"{count:,} {rows} left out; claimed changes are kept first: --format md shows all"] if count else []


def _cases(comparisons: Sequence[Comparison], fields: Sequence[str]) -> list[tuple[str, dict[str, Comparison]]]:
    """Return the label of each case that has a ratio, and its comparisons by side."""
    by_key: dict[Key, dict[str, Comparison]] = {}
    for c in comparisons:
        by_key.setdefault(c.key, {})[c.side] = c
    valued = {c.key for c in comparisons if c.ratio is not None}
    return [(label(key, fields), by_side) for key, by_side in by_key.items() if key in valued]


def _pair_table(
    cases: Iterable[tuple[str, Mapping[str, Comparison]]], result: Result, sides: Sequence[str], notes: _Footnotes
) -> Table:
    rows = []
    for name, by_side in cases:
        c = by_side.get(sides[0])
        if c and c.ratio is not None:
            values = [show(value, c.key.unit) for value in c.values or ()]
            rows.append((name, *values, c.change, c.interval, c.word + notes.of(c)))
    header = ("case", short(result.baseline), short(sides[0]), "ratio", _interval_title(result), "verdict")
    return Table(header, tuple(rows), frozenset({1, 2, 3}), notes.lines)


def _matrix(
    cases: Iterable[tuple[str, Mapping[str, Comparison]]], result: Result, sides: Sequence[str], notes: _Footnotes
) -> Table:
    rows = []
    for name, by_side in cases:
        here = [by_side.get(side) for side in sides]
        if any(c and c.ratio is not None for c in here):
            first = next(show(c.values[0], c.key.unit) for c in here if c and c.values)
            rows.append((name, first, *(_matrix_cell(c, notes) for c in here)))
    return Table(("case", short(result.baseline), *map(short, sides)), tuple(rows), frozenset({1}), notes.lines)


def _matrix_cell(c: Comparison | None, notes: _Footnotes) -> str:
    if c is None:
        return NOT_MEASURED
    if c.ratio is None:
        return NOT_MEASURED if c.absences == ((c.side, NOT_MEASURED),) else c.verdict + notes.mark(c.reason)
    return f"{c.change}\n{c.interval}\n{c.word}{notes.of(c)}"


def _qualifications(c: Comparison, needed: frozenset[str]) -> list[str]:
    """Return what qualifies a ratio; what its cell says itself is left out, and so is what claims need if `needed`."""
    reason = c.reason.partition("; ")[2] if c.verdict in (*CLAIMS, Verdict.INDICATED) else c.reason
    rest = "; ".join(part for part in reason.split("; ") if part not in needed)
    return [text for text in (rest, *map(str, c.conditions), *c.implausible, *_not_the_device(c)) if text]


def _not_the_device(c: Comparison) -> Iterator[str]:
    """Yield a note if times by the device clock were limited by the host."""
    if c.key.clock == Clock.DEVICE:
        sides = [entry.side for entry in (c.baseline, c.contender) if entry and LAUNCH_BOUND in entry.flags]
        if sides:
            yield f"{LAUNCH_BOUND} in {', '.join(sides)}: the device waited for the host; this is the host's time"


def _interval_title(result: Result) -> str:
    return f"{100 * result.confidence:g} % interval"


def _best(result: Result, most_rows: int | None) -> Section:
    kept = result.best[:most_rows]
    notes = _Footnotes(_doubts([best.comparison for best in kept], headline.lacking(result)))
    fields, _ = label_fields([b.comparison.key for b in result.best], result.row_fields)
    machines = {e.machine for b in result.best for e in _ranked_entries(b)}
    only = next(iter(machines)) if len(machines) == 1 else ""
    rows = []
    for best in kept:
        c = best.comparison
        what = label(c.key, fields)
        gpu = _ranked(c.contender, best.gpu_runner_up, only)
        cpu = _ranked(c.baseline, best.cpu_runner_up, only)
        rows.append((what, gpu, cpu, f"{c.change}\n{c.interval}\n{c.word}{notes.of(c)}"))
    header = ("work", "best GPU, runner-up", "best CPU, runner-up", "GPU against CPU")
    tables = (Table(header, tuple(rows), footnotes=notes.lines),) if rows else ()
    luck = "The best of many equal rows is partly the luckiest, which favours the side that has more of them."
    same = [f"All of {short(only)}."] if only else []
    lines = (luck, *same, *_left_out(len(result.best) - len(kept))) if result.best else ()
    return Section("Best GPU against best CPU", lines, tables)


def _ranked_entries(best: BestPair) -> Iterator[Entry]:
    c = best.comparison
    yield from (e for e in (c.contender, best.gpu_runner_up, c.baseline, best.cpu_runner_up) if e)


def _ranked(first: Entry | None, second: Entry | None, machine: str) -> str:
    """Return two results with their values and names, without the name of `machine`."""
    lines = [f"{show(e.value, e.row.unit)}: {short(e.name.removeprefix(f'{machine} '))}" for e in (first, second) if e]
    return "\n".join(lines if second else [*lines, "no other"])


def _unmatched(result: Result) -> Section:
    """Return the cases without a ratio, one line per kind and reason: of each kind those of the most cases first."""
    by_key: dict[Key, list[Comparison]] = {}
    for c in result.unmatched:
        by_key.setdefault(c.key, []).append(c)
    valued = {c.key for c in result.comparisons if not c.nowhere}
    kinds: dict[str, dict[str, list[Key]]] = {}
    for key, found in by_key.items():
        for c in found:
            if c.verdict is Verdict.INCOMPARABLE:
                kinds.setdefault(f"incomparable in {short(c.side)}", {}).setdefault(c.reason, []).append(key)
        absent = dict(absence for c in found for absence in c.absences)
        if absent:  # the reason names the sides without a value
            kind = "missing" if key in valued else "without a value on any side"
            kinds.setdefault(kind, {}).setdefault(_reasons(absent), []).append(key)
    lines = (line for kind, reasons in kinds.items() for line in _of_kind(kind, reasons, result.row_fields))
    return Section("Not compared", _first(tuple(lines), 40))


def _of_kind(kind: str, reasons: Mapping[str, Sequence[Key]], row_fields: Sequence[str]) -> Iterator[str]:
    """Yield a line for each of the commonest reasons, and one for all others: a whole run has dozens of them."""
    commonest = sorted(reasons, key=lambda reason: -len(reasons[reason]))
    shown = commonest if len(commonest) <= _MOST_REASONS else commonest[: _MOST_REASONS - 1]
    for reason in shown:
        keys = reasons[reason]
        fields, _ = label_fields(keys, (*row_fields, "backend", "implementation", "device"))
        distinct = _each_once(label(key, fields) for key in keys)
        names = list(islice(distinct, _MOST_NAMED + 1))
        more = ", ..." if len(names) > _MOST_NAMED else ""
        yield f"{len(keys):,} {kind} ({short(reason)}): {', '.join(names[:_MOST_NAMED])}{more}"
    others = commonest[len(shown) :]
    if others:
        count = sum(len(reasons[reason]) for reason in others)
        yield f"{count:,} {kind}, for {len(others):,} other reasons: see --format json"


def _each_once(texts: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        if text not in seen:
            seen.add(text)
            yield text


def _reasons(absent: Mapping[str, str]) -> str:
    """Return why sides have no value: "a: skipped; b and c: not measured"."""
    sides: dict[str, list[str]] = {}
    for side, why in absent.items():
        sides.setdefault(why, []).append(side)
    return "; ".join(f"{_listed(named)}: {why}" for why, named in sides.items())
