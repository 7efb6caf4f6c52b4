"""`bench-core fleet`: the same measurement on many machines, and which of them differ.

Exit codes of `run` and `gather`: 0 every node gave everything; 1 some did not, or all of their cases failed, and are
named; 2 usage, or the engine cannot be used; 3 the folder of the fleet cannot be read; 130 interrupted: what there was
by then is gathered.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli import PYTEST_OPTIONS, Group, app
from bench_core.cli.common import chosen, columns, has_colour, print_progress, say, split_output
from bench_core.cli.fleet_diagnose import diagnose_command
from bench_core.cli.fleet_template import template_command
from bench_core.errors import TableError, UsageError
from bench_core.text import no_such, printable, quoted
from bench_core.units import counted

if TYPE_CHECKING:
    from bench_core.fleet.driver import Request
    from bench_core.fleet.engine import Places
    from bench_core.fleet.gathering import Gathered, Given
    from bench_core.fleet.plan import FleetFolder
    from bench_core.fleet.problems import Problem

_RUNS = 3  # so many a diagnosis needs of each of six nodes or more; of five it needs one more
# Options of pytest that a fleet sets itself, or that make no sense on many machines, and what to say of each.
_REFUSED = {
    "--bench-machine": "each node gets a label; for the names of the nodes: --name-nodes",
    "--bench-resume": "a fleet is finished by --resume FLEET",
    "--bench-process": "each run is of one process",
    "--bench-shuffle": "all nodes measure in the same order",
    "--bench-keep-journal": "a run with a journal is taken for an unfinished one",
    "--bench-probes": "it is for `bench-core run --precision`",
    "--bench-cases": "it is for `bench-core run --precision`",
    "--numprocesses": "cases that run at the same time disturb each other",
}
_WORKERS = re.compile(r"-n(=?(\d+|auto|logical))?")  # the short form of --numprocesses

fleet = typer.Typer(
    name="fleet",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure on many machines, and find those that differ.",
)
app.add_typer(fleet)
fleet.command("diagnose")(diagnose_command)
fleet.command("template")(template_command)

_Fleet = Annotated[Path, typer.Argument(metavar="FLEET", help="The folder of a fleet, as `fleet run` names it.")]


@fleet.command("run", context_settings=PYTEST_OPTIONS)
def run_command(  # noqa: PLR0913 - one parameter an option
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PYTEST_OPTION", help="As of `bench-core run`: -k matmul --bench-preset=full, or a file."
        ),
    ] = None,
    *,
    on: Annotated[str, typer.Option(metavar="slurm|ray|local", help="What starts a task on each node.")] = "",
    runs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help=f"Runs on each node, in fresh processes. Default: {_RUNS}; to find a slow one of five nodes: 4.",
        ),
    ] = None,
    per: Annotated[str, typer.Option(metavar="node|gpu", help="gpu: each GPU of a node by itself.")] = "node",
    nodes: Annotated[str, typer.Option(metavar="LIST", help="Only these nodes; of Slurm a hostlist: n[1-4,7].")] = "",
    name_nodes: Annotated[
        bool, typer.Option("--name-nodes", help="Label results with the names of the nodes instead of numbers.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the engine: partition=gpu, time=60, address=auto."
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FLEET", help="Measure what is missing of this fleet, as it was planned.")
    ] = None,
) -> None:
    """Measure on each of many nodes, each alone and by runs of its own, and gather the results in one folder.

    The names of the nodes are in no table unless --name-nodes is given: FLEET/.fleet has them, and the logs.
    """
    output, given = split_output(list(arguments or []))
    _require_allowed(given)
    set_here = _settings(settings or [])
    if resume is not None:
        if given or on or runs or nodes or name_nodes or per != "node" or output != Path("results"):
            raise UsageError("--resume measures what was planned: leave out all other options but --set")
        _resume(resume, set_here)
    else:
        from bench_core.fleet.driver import ENGINES, PER, Request

        if not on:
            raise UsageError("--on: name what starts the tasks: slurm, ray or local")
        chosen("--on", on, ENGINES)
        chosen("--per", per, PER)
        if nodes and on == "slurm":  # it knows lists of its own
            set_here["nodes"] = nodes
        request = Request(on, runs or _RUNS, tuple(given), per, name_nodes, set_here)
        _start(request, output, "" if on == "slurm" else nodes)


@fleet.command("gather")
def gather_command(folder: _Fleet) -> None:
    """Gather again what the nodes of a fleet gave: verify it, and copy what is new. What is there stays as it is."""
    from bench_core.fleet.plan import FleetFolder

    _finish(FleetFolder(folder), interrupted=False)


def _require_allowed(given: Sequence[str]) -> None:
    """Raise UsageError for an option of pytest that a fleet cannot pass on."""
    for argument in given:
        name = "--numprocesses" if _WORKERS.fullmatch(argument) else argument.partition("=")[0]
        if name in _REFUSED:
            raise UsageError(f"{printable(argument)}: leave it out: {_REFUSED[name]}")


def _settings(given: Sequence[str]) -> dict[str, str]:
    """Return the settings of --set; raises UsageError for one that is none."""
    found = {}
    for text in given:
        key, is_set, value = text.partition("=")
        if not (is_set and key.strip() and value.strip()):
            raise UsageError(f"--set: {quoted(text)} is not KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def _start(request: Request, output: Path, only: str) -> None:
    """Measure a new fleet. only: names of nodes with commas between them, "" for all."""
    from bench_core.fleet import driver
    from bench_core.fleet.engine import EngineError
    from bench_core.fleet.plan import FleetFolder, new_id

    folder = FleetFolder(output / new_id())
    with contextlib.closing(driver.engine(request.engine, folder.private, request.settings)) as engine:
        places = _only(engine.places(), only)
        plan, by_label, notes = driver.new_plan(folder.path.name, request, places.usable)
        for note in (*(f"{name} cannot be used: {why}" for name, why in places.absent), *notes):
            print_progress(note)
        try:
            folder.create(plan, {label: place.name for label, place in by_label.items()})
            print_progress(f"{folder.path}: {counted(len(plan.nodes), 'node')}, {counted(plan.runs, 'run')} each")
            if advice := _more_runs(sum(len(node.parts) for node in plan.nodes), plan.runs):
                print_progress(advice)
            interrupted = driver.Driver(folder, engine, print_progress).run(plan, by_label, {})
        except EngineError:
            shutil.rmtree(folder.path, ignore_errors=True)  # nothing was measured
            raise
        except OSError as error:
            raise UsageError(f"--bench-output={output}: cannot write there: {error.strerror}") from None
    named = bool(only or request.settings.get("nodes"))
    _finish(folder, interrupted=interrupted, absent=places.absent, are_named=named)


def _only(places: Places, names: str) -> Places:
    """Return the nodes of these names; all if there are none. Raises UsageError for a name that no node has."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        return places
    usable = [place.name for place in places.usable]
    there = [*usable, *(name for name, _ in places.absent)]
    for name in wanted:
        if name not in there:
            raise UsageError(f"--nodes: {no_such('node', name, there)}")
    if not set(wanted) & set(usable):
        whys = "; ".join(f"{name}: {why}" for name, why in places.absent if name in wanted)
        raise UsageError(f"--nodes: none of them can be used: {whys}")
    absent = tuple((name, why) for name, why in places.absent if name in wanted)
    return type(places)(tuple(place for place in places.usable if place.name in wanted), absent)


