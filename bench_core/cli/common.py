"""Shared by several commands: arguments for paths and the filter, output files, the terminal, progress."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from bench_core import streams
from bench_core.errors import UsageError
from bench_core.files import write_atomically
from bench_core.text import no_such, printable

if TYPE_CHECKING:
    from bench_core.compare import Reading

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="A run, a folder of runs, a pattern or a single CSV file. LABEL=PATH shows LABEL instead of the machine "
        "name; several runs with one label are replicates, if they are of one computer.",
    ),
]
Filter = Annotated[
    str, typer.Option("--filter", help="Use only these rows: workload == 'matmul' and dtype in ('float32', 'float16')")
]


def chosen(option: str, word: str, known: Collection[str]) -> str:
    """Return the word given for an option with a closed set. Raises UsageError for another, with the nearest."""
    if word not in known:
        raise UsageError(f"{option}: {no_such('', word, known)}")
    return word


def format_of(named: str, output: Path | None, formats: Sequence[str]) -> str:
    """Return the format: `named`, else from the extension of `output`, else the first one, which is for a terminal.

    Raises UsageError for a format or an extension that is none of them.
    """
    if named:
        return chosen("--format", named, formats)
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    known = formats[1:]
    if suffix not in {"", "txt", *known}:
        raise UsageError(f"--output {output}: name it .{', .'.join(known)} or .txt, or give --format")
    return suffix if suffix in known else formats[0]


class Made(Protocol):
    """What an output was made of: of the files `sources`."""

    @property
    def sources(self) -> Iterable[Path]: ...


def write(path: Path, content: str | bytes, readings: Iterable[Made]) -> None:
    """Write a file atomically. readings: what it was made of.

    Raises UsageError if it cannot be written, and if it is one of the files that were read.
    """
    named = f"--output {printable(str(path))}"
    if not path.name:
        raise UsageError("--output: no file name given")
    for read in (file for reading in readings for file in reading.sources):
        with contextlib.suppress(OSError):  # one of them does not exist
            if path.samefile(read):
                raise UsageError(f"{named}: is one of the files to read: {printable(str(read))}")
    try:
        write_atomically(path, content)
    except BrokenPipeError:  # such as `-o /dev/stdout | head`
        raise typer.Exit(streams.NOT_READ) from None
    except OSError as error:
        raise UsageError(f"{named}: cannot be written: {error.strerror}") from None


def has_temporary_folder() -> bool:
    """Whether a folder for temporary files can be written. pytest's default capture of output needs one."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def require_temporary_folder() -> None:
    """Raise UsageError if no folder for temporary files can be written: before a run, which would end in the middle."""
    if not has_temporary_folder():
        raise UsageError("no folder for temporary files can be written: set TMPDIR to one that can")


def columns() -> int:
    """Return the width of the terminal in characters; 100 in a pipe."""
    return shutil.get_terminal_size((100, 24)).columns


def has_colour() -> bool:
    """Whether stdout shows colours: a terminal, unless NO_COLOR is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def notes_on(readings: Iterable[Reading]) -> list[str]:
    """Return each note on the tables once: what was not used, which computers have one name."""
    return list(dict.fromkeys(note for reading in readings for note in reading.notes))


def print_notes(readings: Iterable[Reading]) -> None:
    """Print the notes on the tables."""
    for note in notes_on(readings):
        say(f"Note: {printable(note)}")


def say(line: str, *, err: bool = False) -> None:
    """Print a line in which a path or another text from elsewhere may stand, made safe to show."""
    typer.echo(printable(line, _LONGEST_LINE), err=err)


def print_progress(line: str) -> None:
    """Print a line of progress to stderr; results go to stdout."""
    say(line, err=True)


def plain(text: str) -> str:
    """Return a text from elsewhere for rich: without control characters, and without the effect of markup."""
    from rich.markup import escape

    return escape(printable(text, _LONGEST_LINE))


_LONGEST_LINE = 4000  # characters; the flags of a CPU are half as many
_OUTPUT = "--bench-output="


def split_output(arguments: list[str]) -> tuple[Path, list[str]]:
    """Return the folder of `--bench-output=DIR` (default: results), and the other arguments.

    Raises UsageError for the option without its equals sign.
    """
    if "--bench-output" in arguments:
        raise UsageError("--bench-output DIR: write --bench-output=DIR")
    folders = [a.removeprefix(_OUTPUT) for a in arguments if a.startswith(_OUTPUT)]
    return Path(folders[-1] if folders else "results"), [a for a in arguments if not a.startswith(_OUTPUT)]
