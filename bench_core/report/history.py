"""How results changed over many runs: a line for each series, and a page for those with events and for the longest.

What is a step and what is a break is decided in history/series.py; here it is said in words.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np

from bench_core.analysis.report_data import ReportData
from bench_core.history.changes import ALPHA, FEWEST, fewest_runs
from bench_core.history.series import Event, Point, Series, expected_by_chance, series_of_readings, shown_change
from bench_core.report import sparkline
from bench_core.report.svg import Drawing, Swatch
from bench_core.report.theme import LIGHT
from bench_core.text import LONGEST, printable
from bench_core.units import counted, show, significant

FEWEST_RUNS = 3  # of a series that has a line
MOST_LINES = 300
MANY_LINES = 20  # from here on the largest events are listed first
MOST_LARGEST = 5
MOST_NAMED = 3  # events of a line, and facts that changed
LONGEST_NAMED = 40  # characters of the name and of each value of such a fact
MOST_FACTS = 40  # of an event on a page
MOST_POINTS = 400  # in the table of a page

LEGEND = (
    Swatch("step for the worse", LIGHT["series1"], sparkline.MARKS["worse"]),
    Swatch("step for the better", LIGHT["series2"], sparkline.MARKS["better"]),
    Swatch("step", LIGHT["muted"], sparkline.MARKS["step"]),
    Swatch("break: the environment changed", LIGHT["muted"], "", line="dashed"),
    Swatch("level: median between events", LIGHT["ink"], "", line="solid"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One series. name: what tells it from the others of its work. events: in words, the largest first; see `more`."""

    key: str
    name: str
    work: str
    series: Series
    newest: str
    events: tuple[tuple[str, str], ...]  # what it means (sparkline.MARKS, or "break"), and the words
    more: str

    @property
    def about(self) -> str:
        """What the drawing shows."""
        values = self.series.values
        low, high = (show(value, self.series.subject.unit) for value in (min(values), max(values)))
        first, last = (_day(self.series.points[i]) for i in (0, -1))
        return f"{counted(len(values), 'run')}, {first} to {last}, {low} to {high}"


@dataclass(frozen=True, slots=True)
class Works:
    """The lines of one kind of work."""

    heading: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class OverTime:
    """The section.

    about: what was found. how: what that is. largest: the lines with the largest events, if there are many lines.
    by_rank: those of the largest events first, then those without events, the longest first. note: what has no line.
    """

    works: tuple[Works, ...]
    about: str
    how: str
    largest: tuple[Line, ...]
    note: str
    legend: tuple[Swatch, ...]
    by_rank: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class EventRow:
    """A line of the table of events of a page. facts: what changed, a text each."""

    number: int
    kind: str
    when: str
    change: str
    before: str
    after: str
    p_value: str
    commits: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PointRow:
    """A line of the table of points of a page."""

    when: str
    run: str
    commit: str
    value: str
    interval: str
    flags: str


def over_time(data: ReportData) -> OverTime | None:
    """Return the section on changes over time; None if no work was measured in FEWEST_RUNS runs of one machine."""
    runs: dict[str, set[str]] = defaultdict(set)
    for reading in data.comparable:
        for machine, run_id in reading.rows.distinct("machine", "run_id"):
            runs[machine].add(run_id)
    if all(len(several) < FEWEST_RUNS for several in runs.values()):
        return None
    every = [series for series in _series(data) if len(series.points) >= FEWEST_RUNS]
    if not every:
        return None
    lines = _lines(data, every)
    ranked = sorted(lines, key=lambda line: (not line.events, *_rank(line.series), -len(line.series.points)))
    kept = {line.key for line in ranked[:MOST_LINES]}
    groups: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.key in kept:
            groups[line.work].append(line)
    note = ""
    if len(lines) > MOST_LINES:
        note = f"{MOST_LINES} of {len(lines):,} series have a line: those with events first, then the longest."
    works = tuple(Works(heading, tuple(of)) for heading, of in groups.items())
    clear = [line for line in ranked if any(map(_is_clear, line.series.events))]
    largest = tuple(clear[:MOST_LARGEST]) if len(lines) > MANY_LINES else ()
    about = _about(every)
    return OverTime(works, about, _how(every), largest, note, _legend(every), tuple(ranked[:MOST_LINES]))


