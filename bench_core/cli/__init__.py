"""The command line: `bench-core list | run | compare | report | plot | doctor | aa`.

The only room that prints. Each command lives in a file of its own, which says what it may exit with.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from bench_core.csvfile import printable
from bench_core.errors import BenchError


class _Commands(TyperGroup):
    """The one place where an error that was raised on purpose becomes a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BenchError as error:
            typer.echo(f"bench-core: {printable(str(error), 2000)}", err=True)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(name="bench-core", cls=_Commands, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.callback()
def _bench_core() -> None:
    """Measure GPU against CPU honestly, and compare the results across hardware."""


import bench_core.cli.list  # noqa: E402, F401 - registers the command
from bench_core.cli import aa, compare, doctor, plot, report, run  # noqa: E402, F401 - each command registers itself
