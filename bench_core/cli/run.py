"""`bench-core run`: measure once or several times, optionally in turns with another interpreter.

Exit codes of a single run: those of pytest (0 all measured, 1 a case failed, 2 interrupted or usage, ...). With
--runs, --against, --precision or --time: 0, however precise; 2 usage; 130 interrupted; if a run
wrote no results, its exit code.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.cli.common import print_progress, require_temporary_folder, say, split_output
from bench_core.errors import NothingToCompare, UsageError
from bench_core.interrupts import Interrupts
from bench_core.text import quoted

if (
    TYPE_CHECKING
):  # what measures several times is imported where it is called: --help and a single run need nothing of it
    from bench_core.run import replicate
    from bench_core.run.precision import Goal

_BEST = 0.01  # the precision of --time alone: a run of one process does not try for more either
_TIME = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@app.command("run", context_settings=PYTEST_OPTIONS)
def run_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_OPTION", help="For example: -k matmul --bench-preset=full, or a file."),
    ] = None,
    *,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Number of runs, each in fresh processes.")] = 1,
    precision: Annotated[
        str,
        typer.Option(help="Repeat in fresh processes until each headline value is known within this: 3%."),
    ] = "",
    time: Annotated[
        str,
        typer.Option(
            help="Begin nothing that would end later, except in the first round: 90s, 20m, 1.5h. Without "
            "--precision its goal is 1%."
        ),
    ] = "",
    against: Annotated[
        str, typer.Option(metavar="PYTHON", help="Alternate runs with this Python interpreter, and compare the two.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed for the order of runs and cases. Default: random.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Finish this run folder: measure only its missing cases.")
    ] = None,
) -> None:
    """Measure in fresh processes; several runs become one result.

    Without a file or folder this measures the benchmarks in the current folder or, if there are none, those that come
    with bench-core. With --bench-suite=always it measures those in any case.
    """
    from bench_core import child_process

    given = list(arguments or [])
    goal = _goal(precision, time)
    if resume:
        if runs > 1 or against or goal:
            raise UsageError("--resume finishes one run: leave out --runs, --precision, --time and --against")
        given.append(f"--bench-resume={resume}")
    if goal and runs > 1:
        raise UsageError("--runs: leave it out, as --precision and --time decide how many runs there are")
    require_temporary_folder()
    if runs == 1 and not against and not goal:
        _become(child_process.pytest_command(sys.executable, *child_process.MEASURING, *given))
    from bench_core.run import replicate
    from bench_core.run.precision import Precision

    sides = [replicate.Side("this")]
    if against:
        replicate.require_usable(against, Precision.__module__ if goal else "")
        sides.append(replicate.Side("against", against))
    folders = _measure(sides, goal, runs, given, seed)
    for folder in folders:
        say(f"results: {folder}")
    if against:
        _compare(folders)


def _measure(
    sides: list[replicate.Side], goal: Goal | None, runs: int, given: list[str], seed: int | None
) -> list[Path]:
    """Measure `runs` times, or as `goal` says, and return the folder of each side. Raises typer.Exit if interrupted."""
    from bench_core.render.precision import lines
    from bench_core.run import replicate
    from bench_core.run.precision import Precision
    from bench_core.scratch import Scratch

    output, passed = split_output(given)
    with contextlib.ExitStack() as at_end:
        schedule: replicate.Schedule = replicate.Fixed(runs)
        if goal:
            schedule = precise = Precision(goal, sides, Path(at_end.enter_context(Scratch())))
            at_end.callback(lambda: typer.echo("\n".join(lines(precise))) if precise.rounds else None)
        try:
            return replicate.repeat(sides, schedule, passed, output, seed=seed, on_progress=print_progress)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _become(command: list[str]) -> NoReturn:
    """Replace this process by `command`, so that signals reach pytest directly and it can end the run cleanly."""
    sys.stdout.flush()
    if sys.platform == "win32":  # execv starts a new process there, and the shell would not wait for it
        interrupts = Interrupts()
        interrupts.take()
        interrupts.ignore()  # they reach the child too, which does not inherit that, and needs time to write results
        raise typer.Exit(subprocess.Popen(command).wait())
    os.execv(command[0], command)  # noqa: S606 - an argument list, never a shell


def _compare(folders: list[Path]) -> None:
    from bench_core import render
    from bench_core.compare import compare, read

    this, against = folders
    labelled = [f"base={against}", f"change={this}"]
    try:
        typer.echo(render.text(compare(read(labelled)), 100))
    except NothingToCompare as error:
        say(f"{error}")
    say("Both sides are of one machine: without these labels their runs would be pooled.")
    say(f"To repeat this comparison: bench-core compare {shlex.join(labelled)}")


def _goal(precision: str, time: str) -> Goal | None:
    """Return what --precision and --time ask for, None if neither is given. Raises UsageError for other texts."""
    if not precision and not time:
        return None
    from bench_core.compare.options import share
    from bench_core.run.precision import Goal

    wanted = share("--precision", precision) if precision else _BEST
    if not 0 < wanted < 1:
        raise UsageError(f"--precision {precision}: must be above 0 and below 100%")
    if not time:
        return Goal(wanted)
    found = _TIME.fullmatch(time.strip())
    if not found or not float(found[1]):
        raise UsageError(f"--time: {quoted(time)} is not a time such as 90s, 20m or 1.5h")
    return Goal(wanted, float(found[1]) * _SECONDS[found[2]])