def _rank(series: Series) -> tuple[bool, float]:
    """Return the sort key of the largest event of a series."""
    return min(map(_order, series.events), default=(True, 0.0))


def _order(event: Event) -> tuple[bool, float]:
    return not _is_clear(event), -event.size


def _series(data: ReportData) -> list[Series]:
    """Return the series of the times by the wall clock; of work without a time, those of its headline metric."""
    known = (of for reading in data.comparable for of in reading.rows.distinct("case_id", "metric"))
    timed = {case_id for case_id, metric in known if metric == "time"}
    rates = {
        case: data.rate_of(f) for f, cases in data.families.items() for case in cases.values() if case not in timed
    }
    readings = []
    for reading in data.comparable:
        kinds, numbers = reading.rows.groups(("case_id", "metric"))
        wanted = np.array([metric == rates.get(case_id, "time") for case_id, metric in kinds], np.bool_)
        readings.append(reading.only(wanted[numbers]))
    return series_of_readings(readings)


def _lines(data: ReportData, every: Sequence[Series]) -> list[Line]:
    """Return a line for each series, in the order of the report's rows."""
    places = {
        (row.machine, row.case_id, row.backend, row.implementation, row.device, row.threads): i
        for i, row in enumerate(data.rows)
    }
    families = {case_id: f.label for f, cases in data.families.items() for case_id in cases.values()}

    def place(series: Series) -> int:
        s = series.subject
        return places.get((s.machine, s.case_id, s.backend, s.implementation, s.device, s.threads), len(places))

    several = len(data.machines) > 1
    return [
        _line(series, families.get(series.subject.case_id, series.subject.workload), several=several)
        for series in sorted(every, key=place)
    ]


def _line(series: Series, work: str, *, several: bool) -> Line:
    s = series.subject
    threads = counted(s.threads, "thread") if s.threads else ""
    implementation = s.implementation if s.implementation != "default" else ""
    metric = s.metric.replace("_", " ") if s.metric != "time" else ""
    words = [s.size, s.machine if several else "", f"{s.backend} {implementation}".strip(), s.device, threads, metric]
    key = hashlib.sha256(repr(astuple(s)).encode()).hexdigest()[:10]
    ranked = sorted(series.events, key=_order)
    told = tuple((_kind(series, event), _in_words(series, event)) for event in ranked[:MOST_NAMED])
    more = f"and {counted(len(ranked) - MOST_NAMED, 'smaller one')}" if len(ranked) > MOST_NAMED else ""
    newest = show(series.points[-1].value, s.unit)
    return Line(key, " · ".join(filter(None, words)), work, series, newest, told, more)


def _about(every: Sequence[Series]) -> str:
    kinds = [event.kind for series in every for event in series.events]
    steps, breaks = counted(kinds.count("step"), "step"), counted(kinds.count("break"), "break")
    least, most = (f(len(series.points) for series in every) for f in (min, max))
    runs = f"{least} to {most}" if least < most else str(most)
    return f"{len(every):,} series of {runs} runs: {steps} and {breaks}."


def _how(every: Sequence[Series]) -> str:
    """Return how steps are found, and how many of them are expected by chance."""
    able, by_chance = expected_by_chance(every)
    how = (
        "A step is where the level of run medians changes, found by E-divisive with a t-test of normal scores: at "
        f"least {FEWEST} runs on each side, in a part of at least {fewest_runs()}. Where the environment changes, a "
        "series breaks, and steps are looked for on each side alone; a change there is clear if p is at most "
        f"{ALPHA:g}. Commits are those between which a step lies; they need not be its cause."
    )
    if not able:
        return f"{how} No part between breaks is long enough for a step yet."
    parts = counted(able, "part")
    return f"{how} At most {100 * ALPHA:g} % of steady parts have a step by chance: {by_chance:.2g} of {parts}."


def _legend(every: Sequence[Series]) -> tuple[Swatch, ...]:
    there = {_kind(series, event) for series in every for event in series.events}
    kinds = (*sparkline.MARKS, "break")
    return (*(swatch for kind, swatch in zip(kinds, LEGEND, strict=False) if kind in there), LEGEND[-1])


