"""Find and read the files of a comparison, and collect notes on their problems."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench_core.compare import computers
from bench_core.compare.computers import Identity, Names, TableRun
from bench_core.compare.result import InputFile
from bench_core.errors import TableError, UsageError, warn_of
from bench_core.files import why_unreadable
from bench_core.machine.facts import lasting
from bench_core.records import IMPORTED, Row, Status, identifier
from bench_core.results.columns import Mask
from bench_core.results.reader import find_results, read_table
from bench_core.results.run_files import RunFiles, read_run_files
from bench_core.results.schema import NOISE, RUN, SAMPLES, UNFINISHED
from bench_core.results.table import Table
from bench_core.results.traits import TraitsOf
from bench_core.text import harmless, is_visible, printable, quoted

_BESIDE = {SAMPLES, RUN, NOISE}  # a pattern may match them too


@dataclass(frozen=True, slots=True)
class Reading:
    """One results.csv with its samples and environment.

    rows: `machine` is replaced by the label if one was given. origins: (run_id, machine name in the table). In both
    `read` numbers the computers that have one name. notes: problems that did not prevent reading. lines: the
    line of each row in the file, empty if the rows are not from one.
    """

    path: str
    label: str
    rows: Table
    files: RunFiles = field(default_factory=RunFiles)
    origins: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    _machines: Mapping[str, str] = field(init=False, repr=False, compare=False)  # by run_id

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", Table.of(self.rows))
        object.__setattr__(self, "_machines", dict(self.origins))

    @classmethod
    def of(
        cls,
        path: str,
        rows: Iterable[Row],
        label: str = "",
        files: RunFiles | None = None,
        lines: Iterable[int] = (),
    ) -> Reading:
        """Return a reading of `rows`, with `machine` replaced by `label` unless it is empty."""
        table = Table.of(rows)
        origins, numbers = table.groups(("run_id", "machine"))
        shown = table.of_machines([label] * len(origins), numbers) if label else table
        return cls(path, label, shown, files or RunFiles(), tuple(origins), lines=tuple(lines))

    def only(self, mask: Mask) -> Reading:
        """Return a reading with the rows alone that a mask marks."""
        return replace(self, rows=self.rows.only(mask))

    def place(self, row: Row) -> str:
        """Return the file of a row, and its line if that is known."""
        place = self.rows.place(row)
        return f"{self.path}:{self.lines[place]}" if place < len(self.lines) else self.path

    def files_of(self, run_id: str) -> RunFiles:
        """Return the files beside the table if they are of this run, else empty ones: a table may contain several.

        Whatever its machine is called: `read` may have given it another name.
        """
        return self.files if self.files.are_of(run_id, is_only=len(self.origins) == 1) else RunFiles()

    def machine_in_table(self, run_id: str, machine: str) -> str:
        """Return the machine in the table of rows with this one. A label replaced it; each run has one machine then."""
        return self._machines.get(run_id, machine) if self.label else machine

    @property
    def traits(self) -> TraitsOf:
        """The traits of the workloads in this file."""
        return TraitsOf.from_json(self.files.about.get("traits"))

    @property
    def sources(self) -> tuple[Path, ...]:
        """The files from which a reading is made; of those beside the table, some may not exist."""
        table = Path(self.path)
        return table, table.with_name(SAMPLES), table.with_name(RUN), table.absolute().parent.with_name(NOISE)

    @property
    def input_file(self) -> InputFile:
        """The summary of this file that is shown with the comparison."""
        statuses = Counter(self.rows.cells("status"))
        return InputFile(
            path=self.path,
            label=self.label,
            machines=tuple(dict.fromkeys(machine for _, machine in self.origins)),
            run_ids=tuple(dict.fromkeys(run_id for run_id, _ in self.origins)),
            rows=len(self.rows),
            statuses=tuple((status.value, statuses[status]) for status in Status if status in statuses),
            samples=self.files.samples is not None,
            environment=bool(self.files.facts),
        )


def read(arguments: Sequence[str]) -> list[Reading]:
    """Return the readings of `[LABEL=]PATH` arguments: runs, folders of runs, patterns or single CSV files.

    Two computers that have one name are kept apart: they get different names, and a note says which (computers.py).

    Raises TableError for a file that cannot be read, UsageError for a label that is not a valid name or is used for
    several machines.
    """
    readings: list[Reading] = []
    seen: set[tuple[str, str]] = set()
    for argument in arguments:
        label, pattern = split_label(argument)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            files = _files(pattern)
        heard = _texts(caught)
        for file in files:
            named = (os.path.realpath(file), label)
            if named not in seen:
                seen.add(named)
                reading = _read_one(file, label)
                readings.append(replace(reading, notes=(*heard, *reading.notes)))
    _require_one_machine_a_label(readings)
    return _keep_computers_apart(readings)


def split_label(argument: str) -> tuple[str, str]:
    """Return label and path of `LABEL=PATH`; an existing path may itself contain an equals sign.

    Raises UsageError for an empty path, which would mean the current folder, and for a label that is not a valid name.
    A label is only shown, so that letters, digits and symbols of any script may stand in it.
    """
    if not argument:
        raise UsageError("an empty path: name a file or a folder")
    label, equals, path = argument.partition("=")
    if not equals or os.path.exists(argument) or "/" in label:  # noqa: PTH110 - Path.exists raises for long names
        return "", argument
    if not path:
        raise UsageError(f"{argument!r}: no path after the equals sign")
    try:
        identifier("".join(c if c.isascii() else "x" for c in label))
    except ValueError:
        is_name = False
    else:
        is_name = harmless(label) == label and is_visible(label)
    if not is_name:
        allowed = "letters, digits, symbols and _ . + : / - only"
        raise UsageError(f"label {quoted(label)} is not a name ({allowed})")
    return label, path


def _files(pattern: str) -> list[Path]:
    if glob.has_magic(pattern) and not os.path.exists(pattern):  # noqa: PTH110 - see split_label
        matches = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        named = UNFINISHED in Path(pattern).parts
        paths = sorted(p for p in matches if p.name not in _BESIDE and (named or UNFINISHED not in p.parts))
        closed = _closed(pattern)
        if not paths:
            reasons = [f"{printable(name, 200)}: {why}" for name, why in closed.items()]
            raise TableError(printable(pattern, 200), "; ".join(["no file matches", *reasons[:3]]))
        for name, why in closed.items():
            warn_of(name, why)
        return [file for path in paths for file in find_results(path)]
    return find_results(Path(pattern))


def _closed(pattern: str) -> dict[str, str]:
    """Return the folders in which a pattern cannot look for names, and why: glob passes over them in silence."""
    closed: dict[str, str] = {}
    for path in (Path(pattern), *Path(pattern).parents):
        folder = str(path.parent)
        if "**" in folder or not glob.has_magic(path.name):
            continue
        # Without magic it is looked into even if it cannot be seen, because a folder above it is closed.
        for name in glob.glob(folder) if glob.has_magic(folder) else [folder]:  # noqa: PTH207 - see _files
            try:
                os.scandir(name).close()
            except NotADirectoryError:
                continue
            except (OSError, ValueError) as error:
                closed[name] = why_unreadable(error)
    return dict(sorted(closed.items()))


def _read_one(file: Path, label: str) -> Reading:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lines, rows = read_table(file)
        files = read_run_files(file)
    reading = Reading.of(str(file), rows, label, files, lines)
    return replace(reading, notes=(*_texts(caught), *reading.files.notes, *_of_others(file, rows)))


def _of_others(file: Path, rows: Table) -> Iterator[str]:
    """Yield a note if other programs have measured rows of a table."""
    programs = [name for name, flags in rows.distinct("backend", "flags") if IMPORTED in flags.split(";")]
    if programs:
        names = printable(", ".join(dict.fromkeys(programs)))
        yield f"{file}: imported: measured by {names}, and not checked by this suite"


def _texts(caught: Iterable[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(str(warning.message) for warning in caught)


def _require_one_machine_a_label(readings: Sequence[Reading]) -> None:
    machines: dict[str, set[str]] = {}
    for reading in readings:
        if reading.label:
            machines.setdefault(reading.label, set()).update(machine for _, machine in reading.origins)
    for label, names in machines.items():
        if len(names) > 1:
            raise UsageError(f"label {label!r} is used for {len(names)} machines: {', '.join(sorted(names)[:5])}")


def _keep_computers_apart(readings: Sequence[Reading]) -> list[Reading]:
    """Return the readings with one name for each computer; see computers.py."""
    names = computers.names(run for reading in readings for run in table_runs(reading))
    return [_renamed(reading, names) for reading in readings]


def table_runs(reading: Reading) -> Iterator[TableRun]:
    """Yield the runs in a table with what is known of the computer of each.

    The names of devices are in the rows. The other facts are in run.json, and belong only to the run that it names: a
    table may contain several.
    """
    by_run: dict[tuple[str, str], list[list[str]]] = {}
    for run_id, shown, *seen in reading.rows.distinct("run_id", "machine", "started_at", "device", "device_name"):
        by_run.setdefault((run_id, reading.machine_in_table(run_id, shown)), []).append(seen)
    for (run_id, machine), seen in by_run.items():
        is_own = reading.files.are_of(run_id, machine, is_only=len(by_run) == 1)
        facts = reading.files.facts if is_own else {}
        started_at = min(started_at for started_at, *_ in seen)
        devices = {(device, name) for _, device, name in seen}
        yield TableRun(reading.label, machine, run_id, started_at, lasting(facts, devices))


def _renamed(reading: Reading, names: Mapping[Identity, Names]) -> Reading:
    """Return a reading with the names of its computers; of several behind one label, the label stays that of all."""
    mine = {(run_id, machine): names[reading.label, machine, run_id] for run_id, machine in reading.origins}
    if not any(own.notes for own in mine.values()):
        return reading
    shown = tuple(dict.fromkeys(own.shown for own in mine.values()))
    notes = dict.fromkeys(note for own in mine.values() for note in own.notes)
    runs, numbers = reading.rows.groups(("run_id", "machine"))
    names_of_runs = [mine[run_id, reading.machine_in_table(run_id, machine)].shown for run_id, machine in runs]
    return replace(
        reading,
        label=shown[0] if reading.label and len(shown) == 1 else reading.label,
        rows=reading.rows.of_machines(names_of_runs, numbers),
        origins=tuple((run_id, own.machine) for (run_id, _), own in mine.items()),
        notes=(*notes, *reading.notes),
    )
