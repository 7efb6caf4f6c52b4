"""Render series of run medians: where they changed, what changed with them, and whether a regression is new."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from statistics import median
from typing import Any

from bench_core.compare.labels import label, label_fields, short
from bench_core.compare.result import WHO, Key
from bench_core.history.changes import RECENT, fewest_runs
from bench_core.history.series import Difference, Event, Look, Point, Series, Subject, expected_by_chance, shown_change
from bench_core.render.markdown import sections_as_markdown
from bench_core.render.terminal import sections_as_text
from bench_core.render.text_table import Table
from bench_core.render.view import VERDICT, Section
from bench_core.results.strict_csv import csv_text
from bench_core.text import harmless, printable
from bench_core.units import counted, show

HISTORY_VERSION = 1
_CHOSEN = ("machine", "workload", "size", "dtype", "backend", "device")
_BARS = "▁▂▃▄▅▆▇█"
_TREND = 24  # characters of a trend
_STEADY = 0.1  # share of the middle of a trend that it spans at least
_MOST_FACTS = 4  # that differ, in a cell
_SUBJECT = tuple(field.name for field in fields(Subject))
_EVENT = (
    *("kind", "run_id", "started_at", "before", "after", "change", "p_value"),
    *("commit_before", "commit_after", "differences"),
)


def history_text(every: Sequence[Series], look: Look | None, width: int, *, colour: bool = False, most: int = 0) -> str:
    """Return series as text. look: what the gate saw. most: the most lines of a table, 0 for all."""
    return sections_as_text(history_sections(every, look, most), width, colour=colour)


def history_markdown(every: Sequence[Series], look: Look | None, most: int = 0) -> str:
    """Return series as Markdown, as `history_text` does."""
    return sections_as_markdown(history_sections(every, look, most))


def history_sections(every: Sequence[Series], look: Look | None, most: int = 0) -> list[Section]:
    """Return the answer; the steps, largest first; the changes of the environment; and the series themselves."""
    names = _names([series.subject for series in every])
    found = [
        Section(VERDICT, tuple(_answer(every, look, names))),
        Section("Steps", tables=_steps(every, names, most)),
        Section("Changes of the environment, at which series begin anew", tables=_breaks(every, most)),
        Section("Series", tables=_series(every, names, most)),
    ]
    return [section for section in found if section.lines or section.tables]


def history_csv(every: Iterable[Series]) -> str:
    """Return one line for each step and break; `change` is a share of the level before."""
    lines = ([*_cells(s.subject), *map(_flat, _event(s, event).values())] for s in every for event in s.events)
    return csv_text([*_SUBJECT, *_EVENT], lines)


def history_json(every: Sequence[Series], look: Look | None = None) -> str:
    """Return everything as JSON (ASCII, no NaN): an object for each series with its points and events.

    "gate" is null, or what `--fail-on new-regression` saw: "alpha"; "looked", the number of series that were long
    enough; "too_short", that of the others; "at_breaks", that of series that became worse where their environment
    changed; and "regressions", each a subject with its event.
    """
    able, false = expected_by_chance(every)
    plain = {
        "history_version": HISTORY_VERSION,
        "series": [
            {
                **_named(series.subject),
                "points": [_point(point) for point in series.points],
                "events": [_event(series, event) for event in series.events],
            }
            for series in every
        ],
        "by_chance": {"parts": able, "steps": false},
        "gate": None if look is None else _gate(look),
    }
    return json.dumps(plain, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


# ---------------------------------------------------------------- the answer


def gate_lines(look: Look) -> list[str]:
    """Return a line for each new regression, with the largest first."""
    names = _names([new.series.subject for new in look.regressions])
    return [
        f"new-regression: {names[new.series.subject]}: {_change(new.series, new.step)} since "
        f"{_day(new.series, new.step)}" + f", commits {new.step.commits}" * bool(new.step.commits)
        for new in look.regressions
    ]


def undecided_line(look: Look) -> str:
    """Return why a look decided nothing; "" if it did."""
    if look.looked:
        return ""
    if not look.too_short:
        return "new-regression: of no series it is known whether higher or lower values are better"
    fewest = fewest_runs(look.alpha, RECENT)
    lacking = f"no series has {fewest} runs since its environment last changed"
    return f"new-regression: {lacking}; among many series each needs more"


def _answer(every: Sequence[Series], look: Look | None, names: dict[Subject, str]) -> Iterable[str]:
    runs = [len(series.points) for series in every]
    machines = {series.subject.machine for series in every}
    metrics = ", ".join(dict.fromkeys(series.subject.metric for series in every))
    lengths = f"{min(runs)} to {max(runs)} runs" if min(runs) < max(runs) else counted(runs[0], "run")
    yield f"{len(every):,} series of {metrics} of {counted(len(machines), 'machine')}, {lengths} each"
    yield _largest(steps, names) if (steps := _steps_of(every)) else "No steps"
    if look is not None:
        yield from (f"FAILED {line}" for line in gate_lines(look))
        if why := undecided_line(look):
            yield f"UNDECIDED {why}"
        elif not look.regressions:
            yield f"passed new-regression: none in {look.looked:,} series"
        if look.at_breaks:
            yield f"Not judged: {look.at_breaks:,} series became worse where their environment changed, see below"
        if look.looked and look.too_short:
            yield f"Not looked at: {look.too_short:,} series with too few runs since their environment last changed"
        if look.looked:
            yield f"If nothing ever changed, at most {100 * look.alpha:g} % of such looks would see one"


def _steps_of(every: Sequence[Series]) -> list[tuple[Series, Event]]:
    """Return the steps of all series, the largest first."""
    steps = [(series, event) for series in every for event in series.events if event.kind == "step"]
    return sorted(steps, key=lambda found: -found[1].size)


def _largest(steps: Sequence[tuple[Series, Event]], names: dict[Subject, str]) -> str:
    series, event = steps[0]
    which = "the largest " * (len(steps) > 1)
    return f"{counted(len(steps), 'step')}, {which}{_change(series, event)}: {names[series.subject]}"


# ---------------------------------------------------------------- tables


def _steps(every: Sequence[Series], names: dict[Subject, str], most: int) -> tuple[Table, ...]:
    events = _steps_of(every)
    if not events:
        return ()
    rows = [
        (_change(s, e), _value(s, e.before), _value(s, e.after), _day(s, e), e.commits, _p(e.p_value), names[s.subject])
        for s, e in events[: most or None]
    ]
    able, false = expected_by_chance(every)
    parts = counted(able, "part")
    chance = f"Steady series have steps by chance: at most {false:.2g} are expected here, in {parts} of "
    chance += "series (from one change of the environment to the next) that are long enough for a step"
    about = "commits: the step lies between them with a probability of 95 %. "
    about += "p: at most this share of steady series has a step as clear"
    header = ("change", "from", "to", "since", "commits", "p", "series")
    return (Table(header, tuple(rows), frozenset({1, 2, 5}), (*_left(events, most), chance, about)),)


def _breaks(every: Sequence[Series], most: int) -> tuple[Table, ...]:
    """Return a line for each change of an environment, with all series that it breaks."""
    groups: dict[tuple[str, str, tuple[Difference, ...]], list[tuple[Series, Event]]] = {}
    for series in every:
        for event in series.events:
            if event.kind == "break":
                where = series.subject.machine, event.latest.run_id, event.differences
                groups.setdefault(where, []).append((series, event))
    if not groups:
        return ()
    ordered = sorted(groups.items(), key=lambda group: -max(event.size for _, event in group[1]))
    rows = []
    for (machine, _, differences), events in ordered[: most or None]:
        series, first = events[0]
        rows.append((_day(series, first), short(machine), _facts(differences), str(len(events)), _spread(events)))
    header = ("since", "machine", "what changed", "series", "their change")
    note = "their change: the median over these series (smallest to largest); --format csv has a line for each"
    return (Table(header, tuple(rows), frozenset({3}), (*_left(ordered, most), note)),)


def _series(every: Sequence[Series], names: dict[Subject, str], most: int) -> tuple[Table, ...]:
    """Return a line for each series: first those that changed most."""
    ordered = sorted(every, key=lambda series: -max((event.size for event in series.events), default=0.0))
    rows = []
    for series in ordered[: most or None]:
        newest = series.points[-1]
        doubt = " (unchecked)" * series.is_unchecked
        name = names[series.subject] + doubt
        rows.append((name, str(len(series.points)), _value(series, newest.value), trend(series.values)))
    header = ("series", "runs", "newest", "from oldest to newest")
    return (Table(header, tuple(rows), frozenset({1, 2}), _left(ordered, most)),)


def _left(every: Sequence[object], most: int) -> tuple[str, ...]:
    more = len(every) - most if most else 0
    return (f"{counted(more, 'more line')}: --limit 0 shows all",) if more > 0 else ()


def trend(values: Sequence[float], most: int = _TREND) -> str:
    """Return a series as bars of characters, each of one run or the median of several.

    They reach from the lowest to the highest one, or over a tenth of the middle: what is steady looks so.

    >>> trend([1, 1, 1, 2])
    '▁▁▁█'
    >>> trend([1.0, 1.01, 1.0])
    '▄▅▄'
    """
    count = min(len(values), most)
    parts = [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]
    levels = [median(part) for part in parts]
    middle, width = (min(levels) + max(levels)) / 2, max(levels) - min(levels)
    width = max(width, _STEADY * abs(middle)) or 1.0
    top = len(_BARS) - 1
    return "".join(_BARS[round(((level - middle) / width + 0.5) * top)] for level in levels)


def _names(subjects: Sequence[Subject]) -> dict[Subject, str]:
    """Return a name for each subject: as few fields as tell them apart."""
    keys = [_key(subject) for subject in subjects]
    named, _ = label_fields(keys, _CHOSEN)
    return {subject: label(key, named) for subject, key in zip(subjects, keys, strict=True)}


def _key(subject: Subject) -> Key:
    texts = {field.name: getattr(subject, field.name) for field in fields(Key) if field.name in _SUBJECT}
    who = ((name, getattr(subject, name)) for name in WHO if name in _SUBJECT)
    return Key(**texts, who=tuple((name, "" if value is None else str(value)) for name, value in who))


def _change(series: Series, event: Event) -> str:
    """Return a change with its sign, and whether it is for the better: "+25.1 % worse"."""
    return f"{shown_change(event.relative)} {series.meaning(event)}".rstrip()


def _spread(events: Sequence[tuple[Series, Event]]) -> str:
    changes = sorted(event.relative for _, event in events)
    middle, least, most = map(shown_change, (median(changes), changes[0], changes[-1]))
    return middle if len(changes) == 1 else f"{middle} ({least.removesuffix(' %' * most.endswith('%'))} to {most})"


def _facts(differences: Sequence[Difference]) -> str:
    told = [f"{d.name}: {short(d.before)} -> {short(d.after)}" for d in differences[:_MOST_FACTS]]
    more = len(differences) - _MOST_FACTS
    return "\n".join([*told, *[f"and {counted(more, 'more fact')}"] * (more > 0)])


def _value(series: Series, value: float) -> str:
    return show(value, series.subject.unit)


def _day(series: Series, event: Event) -> str:
    return f"{series.points[event.index].started_at:%Y-%m-%d}"


def _p(p_value: float) -> str:
    return "<0.0001" if p_value < 1e-4 else f"{p_value:.1g}"


# ---------------------------------------------------------------- for programs


def _cells(subject: Subject) -> list[Any]:
    return [_plain(getattr(subject, name)) for name in _SUBJECT]


def _named(subject: Subject) -> dict[str, Any]:
    return dict(zip(_SUBJECT, _cells(subject), strict=True))


def _plain(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) else value


def _flat(value: Any) -> Any:
    """Return what stands in a cell of CSV."""
    if isinstance(value, list):
        return "; ".join(f"{each['name']}: {each['before']} -> {each['after']}" for each in value)
    return printable(value) if isinstance(value, str) else value


def _event(series: Series, event: Event) -> dict[str, Any]:
    point = series.points[event.index]
    values = (
        *(event.kind, harmless(point.run_id), _moment(point)),
        *(event.before, event.after, event.relative, event.p_value),
        *(event.earliest.commit, event.latest.commit),
        [{"name": d.name, "before": d.before, "after": d.after} for d in event.differences],
    )
    return dict(zip(_EVENT, values, strict=True))


def _point(point: Point) -> dict[str, Any]:
    ends = {"ci_low": point.low, "ci_high": point.high}
    texts = {name: harmless(getattr(point, name)) for name in ("run_id", "env_id", "git_commit", "flags")}
    finite = {name: end if end is not None and math.isfinite(end) else None for name, end in ends.items()}
    return {"started_at": _moment(point), "value": point.value, **finite, **texts, "git_dirty": point.git_dirty}


def _moment(point: Point) -> str:
    return f"{point.started_at.isoformat()}+00:00"


def _gate(look: Look) -> dict[str, Any]:
    return {
        "alpha": look.alpha,
        "looked": look.looked,
        "too_short": look.too_short,
        "at_breaks": look.at_breaks,
        "regressions": [{**_named(new.series.subject), **_event(new.series, new.step)} for new in look.regressions],
    }
