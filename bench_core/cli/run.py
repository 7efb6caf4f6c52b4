"""`bench-core run`: measure once or several times, optionally in turns with another interpreter.

Exit codes of a single run: those of pytest (0 all measured, 1 a case failed, 2 interrupted or usage, ...). With
--runs or --against: 0; 2 usage; 130 interrupted; if a run wrote no results, its exit code.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.cli.common import print_progress, require_temporary_folder, say, split_output
from bench_core.errors import NothingToCompare, UsageError
from bench_core.interrupts import Interrupts


@app.command("run", context_settings=PYTEST_OPTIONS)
def run_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_OPTION", help="For example: -k matmul --bench-preset=full, or a file."),
    ] = None,
    *,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Number of runs, each in fresh processes.")] = 1,
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
    if resume:
        if runs > 1 or against:
            raise UsageError("--resume finishes one run: leave out --runs and --against")
        given.append(f"--bench-resume={resume}")
    require_temporary_folder()
    if runs == 1 and not against:
        _become(child_process.pytest_command(sys.executable, *child_process.MEASURING, *given))
    from bench_core.run import replicate  # a single run needs nothing of it

    sides = [replicate.Side("this")]
    if against:
        replicate.require_usable(against)
        sides.append(replicate.Side("against", against))
    output, passed = split_output(given)
    try:
        folders = replicate.repeat(sides, runs, passed, output, seed=seed, on_progress=print_progress)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    for folder in folders:
        say(f"results: {folder}")
    if against:
        _compare(folders)


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
