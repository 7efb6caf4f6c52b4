"""What several commands share: the files they read, the filter, and how they write and report progress."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from bench_core.errors import UsageError
from bench_core.files import write_atomically

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="A run, a folder of runs, a pattern or a lone CSV file. LABEL=PATH shows it as LABEL instead of its "
        "machine's name; several runs under one label are replicates.",
    ),
]
Filter = Annotated[
    str, typer.Option("--filter", help="Which rows: workload == 'matmul' and dtype in ('float32', 'float16')")
]


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole; raises UsageError where it cannot be written."""
    if not path.name:
        raise UsageError("--output: no file is named")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UsageError(f"--output {path}: cannot be written: {error.strerror}") from None


def print_progress(line: str) -> None:
    """Say a line of progress, apart from the results."""
    typer.echo(line, err=True)


def take_kills_for_interrupts() -> None:
    """Have a polite kill or a hang-up end a command in good order, as Ctrl-C does."""
    for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.default_int_handler)
