"""`bench-core import`: make tables of what another benchmark program has written.

Exit codes: 0 written; 2 usage, or the folder cannot be written; 3 the file cannot be read, or is of no known format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench_core.cli import app
from bench_core.cli.common import chosen, say
from bench_core.errors import UsageError
from bench_core.units import counted

_Format = Annotated[
    str, typer.Option("--as", metavar="PROGRAM", help="The program whose output it is. Default: what it looks like.")
]
_Output = Annotated[Path, typer.Option("-o", "--output", help="The folder of results: MACHINE/RUN is made in it.")]
_Machine = Annotated[
    str, typer.Option(help="The label of the machine. Default: made of the hardware that the file names.")
]
_Device = Annotated[str, typer.Option(help="The device of all results: cpu, cuda:0. Default: as in the file.")]
_Started = Annotated[
    str, typer.Option(metavar="TIME", help="When it was measured, with a time zone: 2026-11-29T12:00:00+00:00.")
]


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The output of another benchmark program.")],
    *,
    as_: _Format = "",
    output: _Output,
    machine: _Machine = "",
    device: _Device = "",
    started_at: _Started = "",
) -> None:
    """Make tables of the output of pytest-benchmark, Google Benchmark, nvbench, BabelStream or nvbandwidth.

    Its values carry the flags `imported` and `unchecked`: they can be compared, but support no claim.
    """
    from bench_core.imported import formats, tables
    from bench_core.imported.entries import moment
    from bench_core.records import count_of_devices, identifier
    from bench_core.results.foreign import TOOLS

    tool = chosen("--as", as_, TOOLS) if as_ else ""
    label = tables.required_machine(machine) if machine else ""
    started = moment(started_at)
    if started_at and not started:
        raise UsageError(f"--started-at {started_at}: not a time with a time zone, such as 2026-11-29T12:00:00+00:00")
    try:
        count_of_devices(identifier(device) if device else "cpu")
    except ValueError as error:
        raise UsageError(f"--device: {error}") from None
    source = formats.read(file, tool)
    run = tables.made(source, tables.Options(label, device, started))
    folder = tables.write(run, output)
    contents = source.contents
    named = " ".join(filter(None, (contents.tool, contents.version)))
    cases = counted(len(contents.entries), "case")
    say(f"{folder}: {counted(len(run.rows), 'row')} of {cases}, measured by {named} and not checked by this suite")
    for note in contents.notes if not device else ():
        say(f"Note: {note}")
    if not run.run.started_at:
        say("Note: the file does not say when it was measured (--started-at does)")