def _resume(path: Path, set_here: Mapping[str, str]) -> None:
    """Measure what is missing of a fleet."""
    from dataclasses import replace

    from bench_core.fleet import driver
    from bench_core.fleet.gathering import set_aside
    from bench_core.fleet.plan import FleetFolder

    folder = FleetFolder(path)
    plan, names = folder.plan(), folder.names()
    notes = driver.require_same(plan, path)
    gathered = _gather(folder)
    missing = replace(plan, nodes=tuple(node for node in plan.nodes if node.label in gathered.lacking))
    if not missing.nodes:
        _finish(folder, interrupted=False)
        return
    for note in notes:
        print_progress(f"{path}: {note}")
    with contextlib.closing(driver.engine(plan.engine, folder.private, {**plan.settings, **set_here})) as engine:
        places = engine.places()
        absent = {label: why for name, why in places.absent for label, known in names.items() if known == name}
        try:
            set_aside(folder, gathered)
            runner = driver.Driver(folder, engine, print_progress)
            interrupted = runner.run(missing, driver.places_of(names, places.usable), absent)
        except OSError as error:
            raise UsageError(f"--resume {path}: cannot write there: {error.strerror}") from None
    _finish(folder, interrupted=interrupted)


def _gather(folder: FleetFolder) -> Gathered:
    from bench_core.fleet.gathering import gather

    try:
        return gather(folder)
    except OSError as error:
        raise UsageError(f"{folder.path}: cannot write there: {error.strerror}") from None


