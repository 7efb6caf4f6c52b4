"""Describe the input of a report: files, environments and their differences, and commands to repeat the runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_core.compare.loading import Reading
from bench_core.machine.facts import shown
from bench_core.machine.privacy import without_folders
from bench_core.records import Fact, Facts, Row
from bench_core.text import printable

# Options of a run that change what is measured.
PASSED_ON = ("preset", "backends", "budget", "timeout", "require", "seed")
SELECTED = {"keyword": "-k", "markers": "-m"}


@dataclass(frozen=True, slots=True)
class Source:
    """One results.csv with the contents of its run.json; all texts are safe to show.

    name: of a table alone the file's name, of a run the last folders too (`_name`). facts: by dotted name.
    options: the options of the run. processes: how many runs were merged, 0 for a single run. goal: the options that
    decided how many, "" if the user did. series_seed: seed of the order of merged runs. notes: missing or inconsistent
    files.
    """

    name: str
    rows: tuple[Row, ...]
    sha256: str = ""
    facts: Facts = field(default_factory=dict)
    options: tuple[tuple[str, str], ...] = ()
    processes: int = 0
    goal: str = ""
    series_seed: str = ""
    notes: tuple[str, ...] = ()

    @property
    def machines(self) -> str:
        return ", ".join(dict.fromkeys(row.machine for row in self.rows))

    @property
    def runs(self) -> str:
        return ", ".join(dict.fromkeys(row.run_id for row in self.rows))

    @property
    def started(self) -> str:
        return ", ".join(dict.fromkeys(row.started_at for row in self.rows))

    @property
    def commit(self) -> str:
        """The measured commit, and whether the work tree had uncommitted changes."""
        dirt = {True: " with uncommitted changes", False: "", None: ""}
        commits = dict.fromkeys(f"{row.git_commit[:12]}{dirt[row.git_dirty]}" for row in self.rows if row.git_commit)
        return ", ".join(commits) or "not recorded"

    @property
    def command(self) -> str:
        """The commands that repeat the measurement. Commit and options come from a file, so they are quoted."""
        shown = [f"--bench-{name}={shlex.quote(value)}" for name, value in self.options if name in PASSED_ON]
        shown += [f"{SELECTED[name]} {shlex.quote(value)}" for name, value in self.options if name in SELECTED]
        commits = sorted({row.git_commit for row in self.rows if row.git_commit})
        measure = ["pytest --benchmark-only" if commits else "bench-core run"]  # without a clone pytest finds nothing
        if self.processes:
            measure = [f"bench-core run {self.goal or f'--runs {self.processes}'}"]
            measure += [f"--seed {shlex.quote(self.series_seed)}"] * bool(self.series_seed)
        checkout = [f"git checkout {shlex.quote(commits[0])}"] if len(commits) == 1 else []
        return "\n".join([*checkout, " ".join([*measure, *shown])])


def source(reading: Reading) -> Source:
    """Return the Source of one reading. The rows of a reading must already be safe to show."""
    about = reading.files.about
    files = about.get("files")
    results = files.get("results.csv") if isinstance(files, dict) else None
    digest = results.get("sha256") if isinstance(results, dict) else None
    facts = {printable(name): _cleaned(fact) for name, fact in reading.files.facts.items()}
    options = about.get("options")
    pairs = options.items() if isinstance(options, dict) else ()
    processes = about.get("processes")
    folder = str(Path(reading.path).parent) + os.sep
    notes = (without_folders(note.replace(folder, "")) for note in reading.notes)
    return Source(
        name=printable(_name(reading)),
        rows=tuple(reading.rows),
        sha256=printable(digest) if isinstance(digest, str) else "",
        facts=facts,
        options=tuple((printable(str(k)), _option(v)) for k, v in pairs if v not in (None, "", [], False)),
        processes=len(processes) if isinstance(processes, list) else 0,
        goal=_goal(about.get("precision")),
        series_seed=printable(str(about.get("seed", ""))),
        notes=tuple(printable(note) for note in notes),
    )


def _goal(precision: Any) -> str:
    """Return the options of `bench-core run` that run.json has under "precision", "" without any."""
    match precision:
        case {"precision": int() | float() as wanted, **others}:
            seconds = others.get("time")
            time = f" --time {seconds:g}s" if isinstance(seconds, int | float) else ""
            return f"--precision {100 * wanted:g}%{time}"
    return ""


def _name(reading: Reading) -> str:
    """Return the end of a table's path that identifies it: a page is passed on, and other folders may name a person.

    That is the file's name; of a run the folder too, which has the name of the run, and the one above it if it has the
    machine's.
    """
    *above, file = Path(reading.path).parts[-3:]
    folders = above[-1:] if reading.files.about else []
    if folders and above[0] in {machine for _, machine in reading.origins}:
        folders = above
    return "/".join([*folders, file])


def _option(value: Any) -> str:
    return printable(",".join(map(str, value)) if isinstance(value, list) else str(value))


def _cleaned(fact: Fact) -> Fact:
    return Fact(fact.value, printable(fact.source), printable(fact.reason))


def fact_text(name: str, fact: Fact | None) -> str:
    """Return a fact as text; if it has no value, the reason."""
    if fact is None:
        return "not recorded"
    if fact.value is None:
        return f"unknown: {fact.reason}" if fact.reason else "unknown"
    return printable(shown(name, fact.value))


@dataclass(frozen=True, slots=True)
class FactLine:
    """One line of the environment table. texts: one per source with facts. origin: where the fact was read."""

    name: str
    texts: tuple[str, ...]
    origin: str
    differs: bool


def environment(sources: Sequence[Source]) -> list[FactLine]:
    """Return all facts of the sources that have facts; facts that differ come first."""
    known = [s for s in sources if s.facts]
    lines = []
    for name in dict.fromkeys(name for s in known for name in s.facts):
        facts = [s.facts.get(name) for s in known]
        texts = tuple(fact_text(name, fact) for fact in facts)
        origin = next((fact.source for fact in facts if fact and fact.source), "")
        lines.append(FactLine(name, texts, origin, len(set(texts)) > 1))
    return sorted(lines, key=lambda line: not line.differs)
