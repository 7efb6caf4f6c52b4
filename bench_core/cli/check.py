"""`bench-core check`: measure the limits of this machine in about two minutes and judge them (limits.py).

Exit codes: 0 every limit with a known range is in its range, 1 a limit is low or an answer is wrong, 2 usage,
3 no range is known for this device (its values are shown), 130 interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench_core.cli import PYTEST_OPTIONS, app
from bench_core.errors import UsageError


@app.command("check", context_settings=PYTEST_OPTIONS)
def command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PYTEST_OPTION", help="For example: --bench-backends=torch:cuda:1"),
    ] = None,
    *,
    results: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Judge this run folder instead of measuring.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Measure the limits of this machine, and report whether they are in their normal ranges."""
    given = list(arguments or [])
    if results and given:
        raise UsageError(f"--from measures nothing: leave out {given[0]}")
    from bench_core.cli import limits

    raise typer.Exit(limits.check(given, results, as_json=as_json))
