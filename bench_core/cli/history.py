"""`bench-core history`: many runs of one folder over months.

Exit codes: 0 done; 2 usage, an error in the SQL, a library of the `history` extra is missing or the cache cannot be
written; 3 a folder or its cache cannot be read, or, of `add`, a run is damaged: the others are added.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli import Group, app
from bench_core.cli.common import chosen, columns, has_colour, say, write
from bench_core.errors import TableError, UsageError
from bench_core.garbage import collection_off

if TYPE_CHECKING:
    from bench_core.history.query import Answer
    from bench_core.history.store import Added, Store

_FORMATS = ("table", "csv", "json", "parquet")
_ROWS = 100  # of an answer that a terminal is shown

history = typer.Typer(
    name="history",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Ask about all runs of a folder: a fast cache of their tables, and SQL.",
)
app.add_typer(history)

_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of runs. Default: results.")]


@history.command("add")
def add_command(
    folder: _Folder = Path("results"),
    *,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Read every run again.")] = False,
) -> None:
    """Bring the cache of a folder of runs up to date; `query` does so first."""
    from bench_core.history.store import Store

    with collection_off():
        added = Store(folder).add(rebuild=rebuild)
    _say_notes(added)
    say(_told(added))
    if added.refused:
        raise typer.Exit(TableError.exit_code)


@history.command("query")
def query_command(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; the tables are `rows` and `runs`.")],
    folder: _Folder = Path("results"),
    *,
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="|".join(_FORMATS), help="Default: from the extension of --output, else table."
        ),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file instead of the terminal.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help=f"The most rows; 0: all. Default: {_ROWS} for a table, else all.")
    ] = None,
    add: Annotated[bool, typer.Option("--add/--no-add", help="Bring the cache up to date first.")] = True,
) -> None:
    """Ask in SQL about all rows and runs of a folder; results/QUERIES.md has examples."""
    from bench_core.history.query import History
    from bench_core.history.store import Store

    format_ = _format(format_, output)
    store = Store(folder)
    if add:
        _say_notes(up_to_date(store))
    most = limit if limit is not None else (_ROWS if format_ == "table" and output is None else 0)
    with History(store) as opened:
        answer = opened.ask(sql, most or None)
    text = _text(answer, format_, to_file=output is not None)
    if output is not None:
        write(output, text, [store])
    else:
        typer.echo(text, nl=False, color=True)
    if answer.is_cut and format_ == "table":
        say(f"The first {most:,} rows: --limit 0 shows all", err=True)


def up_to_date(store: Store) -> Added:
    """Bring a cache up to date."""
    with collection_off():
        return store.add()


def _say_notes(added: Added) -> None:
    for line in added.refused:
        say(f"bench-core: {line}", err=True)
    for line in added.notes:
        say(f"Note: {line}", err=True)


def _told(added: Added) -> str:
    parts = [f"{added.new:,} added", f"{added.kept:,} already there"]
    parts += [f"{added.left:,} no longer in the folder"] * bool(added.left)
    parts += [f"{len(added.refused):,} damaged"] * bool(added.refused)
    return f"Runs: {', '.join(parts)}"


def _format(named: str, output: Path | None) -> str:
    """Return the format: `named`, else from the extension of `output`, else "table". Raises UsageError."""
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    known = _FORMATS[1:]
    if not named and suffix not in {"", "txt", *known}:
        raise UsageError(f"--output {output}: name it .{', .'.join(known)} or .txt, or give --format")
    named = chosen("--format", named, _FORMATS) if named else (suffix if suffix in known else "table")
    if named == "parquet" and output is None:
        raise UsageError("--format parquet: give --output, because a terminal cannot show it")
    return named


def _text(answer: Answer, format_: str, *, to_file: bool) -> str | bytes:
    from bench_core.render import answer_csv, answer_json, answer_text

    if format_ == "parquet":
        return answer.parquet()
    if format_ == "table":
        return "".join(f"{line}\n" for line in answer_text(answer, columns(), colour=has_colour() and not to_file))
    return answer_csv(answer) if format_ == "csv" else answer_json(answer)
