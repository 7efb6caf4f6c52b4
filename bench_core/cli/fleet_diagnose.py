"""`bench-core fleet diagnose`: which nodes of a fleet differ from the others.

Exit codes: 0 every node is judged, and none is off; 1 some node is slow or fast; 2 usage; 3 a file cannot be read; 5
none is off, but some node could not be judged: it has too few results or is of another kind, or nobody can be sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli.common import Filter, Paths, columns, format_of, has_colour, notes_on, say, write
from bench_core.errors import TableError, UsageError
from bench_core.garbage import collection_off
from bench_core.text import printable

if TYPE_CHECKING:
    from bench_core.compare import Reading
    from bench_core.diagnosis.result import Diagnosis

_FORMATS = ("table", "md", "csv", "json")
_LINES = 30  # of a table
_NOTES = 12  # on the tables, such as one for each without samples
_OFF, _UNDECIDED = 1, 5  # exit codes


def diagnose_command(
    paths: Paths,
    *,
    where: Filter = "",
    least: Annotated[
        str, typer.Option(help="A smaller difference is called neither slow nor fast: 2% or 0.02.")
    ] = "2%",
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="|".join(_FORMATS), help="Default: from the extension of --output, else table."
        ),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file instead of the terminal.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="The most lines of a table; 0: all.")] = _LINES,
) -> None:
    """Show which nodes are slower or faster than the others, in what, by how much, and what their environment says.

    Nodes of the same hardware are compared. It takes five of them at least, with three runs each (of exactly five,
    four): `bench-core fleet run` makes these. Give it one fleet at a time.
    """
    from bench_core.compare import read
    from bench_core.compare.options import share
    from bench_core.diagnosis.diagnose import diagnose_readings

    format_, smallest = format_of(format_, output, _FORMATS), share("--least", least)
    if smallest < 0:
        raise UsageError(f"--least {printable(least)}: must be 0 or more")
    with collection_off():
        readings = read(paths)
        _require_one_fleet(readings)
        readings = _kept(readings, where)
        diagnosis = diagnose_readings(readings, smallest)
    _say_notes(readings)
    is_shown = output is None and format_ == "table"
    names = _names(paths) if is_shown else {}
    text = _text(diagnosis, format_, limit, names, colour=has_colour() and is_shown)
    if output is not None:
        write(output, text, readings)
    else:
        typer.echo(text, nl=False, color=True)
    _end(diagnosis, is_told=is_shown)


def _require_one_fleet(readings: Sequence[Reading]) -> None:
    """Raise UsageError if two fleets have a node of one label: each numbers its own, so these are two computers."""
    known: dict[Path, tuple[str, Path] | None] = {}
    found: dict[str, tuple[str, Path]] = {}
    for reading in readings:
        fleet = _fleet_of(Path(reading.path).absolute().parent, known)
        if fleet is None:
            continue
        for name in sorted({reading.label or machine for _, machine in reading.origins}):
            fleet_id, folder = found.setdefault(name, fleet)
            if fleet_id != fleet[0]:
                told = f"{printable(name)} of {folder} is another computer than that of {fleet[1]}"
                raise UsageError(f"two fleets: {told}: diagnose each fleet by itself")


def _fleet_of(folder: Path, known: dict[Path, tuple[str, Path] | None]) -> tuple[str, Path] | None:
    """Return the id and the folder of the fleet to which a folder belongs; None if it is part of none.

    known: the answers so far, as a fleet has many folders.
    """
    from bench_core.fleet.plan import FleetFolder

    if folder not in known:
        try:
            known[folder] = FleetFolder(folder).plan().fleet_id, folder
        except TableError:  # no fleet, or damaged
            known[folder] = None if folder == folder.parent else _fleet_of(folder.parent, known)
    return known[folder]


def _kept(readings: Sequence[Reading], where: str) -> list[Reading]:
    """Return the readings with the rows that a filter keeps. Raises UsageError if it keeps none."""
    from dataclasses import replace

    from bench_core.results.filters import selected

    kept = [replace(reading, rows=selected(reading.rows, where)) for reading in readings]
    if where.strip() and not any(len(reading.rows) for reading in kept):
        raise UsageError("--filter: no row passes")
    return kept


def _text(diagnosis: Diagnosis, format_: str, limit: int, names: dict[str, str], *, colour: bool) -> str:
    from bench_core.render import fleet as render

    if format_ == "csv":
        return render.diagnosis_csv(diagnosis)
    if format_ == "json":
        return render.diagnosis_json(diagnosis)
    if format_ == "md":
        return render.diagnosis_markdown(diagnosis, limit)
    return render.diagnosis_text(diagnosis, columns(), colour=colour, most=limit, names=names)


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return what the engine calls each node and part, by label, if a path is the folder of a fleet."""
    from bench_core.compare.loading import split_label
    from bench_core.fleet.plan import FleetFolder

    found: dict[str, str] = {}
    for path in paths:
        folder = FleetFolder(Path(split_label(path)[1]))
        try:
            names, plan = folder.names(), folder.plan()
        except TableError:  # no folder of a fleet, or damaged: without names the diagnosis is the same
            continue
        found |= names
        found |= {part.label: names[n.label] for n in plan.nodes for part in n.parts if n.label in names}
    return found


def _say_notes(readings: Sequence[Reading]) -> None:
    """Print notes to stderr: what stdout has may be for programs."""
    notes = notes_on(readings)
    for note in notes[:_NOTES]:
        say(f"Note: {note}", err=True)
    if len(notes) > _NOTES:
        say(f"Note: and {len(notes) - _NOTES:,} more notes on the tables", err=True)


def _end(diagnosis: Diagnosis, *, is_told: bool) -> None:
    """End with the exit code. is_told: whether the verdict is on the terminal."""
    from bench_core.render.fleet import verdict_lines

    code = _OFF if diagnosis.has_off else 0 if diagnosis.is_decided else _UNDECIDED
    if code and not is_told:
        for line in verdict_lines(diagnosis):
            say(f"bench-core: {line}", err=True)
    if code:
        raise typer.Exit(code)