# ---------------------------------------------------------------- words


def _kind(series: Series, event: Event) -> str:
    return "break" if event.kind == "break" else series.meaning(event) or "step"


def _is_clear(event: Event) -> bool:
    """Whether the levels before and after differ by more than noise. Those of a step do."""
    return event.kind == "step" or event.p_value <= ALPHA


def _day(point: Point) -> str:
    return f"{point.started_at:%Y-%m-%d}"


def _minute(point: Point) -> str:
    return f"{point.started_at:%Y-%m-%d %H:%M}"


def _facts(event: Event, most: int, longest: int = LONGEST) -> list[str]:
    """Return what changed in the environment; no more than `most` facts, and how many others."""
    cut = partial(printable, longest=longest)
    facts = [f"{cut(d.name)} {cut(d.before)} \N{RIGHTWARDS ARROW} {cut(d.after)}" for d in event.differences[:most]]
    left = len(event.differences) - most
    return facts + [f"{left:,} other fact{'s' * (left != 1)}"] * (left > 0)


def _commits(event: Event) -> str:
    if ".." in event.commits:
        return f"commits {event.commits}"
    return f"commit {event.latest.commit} on both sides" if event.commits else ""


def _in_words(series: Series, event: Event) -> str:
    """Return an event as one line."""
    when = _day(series.points[event.index])
    if event.kind == "step":
        return ", ".join(filter(None, (f"{shown_change(event.relative)} on {when}", _commits(event))))
    level = shown_change(event.relative) if _is_clear(event) else "no clear change"
    return f"break {when}: {'; '.join(_facts(event, MOST_NAMED, LONGEST_NAMED))}, {level}"


# ---------------------------------------------------------------- a page


def drawing(line: Line) -> Drawing:
    """Return the chart of a page."""
    title = f"{line.work} · {line.name} over time"
    unit = line.series.subject.unit
    events = "; ".join(f"{row.number}: {row.kind}, {row.change}" for row in event_rows(line.series))
    about = f"{line.about}. Runs in the order of time, equally far apart. {events}".strip()
    return sparkline.chart(line.series, f"chart-{line.key}", title, about, lambda point: _tip(point, unit))


def _tip(point: Point, unit: str) -> str:
    interval = _interval(point, unit)
    commit = f"commit {point.commit}" if point.commit else ""
    value = show(point.value, unit, 4) + f" ({interval})" * bool(interval)
    return " · ".join(filter(None, (value, _minute(point), point.run_id, commit)))


def _interval(point: Point, unit: str) -> str:
    if point.low is None or point.high is None:
        return ""
    return f"{show(point.low, unit, 4)} to {show(point.high, unit, 4)}"


def event_rows(series: Series) -> list[EventRow]:
    """Return the events in the order of time, as they are numbered in the drawing."""
    unit = series.subject.unit
    points = series.points
    rows = []
    for number, event in enumerate(series.events, 1):
        when = _minute(points[event.index])
        if (event.earliest, event.latest) != (points[event.index - 1], points[event.index]):
            when += f" (between {_minute(event.earliest)} and {_minute(event.latest)})"
        meant = series.meaning(event) or "step"
        kind = f"step, {meant}" if event.kind == "step" and meant != "step" else event.kind
        clear = shown_change(event.relative) + ", not clear" * (not _is_clear(event))
        levels = (show(event.before, unit, 4), show(event.after, unit, 4))
        p_value = significant(event.p_value, 2) if event.p_value >= 0.0001 else "< 0.0001"
        rows.append(
            EventRow(number, kind, when, clear, *levels, p_value, event.commits, tuple(_facts(event, MOST_FACTS)))
        )
    return rows


def point_rows(series: Series) -> list[PointRow]:
    """Return the newest MOST_POINTS points, the newest first."""
    unit = series.subject.unit
    return [
        PointRow(
            _minute(point),
            point.run_id,
            point.commit,
            show(point.value, unit, 4),
            _interval(point, unit),
            point.flags.replace(";", ", "),
        )
        for point in reversed(series.points[-MOST_POINTS:])
    ]
