"""`bench-core validate`: can the runs of a folder be published beside others? For who contributes a run, and for CI.

Exit codes: 0 all can; 1 some cannot, each with the reason; 2 usage; 3 the folder cannot be read, or holds no run.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import say
from bench_core.units import counted

_MOST_SHOWN = 10  # of the problems of one place
_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of results: MACHINE/RUN.")]


@app.command("validate")
def validate_command(folder: _Folder = Path("results")) -> None:
    """Say whether the runs in a folder can be published.

    Their files are whole and of one run, their texts hold nothing private, their values are plausible, and each
    computer has a label of its own.
    """
    from bench_core.analysis.validation import validate

    found = validate(folder)
    for place, group in groupby(found.problems, lambda problem: problem.place):
        several = [problem.text for problem in group]
        for text in several[:_MOST_SHOWN]:
            say(f"{place}: {text}")
        if len(several) > _MOST_SHOWN:
            say(f"{place}: and {len(several) - _MOST_SHOWN} more")
    for note in found.notes:
        say(f"Note: {note.place}: {note.text}")
    runs = counted(found.runs, "run")
    if found.problems:
        say(f"{runs}, {counted(len(found.problems), 'problem')}")
        raise typer.Exit(1)
    say(f"{runs}: whole, nothing private in their tables and facts, plausible, one label for each computer")
