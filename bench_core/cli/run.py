"""`bench-core run`: measure, once or several times, alone or in turns with another interpreter.

Exit codes: those of pytest for a single run (0 all measured, 1 a case failed, 2 interrupted or usage, ...);
with --runs or --against 0, or 2 for usage, that of the run that left no results, 130 when interrupted.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bench_core import child_process, render
from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.cli.common import print_progress, take_kills_for_interrupts
from bench_core.compare import compare, read
from bench_core.errors import NothingToCompare, UsageError
from bench_core.run import replicate

_OUTPUT = "--bench-output="


@app.command("run", context_settings=PYTEST_OPTIONS)
def run_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_OPTION", help="Such as: -k matmul --bench-preset=full"),
    ] = None,
    *,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="How often, each time in fresh processes.")] = 1,
    against: Annotated[
        str, typer.Option(metavar="PYTHON", help="Take turns with this interpreter, and compare the two.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed for the order of runs and cases. Default: random.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Finish this run folder: measure only what it still lacks.")
    ] = None,
) -> None:
    """Measure in fresh processes; several runs become one result."""
    given = list(arguments or [])
    if resume:
        if runs > 1 or against:
            raise UsageError("--resume finishes one run: leave out --runs and --against")
        given.append(f"--bench-resume={resume}")
    if runs == 1 and not against:
        _become([sys.executable, "-m", "pytest", *child_process.PLUGIN, "--benchmark-only", *given])
    sides = [replicate.Side("this")]
    if against:
        replicate.require_usable(against)
        sides.append(replicate.Side("against", against))
    output, passed = split_output(given)
    take_kills_for_interrupts()
    try:
        folders = replicate.repeat(sides, runs, passed, output, seed=seed, on_progress=print_progress)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    for folder in folders:
        typer.echo(f"results: {folder}")
    if against:
        _compare(folders)


def _become(command: list[str]) -> NoReturn:
    """Go on as this command: a signal to this process is then one to pytest, which ends the run in good order."""
    sys.stdout.flush()
    if sys.platform == "win32":  # there the shell would take this process for ended
        raise typer.Exit(subprocess.run(command, env=child_process.environ(), check=False).returncode)
    os.execve(command[0], command, child_process.environ())  # noqa: S606 - an argument list, never a shell


def split_output(arguments: list[str]) -> tuple[Path, list[str]]:
    """Return the folder of `--bench-output=DIR` (default: results), and the other arguments.

    Raises UsageError for the option without its equals sign.
    """
    if "--bench-output" in arguments:
        raise UsageError("--bench-output DIR: write --bench-output=DIR")
    folders = [a.removeprefix(_OUTPUT) for a in arguments if a.startswith(_OUTPUT)]
    return Path(folders[-1] if folders else "results"), [a for a in arguments if not a.startswith(_OUTPUT)]


def _compare(folders: list[Path]) -> None:
    labelled = [f"{name}={folder}" for name, folder in zip(("this", "against"), folders, strict=True)]
    try:
        typer.echo(render.text(compare(read(labelled)), 100))
    except NothingToCompare as error:
        typer.echo(f"{error}")
    typer.echo("Both sides are of one machine: without these labels their runs would be pooled.")
    typer.echo(f"again: bench-core compare {shlex.join(labelled)}")
