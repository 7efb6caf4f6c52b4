"""Repeat a measurement, each time in fresh processes, in an order that favours neither side.

Runs are the unit of replication, so a claim needs several. Because a machine's speed drifts, two sides
alternate: the two runs of a pair follow each other, in random order. Each run is a pytest session of its own
that keeps its journal; at the end the journals of a side become one results folder. A Schedule decides how many runs
there are and what each measures: a number of equal ones, or what precision.py needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations, count
from pathlib import Path
from typing import Any, Protocol, Self

from bench_core import child_process
from bench_core.errors import BenchError, IncompatibleError, UsageError
from bench_core.machine.facts import Lasting, against, contradictions, lasting
from bench_core.records import Case, Measurement, Run, count_statuses, to_json
from bench_core.results import schema, writer
from bench_core.results.rows import rows_of_run
from bench_core.results.run_files import flatten
from bench_core.results.traits import TraitsOf, merged
from bench_core.run import account, journal
from bench_core.run.plausibility import refuse_beyond_own_best
from bench_core.run.tries import disturbed_seconds

LOG = "log.txt"
_ERROR = re.compile(r"(?:ERROR:?|E  |Error:?|.*: error:)\s+(.*)")  # errors of pytest, its tracebacks and argparse
_GRACE = 60.0  # seconds that an interrupted run has to write its results


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a name for its results, and the Python interpreter that runs it."""

    name: str
    python: str = sys.executable


@dataclass(frozen=True, slots=True)
class Turn:
    """One run: its side, its number, and the seed of the order in which it measures its cases."""

    side: Side
    replicate: int
    seed: int


@dataclass(frozen=True, slots=True)
class Done:
    """A finished turn: the wall seconds that it took, its complete results folder, and what its files there say."""

    turn: Turn
    seconds: float
    folder: Path
    about: Mapping[str, Any]
    kept: journal.JournalContents

    @classmethod
    def read(cls, turn: Turn, seconds: float, folder: Path) -> Self:
        """Read run.json and the journal in a folder; raises OSError, ValueError, TableError."""
        about = json.loads((folder / schema.RUN).read_text(encoding="utf-8"))
        return cls(turn, seconds, folder, about, journal.read(folder / schema.JOURNAL))

    @property
    def traits(self) -> TraitsOf:
        return TraitsOf.from_json(self.about.get("traits"))


class RunFailed(BenchError):
    """A run left no results; `exit_code` is that of pytest."""

    def __init__(self, message: str, code: int) -> None:
        self.exit_code = code
        super().__init__(message)


class Schedule(Protocol):
    """What a series of rounds measures. A round is one run of each side.

    flag: a flag of every measurement of the series, "" for none. of: what is said of the number of complete rounds if
    the series stops early.
    """

    @property
    def flag(self) -> str: ...

    @property
    def of(self) -> str: ...

    def next(self, number: int) -> str | None:
        """Return what to say of the next round, None if the series is complete. number: 0 for the first."""

    def options(self, turn: Turn) -> Sequence[str]:
        """Return the options of pytest for a turn of the round that was announced last, before those of the user."""

    def took(self, done: Sequence[Done]) -> None:
        """Receive the turns of a complete round."""

    def about(self) -> Mapping[str, Any]:
        """Return what run.json says of the series."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A number of equal runs."""

    runs: int
    flag: str = ""

    @property
    def of(self) -> str:
        return f"of {self.runs} runs are complete"

    def next(self, number: int) -> str | None:
        return f"run {number + 1} of {self.runs}" if number < self.runs else None

    def options(self, turn: Turn) -> Sequence[str]:  # noqa: ARG002 - all turns are alike
        return ()

    def took(self, done: Sequence[Done]) -> None:
        pass

    def about(self) -> Mapping[str, Any]:
        return {}


