"""The command line: `bench-core list | run | compare | report | plot | doctor | aa`.

The only room that prints. Each command lives in a file of its own name, which says what it may exit with
and is imported when the command is asked for: `compare` must not wait for pytest, nor `list` for charts.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info

from bench_core.csvfile import printable
from bench_core.errors import BenchError

# For commands that run pytest: an option that is not theirs is pytest's, which says so if it knows none such either.
PYTEST_OPTIONS = {"ignore_unknown_options": True}
COMMANDS = ("list", "run", "compare", "report", "plot", "doctor", "aa")


class _Commands(TyperGroup):
    """Finds a command, and is the one place where an error raised on purpose becomes a line and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the same in every context
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the same in every context
        if cmd_name not in COMMANDS:
            return None
        importlib.import_module(f"bench_core.cli.{cmd_name}")
        (command,) = (known for known in app.registered_commands if known.name == cmd_name)
        return get_command_from_info(command, pretty_exceptions_short=False, rich_markup_mode="rich")

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