def _finish(
    folder: FleetFolder, *, interrupted: bool, absent: Sequence[tuple[str, str]] = (), are_named: bool = False
) -> None:
    """Gather, show what there is and what to do next, and end with the exit code.

    absent: nodes that could not be used, and why. are_named: whether the user has named the nodes, and so misses these.
    """
    gathered = _gather(folder)
    typer.echo("\n".join(_table(gathered, _names(folder))), color=True)
    for name, why in absent:
        say(f"not measured: {name}: {why}")
    here = shlex.quote(str(folder.path))
    if any(part.runs for part in gathered.given):
        say(f"results: {folder.path}")
    if gathered.lacking:
        say(f"To measure what is missing: bench-core fleet run --resume {here}")
    elif next_command := _next(len(gathered.given), gathered.asked):
        say(f"To find the nodes that differ: bench-core {next_command} {here}")
        if advice := _more_runs(len(gathered.given), gathered.asked):
            say(advice)
    if interrupted:
        raise typer.Exit(130)
    if not gathered.is_whole or (absent and are_named):
        raise typer.Exit(1)


def _next(parts: int, runs: int) -> str:
    """Return the command that tells whether some of so many parts differ, "" for one that is alone."""
    from bench_core.diagnosis.judge import FEWEST_NODES

    if parts >= FEWEST_NODES and not _more_runs(parts, runs):
        return "fleet diagnose"
    return "compare" if parts > 1 else ""


def _more_runs(parts: int, runs: int) -> str:
    """Return what to say if more runs of each of so many parts would let a diagnosis find a slow one; else ""."""
    from bench_core.diagnosis.judge import FEWEST_NODES, enough_runs

    if parts < FEWEST_NODES or runs >= (enough := enough_runs(parts)):
        return ""
    needed = f"`fleet diagnose` needs {enough} runs of each"
    return f"To find a slow node among {parts}, {needed}: measure with --runs {enough}"


def _names(folder: FleetFolder) -> Mapping[str, str]:
    """Return the names of the nodes by label, as far as they can be read."""
    try:
        return folder.names()
    except TableError:
        return {}


def _table(gathered: Gathered, names: Mapping[str, str]) -> list[str]:
    """Return the lines of the table of what each part gave. It has names of nodes: it is for a terminal alone."""
    from bench_core.render.text_table import Table, layout

    def row(part: Given) -> tuple[str, ...]:
        mine = [problem for problem in gathered.problems if _is_of(problem, part, gathered.given)]
        name = printable(names.get(part.node, ""))
        return part.part, name, f"{len(part.runs)} of {gathered.asked}", "\n".join(map(_told, mine))

    header = ("node", "name", "runs", "problem")
    return list(layout(Table(header, tuple(map(row, gathered.given))), columns(), colour=has_colour()))


def _is_of(problem: Problem, part: Given, given: Sequence[Given]) -> bool:
    """Return whether a problem is told beside a part: its own, or beside the first of a node that of the node."""
    if problem.part == part.part:
        return problem.node == part.node
    first = next(each for each in given if each.node == problem.node)
    return problem.part == problem.node and part is first


def _told(problem: Problem) -> str:
    return printable(f"{'note: ' * problem.kind.is_note}{problem.text}", 600)