def turns(sides: Sequence[Side], seed: int) -> Iterator[list[Turn]]:
    """Yield the turns of each round in the order in which to run them, which is random.

    Both sides of a pair measure their cases in the same order; each pair has another order.
    """
    draw = random.Random(seed)  # noqa: S311 - an order, not a secret
    for replicate in count():
        order = list(sides)
        draw.shuffle(order)
        cases = draw.randrange(2**31)
        yield [Turn(side, replicate, cases) for side in order]


def command(turn: Turn, output: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command line of one run; its results go below `output`, whatever `arguments` say."""
    ours = [f"--bench-output={output}", f"--bench-shuffle={turn.seed}", "--bench-keep-journal"]
    options = (*child_process.MEASURING, *arguments, *ours)
    return child_process.pytest_command(turn.side.python, *options, parent=os.getpid())


def launch(turn: Turn, output: Path, arguments: Sequence[str]) -> int:
    """Run one turn and return pytest's exit code; its output goes to log.txt below `output`."""
    output.mkdir(parents=True)
    with (output / LOG).open("wb") as log:
        line = command(turn, output, arguments)
        child = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT)
        try:
            return child.wait()
        except KeyboardInterrupt:
            # Ctrl-C reaches the child too, a SIGTERM to this process does not. In both cases the child needs time to
            # write its results. Windows has Ctrl-C alone, and `terminate` leaves no time there.
            if sys.platform != "win32":
                child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE)
            raise
        finally:
            child.kill()
            child.wait()


Launch = Callable[[Turn, Path, Sequence[str]], int]


def require_usable(python: str, module: str = "") -> None:
    """Raise UsageError unless `python` is an interpreter that can import bench-core, and this module of it."""
    command = child_process.import_command(python, module or "bench_core.pytest_plugin")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--against {python}: cannot be run: {error}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"--against {python}: bench-core cannot be imported there: {said}")


