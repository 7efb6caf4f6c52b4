"""`bench-core history`: many runs of one folder over months.

Exit codes: 0 done; 1 of `show`, a regression is new; 2 usage, an error in the SQL, a library of the `history` extra is
missing or the cache cannot be written; 3 a folder or its cache cannot be read, or, of `add`, a run is damaged: the
others are added; 5 of `show`, no series is long enough for `--fail-on`, or it is not known which values are better.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench_core.cli import Group, app
from bench_core.cli.common import chosen, columns, format_of, has_colour, notes_on, say, write
from bench_core.errors import TableError, UsageError
from bench_core.garbage import collection_off
from bench_core.text import no_such

if TYPE_CHECKING:
    from bench_core.history.query import Answer
    from bench_core.history.series import Look, Series, Subject
    from bench_core.history.store import Added, Store
    from bench_core.results.filters import Predicate

_FORMATS = ("table", "csv", "json", "parquet")
_ROWS = 100  # of an answer that a terminal is shown
_SHOWN = ("table", "md", "csv", "json")
_LINES = 30  # of a table of `show`
_GATE = "new-regression"
_UNDECIDED = 5  # exit code

history = typer.Typer(
    name="history",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="All runs of a folder: where they changed, and SQL over a fast cache of their tables.",
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


@history.command("show")
def show_command(  # noqa: PLR0913 - one parameter an option
    folder: _Folder = Path("results"),
    *,
    metric: Annotated[str, typer.Option(help="The quantity.")] = "time",
    where: Annotated[
        str, typer.Option("--filter", help="Only these series: workload == 'matmul' and machine == 'desk'")
    ] = "",
    fail_on: Annotated[
        str | None,
        typer.Option(metavar=_GATE, help="Exit with 1 if a step of the newest 10 runs of a series is for the worse."),
    ] = None,
    format_: Annotated[
        str,
        typer.Option("--format", metavar="|".join(_SHOWN), help="Default: from the extension of --output, else table."),
    ] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file instead of the terminal.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="The most lines of a table; 0: all.")] = _LINES,
    add: Annotated[bool, typer.Option("--add/--no-add", help="Bring the cache up to date first.")] = True,
) -> None:
    """Show where series of run medians step, in which commits, and where the environment changed.

    A series is the time of one piece of work on one machine, backend and device, run after run. It begins anew where
    the environment changes. For CI: --fail-on new-regression; if nothing ever changed, at most 2 % of looks fail.
    """
    from bench_core.history.query import SERIES
    from bench_core.history.series import new_regressions
    from bench_core.render import history as render
    from bench_core.results import filters

    format_ = format_of(format_, output, _SHOWN)
    keep = filters.parse(where, SERIES)
    _check(metric, fail_on)
    store, every = _all_series(folder, metric, keep, add=add)
    if not every:
        raise UsageError(f"{folder}: no series of {metric}" + " passes --filter" * bool(where.strip()))
    look = new_regressions(every) if fail_on else None
    text = {
        "table": lambda: render.history_text(every, look, columns(), colour=has_colour() and not output, most=limit),
        "md": lambda: render.history_markdown(every, look, limit),
        "csv": lambda: render.history_csv(every),
        "json": lambda: render.history_json(every, look),
    }[format_]()
    if output is not None:
        _write(output, text, store)
    else:
        typer.echo(text, nl=False, color=True)
    if look is not None:
        _end(look, is_told=output is None and format_ == "table")


def _check(metric: str, fail_on: str | None) -> None:
    """Raise UsageError for a metric or a gate that does not exist."""
    from bench_core.results.metrics import METRICS

    if metric not in METRICS:
        raise UsageError(f"--metric: {no_such('metric', metric, METRICS)}")
    if METRICS[metric].unit == "degC":
        raise UsageError(f"--metric: {metric} has no relative changes: ratios of temperatures are meaningless")
    if fail_on is not None:
        chosen("--fail-on", fail_on, (_GATE,))


def _end(look: Look, *, is_told: bool) -> None:
    """End with the exit code of a gate. is_told: whether its lines are on the terminal."""
    from bench_core.render.history import gate_lines, undecided_line

    undecided = undecided_line(look)
    lines = [f"FAILED {line}" for line in gate_lines(look)] + [f"UNDECIDED {undecided}"] * bool(undecided)
    for line in lines * (not is_told):
        say(f"bench-core: {line}", err=True)
    if lines:
        raise typer.Exit(1 if look.regressions else _UNDECIDED)


def _all_series(folder: Path, metric: str, keep: Predicate, *, add: bool) -> tuple[Store, list[Series]]:
    """Return the store of a folder and its series: by the cache or, without the extra `history`, of the tables."""
    from bench_core.history.query import History
    from bench_core.history.series import computers_of, is_by_wall, series_of_history, series_of_readings
    from bench_core.history.store import Store, absent

    store = Store(folder)

    def is_wanted(subject: Subject) -> bool:
        return subject.metric == metric and is_by_wall(subject) and keep(subject)

    with collection_off():
        if absent():
            from bench_core.compare import read

            readings = read([str(folder)])
            _say_each(notes_on(readings))
            return store, series_of_readings(readings, is_wanted)
        if add:
            _say_notes(store.add())
        with History(store) as opened:
            names = computers_of(opened)
            _say_each(dict.fromkeys(note for own in names.values() for note in own.notes))
            return store, series_of_history(opened, is_wanted, names, metric=metric)


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

    format_ = format_of(format_, output, _FORMATS)
    if format_ == "parquet" and output is None:
        raise UsageError("--format parquet: give --output, because a terminal cannot show it")
    store = Store(folder)
    if add:
        _say_notes(up_to_date(store))
    most = limit if limit is not None else (_ROWS if format_ == "table" and output is None else 0)
    with History(store) as opened:
        answer = opened.ask(sql, most or None)
    text = _text(answer, format_, to_file=output is not None)
    if output is not None:
        _write(output, text, store)
    else:
        typer.echo(text, nl=False, color=True)
    if answer.is_cut and format_ == "table":
        say(f"The first {most:,} rows: --limit 0 shows all", err=True)


def _write(output: Path, text: str | bytes, store: Store) -> None:
    """Write a file. Raises UsageError as `write` does, and for a file in the cache, whose files are not kept."""
    if store.cache.resolve() in output.resolve().parents:
        raise UsageError(f"--output {output}: is in the cache of the history, whose files are not kept")
    write(output, text, [store])


def up_to_date(store: Store) -> Added:
    """Bring a cache up to date."""
    with collection_off():
        return store.add()


def _say_notes(added: Added) -> None:
    for line in added.refused:
        say(f"bench-core: {line}", err=True)
    _say_each(added.notes)


def _say_each(notes: Iterable[str]) -> None:
    """Print notes to stderr: what stdout has may be for programs."""
    for note in notes:
        say(f"Note: {note}", err=True)


def _told(added: Added) -> str:
    parts = [f"{added.new:,} added", f"{added.kept:,} already there"]
    parts += [f"{added.left:,} no longer in the folder"] * bool(added.left)
    parts += [f"{len(added.refused):,} damaged"] * bool(added.refused)
    return f"Runs: {', '.join(parts)}"


def _text(answer: Answer, format_: str, *, to_file: bool) -> str | bytes:
    from bench_core.render import answer_csv, answer_json, answer_text

    if format_ == "parquet":
        return answer.parquet()
    if format_ == "table":
        return "".join(f"{line}\n" for line in answer_text(answer, columns(), colour=has_colour() and not to_file))
    return answer_csv(answer) if format_ == "csv" else answer_json(answer)
