"""The command line: `bench-core list | run | compare | cost | report | plot | history | fleet | doctor | check | ...`.

This is the only subpackage that prints. Each command has a module of the same name (`import_` for `import`), which
documents its exit codes.
Besides these, every command has 74 or 141 if its output is lost (streams.py), and 130 if a signal ends it.
A module of a command imports at its top only what declares the command, and what does its work where that is done:
help must not wait for the work of all commands, `compare` not for pytest, nor `list` for charts.
"""

from __future__ import annotations

import contextlib
import importlib
import keyword
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_from_info, get_group_from_info

from bench_core import streams
from bench_core.errors import BenchError, UsageError
from bench_core.interrupts import Interrupts
from bench_core.text import harmless, no_such, printable

# For commands that run pytest: options unknown to typer are passed to pytest, which rejects those it does not know.
PYTEST_OPTIONS = {"ignore_unknown_options": True}
COMMANDS = (
    "list",
    "run",
    "compare",
    "cost",
    "report",
    "plot",
    "history",
    "fleet",
    "doctor",
    "check",
    "noise",
    "import",
    "validate",
)
ALIASES = {"aa": "noise"}  # former name -> name of a command
_TyperError: Any = typer.BadParameter.__bases__[0]  # of every wrong option and argument; typer exports no name for it


def module_of(command: str) -> str:
    """Return the name of the module of a command; that of a command which is a word of Python ends in `_`."""
    return f"bench_core.cli.{command}{'_' * keyword.iskeyword(command)}"


class Group(TyperGroup):
    """Several commands under one name. An unknown one is named with the nearest, and -h is --help."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        is_unknown = self.get_command(ctx, args[0]) is None and not args[0].startswith("-")
        if is_unknown and not ctx.resilient_parsing:  # a shell that completes words wants no error
            raise UsageError(no_such("command", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Take -h for --help. As an option of its own it would also be found in pytest's, such as `-kchase`."""
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, ["--help" if arg == "-h" else arg for arg in args[:end]] + args[end:])


class _Commands(Group):
    """Imports commands on demand, and turns every BenchError into one line on stderr and an exit code.

    Output that cannot be written has an exit code of its own (streams.py).
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the same in every context
        return [*COMMANDS]  # not list(COMMANDS): importing the command `list` rebinds that name to its module

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the same in every context
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        importlib.import_module(module_of(name))
        for group in app.registered_groups:
            if group.typer_instance is not None and group.typer_instance.info.name == name:
                return get_group_from_info(
                    group, pretty_exceptions_short=False, rich_markup_mode=None, suggest_commands=False
                )
        (command,) = (known for known in app.registered_commands if known.name == name)
        return get_command_from_info(command, pretty_exceptions_short=False, rich_markup_mode=None)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command. Whichever signal ends it, it can end what it has started, and the exit code is 130."""
        interrupts = Interrupts()
        interrupts.take()
        try:
            with streams.guarded():
                return super().main(*args, **options)
        finally:
            if not interrupts.came:  # else others are ignored until the exit code is told
                interrupts.give_back()

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _harmless_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _harmless_errors():
                return super().invoke(ctx)
        except BenchError as error:
            typer.echo(f"bench-core: {printable(str(error), 2000)}", err=True)
            raise typer.Exit(error.exit_code) from None


@contextlib.contextmanager
def _harmless_errors() -> Iterator[None]:
    """Escape what typer's own errors quote of the command line."""
    try:
        yield
    except _TyperError as error:
        error.message = "\n".join(map(harmless, error.message.split("\n")))
        raise


# Plain help, errors and tracebacks: boxes break in pipes, logs and narrow terminals.
app = typer.Typer(
    name="bench-core",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from bench_core import __version__  # it is read from the metadata of the installed package

        typer.echo(f"bench-core {__version__}")
        raise typer.Exit


@app.callback()
def _bench_core(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Measure GPU against CPU honestly, and compare the results across hardware."""
