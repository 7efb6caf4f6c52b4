"""Series of run medians: what one piece of work took on one device, run after run; where it changed, and what with it.

A series is broken where the environment of its runs changes (`env_id`): the search for steps begins anew behind a
break, and what is different in the facts of run.json stands beside it. Not every other `env_id` is a change: a newer
bench-core may have noted a fact more. Only facts that both sides know, and that differ, are.

A step has the range of commits in which it lies: the code of the last run that was certainly before it, and that of the
first one that was certainly after it (`changes.range_of_step`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import Any, Literal

import numpy as np

from bench_core.compare import computers
from bench_core.compare.computers import Identity, Names, TableRun
from bench_core.compare.labels import row_name
from bench_core.compare.loading import Reading
from bench_core.history.changes import (
    ALPHA,
    NEW_ALPHA,
    RECENT,
    Change,
    change_points,
    is_possible,
    new_regression,
    p_of_step,
)
from bench_core.history.query import POINT, SERIES, History
from bench_core.history.store import agreed, as_texts, moment
from bench_core.machine.facts import LASTING, VOLATILE, Lasting, absent, lasting, shown_text, valid
from bench_core.records import Clock, Fact, Status, is_quantity, is_unchecked
from bench_core.results.run_files import RunFiles
from bench_core.text import printable
from bench_core.units import significant

_order = attrgetter("started_at", "run_id")

Facts = Mapping[str, str]  # by name, as texts as a store holds them
Keep = Callable[["Subject"], bool]
EnvironmentOf = Callable[["Subject", "Point"], "Environment"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a series is of: the work, who did it, and the quantity. Its fields are columns of results.csv."""

    machine: str
    suite: str
    workload: str
    workload_version: int | None
    size: str
    dtype: str
    precision: str
    params: str
    case_id: str
    backend: str
    implementation: str
    device: str
    threads: int | None
    metric: str
    unit: str
    better: str
    clock: str
    scope: str
    cache: str

    @property
    def name(self) -> str:
        """The machine, who measured, the work and the metric, without the usual values."""
        return row_name(self)

    @property
    def better_is(self) -> Literal["higher", "lower"] | None:
        """Which values are better; None if the table does not say so."""
        return self.better if self.better in {"higher", "lower"} else None  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Point:
    """The value of one run, in the unit of its series. started_at: in UTC. low, high: its interval, if it has one."""

    run_id: str
    started_at: datetime
    value: float
    low: float | None = None
    high: float | None = None
    env_id: str = ""
    git_commit: str = ""
    git_dirty: bool | None = None
    flags: str = ""

    @property
    def commit(self) -> str:
        """The first digits of the commit, "+" if there were changes beside it; "" if it is not known."""
        return printable(self.git_commit[:9]) + "+" * bool(self.git_commit and self.git_dirty)


@dataclass(frozen=True, slots=True)
class Environment:
    """What is known about a run and one of its workers. worker: its facts. host: those that no worker of the run has.

    Either is empty if it is not known, as in a table without run.json. Workers repeat many facts of their host, such as
    its variables, and theirs count: they did the work.
    """

    host: Facts
    worker: Facts

    @classmethod
    def of(cls, known: Facts, workers: Mapping[str, Facts], env_id: str) -> Environment:
        """Return that of a worker. known: facts of the host and of any workers. workers: those of each, by env_id."""
        theirs = {name for facts in workers.values() for name in facts}
        return cls({name: text for name, text in known.items() if name not in theirs}, workers.get(env_id, {}))

    def with_facts_of(self, other: Environment) -> Environment:
        """Return the facts of both; if one of them lacks its worker, the other: its host may have facts of others."""
        if bool(self.worker) != bool(other.worker):
            return self if self.worker else other
        return Environment({**self.host, **other.host}, {**self.worker, **other.worker})


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact that differs between two runs, as texts."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Event:
    """A step or a break of a series.

    index: of the first point of the new level. before, after: the levels, medians in the unit of the series. p_value:
    of a step, how many steady series have one as clear as this; of a break, how likely levels are that differ as much
    if nothing did. earliest, latest: the last point that is certainly before it, and the first certainly after it.
    differences: what changed in the environment; empty for a step.
    """

    kind: Literal["step", "break"]
    index: int
    before: float
    after: float
    p_value: float
    earliest: Point
    latest: Point
    differences: tuple[Difference, ...] = ()

    @property
    def relative(self) -> float:
        """The change as a share of the level before: 0.05 is 5 % more. Levels are quantities, and so above zero."""
        return self.after / self.before - 1

    @property
    def size(self) -> float:
        """How large the change is, the same for twice and for half."""
        return abs(math.log(self.after / self.before))

    @property
    def commits(self) -> str:
        """The range of commits: "a1b2c3d4e..f5a6b7c8d", or "a1b2c3d4e, the same"; "" if none is known."""
        first, last = self.earliest.commit, self.latest.commit
        if not first and not last:
            return ""
        return f"{last}, the same" if first == last else f"{first or 'unknown'}..{last or 'unknown'}"