def repeat(
    sides: Sequence[Side],
    schedule: Schedule,
    arguments: Sequence[str],
    output: Path,
    *,
    seed: int | None = None,
    run_one: Launch = launch,
    on_progress: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Measure every side in rounds, as the schedule says, and return one results folder for each side.

    Finished runs stay below `output`/unfinished until the end, each as a results folder of its own. If a run fails or
    is interrupted, the runs before it are merged first: all runs of a single side, the complete pairs of two sides.
    `on_progress` is called with a line for each run and, if the series stops early, for each folder that is left.
    Raises RunFailed if a run leaves no results, IncompatibleError if the runs of a side are of different machines or
    computers, KeyboardInterrupt.
    """
    series = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    unfinished = output / schema.UNFINISHED / series
    drawn = secrets.randbelow(2**31) if seed is None else seed
    done: list[Done] = []
    try:
        for number, pair in enumerate(turns(sides, drawn)):
            title = schedule.next(number)
            if title is None:
                break
            for turn in pair:
                on_progress(title + f" ({turn.side.name})" * (len(sides) > 1))
                done.append(_take(turn, unfinished, [*schedule.options(turn), *arguments], run_one))
            schedule.took(done[-len(sides) :])
    except (KeyboardInterrupt, RunFailed):
        complete = len(done) // len(sides)  # a pair ends before the next begins
        for folder in _merge(done[: complete * len(sides)], sides, output, series, drawn, schedule):
            on_progress(f"stopped early: {complete} {schedule.of}, results in {folder}")
        for d in done[complete * len(sides) :]:
            on_progress(f"stopped early: the second run of a pair is missing, the first is in {d.folder}")
        raise
    return _merge(done, sides, output, series, drawn, schedule)


def _take(turn: Turn, unfinished: Path, arguments: Sequence[str], run_one: Launch) -> Done:
    output = unfinished / f"{turn.replicate:03}-{turn.side.name}"
    began = datetime.now(UTC)
    code = run_one(turn, output, arguments)
    found = sorted(output.glob(f"*/*/{schema.RUN}"))
    if len(found) != 1 or not (found[0].parent / schema.JOURNAL).is_file():
        ended = f"run {turn.replicate + 1} {child_process.ending(code)} and left no results"
        raise RunFailed(f"{ended}: {_last_words(output)}", code or 1)
    return Done.read(turn, (datetime.now(UTC) - began).total_seconds(), found[0].parent)


def last_error(said: str) -> str:
    """Return the line of pytest's output that says why it ended: its last error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [found[1] for line in lines if (found := _ERROR.match(line))]
    return (errors or lines or ["it printed nothing"])[-1]


def _last_words(output: Path) -> str:
    log = output / LOG
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return f"{last_error(said)} (full log: {log})"


def _merge(
    done: Sequence[Done], sides: Sequence[Side], output: Path, series: str, seed: int, schedule: Schedule
) -> list[Path]:
    """Merge the runs of each side, in the order of the sides, then delete them, so that they are not read twice."""
    by_side = [[d for d in done if d.turn.side == side] for side in sides]
    folders = [merge(mine, output, series, seed, schedule, alone=len(sides) == 1) for mine in by_side if mine]
    for d in done:
        shutil.rmtree(d.folder.parent.parent)
    for folder in (output / schema.UNFINISHED / series, output / schema.UNFINISHED):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return folders


def merge(done: Sequence[Done], output: Path, series: str, seed: int, schedule: Schedule, *, alone: bool) -> Path:
    """Write the runs of one side as one results folder, with a process number for each run, and return the folder.

    Raises IncompatibleError if the runs are of different machines, or of two computers that have one name.
    """
    first = done[0]
    machines = {d.about["run"]["machine"] for d in done}
    if len(machines) > 1:
        raise IncompatibleError(f"runs of different machines cannot be merged: {', '.join(sorted(machines))}")
    _require_one_computer(map(_computer, done))
    run = Run(**{**first.about["run"], "run_id": series if alone else f"{series}-{first.turn.side.name}"})
    traits = merged(d.traits for d in done)
    flags = (schedule.flag,) if schedule.flag else ()
    numbered = [
        replace(m, process=d.turn.replicate, flags=(*m.flags, *flags)) for d in done for m in d.kept.measurements
    ]
    by_case: dict[Case, list[Measurement]] = {}
    for measurement in refuse_beyond_own_best(numbered, traits):
        by_case.setdefault(measurement.case, []).append(measurement)
    rows = rows_of_run(run, by_case.values(), traits)
    everything = [m for processes in by_case.values() for m in processes]
    folder = output / run.machine / run.run_id
    folder.mkdir(parents=True)
    about = _about(run, done, everything) | {"traits": traits.to_json(), "series": series, "seed": seed}
    about |= schedule.about()
    writer.write_run(folder, rows, everything, about)
    return folder


def _computer(done: Done) -> Lasting:
    """Return the lasting facts of the computer of a run."""
    devices = {(m.case.device, m.device_name) for m in done.kept.measurements}
    return lasting(flatten(done.about["environment"]["host"]), devices)


def _require_one_computer(computers: Iterable[Lasting]) -> None:
    for one, other in combinations(computers, 2):
        apart = [against(name, (one[name], other[name])) for name in contradictions(one, other)]
        if apart:
            raise IncompatibleError(f"runs of two computers cannot be merged: {'; '.join(apart)}")


def _about(run: Run, done: Sequence[Done], everything: Sequence[Measurement]) -> dict[str, Any]:
    """Return run.json of merged runs: the first run's facts, those of all workers, and each process's start time."""
    abouts = [d.about for d in done]
    workers = {env_id: facts for about in abouts for env_id, facts in about["environment"]["workers"].items()}
    processes = [
        {"process": d.turn.replicate, **{name: d.about["run"][name] for name in ("run_id", "started_at")}} for d in done
    ]
    return {
        **abouts[0],
        "run": to_json(run),
        "planned": sum(about["planned"] for about in abouts),
        "statuses": count_statuses(everything),
        "time": account.merged([about.get("time") for about in abouts]),
        "disturbed": disturbed_seconds(everything),
        "processes": processes,
        "environment": {"host": abouts[0]["environment"]["host"], "workers": workers},
    }