@dataclass(frozen=True, slots=True)
class Series:
    """The points of a subject in the order of time, and its events in the same order."""

    subject: Subject
    points: tuple[Point, ...]
    events: tuple[Event, ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(point.value for point in self.points)

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """First index and index behind the last between breaks; they cover the series."""
        ends = [0, *(event.index for event in self.events if event.kind == "break"), len(self.points)]
        return tuple(pairwise(ends))

    @property
    def current(self) -> tuple[float, ...]:
        """The values since the last break."""
        return self.values[self.parts[-1][0] :]

    @property
    def levels(self) -> tuple[tuple[int, int, float], ...]:
        """First index, index behind the last, and median between events; they cover the series."""
        ends = [0, *(event.index for event in self.events), len(self.points)]
        return tuple((a, b, float(np.median(self.values[a:b]))) for a, b in pairwise(ends))

    def meaning(self, event: Event) -> Literal["better", "worse", ""]:
        """Return what a change means; "" if it is none, or if the table does not say which values are better."""
        better = self.subject.better_is
        if better is None or event.after == event.before:
            return ""
        return "better" if (event.after > event.before) == (better == "higher") else "worse"

    @property
    def is_unchecked(self) -> bool:
        """Whether nothing has checked the answers of its newest run."""
        return is_unchecked(self.points[-1].flags)


@dataclass(frozen=True, slots=True)
class Regression:
    """The newest step of a series, which is for the worse."""

    series: Series
    step: Event


# ---------------------------------------------------------------- where series come from


def is_by_wall(subject: Subject) -> bool:
    """Return whether the values are by the wall clock, or without a clock."""
    return subject.clock != Clock.DEVICE


def series_of_readings(readings: Iterable[Reading], keep: Keep = is_by_wall) -> list[Series]:
    """Return the series of tables whose subjects `keep` accepts, sorted by subject."""
    points: dict[Subject, list[Point]] = {}
    runs: dict[tuple[str, str], RunFiles] = {}
    for reading in readings:
        rows = reading.rows
        rows = rows.only(rows.mask("status", Status.OK.__eq__))
        subjects, numbers = rows.groups(SERIES)
        found = [points.setdefault(Subject(*values), []) for values in subjects]
        cells = zip(*(rows.cells(name) for name in POINT), strict=True)
        for number, (run_id, started_at, *rest) in zip(numbers.tolist(), cells, strict=True):
            found[number] += _points(run_id, moment(started_at), *rest)
        for run_id, machine in rows.distinct("run_id", "machine"):
            runs.setdefault((run_id, machine), reading.files_of(run_id))

    @functools.cache  # all series of a run ask for them
    def facts_of(run_id: str, machine: str) -> tuple[Facts, Mapping[str, Facts]]:
        files = runs[run_id, machine]
        return agreed(files), {env_id: as_texts(facts) for env_id, facts in files.worker_facts.items()}

    def environment_of(subject: Subject, point: Point) -> Environment:
        return Environment.of(*facts_of(point.run_id, subject.machine), point.env_id)

    return _examined(points, keep, environment_of)


def computers_of(history: History) -> dict[Identity, Names]:
    """Return the names of the computer of each run of a store: computers that have one name are kept apart."""
    devices: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in history.table("SELECT DISTINCT run_id, machine, device, device_name FROM rows").to_pylist():
        devices.setdefault((row["run_id"], row["machine"]), []).append((row["device"], row["device_name"]))
    facts = ", ".join(f"map_extract(facts, '{name}')[1] AS \"{name}\"" for name in LASTING)
    runs = history.table(f"SELECT run_id, machine, started_at, {facts} FROM runs")  # noqa: S608 - names of facts
    return computers.names(
        TableRun(
            "",
            run["machine"],
            run["run_id"],
            str(run["started_at"] or ""),
            _lasting({name: run[name] for name in LASTING}, devices[run["run_id"], run["machine"]]),
        )
        for run in runs.to_pylist()
    )


def _lasting(texts: Mapping[str, str | None], devices: Iterable[tuple[str, str]]) -> Lasting:
    """Return `lasting` of facts that a store holds as texts."""
    found = valid(texts)
    for name in texts.keys() - found.keys():  # numbers
        with contextlib.suppress(ValueError, RecursionError):
            found |= valid({name: json.loads(texts[name] or "")})
    return lasting({name: Fact(value) for name, value in found.items()}, devices)


def series_of_history(
    history: History, keep: Keep = is_by_wall, names: Mapping[Identity, Names] | None = None, **wanted: Any
) -> list[Series]:
    """Return the series of a store whose subjects `keep` accepts, sorted by subject.

    names: `computers_of` the store, if known already. wanted: as for `History.values`: `metric="time"`.
    """
    named = {run: own.machine for run, own in (names or computers_of(history)).items()}
    columns = history.values(**wanted).to_pydict()
    runs: dict[tuple[str, str], tuple[Facts, Mapping[str, Facts]]] = {}

    def environment_of(subject: Subject, point: Point) -> Environment:
        if not runs:
            of = history.table("SELECT run_id, machine, facts, workers FROM runs").to_pylist(maps_as_pydicts="lossy")
            for run in of:
                machine = named["", run["machine"], run["run_id"]]
                runs[run["run_id"], machine] = run["facts"], run["workers"]
        return Environment.of(*runs[point.run_id, subject.machine], point.env_id)

    points: dict[Subject, list[Point]] = {}
    subjects = zip(*(columns[name] for name in SERIES), strict=True)
    for (machine, *values), about in zip(subjects, zip(*(columns[name] for name in POINT), strict=True), strict=True):
        subject = Subject(named["", machine, about[0]], *values)
        points.setdefault(subject, []).extend(_points(*about))
    return _examined(points, keep, environment_of)


def _examined(points: Mapping[Subject, list[Point]], keep: Keep, environment_of: EnvironmentOf) -> list[Series]:
    wanted = sorted((subject for subject, several in points.items() if several and keep(subject)), key=_place)
    return [examined(subject, points[subject], environment_of) for subject in wanted]


def _place(subject: Subject) -> list[tuple[bool, Any]]:
    """Return by what series are sorted: their columns, numbers that are missing last."""
    return [(value is None, value) for value in astuple(subject)]


def _points(run_id: str, started_at: datetime | None, value: float | None, *rest: Any) -> Iterator[Point]:
    """Yield a point unless it has no time, or its value is no quantity."""
    if started_at is not None and value is not None and is_quantity(value):
        yield Point(run_id, started_at, value, *rest)


# ---------------------------------------------------------------- events


def examined(subject: Subject, points: Sequence[Point], environment_of: EnvironmentOf) -> Series:
    """Return a series with its steps and breaks. Of several points of one run the median one counts."""
    by_run: dict[str, list[Point]] = {}
    for point in sorted(points, key=_order):
        by_run.setdefault(point.run_id, []).append(point)
    ordered = [sorted(several, key=attrgetter("value"))[(len(several) - 1) // 2] for several in by_run.values()]
    breaks = dict(_breaks(subject, ordered, environment_of))
    ends = [0, *breaks, len(ordered)]
    values = [point.value for point in ordered]
    steps = [(a, change) for a, b in pairwise(ends) for change in change_points(values[a:b])]
    places = sorted([0, *breaks, *(a + change.index for a, change in steps), len(ordered)])
    around = {place: (before, after) for before, place, after in zip(places, places[1:], places[2:], strict=False)}
    events = [_step(ordered, start, change) for start, change in steps]
    events += [_break(ordered, *around[index], index, changed) for index, changed in breaks.items()]
    return Series(subject, tuple(ordered), tuple(sorted(events, key=attrgetter("index"))))


def _breaks(
    subject: Subject, points: Sequence[Point], environment_of: EnvironmentOf
) -> Iterator[tuple[int, tuple[Difference, ...]]]:
    """Yield each place where the environment changes, and what is different there.

    Compared is with all that is known since the last such place: a run that lacks facts, as a table without run.json
    does, hides no change. The new environment begins with the first of the runs that have its `env_id`.
    """
    if len({point.env_id for point in points}) < 2:
        return
    known, seen, first = Environment({}, {}), set[str](), 0
    for index, point in enumerate(points):
        if index and point.env_id != points[index - 1].env_id:
            first = index
        if point.env_id in seen:
            continue
        own = environment_of(subject, point)
        if changed := differences(known, own):
            yield first, changed
            known, seen = Environment({}, {}), set[str]()
        if own.host or own.worker:
            known = known.with_facts_of(own)
            seen.add(point.env_id)


def differences(before: Environment, after: Environment) -> tuple[Difference, ...]:
    """Return the facts that differ between two environments and are known in both, without volatile ones.

    A package that is absent is not installed, and a variable is not set, where host and worker of both are known: what
    is known of a run without its worker may be of another one.
    """
    names = {*before.host, *before.worker, *after.host, *after.worker} - VOLATILE
    for one, other in ((before, after), (after, before)):
        if not one.worker:  # what its host says need not be what the worker saw
            names -= other.worker.keys()
    found = []
    are_whole = all(part for of in (before, after) for part in (of.host, of.worker))
    for name in sorted(names):
        texts = [_shown(name, of, is_whole=are_whole) for of in (before, after)]
        if all(texts) and texts[0] != texts[1]:
            found.append(Difference(printable(name, 200), *texts))
    return tuple(found)


def _shown(name: str, of: Environment, *, is_whole: bool) -> str:
    """Return a fact as text for people, "" if it is not known. is_whole: what is absent is known to be so."""
    text = of.worker.get(name, of.host.get(name))
    if text is not None:
        return printable(shown_text(name, text), 200)
    return absent(name) if is_whole else ""


def _step(points: Sequence[Point], start: int, change: Change) -> Event:
    earliest, latest = points[start + change.earliest - 1], points[start + change.latest]
    levels = change.before, change.after
    return Event("step", start + change.index, *levels, change.p_value, earliest, latest)


def _break(points: Sequence[Point], start: int, end: int, index: int, changed: tuple[Difference, ...]) -> Event:
    """Return the event of a break between the events before and after it."""
    values = np.array([point.value for point in points[start:end]])
    place = index - start
    levels = float(np.median(values[:place])), float(np.median(values[place:]))
    p_value = p_of_step(values, place) if len(values) > 2 else 1.0  # else without a degree of freedom
    return Event("break", index, *levels, p_value, points[index - 1], points[index], changed)


# ---------------------------------------------------------------- what is new


@dataclass(frozen=True, slots=True)
class Look:
    """A look for new regressions at all series of a history.

    looked: how many series were long enough for one. alpha: at most this share of looks at steady series sees any.
    too_short: how many others there are of which it is known which values are better. at_breaks: how many series became
    worse where their environment changed, within the same number of runs: no regression of the code that is measured.
    """

    regressions: tuple[Regression, ...]
    looked: int
    alpha: float
    too_short: int = 0
    at_breaks: int = 0


def new_regressions(every: Iterable[Series], *, alpha: float = NEW_ALPHA, recent: int = RECENT) -> Look:
    """Look for new regressions: newest steps for the worse that at most `recent` runs have followed, largest first.

    alpha: of all series together, however they depend on each other (Bonferroni): a share of it is of each series that
    has enough runs since its last break. recent: as of `changes.new_regression`.

    By simulation (`python -m tests.native.changes --series 300`) of 60 folders of 30 steady series for each kind of
    noise, with a look after each of the runs 21 to 80, at most 0.3 % of looks alarm: with normal, heavy-tailed and
    log-normal noise, independent or most of it shared by all series of a run. A step of 10 % at 2 % noise in one of
    them is seen when 5 runs have followed it (9 of 10 times as well), one of 5 % when 6 have (9 of 10 times 9).
    """
    directed = [series for series in every if series.subject.better_is]
    able = _able(directed, alpha, recent)
    found = []
    for series in able:
        better = series.subject.better_is
        assert better is not None  # noqa: S101 - of those that are able
        change = new_regression(series.current, better=better, alpha=alpha / len(able), recent=recent)
        if change is not None:
            found.append(Regression(series, _step(series.points, len(series.points) - len(series.current), change)))
    largest_first = sorted(found, key=lambda new: -new.step.size)
    at_breaks = sum(_became_worse_at_a_break(series, recent) for series in directed)
    return Look(tuple(largest_first), len(able), alpha, len(directed) - len(able), at_breaks)


def _became_worse_at_a_break(series: Series, recent: int) -> bool:
    newest = [event for event in series.events if event.index >= len(series.points) - recent]
    return any(e.kind == "break" and e.p_value <= ALPHA and series.meaning(e) == "worse" for e in newest)


def shown_change(relative: float) -> str:
    """Return a change as text: "+5.0 %", "-7.2 %"; from ten times or to a tenth, "12.5x", "0.0800x"."""
    ratio = 1 + relative
    return f"{100 * relative:+.1f} %" if 0.1 < ratio < 10 else f"{significant(ratio)}x"


def _able(every: Sequence[Series], alpha: float, recent: int) -> list[Series]:
    """Return the series that can have a new step at the share of alpha that is left to each of them.

    With many series each needs more runs than alone, so those that are too short take no share from the others. The
    fewest shares are made that are enough for all that can use one.
    """
    lengths = Counter(len(series.current) for series in every)
    for shares in range(1, len(every) + 1):
        enough = {n for n in lengths if is_possible(n, alpha / shares, recent)}
        if sum(lengths[n] for n in enough) <= shares:
            return [series for series in every if len(series.current) in enough]
    return []


def expected_by_chance(every: Iterable[Series], alpha: float = ALPHA) -> tuple[int, float]:
    """Return how many parts between breaks can have a step, and how many steps steady ones have at most, by chance."""
    able = sum(is_possible(end - start, alpha) for series in every for start, end in series.parts)
    return able, able * alpha
